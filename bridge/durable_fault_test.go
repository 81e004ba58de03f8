package bridge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A replica that has the slot and is cut off from NATS leaves it to one that is not.
// What it had on its way, and whatever comes when its link passes again, is in the
// stream once.
func TestDurableHolderWithoutNATS(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	link := testenv.NewProxy(t, strings.TrimPrefix(ns, "nats://"))
	config := bridge.Config{ConnString: pg, Events: connect(t, "nats://"+link.Addr()), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"a": {Durable: true}}}
	first := launch(t, config).ready(t)
	config.Events = connect(t, ns)
	second := launch(t, config)
	second.is(t, "standby")
	messages := durableMessages(t, ns)
	nextDurable(t, messages) // the gap
	sent := 0
	send := func() {
		for range 10 {
			sent++
			testenv.Exec(t, pg, "SELECT pgbridge.notify('a', $1::text)", fmt.Sprint(sent))
		}
	}
	came := 0
	come := func() {
		for came < sent {
			came++
			if m := nextDurable(t, messages); string(m.Data()) != fmt.Sprint(came) {
				t.Fatalf("%s %s came where event %d was expected", m.Subject(), m.Data(), came)
			}
		}
	}
	send()
	come()
	link.Freeze()
	send()
	second.ready(t)
	send()
	come()
	link.Thaw()
	first.is(t, "standby")
	send()
	come()
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	send() // to the first one again
	come()
}
