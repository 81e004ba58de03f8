package durable

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// EnsureStream makes the stream for these channels, or adds what it lacks.
func EnsureStream(ctx context.Context, js jetstream.JetStream, o StreamOptions, routes map[string]*event.Route) error {
	var subjects []string
	for _, r := range routes {
		subjects = append(subjects, r.Subjects()...)
	}
	l := log{js: js, config: o}
	_, err := l.need(subjects).Ensure(ctx, js)
	return err
}

// Drop drops the slot of a prefix in the connection's database, and reports
// whether there was one.
func Drop(ctx context.Context, conn *pgx.Conn, prefix string) (dropped bool, err error) {
	name, err := slotNameIn(ctx, conn, prefix)
	if err != nil {
		return false, err
	}
	s, err := lookAtSlot(ctx, conn, name)
	switch {
	case err != nil || !s.exists:
		return false, err
	case !s.ours:
		return false, foreignSlot(name)
	}
	return true, dropSlot(ctx, conn, name)
}
