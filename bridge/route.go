package bridge

import (
	"encoding/json"
	"fmt"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// route is one channel's configuration, compiled.
type route struct {
	channel    string
	channelKey []byte // the channel as a JSON string
	token      string // the channel as one subject token
	config     Channel
	template   template
	fixed      string // the subject, where the template holds no payload field
	gapSubject string
	// named is set where the subject alone does not tell the channel, so a
	// header has to.
	named bool
}

// Subjects returns the subjects of a channel's events and of its gaps, the
// first with a * for each token that a payload decides. Its error joins one
// *ConfigError for each fault.
func (c Channel) Subjects(name, prefix string) (event, gap string, err error) {
	r, err := newRoute(name, c, prefix)
	if err != nil {
		return "", "", err
	}
	return r.template.pattern(), r.gapSubject, nil
}

// newRoute compiles a channel's configuration. Its error is a *ConfigError, or
// several joined.
func newRoute(name string, c Channel, prefix string) (*route, error) {
	var f faults
	key := "channels." + name
	if err := validateChannel(name); err != nil {
		f.add(key, "%w", err)
	} else if name == markerChannel(prefix) {
		f.add(key, "pgbridge uses this channel itself")
	}
	if c.Envelope == "" {
		c.Envelope = EnvelopeRaw
	}
	if c.Delivery == "" {
		c.Delivery = DeliveryCore
	}
	switch c.Envelope {
	case EnvelopeRaw, EnvelopeJSON, EnvelopeCloudEvents:
	default:
		f.add(key+".envelope", "%q: want raw, json or cloudevents", c.Envelope)
	}
	switch c.Delivery {
	case DeliveryCore, DeliveryJetStream:
	default:
		f.add(key+".delivery", "%q: want core or jetstream", c.Delivery)
	}
	r := &route{channel: name, token: subject.Token(name), config: c}
	r.gapSubject = prefix + ".gap." + r.token
	if err := r.compileSubject(prefix); err != nil {
		f.add(key+".subject", "%q: %w", c.Subject, err)
	}
	r.channelKey, _ = json.Marshal(name) // a string always marshals
	if len(f) > 0 {
		return nil, joinFaults(f)
	}
	return r, nil
}

func (r *route) compileSubject(prefix string) error {
	if r.config.Subject == "" {
		r.fixed = prefix + ".event." + r.token
		r.template = template{{literal: r.fixed}}
		r.named = r.token != r.channel
		return nil
	}
	t, err := parseTemplate(r.config.Subject, r.token)
	if err != nil {
		return err
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

// subjectFor returns the subject of an event with this payload.
func (r *route) subjectFor(payload string) string {
	if r.fixed != "" {
		return r.fixed
	}
	return r.template.execute(payload)
}

// streamSubjects are the subjects a stream must cover for this channel.
func (r *route) streamSubjects() []string {
	return []string{r.template.pattern(), r.gapSubject}
}

// markerChannel is the PostgreSQL channel on which replicas with this prefix
// send their markers.
func markerChannel(prefix string) string { return prefix + ".marker" }
