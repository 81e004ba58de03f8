package event

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// maxSubjectBytes is how long an event's subject may become.
const maxSubjectBytes = 2048

// Envelope is the form of an event's body.
type Envelope string

// The envelopes.
const (
	EnvelopeRaw         Envelope = "raw"         // exactly the payload's bytes
	EnvelopeJSON        Envelope = "json"        // a JSON object that holds the payload
	EnvelopeCloudEvents Envelope = "cloudevents" // CloudEvents 1.0 in structured mode
)

// RouteOptions say how the events of a channel leave.
type RouteOptions struct {
	Subject  string   // a template; empty: <prefix>.event.<channel's token>
	Envelope Envelope // empty: raw
	Stored   bool     // in the stream of events
	Durable  bool     // its events come through the write-ahead log, with headers
	CatchUp  string   // the script that returns what a gap speaks of; empty: none
}

// Route is how one channel's events leave, compiled.
type Route struct {
	Channel    string
	Subject    string // as configured
	channelKey []byte // the channel as a JSON string
	Token      string // the channel as one subject token
	Envelope   Envelope
	Stored     bool
	Durable    bool   // events come through the write-ahead log
	CatchUp    string // the script that returns what a gap speaks of; empty: none
	template   template
	fixed      string // the subject, where the template holds no payload field
	GapSubject string
	// named is set where the subject alone does not tell the channel, so a
	// header has to.
	named bool
}

// NewRoute compiles a channel's route. Its error is a fault of the subject.
func NewRoute(channel, prefix string, o RouteOptions) (*Route, error) {
	r := &Route{Channel: channel, Subject: o.Subject, Token: subject.Token(channel), Envelope: o.Envelope, Stored: o.Stored, Durable: o.Durable, CatchUp: o.CatchUp}
	r.GapSubject = prefix + ".gap." + r.Token
	r.channelKey, _ = json.Marshal(channel) // a string always marshals
	if err := r.compileSubject(o, prefix); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Route) compileSubject(o RouteOptions, prefix string) error {
	if o.Subject == "" {
		r.fixed = prefix + ".event." + r.Token
		r.template = template{{literal: r.fixed}}
		r.named = r.Token != r.Channel
		return nil
	}
	t, err := parseTemplate(o.Subject, r.Token)
	if err != nil {
		return err
	}
	if !o.Durable && t.needsHeaders() {
		return errors.New("a notification has no headers: a place {header.name} is for durable channels")
	}
	if t.leadsUnder(prefix) {
		return fmt.Errorf("may lead under the prefix %s, where requests are served: begin with another word", prefix)
	}
	if n := t.maxBytes(); n > maxSubjectBytes {
		return fmt.Errorf("may become %d bytes long, at most %d are allowed", n, maxSubjectBytes)
	}
	r.template, r.named = t, true
	if !t.dynamic() {
		r.fixed = t.pattern()
	}
	return nil
}

// Chosen reports whether whoever writes an event chooses its subject, within a template.
func (r *Route) Chosen() bool { return r.fixed == "" }

// Pattern is the subject of the channel's events, with a * for each token that
// a payload decides.
func (r *Route) Pattern() string { return r.template.pattern() }

// Subjects are what a stream must cover for this channel.
func (r *Route) Subjects() []string {
	return []string{r.Pattern(), r.GapSubject}
}
