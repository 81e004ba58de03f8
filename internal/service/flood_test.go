package service

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// What follows a request that was dropped for a flood is dropped without a look where
// it has the same subject, as long as it had come by then, and nothing else is.
func TestFloodIsDroppedWithoutALook(t *testing.T) {
	t.Parallel()
	f := flood{"pgbridge.run.flooded", 2, time.Now().Add(time.Hour)}
	for i, want := range []struct {
		subject string
		dropped bool
	}{
		{"pgbridge.run.other", false}, {"pgbridge.run.flooded", true}, {"pgbridge.run.other", false},
		{"pgbridge.run.flooded", true}, {"pgbridge.run.flooded", false},
	} {
		if got := f.again(want.subject); got != want.dropped {
			t.Errorf("message %d, %s: dropped is %t, want %t", i, want.subject, got, want.dropped)
		}
	}
	if (&flood{}).again("") {
		t.Error("without a flood something is dropped")
	}
}

// What comes when a flood is over is looked at, whatever its subject.
func TestFloodEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := floodBehind("pgbridge.run.flooded", time.Now())
		if !f.again("pgbridge.run.flooded") {
			t.Error("a message of the flood is looked at")
		}
		time.Sleep(time.Second) // of synctest's clock
		if f.again("pgbridge.run.flooded") {
			t.Error("a message that comes a second later is dropped")
		}
	})
}

// An owner without room has no memory taken for what is refused.
func TestRoomIsThatOfTheOwner(t *testing.T) {
	t.Parallel()
	q := &queue{serve: func([]*Request) { select {} }, maxWaiting: 10, maxBatch: 1, share: 0.5, lanes: map[string]*lane{}, lines: map[string]*line{}}
	for q.room("a") {
		if err := q.add(Place{Owner: "a"}, &Request{}); err != nil {
			t.Fatalf("there was room for %d, but: %v", q.waiting, err)
		}
	}
	if err := q.add(Place{Owner: "a"}, &Request{}); err == nil || q.waiting < 5 {
		t.Errorf("with %d waiting there was no room, but one more is taken", q.waiting)
	}
	if !q.room("b") {
		t.Error("there is no room for another owner")
	}
}

// Of large bodies only so many are read at a time, and small ones never wait.
func TestLargeBodiesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{host: newHost(new(nats.Conn), Config{})}
		for range cap(e.host.readers) {
			e.host.readers <- struct{}{}
		}
		read := func(size int) chan error {
			done := make(chan error, 1)
			body := slices.Concat([]byte(`{"params": "`), bytes.Repeat([]byte("x"), size), []byte(`"}`))
			go func() { _, err := (&Request{Data: body, endpoint: e}).Fields(); done <- err }()
			synctest.Wait()
			return done
		}
		if small := read(100); len(small) != 1 {
			t.Error("a small body waits")
		}
		large := read(largeBody)
		if len(large) != 0 {
			t.Error("a large body is read beyond the limit")
		}
		<-e.host.readers
		synctest.Wait()
		if len(large) != 1 || <-large != nil {
			t.Error("a large body is not read in its turn")
		}
		if _, err := (&Request{Data: []byte("{}")}).Fields(); err != nil { // a job's
			t.Error(err)
		}
	})
}
