// Package stream makes the JetStream streams that pgbridge needs, adds to those
// that operators have made, and says why one cannot serve. Every replica does
// this whenever it connects, all of them at once at times, so each step can be
// done twice, and nothing that an operator has set is taken away.
package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Need is a stream that somebody needs.
type Need struct {
	// Kind is what the stream is for.
	Kind Kind
	// Config is how the stream is created. Of a stream that exists, only the
	// subjects must be what Config says; the rest is its operator's choice, as far
	// as it suits the kind.
	Config jetstream.StreamConfig
	// Wide are patterns that take the place of the subjects they cover wherever
	// some are missing: nats-server compares each subject of a stream with each
	// other, which takes seconds for thousands. Empty: each subject for itself.
	Wide []string
	// Apart are subjects that the stream must not take in. Ensure removes a
	// pattern of OnceWide that covers one, if Create lets it.
	Apart []string
	// OnceWide are patterns that Ensure may have added as Wide before.
	OnceWide []string
	// Create lets Ensure create the stream, or add subjects to it.
	Create bool
	// CreateKey names the setting that Create comes from, for errors. Default
	// "create".
	CreateKey string
	// Prefix is the one that the stream belongs to; empty: several may share it. Two that
	// publish into one stream take each other's last message for their own. Ensure notes it
	// in the metadata of a stream that it creates or changes, and refuses another's.
	Prefix string
	// Batches lets Ensure make the stream take fast batches, where the server knows
	// them (2.14 and newer). A stream that cannot does without.
	Batches bool
}

// Ensure returns the stream, created or extended if it must and may be. Its
// error names the stream and says what an operator can do. It asks JetStream
// two or three times and blocks until it has answered or ctx ends.
func (n Need) Ensure(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	s, err := n.ensure(ctx, js)
	if len(n.Wide) > 0 && isOverlap(err) { // with another stream, which a narrower subject may avoid
		n.Wide = nil
		s, err = n.ensure(ctx, js)
	}
	if err != nil {
		return nil, n.explain(err)
	}
	return s, nil
}

