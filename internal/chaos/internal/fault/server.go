package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// terminateOne ends one session of a replica: the lock's, the listener's, the
// walsender, or one of a pool.
func terminateOne(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	var query string
	err := s.Stage.Query(ctx, fmt.Sprintf(`WITH one AS (SELECT pid, query FROM pg_stat_activity WHERE application_name LIKE 'chaos-%s%%' ORDER BY random() LIMIT 1)
		SELECT coalesce((SELECT left(query, 60) FROM one WHERE pg_terminate_backend(pid)), '')`, r.Name), &query)
	s.hit(r, holder, false, "backend terminated, %q,", query)
	return err
}

func terminateAll(ctx context.Context, s *Scene) error {
	r, holder := s.replica(ctx)
	s.hit(r, holder, false, "all backends terminated")
	var n int
	return s.Stage.Query(ctx, fmt.Sprintf(`SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE application_name LIKE 'chaos-%s%%'`, r.Name), &n)
}

func restartNATS(ctx context.Context, s *Scene) error {
	n := s.Dice.IntN(len(s.Stage.NATS))
	s.hit(nil, false, false, "nats-server %d stops", n+1)
	s.Stage.NATS[n].Stop(s.T)
	return s.startNATS(ctx, n)
}

func killNATS(ctx context.Context, s *Scene) error {
	n := s.Dice.IntN(len(s.Stage.NATS))
	s.hit(nil, false, false, "SIGKILL of nats-server %d", n+1)
	s.Stage.NATS[n].Kill(s.T)
	return s.startNATS(ctx, n)
}

func (s *Scene) startNATS(ctx context.Context, n int) error {
	if s.Dice.IntN(2) == 0 {
		s.between(ctx, 0, 5*time.Second)
	}
	s.Timeline.Note("nats-server %d starts", n+1)
	s.Stage.NATS[n].Start(s.T)
	return nil
}

func stepDown(ctx context.Context, s *Scene) error {
	if len(s.Streams) == 0 {
		return nil
	}
	stream := s.Streams[s.Dice.IntN(len(s.Streams))]
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := s.Stage.Conn.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
	switch {
	case err != nil:
		s.hit(nil, false, false, "the leader of %s is told to step down: %v", stream, err)
	default:
		s.hit(nil, false, false, "the leader of %s is told to step down: %.60s", stream, answer.Data)
	}
	return nil
}

// purge removes what was read already, which may be all of the stream.
func purge(ctx context.Context, s *Scene) error {
	if len(s.Streams) == 0 {
		return nil
	}
	name := s.Streams[s.Dice.IntN(len(s.Streams))]
	resume := func() {}
	if s.Dice.IntN(2) == 0 { // with nothing on its way, so that it is empty then
		resume = s.Pause()
		s.between(ctx, 100*time.Millisecond, time.Second)
	}
	defer resume()
	seq, err := s.Harvest(ctx, name)
	if err != nil || seq == 0 {
		return err
	}
	s.hit(nil, false, false, "%s purged up to %d", name, seq)
	s.Purged[name] = seq
	stream, err := s.Stage.JS.Stream(ctx, name)
	if err != nil {
		s.Timeline.Note("%s cannot be looked at: %v", name, err)
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(seq+1)); err != nil {
		s.Timeline.Note("whether it was, nobody knows: %v", err)
	}
	return nil
}

// fill makes a stream full for a while.
func fill(ctx context.Context, s *Scene) error {
	if len(s.Streams) == 0 {
		return nil
	}
	name := s.Streams[s.Dice.IntN(len(s.Streams))]
	stream, err := s.Stage.JS.Stream(ctx, name)
	if err != nil {
		s.Timeline.Note("%s cannot be looked at: %v", name, err)
		return nil
	}
	config := stream.CachedInfo().Config
	full := config
	full.Discard, full.MaxMsgs = jetstream.DiscardNew, int64(max(1, stream.CachedInfo().State.Msgs))
	s.hit(nil, false, false, "%s is full", name)
	if _, err := s.Stage.JS.UpdateStream(ctx, full); err != nil {
		s.Timeline.Note("whether it is, nobody knows: %v", err)
	}
	s.between(ctx, 100*time.Millisecond, 4*time.Second)
	s.Timeline.Note("%s has room again", name)
	// A cluster may have no leader just now; it must not stay full.
	for {
		if _, err = s.Stage.JS.UpdateStream(ctx, config); err == nil || !wait.For(ctx, time.Second) {
			return err
		}
	}
}

