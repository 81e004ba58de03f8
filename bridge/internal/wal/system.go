package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// System is whose write-ahead log it is.
type System struct {
	ID       string // the same for a primary and its standbys
	Timeline uint32 // the current one
	Flushed  LSN
	history  []branch
}

// branch is a timeline that ended, and where.
type branch struct {
	timeline uint32
	end      LSN
}

// undefinedFile is what the server answers for the history of timeline 1.
const undefinedFile = "58P01"

// Identify asks the server who it is and which timelines led to the current
// one. It blocks until the server has answered or ctx ends.
func (c *Conn) Identify(ctx context.Context) (System, error) {
	row, err := c.row(ctx, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return System{}, err
	}
	s := System{ID: string(row[0])}
	timeline, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return System{}, fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	s.Timeline = uint32(timeline)
	if s.Flushed, err = ParseLSN(string(row[2])); err != nil {
		return System{}, fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	s.history, err = c.history(ctx, s.Timeline)
	return s, err
}

func (c *Conn) history(ctx context.Context, timeline uint32) ([]branch, error) {
	if timeline == 1 {
		return nil, nil
	}
	row, err := c.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", timeline), 2)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == undefinedFile {
		return nil, nil // nothing led to it that anybody knows
	}
	if err != nil {
		return nil, err
	}
	return parseHistory(row[1])
}

// parseHistory reads a history file: on each line a timeline, where it ended,
// and why. https://github.com/postgres/postgres/blob/master/src/backend/access/transam/timeline.c
func parseHistory(file []byte) (history []branch, err error) {
	for text := range bytes.Lines(file) { // of any length
		line, _, _ := strings.Cut(string(text), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		timeline, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("timeline history: %w", err)
		}
		end, err := ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("timeline history: %w", err)
		}
		history = append(history, branch{uint32(timeline), end})
	}
	return history, nil
}

// Owner returns the timeline on which a record was written that this server has
// at the position. That is an older one where a promotion came later.
func (s *System) Owner(position LSN) uint32 {
	for _, b := range s.history {
		if position < b.end {
			return b.timeline
		}
	}
	return s.Timeline
}

// Knows reports whether the timeline is the current one or led to it.
func (s *System) Knows(timeline uint32) bool {
	for _, b := range s.history {
		if b.timeline == timeline {
			return true
		}
	}
	return timeline == s.Timeline
}

// row runs a replication command and returns its only row.
func (c *Conn) row(ctx context.Context, command string, columns int) ([][]byte, error) {
	rows, err := postgres.ReadRows(ctx, c.pg, command, columns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("%s: an answer without the row it should have", command)
	}
	return rows[0], nil
}

// SetHistory replaces what led to the current timeline by what a history file
// says.
func (s *System) SetHistory(file []byte) (err error) {
	s.history, err = parseHistory(file)
	return err
}
