package session

import (
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// largeRequest is how many bytes fit between two sides that both write before they
	// read: PostgreSQL answers while it reads.
	largeRequest = 16 << 10
	// keptRequest is the largest request whose memory is used again.
	keptRequest = 64 << 10
)

// request gathers the messages of one round trip.
type request struct {
	bytes   []byte
	err     error         // why they cannot be sent
	writing chan struct{} // closed when one was written; nil: none is being

	// Messages in the making, whose memory is used again.
	parse    pgproto3.Parse
	bind     pgproto3.Bind
	describe pgproto3.Describe
	execute  pgproto3.Execute
	drop     pgproto3.Close
	sync     pgproto3.Sync
}

// notSent is an error before anything was sent: all of it may be tried again.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// SafeToRetry is what [pgconn.SafeToRetry] asks for.
func (notSent) SafeToRetry() bool { return true }

var errClosed = errors.New("the connection is closed")

func (r *request) add(m pgproto3.FrontendMessage) {
	bytes, err := m.Encode(r.bytes)
	if err != nil {
		if r.err == nil {
			r.err = err
		}
		return
	}
	r.bytes = bytes
}

func (r *request) addParse(name, sql string, types []uint32) {
	r.parse = pgproto3.Parse{Name: name, Query: sql, ParameterOIDs: types}
	r.add(&r.parse)
}

func (r *request) addDescribe(kind byte, name string) {
	r.describe = pgproto3.Describe{ObjectType: kind, Name: name}
	r.add(&r.describe)
}

func (r *request) addExecute(portal string, rows int) {
	r.execute = pgproto3.Execute{Portal: portal, MaxRows: uint32(rows)}
	r.add(&r.execute)
}

// addRun executes a prepared statement; without a name it is the unnamed one.
func (r *request) addRun(name string, values [][]byte, describe bool) {
	r.bind = pgproto3.Bind{PreparedStatement: name, Parameters: values}
	r.add(&r.bind)
	if describe {
		r.addDescribe('P', "")
	}
	r.addExecute("", 0)
}

func (r *request) addFree(name string) {
	r.drop = pgproto3.Close{ObjectType: 'S', Name: name}
	r.add(&r.drop)
}

func (r *request) addSync() { r.add(&r.sync) }

// reset throws away what was not sent.
func (r *request) reset() { r.bytes, r.err, r.bind.Parameters = r.bytes[:0], nil, nil }

// send sends what was gathered. A large request is written while its answers are read,
// since PostgreSQL may stop reading it until they are. Whoever has read them calls
// written.
func (r *request) send(stopped func() error, conn *pgconn.PgConn) error {
	bytes := r.bytes
	r.bytes = r.bytes[:0]
	if cap(bytes) > keptRequest {
		r.bytes = nil
	}
	err := r.err
	r.err, r.bind.Parameters = nil, nil
	switch {
	case err != nil:
		return notSent{err}
	case conn.IsClosed():
		return notSent{errClosed}
	case len(bytes) > largeRequest:
		r.writeBeside(conn.Conn(), bytes)
		return nil
	}
	n, err := conn.Conn().Write(bytes)
	if err == nil {
		return nil
	}
	closeNow(conn)
	if err = ended(stopped, err); n == 0 {
		return notSent{err}
	}
	return err
}

func (r *request) writeBeside(conn net.Conn, bytes []byte) {
	writing := make(chan struct{})
	r.writing, r.bytes = writing, nil
	go func() {
		defer close(writing)
		_, _ = conn.Write(bytes) // who reads the answers gets to know
	}()
}

// written waits for the end of a large request, all of whose answers have been read
// unless the connection is lost.
func (r *request) written(conn *pgconn.PgConn) {
	if r.writing != nil {
		if conn.IsClosed() {
			_ = conn.Conn().Close() // pgconn takes its time
		}
		<-r.writing
		r.writing = nil
	}
}