// forgeMarker sends what looks like a marker of a replica that does not exist.
func forgeMarker(ctx context.Context, s *Scene) error {
	s.hit(nil, false, false, "forged markers")
	epoch := fmt.Sprintf("%016x", s.Dice.Uint64())
	body, err := json.Marshal(map[string]any{"epoch": epoch, "replica": epoch, "publishes": true, "at": time.Now()})
	if err != nil {
		return err
	}
	for _, payload := range []string{epoch, string(body), "", epoch + " 1 1 1 1"} {
		if err := s.Stage.Exec(ctx, "SELECT pg_notify('pgbridge.marker', '"+payload+"')"); err != nil {
			return err
		}
	}
	return nil
}

// replayMarkers listens for real markers and sends each once more.
func replayMarkers(ctx context.Context, s *Scene) error {
	s.hit(nil, false, false, "replayed markers")
	return s.Stage.Replay(ctx, "pgbridge.marker", 2*time.Second)
}

func changeSchema(ctx context.Context, s *Scene) error {
	statements := []string{
		"ALTER TABLE ledger ADD COLUMN more text; ALTER TABLE ledger DROP COLUMN more",
		"CREATE INDEX ledger_channel ON ledger (channel); DROP INDEX ledger_channel",
		"CREATE TABLE other AS SELECT * FROM ledger LIMIT 1000; DROP TABLE other",
		"ALTER TABLE ledger REPLICA IDENTITY FULL; ALTER TABLE ledger REPLICA IDENTITY DEFAULT",
		"VACUUM ledger", "CHECKPOINT",
	}
	statement := statements[s.Dice.IntN(len(statements)+1)%len(statements)]
	s.hit(nil, false, false, "%s", statement)
	return s.Stage.Exec(ctx, statement)
}

// silence is longer than the limits of sessions and the pause between two markers.
func silence(ctx context.Context, s *Scene) error {
	s.hit(nil, false, false, "silence")
	resume := s.Pause()
	defer resume()
	s.between(ctx, 5*time.Second, 20*time.Second)
	return nil
}

func restartPostgres(ctx context.Context, s *Scene) error {
	s.hit(nil, false, false, "PostgreSQL stops")
	s.Stage.PG().Stop(s.T)
	return s.startPostgres(ctx)
}

func killPostgres(ctx context.Context, s *Scene) error {
	s.hit(nil, false, false, "SIGKILL of PostgreSQL")
	s.Stage.PG().Kill(s.T)
	return s.startPostgres(ctx)
}

func (s *Scene) startPostgres(ctx context.Context) error {
	if s.Dice.IntN(2) == 0 {
		s.between(ctx, 0, 3*time.Second)
	}
	s.Timeline.Note("PostgreSQL starts")
	s.Stage.PG().Start(s.T)
	s.Timeline.Note("PostgreSQL accepts connections")
	if !wait.For(ctx, 0) {
		return errors.New("the run ends")
	}
	return nil
}

// failOver promotes the standby. The old primary dies, or lives on for a while, and the
// replicas' connections to it are cut, or live on, too.
func failOver(_ context.Context, s *Scene) error {
	alive := s.Dice.IntN(2) == 0
	cut := !alive || s.Dice.IntN(2) == 0
	slots := s.Dice.IntN(3) == 0
	s.hit(nil, false, false, "failover, the old primary alive: %t, connections to it cut: %t, slots come along: %t", alive, cut, slots)
	defer s.Timeline.Note("the failover is over")
	return s.Stage.Promote(s.T, alive, cut, slots, time.Duration(s.Dice.IntN(5000))*time.Millisecond)
}
