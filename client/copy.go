package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/chunks"
	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// CopyOptions are limits and an observer of a copy. The zero value is right for
// nearly all.
type CopyOptions struct {
	// ID names the copy, on the subject of its progress too; empty: pgbridge
	// makes one up.
	ID string
	// ChunkBytes is how large a chunk is, WindowBytes how much may be under way,
	// Stall how long the other side may be silent. Zero: pgbridge's defaults,
	// which also cap them.
	ChunkBytes, WindowBytes int
	Stall                   time.Duration
	// Progress is called with the bytes of each chunk that was dealt with, one
	// call at a time; nil: nobody watches. A copy from or to an object has no chunks
	// here: [Client.WatchCopy] tells of it.
	Progress func(bytes int64)
}

// Object names one in a JetStream object store. The script has to name the
// bucket.
type Object struct{ Bucket, Name string }

// Copied is what was copied: all of it, but for rows that a COPY with ON_ERROR
// ignore has skipped. Results are those of the statements around the COPY of a
// copy in.
type Copied struct {
	ID          string
	Rows, Bytes int64
	Skipped     int64
	Digest      string // SHA-256=… of the bytes
	Results     []Result
	Notices     []Notice
}

// ErrDirection says that a script copies the other way.
var ErrDirection = errors.New("the script copies in the other direction")

// CopyOut copies a script's rows out of PostgreSQL into w, which gets whole
// chunks, each with one Write. What w got is all, and nothing else, only when
// the error is nil; after one it has to be thrown away.
//
// PostgreSQL waits for w: while a Write blocks for longer than the stall time
// the copy fails with [CodeTimeout]. After an error everything that the script
// did is undone, unless the error is [ErrOutcomeUnknown]. A request that was
// refused before any data came is sent again where pgbridge says that it may
// succeed.
func (c *Client) CopyOut(ctx context.Context, s Script, w io.Writer, o CopyOptions) (*Copied, error) {
	return c.copyOut(ctx, nil, s, w, o)
}

// CopyOut copies a script's rows out within the transaction.
func (t *Tx) CopyOut(ctx context.Context, s Script, w io.Writer, o CopyOptions) (*Copied, error) {
	return t.client.copyOut(ctx, t, s, w, o)
}

// CopyIn copies what r reads into PostgreSQL: all of it, or nothing if there is
// an error, unless that is [ErrOutcomeUnknown]. In a transaction of its own it
// returns after COMMIT. A slow r is sent piece by piece; one that gives nothing
// for the stall time is taken for gone, and the copy fails with [CodeTimeout] or
// [CodeGone]. A Read that blocks when the copy ends is left behind.
func (c *Client) CopyIn(ctx context.Context, s Script, r io.Reader, o CopyOptions) (*Copied, error) {
	return c.copyIn(ctx, nil, s, r, o)
}

// CopyIn copies what r reads within the transaction, and returns when the COPY is
// done.
func (t *Tx) CopyIn(ctx context.Context, s Script, r io.Reader, o CopyOptions) (*Copied, error) {
	return t.client.copyIn(ctx, t, s, r, o)
}

// CopyObject copies between PostgreSQL and an object; the direction is the
// script's. With a MessageID it is done once, however often it is sent.
func (c *Client) CopyObject(ctx context.Context, s Script, object Object, o CopyOptions) (*Copied, error) {
	return c.copyObject(ctx, s, object, o, request.Request{Subject: c.subject("copy", s.Name), ID: s.MessageID})
}

// CopyObject copies between PostgreSQL and an object within the transaction.
func (t *Tx) CopyObject(ctx context.Context, s Script, object Object, o CopyOptions) (*Copied, error) {
	if s.MessageID != "" {
		return nil, errNoMessageID
	}
	return t.client.copyObject(ctx, s, object, o, request.Request{Subject: join(t.subject, "copy", s.Name), InTx: true})
}

func (c *Client) copyObject(ctx context.Context, s Script, object Object, o CopyOptions, a request.Request) (*Copied, error) {
	body, err := s.copyRequest(o)
	if err != nil {
		return nil, err
	}
	body.Object = &api.Object{Bucket: object.Bucket, Name: object.Name}
	a.Body, a.Limit = body, s.limit()
	m, err := c.exchange(ctx, a)
	if err != nil {
		return nil, err
	}
	return readCopied(m)
}

