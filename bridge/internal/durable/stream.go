package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// maxCompared bounds how many messages are compared with what the slot has.
const maxCompared = 1 << 20

// StreamOptions describe the stream of durable events.
type StreamOptions struct {
	Name     string
	Prefix   string        // that the stream belongs to
	MaxAge   time.Duration // zero: kept for ever
	Replicas int
	Create   bool
}

// tail is where a stream ends.
type tail struct {
	created  string // when the stream was made
	last     uint64 // sequence of its last message, kept or not
	kept     uint64 // of the last one that is kept; zero: none
	sequence uint64 // the same, or of the last one before it that is pgbridge's; zero: none
	id       string // its id; empty: it is somebody else's
	subjects []string
	largest  int // bytes of a message, with headers; not above zero: no limit
}

// log is the stream, which belongs to the holder of the slot alone.
type log struct {
	js     jetstream.JetStream
	nc     *nats.Conn
	config StreamOptions
}

// need is the stream with these subjects.
func (l *log) need(subjects []string) stream.Need {
	return stream.Need{
		Create:    l.config.Create,
		CreateKey: "streams.durable.create",
		Kind:      stream.Durable,
		Prefix:    l.config.Prefix,
		Config: jetstream.StreamConfig{
			Name:        l.config.Name,
			Description: "Durable events that pgbridge reads from PostgreSQL's write-ahead log.",
			Subjects:    stream.Widest(subjects),
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			Discard:     jetstream.DiscardOld,
			MaxAge:      l.config.MaxAge,
			Replicas:    max(1, l.config.Replicas),
		},
	}
}

// open makes sure that the stream is there, and returns its end.
func (l *log) open(ctx context.Context, subjects []string) (tail, error) {
	if _, err := l.need(subjects).Ensure(ctx, l.js); err != nil {
		return tail{}, err
	}
	return l.tail(ctx)
}

// tail reads the stream's end from its leader: any other replica may answer a
// direct get, with an older end. What the holder before this one still had on
// its way may arrive between two looks, so they are repeated until they agree.
func (l *log) tail(ctx context.Context) (tail, error) {
	for {
		s, err := l.js.Stream(ctx, l.config.Name)
		if err != nil {
			return tail{}, fmt.Errorf("stream %s: %w", l.config.Name, err)
		}
		info := s.CachedInfo()
		m, err := l.get(ctx, `{"last_by_subj":">"}`)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return tail{}, fmt.Errorf("read the end of stream %s: %w", l.config.Name, err)
		}
		if m.Sequence > info.State.LastSeq {
			continue
		}
		return tail{created: info.Created.UTC().Format(time.RFC3339Nano), last: info.State.LastSeq, kept: m.Sequence, sequence: m.Sequence, id: m.id(), subjects: info.Config.Subjects, largest: int(info.Config.MaxMsgSize)}, nil
	}
}

// own looks for the last message of pgbridge's before the end, where that is somebody
// else's: whoever may publish on a subject of the stream could stop it otherwise. It looks
// no further back than to what the database remembers of the stream.
func (l *log) own(ctx context.Context, t tail, remembered *row) (tail, error) {
	var floor uint64
	if remembered != nil && remembered.created == t.created {
		floor = remembered.sequence
	}
	for sequence := t.kept; sequence > floor; {
		some, err := l.before(ctx, sequence)
		if err != nil {
			return tail{}, fmt.Errorf("look for the last message of pgbridge: %w", err)
		}
		for _, m := range some {
			if id := m.id(); id != "" && m.Sequence > floor {
				t.sequence, t.id = m.Sequence, id
				return t, nil
			}
		}
		sequence -= uint64(len(some))
	}
	t.sequence, t.id = 0, ""
	return t, nil
}

// since returns the positions of the messages that are kept, from the last one
// back to the first that is before the slot's confirmed position in this
// history, and leaves that one out.
func (l *log) since(ctx context.Context, t tail, earlier func(position) bool) ([]position, error) {
	var all []position
	for sequence := t.kept; sequence > 0 && len(all) < maxCompared; {
		some, err := l.before(ctx, sequence)
		if err != nil {
			return nil, err
		}
		for _, m := range some {
			p, err := parseID(m.id())
			if err != nil { // it is not kept, or somebody else's
				continue
			}
			if earlier(p) {
				return all, nil
			}
			all = append(all, p)
		}
		sequence -= uint64(len(some))
	}
	return all, nil
}

const (
	// readBytes is how many bytes the messages may have that are asked for at a time,
	// each as large as one can be.
	readBytes = 8 << 20
	// readAtOnce is how many are asked for at most.
	readAtOnce = 64
)

// atOnce returns how many messages are asked for at a time, of which each has that many
// bytes at most; 0: nobody knows.
func atOnce(limit int64) uint64 {
	if limit <= 0 {
		return 1
	}
	return uint64(min(max(readBytes/limit, 1), readAtOnce))
}

// before returns the messages from a sequence back, the zero one where none is kept.
func (l *log) before(ctx context.Context, sequence uint64) ([]stored, error) {
	some := make([]stored, min(sequence, atOnce(l.nc.MaxPayload())))
	group, ctx := errgroup.WithContext(ctx)
	for i := range some {
		at := sequence - uint64(i)
		group.Go(func() (err error) {
			some[i], err = l.get(ctx, fmt.Sprintf(`{"seq":%d}`, at))
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return fmt.Errorf("read message %d of stream %s: %w", at, l.config.Name, err)
			}
			return nil
		})
	}
	return some, group.Wait()
}

// stored is a message as JetStream's API answers it.
type stored struct {
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
}

// id is the event's, empty where the message is none of pgbridge's.
func (s *stored) id() string {
	for line := range strings.SplitSeq(string(s.Header), "\r\n") {
		if name, value, found := strings.Cut(line, ":"); found && name == event.HeaderID {
			id := strings.TrimSpace(value)
			if _, err := parseID(id); err != nil {
				return ""
			}
			return id
		}
	}
	return ""
}

// getTimeout is for one message: how many are read, nobody knows beforehand.
const getTimeout = 5 * time.Second

func (l *log) get(ctx context.Context, request string) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	reply, err := l.nc.RequestWithContext(ctx, stream.APIPrefix(l.js)+"STREAM.MSG.GET."+l.config.Name, []byte(request))
	if err != nil {
		return stored{}, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message stored              `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return stored{}, err
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return stored{}, jetstream.ErrMsgNotFound
		}
		return stored{}, answer.Error
	}
	return answer.Message, nil
}
