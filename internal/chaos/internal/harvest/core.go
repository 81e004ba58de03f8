package harvest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// buffered is how many messages may wait; more are a slow subscriber's.
const buffered = 1 << 18

// Core subscribes to core subjects, and notes when its own connection was away: what
// was published then is lost for this subscriber, and no fault of pgbridge's.
type Core struct {
	conn  *nats.Conn
	sizes map[string]int
	done  chan struct{}

	mu     sync.Mutex // guards the rest
	items  []Item
	away   []Away
	faults []error
	seq    uint64
}

// Away is a time in which the subscriber's connection was not there.
type Away struct{ From, To time.Time }

// Subscribe begins with the channels that sizes names, on a connection of that name.
func Subscribe(url, name, prefix string, sizes map[string]int) (*Core, error) {
	c := &Core{sizes: sizes, done: make(chan struct{})}
	messages := make(chan *nats.Msg, buffered)
	var err error
	c.conn, err = nats.Connect(url, nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.PingInterval(2*time.Second), nats.DisconnectErrHandler(c.left), nats.ReconnectHandler(c.back), nats.ErrorHandler(c.fault))
	if err != nil {
		return nil, fmt.Errorf("subscribe to core subjects: %w", err)
	}
	for channel := range sizes {
		for _, kind := range []string{"event", "gap"} {
			if _, err := c.conn.ChanSubscribe(prefix+"."+kind+"."+channel, messages); err != nil {
				return nil, fmt.Errorf("subscribe to core subjects: %w", err)
			}
		}
	}
	if err := c.conn.FlushTimeout(fetchLimit); err != nil {
		return nil, err
	}
	go c.read(messages)
	return c, nil
}

func (c *Core) read(messages <-chan *nats.Msg) {
	for {
		select {
		case <-c.done:
			return
		case m := <-messages:
			i, err := item(m.Subject, m.Header, m.Data, c.sizes)
			c.mu.Lock()
			c.seq++
			i.Seq, i.At = c.seq, time.Now()
			if err != nil {
				c.faults = append(c.faults, err)
			} else {
				c.items = append(c.items, i)
			}
			c.mu.Unlock()
		}
	}
}

func (c *Core) left(*nats.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = append(c.away, Away{From: time.Now()})
}

func (c *Core) back(*nats.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away[len(c.away)-1].To = time.Now()
}

func (c *Core) fault(_ *nats.Conn, _ *nats.Subscription, err error) {
	var network *net.OpError
	if errors.As(err, &network) { // an attempt to come back failed, and that it is away is noted
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, err)
}

// Has reports whether an event of the channel with the key has come live.
func (c *Core) Has(channel, key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.items {
		if i.Live() && i.Channel == channel && i.Key == key {
			return true
		}
	}
	return false
}

// Take returns what has come, and when the connection was away, and forgets it.
func (c *Core) Take() ([]Item, []Away, []error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	items, away, faults := c.items, c.away, c.faults
	c.items, c.away, c.faults = nil, nil, nil
	return items, away, faults
}

// Close ends the subscription.
func (c *Core) Close() {
	c.conn.Close()
	close(c.done)
}
