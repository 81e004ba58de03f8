package testenv

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// Delay is a proxy that holds back what passes, both ways, and lets it pass in the
// same pieces: a longer line, not a narrower one.
type Delay struct {
	*relay
	each time.Duration
}

// NewDelay forwards from a free loopback port to target, host:port, each way after
// that time. It must be closed.
func NewDelay(target string, each time.Duration) (_ *Delay, err error) {
	d := &Delay{each: each}
	if d.relay, err = newRelay(target, d.both); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Delay) both(client, server net.Conn) {
	var directions sync.WaitGroup
	directions.Go(func() { d.pass(client, server) })
	directions.Go(func() { d.pass(server, client) })
	directions.Wait()
}

// piece is what was read at once, and when it may pass.
type piece struct {
	bytes []byte
	due   time.Time
}

// pass forwards one direction to its end, and ends both then.
func (d *Delay) pass(from, to net.Conn) {
	pieces := make(chan piece, 1024)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		defer to.Close()
		for p := range pieces {
			wait.For(context.Background(), time.Until(p.due)) // the line's own time
			_, _ = to.Write(p.bytes)                          // an end that is gone needs no telling
		}
	})
	defer from.Close()
	defer close(pieces)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{append([]byte{}, buffer[:n]...), time.Now().Add(d.each)}
		}
		if err != nil {
			return
		}
	}
}
