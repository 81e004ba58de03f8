package txrunner_test

import (
	"fmt"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const whoseSQL = "SELECT coalesce(current_setting('pgbridge.traceparent', true), ''), coalesce(current_setting('pgbridge.tracestate', true), ''), current_setting('application_name')"

// TestTraceOfATransaction asks, without a collector, whose trace PostgreSQL takes the
// work for: that of the request, and nobody's in the next one.
func TestTraceOfATransaction(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprintf("named=%t", named), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"whose": whoseSQL, "back": "ROLLBACK TO s; " + whoseSQL})
			w.Serve(func(c *txrunner.Config) {
				c.ApplicationName, c.RunConnections, c.TraceName = "own", 1, named
			})
			name := "own"
			if named {
				name = traceparent
			}
			traced, stated := `[["`+traceparent+`","","`+name+`"]]`, `[["`+traceparent+`","a=1,b@c=2","`+name+`"]]`
			wants := func(what, want string, r harness.Reply) {
				t.Helper()
				harness.Equal(t, what, r.LastRows(), want)
			}
			const nobodys = `[["","","own"]]`
			wants("before", nobodys, w.Works("run.whose", ""))
			wants("a traced run", traced, w.Works("run.whose", "", "traceparent", traceparent))
			wants("a header as HTTP has it", traced, w.Works("run.whose", "", "Traceparent", traceparent))
			wants("with a state", stated, w.Works("run.whose", "", "traceparent", traceparent, "tracestate", "a=1,b@c=2"))
			wants("a state as HTTP has it", stated, w.Works("run.whose", "", "Traceparent", traceparent, "Tracestate", "a=1,b@c=2"))
			wants("what is no state", traced, w.Works("run.whose", "", "traceparent", traceparent, "tracestate", "a"))
			wants("a state of no trace", nobodys, w.Works("run.whose", "", "tracestate", "a=1"))
			wants("the next run on its connection", nobodys, w.Works("run.whose", ""))
			wants("what is no trace", nobodys, w.Works("run.whose", "", "traceparent", "00-1"))

			tx := w.begin("")
			wants("in a transaction", nobodys, w.Works(tx+".run.whose", ""))
			wants("a run with a state in it", stated, w.Works(tx+".run.whose", "", "traceparent", traceparent, "tracestate", "a=1,b@c=2"))
			wants("a traced run in it", traced, w.Works(tx+".run.whose", "", "traceparent", traceparent))
			w.Works(tx+".savepoint", `{"name": "s"}`, "traceparent", traceparent)
			wants("behind a traced savepoint", nobodys, w.Works(tx+".run.whose", ""))
			wants("back to it", nobodys, w.Works(tx+".run.back", ""))
			wants("back to it, traced", traced, w.Works(tx+".run.back", "", "traceparent", traceparent))
			w.Works(tx+".commit", "")
			wants("in the next transaction", nobodys, w.Works(w.begin("")+".run.whose", ""))
		})
	}
}
