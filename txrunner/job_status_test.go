package txrunner_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
)

// A job's headers are its sender's: those that look like the server's word about the
// request for jobs are no such word.
func TestJobsThatLookLikeTheServersWord(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"one": "SELECT 1"})
	r := w.Serve(withJobs)
	w.result("one", w.submit("one", "", "before"))
	left := 0
	for _, word := range []nats.Header{
		{"Status": {"100"}},
		{"Status": {"100"}, "Nats-Consumer-Stalled": {"$JS.FC.x"}},
		{"Status": {"400"}, "Description": {"Bad Request"}},
		{"Status": {"404"}, "Description": {"No Messages"}},
		{"Status": {"408"}, "Description": {"Request Timeout"}, "Nats-Pending-Messages": {"x"}},
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"409"}, "Description": {"Server Shutdown"}},
		{"Status": {"503"}},
		{"Status": {"1"}, "Nats-Pin-Id": {"x"}},
	} {
		for range 8 { // as many as are worked on at a time
			id := fmt.Sprint("word ", left)
			word.Set(nats.MsgIdHdr, id)
			if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "pgbridge.job.run.one", Header: word}); err != nil {
				t.Fatal(err)
			}
			w.result("one", id)
			left++
		}
	}
	w.result("one", w.submit("one", "", "after"))
	w.settled()
	harness.Equal(t, "jobs done", counted(t, r, "done"), left+2)
}
