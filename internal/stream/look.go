package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// State is what Ensure would find.
type State struct {
	Exists  bool
	Missing []string // subjects that Ensure would add; all of them, if it would create the stream
}

// String describes the state in a line.
func (s State) String() string {
	switch {
	case !s.Exists:
		return "does not exist; serve will create it"
	case len(s.Missing) > 0:
		return "exists; serve will add " + list(s.Missing)
	}
	return "exists and holds every subject"
}

// Look says what Ensure would do, and does nothing. An error is what Ensure
// would fail with, as far as that can be known before. It blocks until
// JetStream has answered some requests, or ctx ends.
func (n Need) Look(ctx context.Context, js jetstream.JetStream) (State, error) {
	state, err := n.look(ctx, js)
	if err == nil {
		err = n.free(ctx, js, state.Missing)
	}
	if err != nil {
		return State{}, n.explain(err)
	}
	return state, nil
}

func (n Need) look(ctx context.Context, js jetstream.JetStream) (State, error) {
	s, err := js.Stream(ctx, n.Config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && n.Create {
		return State{Missing: n.Config.Subjects}, nil
	}
	if err != nil {
		return State{}, err
	}
	missing, err := n.compare(s.CachedInfo().Config)
	return State{Exists: true, Missing: missing}, err
}

// maxAsked bounds how many subjects JetStream is asked about, one by one.
const maxAsked = 100

// free returns an error if another stream has some of these subjects: each can
// be in one stream only. Whether this user may know that is no matter here.
func (n Need) free(ctx context.Context, js jetstream.JetStream, subjects []string) error {
	for _, wanted := range subjects[:min(len(subjects), maxAsked)] {
		names := js.StreamNames(ctx, jetstream.WithStreamListSubject(wanted))
		for name := range names.Name() {
			if name != n.Config.Name {
				return fmt.Errorf("cannot have %s: stream %s holds it, or part of it", wanted, name)
			}
		}
	}
	return nil
}