func (n Need) ensure(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, n.Config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && n.Create {
		config := n.Config
		config.Subjects = n.widened(nil, config.Subjects)
		n.claim(&config)
		s, err = n.batched(js, config, func(c jetstream.StreamConfig) (jetstream.Stream, error) { return js.CreateStream(ctx, c) })
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another replica was quicker
			s, err = js.Stream(ctx, n.Config.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	config := s.CachedInfo().Config
	narrowed := n.narrowed(&config)
	missing, err := n.compare(config)
	if err != nil {
		return nil, err
	}
	update := func(c jetstream.StreamConfig) (jetstream.Stream, error) { return js.UpdateStream(ctx, c) }
	if len(missing) > 0 || narrowed {
		config.Subjects = n.widened(config.Subjects, missing)
		n.claim(&config)
		return n.batched(js, config, update)
	}
	if n.Create && n.Batches && !config.AllowBatchPublish && knowsBatches(js.Conn()) {
		config.AllowBatchPublish = true
		if updated, err := update(config); err == nil {
			return updated, nil
		}
	}
	return s, nil
}

// prefixKey is where a stream's metadata says which prefix it belongs to.
const prefixKey = "pgbridge.prefix"

// claim notes whose the stream is, unless that is noted.
func (n Need) claim(config *jetstream.StreamConfig) {
	if n.Prefix == "" || config.Metadata[prefixKey] != "" {
		return
	}
	config.Metadata = maps.Clone(config.Metadata)
	if config.Metadata == nil {
		config.Metadata = map[string]string{}
	}
	config.Metadata[prefixKey] = n.Prefix
}

// batched creates or updates a stream that takes fast batches, if it is to and
// can.
func (n Need) batched(js jetstream.JetStream, config jetstream.StreamConfig, put func(jetstream.StreamConfig) (jetstream.Stream, error)) (jetstream.Stream, error) {
	if n.Batches && !config.AllowBatchPublish && knowsBatches(js.Conn()) {
		with := config
		with.AllowBatchPublish = true
		s, err := put(with)
		var refused *jetstream.APIError
		if err == nil || !errors.As(err, &refused) {
			return s, err
		}
	}
	return put(config)
}

// knowsBatches reports whether the server is of a version that has fast batches:
// an older one may refuse a configuration with a setting that it does not know.
func knowsBatches(nc *nats.Conn) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(nc.ConnectedServerVersion(), "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 2 || major == 2 && minor >= 14
}

// isOverlap reports whether JetStream refuses subjects that another stream has.
func isOverlap(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeSubjectOverlap
}

// codeSubjectOverlap is nats-server's JSStreamSubjectOverlapErr (server/errors.json).
const codeSubjectOverlap jetstream.ErrorCode = 10065

// widened returns the subjects of a stream that has some and gets others.
func (n Need) widened(have, missing []string) []string {
	all := slices.Concat(have, missing)
	for _, pattern := range n.Wide {
		if len(Missing([]string{pattern}, missing)) < len(missing) {
			all = append(all, pattern)
		}
	}
	return Widest(all)
}

// narrowed takes patterns from a configuration that were added as Wide and now
// take in what must stay apart.
func (n Need) narrowed(config *jetstream.StreamConfig) bool {
	if !n.Create {
		return false
	}
	before := len(config.Subjects)
	config.Subjects = slices.DeleteFunc(slices.Clone(config.Subjects), func(pattern string) bool {
		return slices.Contains(n.OnceWide, pattern) && len(Missing([]string{pattern}, n.Apart)) < len(n.Apart)
	})
	return len(config.Subjects) < before
}

// compare returns the subjects that a stream lacks; an error says why it cannot
// serve.
func (n Need) compare(have jetstream.StreamConfig) (missing []string, err error) {
	if err := n.suits(have); err != nil {
		return nil, err
	}
	missing = Missing(have.Subjects, n.Config.Subjects)
	if len(missing) > 0 && !n.Create {
		return nil, fmt.Errorf("does not hold %s: add the subjects, or set %s", list(missing), n.createKey())
	}
	return missing, overlap(have.Subjects, missing)
}

// suits says why a stream cannot serve, whatever its subjects are. Nothing
// that is published is stored by a mirror or a sealed stream, nobody learns
// whether a stream without acknowledgements has stored it, and a stream of
// counters takes nothing else.
func (n Need) suits(have jetstream.StreamConfig) error {
	switch {
	case have.Mirror != nil:
		return fmt.Errorf("is a mirror of %s: it stores nothing that is published", have.Mirror.Name)
	case have.Sealed:
		return errors.New("is sealed: it stores nothing new")
	case have.NoAck:
		return errors.New("has no_ack set: whether it stored a message is not known")
	case have.AllowMsgCounter:
		return errors.New("is a stream of counters (allow_msg_counter): it refuses other messages")
	case n.Prefix != "" && have.Metadata[prefixKey] != "" && have.Metadata[prefixKey] != n.Prefix:
		return fmt.Errorf("belongs to the prefix %q, as its metadata says (%s): give each a stream of its own", have.Metadata[prefixKey], prefixKey)
	}
	return n.Kind.suits(have)
}

// overlap says which subjects JetStream would refuse to keep beside the missing
// ones: those that share some subjects with one and are not covered by it. Only
// two patterns can do that, so plain subjects are not looked at.
func overlap(have, missing []string) error {
	patterns := cover{}
	for _, pattern := range have {
		if !plain(pattern) {
			patterns.add(pattern)
		}
	}
	for _, wanted := range missing {
		if plain(wanted) {
			continue
		}
		if pattern, found := patterns.besides(wanted); found {
			return fmt.Errorf("its subject %s overlaps %s, which must be added: change it to one that holds all of that", pattern, wanted)
		}
	}
	return nil
}

func plain(subject string) bool { return !strings.ContainsAny(subject, "*>") }

func (n Need) explain(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = fmt.Errorf("does not exist: create it with the subjects %s, or set %s", list(n.Config.Subjects), n.createKey())
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		err = fmt.Errorf("JetStream is not there: %w", err)
	}
	return fmt.Errorf("stream %s: %w", n.Config.Name, err)
}

func (n Need) createKey() string {
	if n.CreateKey == "" {
		return "create"
	}
	return n.CreateKey
}

// maxListed bounds how many subjects a message names.
const maxListed = 8

func list(subjects []string) string {
	if more := len(subjects) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(subjects[:maxListed], ", "), more)
	}
	return strings.Join(subjects, ", ")
}
