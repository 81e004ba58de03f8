package web

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestIdleConnectionsKeepNobodyOut holds far more connections than there may be,
// on a server without time-outs, and asks.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const most = 4
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	newCrowd(most).bound(server.Config)
	server.Start()
	defer server.Close()
	var idle []net.Conn
	for range 5 * most {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for range 2 * most {
		reply, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
	}
	for i, conn := range idle[:4*most] {
		if _, err := conn.Read(make([]byte, 1)); err == nil { // it blocks where the connection is still open
			t.Errorf("connection %d was sent something", i)
		}
	}
}

// TestOneIsPutOutForOne has a connection's end come late: until then nobody else
// is put out for it.
func TestOneIsPutOutForOne(t *testing.T) {
	t.Parallel()
	c := newCrowd(2)
	var ends, conns []net.Conn
	for range 3 {
		near, far := net.Pipe()
		defer far.Close()
		conns, ends = append(conns, near), append(ends, far)
		c.changed(near, http.StateNew)
	}
	c.changed(conns[1], http.StateActive)
	c.served(conns[1])
	if _, err := ends[0].Write(nil); err == nil {
		t.Error("the connection that waited longest was not put out")
	}
	if len(c.waiting) != 1 || c.waiting[0] != conns[2] || c.open != 2 {
		t.Errorf("%d wait and %d are open, want the newest and 2", len(c.waiting), c.open)
	}
	c.changed(conns[0], http.StateClosed)
	if c.open != 2 || len(c.putOut) != 0 {
		t.Errorf("%d are open and %d put out, want 2 and none", c.open, len(c.putOut))
	}
}

// TestUnfinishedRequestsKeepNobodyOut holds far more connections than there may be,
// each with a request of which a part is missing.
func TestUnfinishedRequestsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const most = 4
	for name, part := range map[string]string{
		"headers": "GET / HTTP/1.1\r\nHost: ", "body": "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			crowd := newCrowd(most)
			crowd.bound(server.Config)
			begun := make(chan struct{}, 10*most)
			server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
				crowd.changed(conn, state)
				if state == http.StateActive {
					begun <- struct{}{}
				}
			}
			server.Start()
			defer server.Close()
			for range most {
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := conn.Write([]byte(part)); err != nil {
					t.Fatal(err)
				}
				if name == "body" {
					<-begun // it is served, and its body waited for
				}
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
			for range 2 * most {
				reply, err := client.Get(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				reply.Body.Close()
			}
		})
	}
}

// unread are servers' answers of which nothing is read: to /large there is no end, other
// requests are answered at once.
type unread struct {
	*httptest.Server
	begun, ended chan struct{} // an answer to /large
}

func newUnread(t *testing.T, large func(http.Handler) http.Handler, change func(*http.Server)) *unread {
	t.Helper()
	u := &unread{begun: make(chan struct{}, 100), ended: make(chan struct{}, 100)}
	mux := http.NewServeMux()
	mux.Handle("/large", large(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		u.begun <- struct{}{}
		defer func() { u.ended <- struct{}{} }()
		for part := make([]byte, 1<<20); ; {
			if _, err := rw.Write(part); err != nil {
				return
			}
		}
	})))
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	u.Server = httptest.NewUnstartedServer(mux)
	change(u.Config)
	u.Start()
	t.Cleanup(u.Close)
	return u
}

// ask has so many ask for /large, one after the other, and read nothing.
func (u *unread) ask(t *testing.T, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", u.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := conn.Write([]byte("GET /large HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		<-u.begun
	}
}

// TestReadersThatNeverReadKeepNobodyOut has far more of them than there may be
// connections.
func TestReadersThatNeverReadKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const most = 4
	u := newUnread(t, func(h http.Handler) http.Handler { return h }, newCrowd(most).bound)
	u.ask(t, 3*most)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for range 2 * most {
		reply, err := client.Get(u.URL)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
	}
	for range 2 * most { // those that were put out, at least
		<-u.ended
	}
}

// TestFewAreServedAtATime has the answers that nobody reads end when others come.
func TestFewAreServedAtATime(t *testing.T) {
	t.Parallel()
	f := few{most: 2}
	u := newUnread(t, f.bound, func(*http.Server) {})
	u.ask(t, 5)
	for range 3 {
		<-u.ended
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.serving) > 2 {
		t.Errorf("%d are served, want 2", len(f.serving))
	}
}

// TestEndOfWhatWasPutOutCountsOnce has a connection go on for a moment after it was
// put out.
func TestEndOfWhatWasPutOutCountsOnce(t *testing.T) {
	t.Parallel()
	c := newCrowd(1)
	var conns []net.Conn
	for range 2 {
		near, far := net.Pipe()
		defer far.Close()
		conns = append(conns, near)
		c.changed(near, http.StateNew)
	}
	for _, state := range []http.ConnState{http.StateActive, http.StateIdle, http.StateClosed} {
		c.changed(conns[0], state)
		if c.open != 1 || len(c.waiting) != 1 || c.waiting[0] != conns[1] {
			t.Errorf("after %s %d are open and %d wait, want the newer one", state, c.open, len(c.waiting))
		}
	}
}
