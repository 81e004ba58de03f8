package event

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
)

// The headers of events and gaps.
const (
	HeaderChannel     = "Pgbridge-Channel"
	HeaderID          = "Pgbridge-Id"
	headerContentType = "Content-Type"
	HeaderMsgID       = nats.MsgIdHdr
	HeaderLastMsgID   = "Nats-Expected-Last-Msg-Id"
	HeaderLastSeq     = nats.ExpectedLastSeqHdr
	// HeaderAfter is on what has no number of its own: the position that it follows.
	HeaderAfter = "Pgbridge-After"
	// HeaderOpen names the channels whose losses are not announced yet.
	HeaderOpen = "Pgbridge-Open"
	// HeaderCatchUp is on the rows of a catch-up script.
	HeaderCatchUp = "Pgbridge-Catch-Up"
)

// Encoder makes messages of items. It reuses one message, so what it returns
// is valid until the next call; nats.go copies what it publishes.
type Encoder struct {
	source string // of CloudEvents
	prefix string
	msg    nats.Msg
	values map[string][]string // one slot for each header of ours
	body   []byte
}

// NewEncoder returns an encoder for the events of a database.
func NewEncoder(prefix, database string) *Encoder {
	return &Encoder{prefix: prefix, source: "/" + prefix + "/" + database, values: map[string][]string{}, msg: nats.Msg{Header: nats.Header{}}}
}

// Encode returns the message for an event or a gap. id is empty for core
// delivery of a raw event, which carries none.
func (e *Encoder) Encode(it *Item, id string) *nats.Msg {
	clear(e.msg.Header)
	e.msg.Reply = ""
	if it.Kind == KindGap {
		e.msg.Subject, e.msg.Data = it.Route.GapSubject, it.Gap.Body()
		e.Set(HeaderChannel, it.Route.Channel)
		e.Set(headerContentType, "application/json")
		return &e.msg
	}
	e.msg.Subject = it.Route.subjectFor(it)
	if it.Origin != nil {
		for key, value := range it.Origin.Header {
			e.msg.Header[key] = []string{value} // kept, the names that writers choose would pile up
		}
	}
	if it.Route.named {
		e.Set(HeaderChannel, it.Route.Channel)
	}
	if it.CaughtUp() {
		e.Set(HeaderCatchUp, "true")
	}
	switch it.Route.Envelope {
	case EnvelopeJSON:
		e.body = appendJSONEnvelope(e.body[:0], it, id)
		e.Set(headerContentType, "application/json")
	case EnvelopeCloudEvents:
		e.body = e.appendCloudEvent(e.body[:0], it, id)
		e.Set(headerContentType, "application/cloudevents+json")
	default:
		e.body = append(e.body[:0], it.Payload...)
	}
	e.msg.Data = e.body
	return &e.msg
}

// Set adds a header to the message that Encode returned last.
func (e *Encoder) Set(key, value string) {
	slot := e.values[key]
	if slot == nil {
		slot = make([]string, 1)
		e.values[key] = slot
	}
	slot[0] = value
	e.msg.Header[key] = slot
}

// ID names an event alike on every replica: the epoch's id, the channel's
// token, the number within both, and a hash, so that a wrong number could
// repeat an event but never hide another.
func ID(it *Item) string {
	b := make([]byte, 0, 80)
	b = append(b, it.Epoch.ID...)
	b = append(b, '.')
	b = append(b, it.Route.Token...)
	b = append(b, '.')
	b = strconv.AppendUint(b, it.N, 10)
	b = append(b, '.')
	return string(appendHex64(b, xxhash.Sum64String(it.Payload)))
}

// RowID names the nth row of catch-up scripts that a replica publishes: no position in the
// order of notifications.
func RowID(it *Item, n uint64) string {
	return it.Epoch.ID + "." + it.Route.Token + ".row." + strconv.FormatUint(n, 10)
}

func appendHex64(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

func appendJSONEnvelope(b []byte, it *Item, id string) []byte {
	b = append(b, `{"channel":`...)
	b = append(b, it.Route.channelKey...)
	b, _ = appendPayload(append(b, ','), "payload", it.Payload)
	b = appendOrigin(b, it, "committed_at", "catch_up")
	b = append(b, `,"id":"`...)
	b = append(b, id...)
	b = append(b, `","received_at":"`...)
	b = appendTime(b, it.Received)
	return append(b, `"}`...)
}

func (e *Encoder) appendCloudEvent(b []byte, it *Item, id string) []byte {
	b = append(b, `{"specversion":"1.0","id":"`...)
	b = append(b, id...)
	b = append(b, `","source":`...)
	b = appendJSONString(b, e.source)
	b = append(b, `,"type":"io.pgbridge.notification","subject":`...)
	b = append(b, it.Route.channelKey...)
	b = append(b, `,"time":"`...)
	b = appendTime(b, it.Received)
	b, contentType := appendPayload(append(b, `",`...), "data", it.Payload)
	b = append(b, `,"datacontenttype":"`...)
	b = append(b, contentType...)
	b = append(b, '"')
	b = appendOrigin(b, it, "committedat", "catchup") // an attribute's name has letters and digits only
	return append(b, '}')
}

// appendPayload adds a payload as a field: one that is JSON as it is, other text as a
// string, and bytes that are no text in base64, under a name that says so.
func appendPayload(b []byte, field, payload string) (_ []byte, contentType string) {
	b = append(append(b, '"'), field...)
	if !utf8.ValidString(payload) {
		b = append(b, `_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(payload))
		return append(b, '"'), "application/octet-stream"
	}
	b = append(b, `":`...)
	value := len(b)
	b = append(b, payload...)
	if json.Valid(b[value:]) {
		return b, "application/json"
	}
	return appendJSONString(b[:value], payload), "text/plain"
}

// appendJSONString adds text, of which json.Marshal keeps what is UTF-8.
func appendJSONString(b []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string always marshals
	return append(b, quoted...)
}

// appendOrigin says where an event comes from: a backend, or a place in the
// write-ahead log, which knows no backend. A row of a script is from neither.
func appendOrigin(b []byte, it *Item, committed, caughtUp string) []byte {
	if it.CaughtUp() {
		return append(append(append(b, `,"`...), caughtUp...), `":true`...)
	}
	if it.Origin == nil {
		b = append(b, `,"pid":`...)
		return strconv.AppendInt(b, int64(it.PID), 10)
	}
	b = append(append(append(b, `,"`...), committed...), `":"`...)
	b = appendTime(b, it.Origin.Committed)
	b = append(b, `","lsn":"`...)
	b = append(b, it.Origin.LSN...)
	return append(b, '"')
}

func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
}