func (s Script) copyRequest(o CopyOptions) (api.CopyRequest, error) {
	params, err := s.params()
	return api.CopyRequest{
		SQL: s.SQL, Params: params, TimeoutMS: millis(s.Timeout),
		ID: o.ID, ChunkBytes: o.ChunkBytes, WindowBytes: o.WindowBytes, StallMS: millis(o.Stall),
	}, err
}

func readCopied(m *nats.Msg) (*Copied, error) {
	var s api.CopySummary
	if err := decode(m, &s); err != nil {
		return nil, err
	}
	return copied(s)
}

func copied(s api.CopySummary) (*Copied, error) {
	var around []api.Result
	if len(s.Results) > 0 {
		if err := json.Unmarshal(s.Results, &around); err != nil {
			return nil, fmt.Errorf("read the results of a copy: %w", err)
		}
	}
	return &Copied{s.ID, s.Rows, s.Bytes, s.Skipped, s.Digest, results(around), notices(s.Notices)}, nil
}

func (c *Client) copyOut(ctx context.Context, t *Tx, s Script, w io.Writer, o CopyOptions) (*Copied, error) {
	link, opening, err := c.openCopy(ctx, t, s, o)
	if err != nil {
		return nil, public(err)
	}
	defer link.Close()
	if opening.Data != "" {
		return nil, public(link.Abandon(ctx, ErrDirection))
	}
	totals, err := link.Download(ctx, w, o.Progress)
	if err != nil {
		return nil, public(link.Abandon(ctx, err))
	}
	return &Copied{
		ID: opening.ID, Rows: totals.Rows, Bytes: totals.Bytes, Digest: totals.Digest, Notices: noticesIn(totals.Last),
	}, nil
}

func (c *Client) copyIn(ctx context.Context, t *Tx, s Script, r io.Reader, o CopyOptions) (*Copied, error) {
	link, opening, err := c.openCopy(ctx, t, s, o)
	if err != nil {
		return nil, public(err)
	}
	defer link.Close()
	if opening.Data == "" {
		return nil, public(link.Abandon(ctx, ErrDirection))
	}
	done, err := link.Upload(ctx, opening, r, o.Progress)
	if err != nil {
		return nil, public(link.Abandon(ctx, err))
	}
	return copied(done)
}

// openCopy starts a copy, in t if it is not nil. No data has been sent yet when
// it fails, so it tries again where pgbridge says so.
func (c *Client) openCopy(ctx context.Context, t *Tx, s Script, o CopyOptions) (*chunks.Link, api.CopyOpening, error) {
	var opening api.CopyOpening
	if s.MessageID != "" {
		return nil, opening, errNoMessageID
	}
	body, err := s.copyRequest(o)
	if err != nil {
		return nil, opening, err
	}
	a := request.Request{Subject: c.subject("copy", s.Name), Body: body, Limit: s.limit()}
	within := ""
	if t != nil {
		a.Subject, a.InTx, within = join(t.subject, "copy", s.Name), true, t.subject
	}
	for tries := 1; ; tries++ {
		link, m, err := c.openStream(ctx, a, within)
		if err == nil {
			if err = decode(m, &opening); err == nil {
				err = checkData(opening.Tx, opening.Data)
			}
			if err == nil {
				link.In(opening.Tx)
				return link, opening, nil
			}
			link.Close()
		}
		if !c.requests.Again(ctx, a, tries, err) {
			return nil, opening, err
		}
	}
}

// openStream asks for a stream of chunks, within a transaction if that is not
// empty, and returns the message before them.
func (c *Client) openStream(ctx context.Context, a request.Request, within string) (*chunks.Link, *nats.Msg, error) {
	m, err := a.Message()
	if err != nil {
		return nil, nil, err
	}
	link, err := chunks.New(chunks.Config{Conn: c.nc, Inbox: c.newInbox(), Request: c.requests.Once, Silence: c.requests.Silence})
	if err != nil {
		return nil, nil, err
	}
	link.In(within)
	limit := c.requests.Limit(a, 1)
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	first, err := link.Open(limited, m)
	if errors.Is(err, nats.ErrNoResponders) && a.InTx {
		err = fmt.Errorf("request %s: %w", a.Subject, ErrReplicaGone)
	}
	if err == nil {
		if failure := api.DecodeError(first.Header, first.Data); failure != nil {
			err = failure
		}
	}
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	return link, first, nil
}

// noticesIn reads those of a stream from its last message. What is said besides
// is no reason to doubt the rows.
func noticesIn(last *nats.Msg) []Notice {
	var list []api.Notice
	_ = json.Unmarshal([]byte(last.Header.Get(api.HeaderNotices)), &list)
	return notices(list)
}
