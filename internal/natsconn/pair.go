package natsconn

import "github.com/nats-io/nats.go"

// RequestPair opens two connections as Requests does: one that requests are received
// on, and a lasting one for what must not end when NATS cuts the first, as it does
// when more is sent to a connection than it can be read. Both go to the same server
// where they can, because only there is it known for certain to the second who
// listens when the first has received a request. The keeper's name is the beginning
// of theirs.
func RequestPair(s Settings, k Keeper) (requests, lasting *nats.Conn, err error) {
	p := new(pair)
	name := k.Name
	mine, other := &near{pair: p}, &near{pair: p}
	mine.other, other.other = other, mine
	k.Name, k.near = name+" transactions", mine
	if lasting, err = Requests(s, k); err != nil {
		return nil, nil, err
	}
	p.lasting.Store(lasting)
	k.Name, k.near = name+" requests", other
	if requests, err = Requests(s, k); err != nil {
		lasting.Close()
		return nil, nil, err
	}
	p.requests.Store(requests)
	p.unite()
	return requests, lasting, nil
}
