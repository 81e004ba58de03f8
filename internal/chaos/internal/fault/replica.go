package fault

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

func killReplica(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, true, "SIGKILL")
	if err := r.Kill(); err != nil {
		return err
	}
	s.between(ctx, 0, 3*time.Second)
	s.Timeline.Note("replica %s starts", r.Name)
	return r.Start()
}

func freezeReplica(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	length := s.length()
	s.hit(r, holder, length > 5*time.Second, "SIGSTOP for %s", length)
	s.holdsBack()
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	wait.For(ctx, length)
	s.Timeline.Note("SIGCONT of replica %s", r.Name)
	return r.Signal(syscall.SIGCONT)
}

func stopReplica(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, true, "SIGTERM")
	if err := r.Stop(ctx); err != nil {
		return err
	}
	s.between(ctx, 0, 2*time.Second)
	s.Timeline.Note("replica %s starts", r.Name)
	return r.Start()
}

func updateReplica(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, true, "SIGTERM and another configuration")
	if err := errors.Join(r.Stop(ctx), r.Update(s.T)); err != nil {
		return err
	}
	s.Timeline.Note("replica %s starts", r.Name)
	return r.Start()
}

// updateAll updates one replica after the other, as a cluster does it: the next when
// the one before is ready.
func updateAll(ctx context.Context, s *Scene) error {
	for _, r := range s.Stage.Replicas {
		s.hit(r, s.Stage.Holder(ctx) == r, true, "rolling update: SIGTERM and another configuration")
		if err := errors.Join(r.Stop(ctx), r.Update(s.T)); err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		if err := s.Stage.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func reload(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, false, "reload")
	return errors.Join(r.Toggle(s.T), r.Signal(syscall.SIGHUP))
}

func reloadAndKill(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, false, "reload")
	if err := errors.Join(r.Toggle(s.T), r.Signal(syscall.SIGHUP)); err != nil {
		return err
	}
	s.between(ctx, 0, 300*time.Millisecond)
	s.hit(r, holder, true, "SIGKILL")
	if err := r.Kill(); err != nil {
		return err
	}
	return r.Start()
}

// slowLinks lets bytes pass in bursts, with pauses between them.
func slowLinks(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, false, "slow links")
	s.holdsBack()
	for range 20 {
		s.between(ctx, time.Millisecond, 20*time.Millisecond)
		r.Postgres.Freeze()
		for _, p := range r.NATS {
			p.Freeze()
		}
		s.between(ctx, 50*time.Millisecond, 200*time.Millisecond)
		r.Postgres.Thaw()
		for _, p := range r.NATS {
			p.Thaw()
		}
	}
	return nil
}

func (s *Scene) cut(ctx context.Context, postgres bool) error {
	r, holder := s.replica(ctx)
	if postgres {
		s.hit(r, holder, false, "link to PostgreSQL cut")
		r.Postgres.Cut()
		return nil
	}
	s.hit(r, holder, false, "links to NATS cut")
	for _, p := range r.NATS {
		p.Cut()
	}
	return nil
}

func (s *Scene) freeze(ctx context.Context, postgres bool) error {
	r, holder := s.replica(ctx)
	length := s.length()
	proxies := r.NATS
	if postgres {
		proxies = proxies[:0:0]
		proxies = append(proxies, r.Postgres)
		s.hit(r, holder, length > 5*time.Second, "link to PostgreSQL frozen for %s", length)
	} else {
		s.hit(r, holder, length > 5*time.Second, "links to NATS frozen for %s", length)
	}
	s.holdsBack()
	for _, p := range proxies {
		p.Freeze()
	}
	wait.For(ctx, length)
	s.Timeline.Note("links of replica %s pass again", r.Name)
	for _, p := range proxies {
		p.Thaw()
	}
	return nil
}
