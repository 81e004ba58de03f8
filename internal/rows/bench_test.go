package rows

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

const benchmarkSQL = `SELECT 1234567890::int8, 'twenty bytes of text'::text, 12345.67::numeric, '2026-11-22 10:00:00.123456+00'::timestamptz, true`

// BenchmarkRows writes rows of five columns, and beside it what pgx's own
// values and encoding/json make of the same row in the binary format, which is
// pgx's faster one. The metric x-pgx is the ratio.
func BenchmarkRows(b *testing.B) {
	s := newSession(b)
	result, columns := s.query(b, benchmarkSQL)
	pgx := newPgxRow(b, s)
	buffer := make([]byte, 0, 1<<10)
	var rows int
	for b.Loop() {
		columns.AppendRow(buffer, result.Rows[0])
		rows++
	}
	ours := b.Elapsed() / time.Duration(rows)
	b.StopTimer()
	b.ReportMetric(float64(time.Second)/float64(b.Elapsed())*float64(rows), "rows/s")
	b.ReportMetric(float64(pgx.measure(b))/float64(ours), "x-pgx")
}

type pgxRow struct {
	codecs []*pgtype.Type
	types  *pgtype.Map
	values [][]byte
}

func newPgxRow(b *testing.B, s *session) *pgxRow {
	result := s.conn.ExecParams(b.Context(), benchmarkSQL, nil, nil, nil, []int16{pgtype.BinaryFormatCode}).Read()
	if result.Err != nil {
		b.Fatal(result.Err)
	}
	r := &pgxRow{types: pgtype.NewMap(), values: result.Rows[0]}
	for _, d := range result.FieldDescriptions {
		t, _ := r.types.TypeForOID(d.DataTypeOID)
		r.codecs = append(r.codecs, t)
	}
	return r
}

// measure returns the time that a row takes.
func (r *pgxRow) measure(b *testing.B) time.Duration {
	const rows = 100_000
	start := time.Now()
	for range rows {
		if _, err := json.Marshal(r.decode(b)); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / rows
}

func (r *pgxRow) decode(b *testing.B) []any {
	decoded := make([]any, len(r.values))
	for i, t := range r.codecs {
		var err error
		if decoded[i], err = t.Codec.DecodeValue(r.types, t.OID, pgtype.BinaryFormatCode, r.values[i]); err != nil {
			b.Fatal(err)
		}
	}
	return decoded
}

func BenchmarkString(b *testing.B) {
	for name, text := range map[string]string{
		"ascii":   "the quick brown fox jumps over the lazy dog, again and again and again",
		"utf8":    "съешь же ещё этих мягких французских булок, да выпей чаю",
		"escapes": "line\nline\n\"quoted\"\tand\\more\n",
	} {
		b.Run(name, func(b *testing.B) {
			buffer := make([]byte, 0, 1<<10)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				appendString(buffer, []byte(text))
			}
		})
	}
}
