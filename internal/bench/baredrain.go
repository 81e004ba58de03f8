package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bareSlot publishes what a slot has, many in flight, with ids, and neither
// confirms nor looks at what is stored.
func bareSlot(postgresURL, natsURL string) error {
	ctx := context.Background()
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return err
	}
	config, err := pgconn.ParseConfig(postgresURL)
	if err != nil {
		return err
	}
	config.RuntimeParams["replication"], config.RuntimeParams["options"] = "database", "-c wal_sender_timeout=0"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	front := conn.Frontend()
	front.SendQuery(&pgproto3.Query{String: `START_REPLICATION SLOT "bare" LOGICAL 0/0 (proto_version '1', publication_names 'pgbridge', messages 'true')`})
	if err := front.Flush(); err != nil {
		return err
	}
	for {
		m, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		lsn, content, is := logicalMessage(m)
		if !is {
			continue
		}
		if _, err := js.PublishAsync(subject, content, jetstream.WithMsgID(strconv.FormatUint(lsn, 16)), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
}

// logicalMessage takes a message of pgbridge.notify apart.
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
func logicalMessage(m pgproto3.BackendMessage) (lsn uint64, content []byte, is bool) {
	data, is := m.(*pgproto3.CopyData)
	const header = 25 // of XLogData
	if !is || len(data.Data) < header+10 || data.Data[0] != 'w' || data.Data[header] != 'M' {
		return 0, nil, false
	}
	b := data.Data[header+2:]
	lsn = binary.BigEndian.Uint64(b)
	_, rest, found := bytes.Cut(b[8:], []byte{0})
	if !found || len(rest) < 4 {
		return 0, nil, false
	}
	return lsn, bytes.Clone(rest[4:]), true
}
