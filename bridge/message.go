package bridge

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
)

const (
	headerChannel     = "Pgbridge-Channel"
	headerContentType = "Content-Type"
	headerMsgID       = nats.MsgIdHdr
	headerLastMsgID   = "Nats-Expected-Last-Msg-Id"
	headerLastSeq     = nats.ExpectedLastSeqHdr
)

// encoder makes messages of items. It reuses one message, so what it returns
// is valid until the next call; nats.go copies what it publishes.
type encoder struct {
	source string // of CloudEvents
	prefix string
	msg    nats.Msg
	values map[string][]string // one slot for each header
	body   []byte
}

func newEncoder(prefix, database string) *encoder {
	return &encoder{prefix: prefix, source: "/" + prefix + "/" + database, values: map[string][]string{}, msg: nats.Msg{Header: nats.Header{}}}
}

// encode returns the message for an event or a gap. id is empty for core
// delivery of a raw event, which carries none.
func (e *encoder) encode(it *item, id string) *nats.Msg {
	clear(e.msg.Header)
	e.msg.Reply = ""
	if it.kind == itemGap {
		e.msg.Subject, e.msg.Data = it.route.gapSubject, it.gap.body()
		e.set(headerChannel, it.route.channel)
		e.set(headerContentType, "application/json")
		return &e.msg
	}
	e.msg.Subject = it.route.subjectFor(it.payload)
	if it.route.named {
		e.set(headerChannel, it.route.channel)
	}
	switch it.route.config.Envelope {
	case EnvelopeJSON:
		e.body = appendJSONEnvelope(e.body[:0], it, id)
		e.set(headerContentType, "application/json")
	case EnvelopeCloudEvents:
		e.body = e.appendCloudEvent(e.body[:0], it, id)
		e.set(headerContentType, "application/cloudevents+json")
	default:
		e.body = append(e.body[:0], it.payload...)
	}
	e.msg.Data = e.body
	return &e.msg
}

// set adds a header to the message that encode returned last.
func (e *encoder) set(key, value string) {
	slot := e.values[key]
	if slot == nil {
		slot = make([]string, 1)
		e.values[key] = slot
	}
	slot[0] = value
	e.msg.Header[key] = slot
}

// eventID names an event alike on every replica: the epoch's id, the channel's
// token, the number within both, and a hash, so that a wrong number could
// repeat an event but never hide another.
func eventID(it *item) string {
	b := make([]byte, 0, 80)
	b = append(b, it.epoch.id...)
	b = append(b, '.')
	b = append(b, it.route.token...)
	b = append(b, '.')
	b = strconv.AppendUint(b, it.n, 10)
	b = append(b, '.')
	return string(appendHex64(b, xxhash.Sum64String(it.payload)))
}

func appendHex64(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

func appendJSONEnvelope(b []byte, it *item, id string) []byte {
	b = append(b, `{"channel":`...)
	b = append(b, it.route.channelKey...)
	b = append(b, `,"payload":`...)
	b, _ = appendPayload(b, it.payload)
	b = appendPID(b, it.pid)
	b = append(b, `,"id":"`...)
	b = append(b, id...)
	b = append(b, `","received_at":"`...)
	b = appendTime(b, it.received)
	return append(b, `"}`...)
}

func (e *encoder) appendCloudEvent(b []byte, it *item, id string) []byte {
	b = append(b, `{"specversion":"1.0","id":"`...)
	b = append(b, id...)
	b = append(b, `","source":`...)
	b = appendJSONString(b, e.source)
	b = append(b, `,"type":"io.pgbridge.notification","subject":`...)
	b = append(b, it.route.channelKey...)
	b = append(b, `,"time":"`...)
	b = appendTime(b, it.received)
	b = append(b, `","data":`...)
	b, isJSON := appendPayload(b, it.payload)
	if isJSON {
		b = append(b, `,"datacontenttype":"application/json"`...)
	} else {
		b = append(b, `,"datacontenttype":"text/plain"`...)
	}
	b = appendPID(b, it.pid)
	return append(b, '}')
}

// appendPayload embeds a payload that is JSON as it is, any other as a string.
func appendPayload(b []byte, payload string) (_ []byte, isJSON bool) {
	start := len(b)
	b = append(b, payload...)
	if json.Valid(b[start:]) && utf8.Valid(b[start:]) {
		return b, true
	}
	return appendJSONString(b[:start], payload), false
}

func appendJSONString(b []byte, s string) []byte {
	quoted, _ := json.Marshal(strings.ToValidUTF8(s, "\uFFFD")) // a string always marshals
	return append(b, quoted...)
}

func appendPID(b []byte, pid int32) []byte {
	b = append(b, `,"pid":`...)
	return strconv.AppendInt(b, int64(pid), 10)
}

func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
}
