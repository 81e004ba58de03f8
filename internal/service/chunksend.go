package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
)

// SetRows corrects the number of rows, where Send was told of others as well.
func (c *Chunks) SetRows(n int64) { c.rows = n }

// SetNotices gives the end of the stream what PostgreSQL has said besides, JSON
// objects, of which those count that come first and fit into a header.
func (c *Chunks) SetNotices(objects [][]byte) {
	limit := min(maxNoticeHeader, int(c.nc.MaxPayload())/4)
	var list []byte
	for _, object := range objects {
		object = appendASCII(nil, object)
		if len(list)+len(object)+len(",]") > limit {
			break
		}
		list = append(append(list, ','), object...)
	}
	if c.notices = ""; len(list) > 0 {
		list[0] = '['
		c.notices = string(list) + "]"
	}
}

// appendASCII appends JSON with escapes in the place of what is no ASCII.
func appendASCII(dst, text []byte) []byte {
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			dst = append(dst, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
	}
	return dst
}

// Rows returns how many rows were sent.
func (c *Chunks) Rows() int64 { return c.rows }

// Bytes returns how many bytes were sent.
func (c *Chunks) Bytes() int64 { return c.bytes }

// Digest returns that of all data that was sent.
func (c *Chunks) Digest() string { return api.FormatDigest(c.digest) }

// End publishes the message that says that everything was sent, and the
// totals. It returns when NATS has it; an error means that it may not have.
func (c *Chunks) End(ctx context.Context) error {
	header := nats.Header{
		HeaderRows:   {strconv.FormatInt(c.rows, 10)},
		HeaderBytes:  {strconv.FormatInt(c.bytes, 10)},
		HeaderDigest: {c.Digest()},
	}
	if c.notices != "" {
		header[HeaderNotices] = []string{c.notices}
	}
	if err := c.publish(Reply{Header: header}); err != nil {
		return err
	}
	if err := flush(ctx, c.nc, deliverTimeout); err != nil {
		return Errorf(CodeUnavailable, "NATS does not confirm the end of a stream").WithCause(err)
	}
	return c.link()
}

// Fail ends the stream with an error instead. Nothing more is said when nobody
// listens.
func (c *Chunks) Fail(err error) {
	failure := AsError(err)
	e := c.request.endpoint
	e.log(c.request, failure)
	if errors.Is(err, errNobodyListens) {
		return
	}
	reply, err := ErrorReply(failure)
	if err == nil {
		err = c.publish(reply)
	}
	if err == nil {
		err = c.publish(Reply{})
	}
	if err != nil {
		e.log(c.request, AsError(err))
	}
}

// publish sends a message that is no chunk.
func (c *Chunks) publish(reply Reply) error {
	header := reply.Header
	if c.config.Header != nil {
		header = merge(header, c.config.Header())
	}
	err := c.nc.PublishMsg(&nats.Msg{Subject: c.request.reply, Header: header, Data: reply.Data})
	if err != nil {
		return Errorf(CodeUnavailable, "the end of a stream cannot be sent").WithCause(err)
	}
	return nil
}
