package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/lib/pq"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bare is what pgbridge is compared with. It runs until it is killed.
func bare(kind contenderKind, postgresURL string) int {
	var err error
	switch kind {
	case bareLoopCore, bareLoopStream:
		err = bareLoop(kind, postgresURL, os.Getenv("BENCH_NATS_URL"))
	case bareDrain:
		err = bareSlot(postgresURL, os.Getenv("BENCH_NATS_URL"))
	case bareKeys, bareCleanKeys:
		err = bareKeyService(kind, postgresURL, os.Getenv("BENCH_NATS_URL"))
	default:
		err = bareRequests(kind, postgresURL, os.Getenv("BENCH_NATS_URL"))
	}
	fmt.Fprintln(os.Stderr, "bare:", err)
	return 1
}

func bareLoop(kind contenderKind, postgresURL, natsURL string) error {
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	listener := pq.NewListener(postgresURL, 250*time.Millisecond, 5*time.Second, nil)
	if err := listener.Listen(channel); err != nil {
		return err
	}
	if kind == bareLoopCore {
		for n := range listener.Notify {
			if err := nc.Publish(subject, []byte(n.Extra)); err != nil {
				return err
			}
		}
		return nil
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		n := <-listener.Notify
		if _, err := js.PublishAsync(subject, []byte(n.Extra), jetstream.WithMsgID(strconv.Itoa(i)), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
}
