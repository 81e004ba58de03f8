package durable

import (
	"context"
	"fmt"
	"strings"
)

// maxNamed is how many channels readiness names.
const maxNamed = 5

// Unkept says of which channels an event would be lost that commits now, for whoever
// publishes: the slot is not there yet, or the database does not remember yet that they
// begin. Empty: of none. It is safe for concurrent use.
func (f *Feed) Unkept() string {
	r := f.routes.Load()
	if r == nil {
		return ""
	}
	var kept map[string]bool
	if k := f.kept.Load(); k != nil {
		kept = *k
	}
	var names []string
	for _, channel := range r.channels {
		if !kept[channel] {
			names = append(names, fmt.Sprintf("%q", channel))
		}
	}
	if len(names) == 0 {
		return ""
	}
	if more := len(names) - maxNamed; more > 0 {
		names = append(names[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return "nothing keeps the events yet of " + strings.Join(names, ", ")
}

// keeps notes that whatever commits from now on on these channels is carried one day.
func (f *Feed) keeps(channels []string) {
	kept := make(map[string]bool, len(channels))
	for _, channel := range channels {
		kept[channel] = true
	}
	f.kept.Store(&kept)
}

// keepsNothing notes that nobody knows of any channel.
func (f *Feed) keepsNothing() { f.kept.Store(nil) }

// lookAtKept finds out what was kept before this session: it may have to wait for the
// slot, while that keeps what the sessions before wanted.
func (s *session) lookAtKept(ctx context.Context) error {
	s.keepsNothing()
	state, err := lookAtSlot(ctx, s.conn, s.slot)
	if err != nil || !state.exists || !state.ours || state.lost || state.confirmed == 0 || s.failure.of(state) {
		return err
	}
	saved, err := loadRow(ctx, s.conn, s.Prefix)
	if err != nil || saved == nil {
		return err
	}
	s.keeps(saved.channels)
	return nil
}
