package txrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/wait"
	"github.com/pgbridge/pgbridge/txrunner/internal/captures"
)

const (
	serviceName = "pgbridge"
	// Keys of the service's metadata.
	metadataPrefix   = "prefix"
	metadataDatabase = "database"
	metadataServer   = "server"
	metadataProtocol = "protocol"

	guardTimeout = 5 * time.Second
	// othersQuiet is how long no further replica has answered when all have.
	othersQuiet = 300 * time.Millisecond
	// Anybody may answer, whatever they like: maxAnswers are looked at, of maxAnswer
	// bytes, and of maxAnswerBytes that wait for that.
	maxAnswers     = 1000
	maxAnswer      = 64 << 10
	maxAnswerBytes = 4 << 20

	settlePause = time.Second
	// followEvery is how often the settings' name is followed anew: connections
	// live on where it no longer leads to.
	followEvery = 10 * time.Second
)

// settle waits for both servers, and until no other replica is known to serve the
// prefix from another server. It reports false when serving is not safe, or ctx
// has ended.
func (r *Runner) settle(ctx context.Context) (bool, error) {
	for ; ctx.Err() == nil; wait.For(ctx, settlePause) {
		if err := r.arrive(ctx); err != nil {
			if postgres.Refused(err) {
				return false, err
			}
			r.config.Logger.Debug("waiting for PostgreSQL", zap.Error(err))
			continue
		}
		if !r.config.Requests.IsConnected() {
			continue
		}
		var captured *captures.Error
		if err := r.config.Captured(ctx); errors.As(err, &captured) {
			return false, fmt.Errorf("serve %s: %w", r.config.Prefix, err)
		} else if err != nil { // a cluster without a leader, a link that broke
			r.config.Logger.Debug("waiting for JetStream", zap.Error(err))
			continue
		}
		apart := r.contested(ctx)
		if apart == nil {
			r.apart.Clear(r.config.Logger)
			return true, nil
		}
		r.apart.Set(r.config.Logger, apart)
		_ = r.home.Look(ctx) // what fails shows when a connection is made
	}
	return false, nil
}

// arrive makes sure that it is known where the settings lead.
func (r *Runner) arrive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	s, err := r.runs.Acquire(ctx, ownWork, session.Ourselves)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	s.GiveBack(false)
	return nil
}

// follow looks again and again where the settings lead, so that no request is
// served where they led once, and compares that with the others where it has
// changed, or differed the last time.
func (r *Runner) follow(ctx context.Context) error {
	seen := r.home.Place()
	for wait.For(ctx, followEvery) {
		for _, home := range []*session.Home{r.home, r.sqlHome} {
			if home != nil {
				_ = home.Look(ctx) // that it cannot be reached is the pools' to notice
			}
		}
		here := r.home.Place()
		if here == seen && r.apart.Current() == "" {
			continue
		}
		if here != seen {
			r.config.Logger.Info("the connection settings lead to another server, or it was started anew", zap.String("server", here.Server()))
		}
		seen = here
		if err := r.contested(ctx); err != nil {
			r.apart.Set(r.config.Logger, err)
		} else {
			r.apart.Clear(r.config.Logger)
		}
	}
	return nil
}

// idPattern is what the ids of services look like.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// contested returns an error if a replica serves the prefix from another server
// than the one that the settings lead to. Anybody may answer who can publish to an
// inbox, so a replica that says so has to say it again when it is asked by its id.
func (r *Runner) contested(ctx context.Context) error {
	here := r.home.Place()
	nc := r.config.Requests
	asking, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return fmt.Errorf("ask for other replicas: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := answers.SetPendingLimits(maxAnswers, maxAnswerBytes); err != nil {
		return fmt.Errorf("ask for other replicas: %w", err)
	}
	if err := nc.PublishRequest(infoSubject, answers.Subject, nil); err != nil {
		return fmt.Errorf("ask for other replicas: %w", err)
	}
	for range maxAnswers {
		waiting, cancel := context.WithTimeout(asking, othersQuiet)
		msg, err := answers.NextMsgWithContext(waiting)
		cancel()
		if errors.Is(err, nats.ErrSlowConsumer) { // some were dropped
			continue
		}
		if err != nil {
			break // no more, or none at all
		}
		other := r.contender(msg.Data, here)
		switch {
		case other.id == "":
		case r.confirms(asking, other.id, here):
			r.rival = other
			return r.rival.contests(here)
		default:
			r.config.Logger.Warn("an answer says that the prefix is served from another server, and nobody confirms it", zap.String("replica", other.id))
		}
	}
	// One that was there is not gone because it is slow to answer.
	if r.rival.id != "" && r.confirms(ctx, r.rival.id, here) {
		return r.rival.contests(here)
	}
	r.rival = rival{}
	return nil
}

func (o rival) contests(here postgres.Place) error {
	if o.prefix != "" {
		return fmt.Errorf("replica %q serves the prefix %q, which takes in requests to this one's: give this one another", o.id, o.prefix)
	}
	return fmt.Errorf("replica %q serves the prefix from the server %q, this one reached %q: waiting until both lead to the same", o.id, o.server, here.Server())
}

const infoSubject = micro.APIPrefix + ".INFO." + serviceName

// takes reports whether requests below another prefix can be requests to this one: then
// each would be answered by either. It is the longer one that gives way.
func takes(other, own string) bool {
	rest, below := strings.CutPrefix(own, other+".")
	word, _, _ := strings.Cut(rest, ".")
	return below && slices.Contains([]string{"run", "cursor", "copy", "describe", "begin", "as", "tx", "notify", "channels", "status",
		"event", "gap", "job", "result", "failed", "progress"}, word)
}

// contender returns a replica that says it serves the prefix from another server, or one
// that takes this one in; the zero value if an answer says nothing like it.
func (r *Runner) contender(answer []byte, here postgres.Place) rival {
	var info micro.Info
	if len(answer) > maxAnswer || json.Unmarshal(answer, &info) != nil || !idPattern.MatchString(info.ID) {
		return rival{}
	}
	switch prefix := info.Metadata[metadataPrefix]; {
	case takes(prefix, r.config.Prefix): // it is short, for it begins ours
		return rival{id: info.ID, prefix: prefix}
	case prefix != r.config.Prefix:
		return rival{}
	}
	theirs, ours := info.Metadata[metadataServer], here.Server()
	if theirs == "" { // it tells no more than the database
		theirs, ours = info.Metadata[metadataDatabase], here.Database
	}
	if theirs == "" || theirs == ours { // empty: not connected yet
		return rival{}
	}
	return rival{id: info.ID, server: theirs}
}

// confirms asks a replica by its id.
func (r *Runner) confirms(ctx context.Context, id string, here postgres.Place) bool {
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	msg, err := r.config.Requests.RequestWithContext(ctx, infoSubject+"."+id, nil)
	if err != nil {
		return false
	}
	return r.contender(msg.Data, here).id == id
}
