package check

import (
	"context"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// followingPostgres is the first version whose slots follow to standbys, as
// server_version_num.
const followingPostgres = 170000

const failoverWhat = "durable: failover"

// failover says what a promotion means for the slot, by what the primary knows.
func (k postgresCheck) failover(ctx context.Context, standby string) {
	var version int
	var waitsFor string
	err := k.conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
		COALESCE(pg_catalog.current_setting('synchronized_standby_slots', true), '')`).Scan(&version, &waitsFor)
	switch {
	case err != nil:
		k.fail(failoverWhat, "%s", postgres.Reason(err))
		return
	case version < followingPostgres:
		k.warn(failoverWhat, "before PostgreSQL 17 slots do not follow to standbys: a promotion is a gap slot_lost")
		return
	case strings.TrimSpace(waitsFor) == "":
		k.warn(failoverWhat, "synchronized_standby_slots is empty: events may be published that a promoted standby does not have, which is a gap history_lost")
	default:
		k.ok(failoverWhat, "events wait for the standbys of %s", waitsFor)
	}
	if standby != "" {
		k.standby(ctx, standby, waitsFor)
	}
}

// standby looks at a server that may be promoted.
func (k postgresCheck) standby(ctx context.Context, url, waitsFor string) {
	const what = "durable: standby"
	conn, err := connectStandby(ctx, url)
	if err != nil {
		k.fail(what, "%s", postgres.Reason(err))
		return
	}
	defer postgres.Close(ctx, conn)
	var s standbySettings
	if err := s.read(ctx, conn); err != nil {
		k.fail(what, "%s", postgres.Reason(err))
		return
	}
	faults := s.faults(waitsFor)
	for _, fault := range faults {
		k.fail(what, "%s", fault)
	}
	switch {
	case len(faults) > 0:
	case s.conninfo == "":
		k.warn(what, "the slot can follow, if primary_conninfo has a dbname: only a member of pg_read_all_settings sees it")
	default:
		k.ok(what, "the slot follows")
	}
}

// connectStandby connects as the daemon does, which believes a server nothing that no
// server says, and takes a standby.
func connectStandby(ctx context.Context, url string) (*pgx.Conn, error) {
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		return nil, err
	}
	config, err := settings.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	config.ValidateConnect = nil
	return pgx.ConnectConfig(ctx, config)
}

// standbySettings are what a slot needs to follow to a standby.
// https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS-SYNCHRONIZATION
type standbySettings struct {
	recovering     bool
	sync, feedback string
	slot           string
	conninfo       string // empty: it cannot be seen
}

func (s *standbySettings) read(ctx context.Context, conn *pgx.Conn) error {
	err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_is_in_recovery(), COALESCE(pg_catalog.current_setting('sync_replication_slots', true), 'off'),
		pg_catalog.current_setting('hot_standby_feedback'), pg_catalog.current_setting('primary_slot_name')`).Scan(&s.recovering, &s.sync, &s.feedback, &s.slot)
	if err != nil {
		return err
	}
	err = conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('primary_conninfo')").Scan(&s.conninfo)
	if postgres.SQLState(err) == "42501" { // insufficient_privilege
		return nil
	}
	return err
}

var dbnamePattern = regexp.MustCompile(`(^|\s)dbname\s*=`)

func (s *standbySettings) faults(waitsFor string) (faults []string) {
	if !s.recovering {
		return []string{"it is no standby"}
	}
	if s.sync != "on" {
		faults = append(faults, "sync_replication_slots is off: the slot does not follow")
	}
	if s.feedback != "on" {
		faults = append(faults, "hot_standby_feedback is off: the slot cannot follow")
	}
	if s.slot == "" {
		faults = append(faults, "primary_slot_name is empty: the slot cannot follow")
	} else if strings.TrimSpace(waitsFor) != "" && !names(waitsFor, s.slot) {
		faults = append(faults, "its slot "+s.slot+" is not among the primary's synchronized_standby_slots: events do not wait for it")
	}
	if s.conninfo != "" && !dbnamePattern.MatchString(s.conninfo) && !strings.Contains(s.conninfo, "://") {
		faults = append(faults, "primary_conninfo has no dbname: the slot cannot follow")
	}
	return faults
}

// names reports whether a list of slots holds one.
func names(list, slot string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if strings.Trim(name, ` "`) == slot {
			return true
		}
	}
	return false
}
