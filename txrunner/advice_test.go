package txrunner_test

import (
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Errors speak of parameters by their names, and advise.
func TestErrorsNameParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"kind":  "SELECT 1; SELECT id FROM account WHERE id = @first OR @second IS NULL",
		"both":  "SELECT id FROM account WHERE @who IS NULL OR id = @who",
		"two":   "SELECT @a::int4 + @b::int4",
		"glued": "SELECT id FROM account WHERE id =@id",
		"json":  "SELECT '{}'::jsonb ->>@k",
		"price": "DO $$ BEGIN RAISE EXCEPTION 'parameter $1 costs $2' USING ERRCODE = '42P18'; END $$",
	})
	w.SQL(accounts)
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	const cast, space = "A cast settles the type, as in CAST(", "it is a parameter."
	for _, c := range []struct {
		script, body, state string
		message, hint       string
		where               string
	}{
		{"kind", `{"params": {"first": 1, "second": null}}`, "42P18", "could not determine data type of parameter @second", cast + "@second AS text).", ""},
		{"both", `{"params": {"who": null}}`, "42P08", "could not determine data type of parameter @who", cast + "@who AS text).", ""},
		{"two", `{"params": {"a": 1, "b": "x"}}`, "22P02", `invalid input syntax for type integer: "x"`, "", "parameter @b"},
		{"glued", ``, "42883", "operator does not exist: integer =@ integer", "with a space before it, = @id, " + space, ""},
		{"json", ``, "42703", `column "k" does not exist`, "with a space before it, ->> @k, " + space, ""},
		{"price", ``, "42P18", "parameter $1 costs $2", "", "PL/pgSQL"},
	} {
		for _, in := range []string{"", w.begin(``) + "."} {
			subject := in + "run." + c.script
			e := w.fails("sql_error", subject, c.body)
			if in != "" {
				w.Ask(in+"rollback", ``)
			}
			harness.Equal(t, subject+": SQLSTATE", e.SQLState, c.state)
			harness.Equal(t, subject+": message", e.Message, c.message)
			if !strings.Contains(e.Hint, c.hint) || c.hint == "" && strings.Contains(e.Hint, cast) {
				t.Errorf("%s: hint %q, want %q", subject, e.Hint, c.hint)
			}
			if !strings.HasPrefix(e.Where, c.where) {
				t.Errorf("%s: where %q, want %q", subject, e.Where, c.where)
			}
		}
	}
	e := w.fails("invalid_request", "run.glued", `{"params": {"id": 1}}`)
	harness.Equal(t, "of a parameter that is none", e.Message,
		`the script has no parameter "id". PostgreSQL reads the @ of =@id as a part of the operator; with a space before it, = @id, it is a parameter.`)
}
