package natsconn

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// pair is two connections that keep together.
type pair struct {
	requests, lasting atomic.Pointer[nats.Conn] // nil: not yet
	moves             atomic.Int32              // of requests, since they were together last
}

// maxMoves is how often a server is left for another one in vain.
const maxMoves = 20

// unite has requests go where lasting is.
func (p *pair) unite() {
	requests, lasting := p.requests.Load(), p.lasting.Load()
	if requests == nil || lasting == nil {
		return
	}
	here, there := requests.ConnectedServerId(), lasting.ConnectedServerId()
	switch {
	case here == "" || there == "":
	case here == there:
		p.moves.Store(0)
	case p.moves.Add(1) <= maxMoves:
		_ = requests.ForceReconnect() // closed meanwhile
	}
}

// near has one connection of a pair go where the other is. A nil one does nothing.
type near struct {
	pair  *pair
	other *near
	at    atomic.Pointer[place] // nil: nowhere
	tried atomic.Bool           // the other's server, since it was connected last
}

// place is how a server is found in nats.go's list.
type place struct{ address, url string }

func (n *near) options() []nats.Option {
	if n == nil {
		return nil
	}
	return []nats.Option{nats.ReconnectToServer(n.choose)}
}

// choose returns the other one's server, once after each loss of the connection, if
// it is known by its address or its URL; else nats.go chooses. It is called under the
// connection's lock, so it asks the other connection nothing: that may be here, too.
func (n *near) choose(pool []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
	there := n.other.at.Load()
	if there == nil || !n.tried.CompareAndSwap(false, true) {
		return nil, 0
	}
	for _, matches := range []func(nats.Server) bool{
		func(s nats.Server) bool { return s.URL.Host == there.address },
		func(s nats.Server) bool { return s.URL.String() == there.url },
	} {
		for i := range pool {
			if matches(pool[i]) {
				return &pool[i], 0
			}
		}
	}
	return nil, 0
}

// connected is called when nc was connected.
func (n *near) connected(nc *nats.Conn) {
	if n == nil {
		return
	}
	n.at.Store(&place{nc.ConnectedAddr(), nc.ConnectedUrl()})
	n.tried.Store(false)
	n.pair.unite()
}

func (n *near) disconnected() {
	if n != nil {
		n.at.Store(nil)
	}
}
