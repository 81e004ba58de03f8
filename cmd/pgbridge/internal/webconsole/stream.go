package webconsole

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// stream is a stream of server-sent events to one viewer.
// https://html.spec.whatwg.org/multipage/server-sent-events.html
type stream struct {
	rw    http.ResponseWriter
	ctl   *http.ResponseController
	spoke time.Time
}

// openStream begins a stream, if there is a place for it; otherwise it answers the
// request and returns nil. The context ends when the viewer has gone, the server
// stops or the stream's time is up.
func (c *Console) openStream(rw http.ResponseWriter, r *http.Request) (*stream, context.Context, func()) {
	select {
	case c.streams <- struct{}{}:
	default:
		c.crowded(rw)
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	end := func() { cancel(); <-c.streams }
	s := &stream{rw: rw, ctl: http.NewResponseController(rw)}
	// The server's own limits are for one answer; each event has one of its own.
	if err := s.ctl.SetReadDeadline(time.Time{}); err != nil {
		c.refuse(rw, http.StatusNotImplemented, errors.New("events cannot be streamed here"))
		end()
		return nil, nil, nil
	}
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("X-Accel-Buffering", "no") // a proxy in between is to pass on each event
	if s.write([]byte("retry: 2000\n\n")) != nil {
		end()
		return nil, nil, nil
	}
	return s, ctx, end
}

// crowded refuses one viewer too many.
func (c *Console) crowded(rw http.ResponseWriter) {
	rw.Header().Set("Retry-After", "5")
	c.refuse(rw, http.StatusServiceUnavailable, errCrowded)
}

// write sends bytes at once. An error means that the viewer has gone, or does not
// read.
func (s *stream) write(b []byte) error {
	if err := s.ctl.SetWriteDeadline(time.Now().Add(writeFor)); err != nil {
		return err
	}
	if _, err := s.rw.Write(b); err != nil {
		return err
	}
	s.spoke = time.Now()
	return s.ctl.Flush()
}

// send sends an event. Its JSON has no line breaks, which would end it.
func (s *stream) send(name string, body []byte) error {
	event := append([]byte("event: "+name+"\ndata: "), body...)
	return s.write(append(event, "\n\n"...))
}

// beat says that the stream goes on, where nothing else did for a while.
func (s *stream) beat() error {
	if time.Since(s.spoke) < heartbeat {
		return nil
	}
	return s.write([]byte(":\n\n"))
}

// serveStream sends what a view shows, again whenever that has changed.
func (c *Console) serveStream(rw http.ResponseWriter, r *http.Request) {
	v, err := c.view(r.URL.Query())
	if err != nil {
		c.refuse(rw, statusOf(err), err)
		return
	}
	s, ctx, end := c.openStream(rw, r)
	if s == nil {
		return
	}
	defer end()
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for last := []byte(nil); ; {
		name, body := shown(ctx, v)
		if bytes.Equal(body, last) {
			err = s.beat()
		} else {
			err, last = s.send(name, body), body
		}
		if err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// shown is what a view shows now, or why it does not, as an event.
func shown(ctx context.Context, v view) (name string, body []byte) {
	value, err := v(ctx)
	if err == nil {
		if body, err = json.Marshal(value); err == nil {
			return "state", body
		}
	}
	body, _ = json.Marshal(err.Error()) // a string always can
	return "fault", body
}
