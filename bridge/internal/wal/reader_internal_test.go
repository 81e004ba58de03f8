package wal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// A message of 900 MB takes longer than wal_sender_timeout. While it arrives the
// server must hear from the reader.
func TestReaderReportsInsideAMessage(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	r := newReader(client, Config{Want: ours, MaxContent: 1 << 20})
	r.Confirm(7)
	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	committed := make(chan Event, 1)
	group.Go(func() error {
		return r.Run(ctx, func(batch []Event) error {
			if last := batch[len(batch)-1]; last.Kind == KindCommit {
				committed <- last
			}
			return nil
		})
	})
	group.Go(func() error { return r.Report(ctx) })

	head := messageHead(true, 5, "foreign", 900<<20)
	head = append(binary.BigEndian.AppendUint32([]byte{'d'}, uint32(4+25+len(head)+900<<20)), append(append([]byte{'w'}, make([]byte, 24)...), head...)...)
	server.SetDeadline(time.Now().Add(time.Minute))
	send(t, server, begin(9, time.Now()))
	send(t, server, head)
	in := bufio.NewReader(server)
	for range 2 { // in the middle of the message
		status := make([]byte, 39)
		if _, err := io.ReadFull(in, status); err != nil {
			t.Fatal(err)
		}
		if status[5] != 'r' || binary.BigEndian.Uint64(status[14:]) != 7 || status[38] != 1 {
			t.Errorf("status = %x, want one that confirms 7 and asks for an answer", status)
		}
	}
	go io.Copy(io.Discard, in)
	if _, err := io.CopyN(server, &zeros{900 << 20}, 900<<20); err != nil {
		t.Fatal(err)
	}
	send(t, server, end(9, 10, time.Now()))
	if e := <-committed; e.LSN != 10 || r.Position() != 10 {
		t.Errorf("committed %+v at %s, want 10", e, r.Position())
	}
	cancel()
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want %v", err, context.Canceled)
	}
	r.Close()
}

func TestReaderEndsAfterASilence(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer server.Close()
	r := newReader(client, Config{Want: ours, Silence: 50 * time.Millisecond})
	err := r.Run(t.Context(), func([]Event) error { return nil })
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Run = %v, want a time-out", err)
	}
}

func TestReaderAnswersWhenAsked(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	r := newReader(client, Config{Want: ours})
	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Run(ctx, func([]Event) error { return nil }) })
	send(t, server, keepalive(40, time.Now(), 1))
	group.Go(func() error { return r.Report(ctx) })
	status := make([]byte, 39)
	if _, err := io.ReadFull(server, status); err != nil {
		t.Fatal(err)
	}
	if status[38] != 0 {
		t.Error("an answer asks for another, which would never end")
	}
	cancel()
	group.Wait()
	go io.Copy(io.Discard, server)
	r.Close()
}

func TestConfirmGoesForwardOnly(t *testing.T) {
	t.Parallel()
	r := newReader(nil, Config{})
	r.Confirm(5)
	r.Confirm(3)
	if got := LSN(binary.BigEndian.Uint64(r.status(false)[6:])); got != 5 {
		t.Errorf("confirmed %s, want 0/5", got)
	}
}

func TestCommandQuotesNames(t *testing.T) {
	t.Parallel()
	got := command(Config{Slot: `a"b`, Publication: `p"q'r`})
	want := `START_REPLICATION SLOT "a""b" LOGICAL 0/0 (proto_version '1', publication_names '"p""q''r"', messages 'true')`
	if got != want {
		t.Errorf("command = %s, want %s", got, want)
	}
}

func send(t *testing.T, to io.Writer, b []byte) {
	t.Helper()
	if _, err := io.Copy(to, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}
