package bridge

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/notify"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Channel says what happens to one PostgreSQL channel's notifications.
type Channel struct {
	// Subject is the subject template; empty means <prefix>.event.{channel}.
	// A token may be {channel} or {payload.a.b}, a field of a JSON payload.
	Subject string
	// Envelope is how the payload travels. Default EnvelopeRaw.
	Envelope Envelope
	// Delivery is how an event reaches its subscribers. Default DeliveryCore.
	Delivery Delivery
	// Notify lets clients send notifications on this channel through NATS.
	Notify bool
	// NotifyPublish has it take plain publishes too, whose senders wait for no
	// answer and learn of no error. JetStream can be made to send such messages
	// for whoever may call its API, and so to notify. It wants Notify.
	NotifyPublish bool
	// Durable feeds the channel through the write-ahead log, with what
	// pgbridge.notify sends in the database, instead of notifications, and
	// delivers it to the stream of durable events.
	Durable bool
	// CatchUp is a script that returns what notifications of a window of time would have
	// told, see [Config.CatchUp]. After each loss its rows are published as events, in front
	// of the gap. Empty means none.
	CatchUp string
}

// Envelope is the form of an event's body.
type Envelope string

const (
	// EnvelopeRaw sends exactly the payload's bytes.
	EnvelopeRaw = Envelope(event.EnvelopeRaw)
	// EnvelopeJSON sends a JSON object that holds the payload.
	EnvelopeJSON = Envelope(event.EnvelopeJSON)
	// EnvelopeCloudEvents sends a CloudEvents 1.0 object in structured mode.
	EnvelopeCloudEvents = Envelope(event.EnvelopeCloudEvents)
)

// Delivery is the way an event takes through NATS.
type Delivery string

const (
	// DeliveryCore publishes to whoever subscribes at that moment.
	DeliveryCore Delivery = "core"
	// DeliveryJetStream stores the event in the bridge's stream first.
	DeliveryJetStream Delivery = "jetstream"
	// deliveryDurable is what metrics call the way of durable channels.
	deliveryDurable Delivery = "durable"
)

// maxChannelBytes is NAMEDATALEN-1: LISTEN cuts longer names silently.
const maxChannelBytes = 63

// Subjects returns the subjects of a channel's events and of its gaps, the
// first with a * for each token that a payload decides. Its error joins one
// *ConfigError for each fault.
func (c Channel) Subjects(name, prefix string) (event, gap string, err error) {
	r, err := c.route(name, prefix)
	if err != nil {
		return "", "", err
	}
	return r.Pattern(), r.GapSubject, nil
}

// route compiles the channel. Its error joins one *ConfigError for each fault.
func (c Channel) route(name, prefix string) (*event.Route, error) {
	var f faults
	key := "channels." + name
	if err := validateChannel(name); err != nil {
		f.add(key, "%w", err)
	} else if name == sequence.MarkerChannel(prefix) {
		f.add(key, "pgbridge uses this channel itself")
	}
	if c.Envelope == "" {
		c.Envelope = EnvelopeRaw
	}
	if c.Durable {
		c.validateDurable(key, &f)
	}
	if c.Delivery == "" {
		c.Delivery = DeliveryCore
	}
	if c.NotifyPublish && !c.Notify {
		f.add(key+".notify_publish", "it wants notify as well")
	}
	if c.CatchUp != "" && !subject.IsName(c.CatchUp) {
		f.add(key+".catch_up", "%q: want a script's name, such as billing.missed for billing/missed.sql", c.CatchUp)
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
	r, err := event.NewRoute(name, prefix, event.RouteOptions{
		Subject: c.Subject, Envelope: event.Envelope(c.Envelope), Stored: c.Durable || c.Delivery == DeliveryJetStream, Durable: c.Durable, CatchUp: c.CatchUp,
	})
	if err != nil {
		f.add(key+".subject", "%q: %w", c.Subject, err)
	}
	if len(f) > 0 {
		return nil, errors.Join(f...)
	}
	return r, nil
}

// routesOf compiles channels. Its error joins one *ConfigError for each fault.
func routesOf(channels map[string]Channel, prefix string) (map[string]*event.Route, error) {
	routes := make(map[string]*event.Route, len(channels))
	var f faults
	for name, c := range channels {
		r, err := c.route(name, prefix)
		if err != nil {
			f = append(f, err)
			continue
		}
		routes[name] = r
	}
	return routes, errors.Join(f...)
}

// catchesUp reports whether one of the channels has a catch-up script.
func catchesUp(channels map[string]Channel) bool {
	for _, c := range channels {
		if c.CatchUp != "" {
			return true
		}
	}
	return false
}

// notifiable says of each channel what it takes from NATS.
func notifiable(channels map[string]Channel) map[string]notify.Takes {
	takes := make(map[string]notify.Takes, len(channels))
	for name, c := range channels {
		takes[name] = notify.Takes{Requests: c.Notify, Publishes: c.NotifyPublish}
	}
	return takes
}

// told is what operators are told of the channels.
func told(channels map[string]Channel, routes map[string]*event.Route) []status.Channel {
	all := make([]status.Channel, 0, len(channels))
	for name, c := range channels {
		delivery := cmp.Or(c.Delivery, DeliveryCore)
		if c.Durable {
			delivery = deliveryDurable
		}
		all = append(all, status.Channel{
			Name: name, Subject: routes[name].Pattern(), Gap: routes[name].GapSubject, Delivery: string(delivery), Notify: c.Notify,
		})
	}
	return all
}

// validateChannel checks what PostgreSQL itself would cut short or refuse.
func validateChannel(name string) error {
	switch {
	case name == "":
		return errors.New("a channel needs a name")
	case len(name) > maxChannelBytes:
		return fmt.Errorf("the name has %d bytes, PostgreSQL allows %d", len(name), maxChannelBytes)
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the name holds a control character, which no header could carry")
	}
	return nil
}

// validateDurable finds what does not go with a durable channel.
func (c Channel) validateDurable(key string, f *faults) {
	if c.Notify {
		f.add(key+".notify", "a durable channel takes what pgbridge.notify sends in the database, and no notifications")
	}
	if c.Delivery == DeliveryCore {
		f.add(key+".delivery", "a durable channel is delivered to JetStream")
	}
	if c.CatchUp != "" {
		f.add(key+".catch_up", "a durable channel reads what it missed from the write-ahead log")
	}
}
