package bridge_test

import (
	"fmt"
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// However many channels there are, listening to them takes the same number of
// round trips, also after a reload and on a new connection.
func TestManyChannelsInAFewRoundTrips(t *testing.T) {
	t.Parallel()
	few, many := tripsToListen(t, 1), tripsToListen(t, 2000)
	if many > few+300 { // far less than one for each; the control session's come by time
		t.Errorf("%d round trips for 2,000 channels, %d for one", many, few)
	}
}

func tripsToListen(t *testing.T, n int) int64 {
	t.Helper()
	w := newWorld(t)
	trips, through := testenv.NewTripCounter(t, w.pg)
	channels := map[string]bridge.Channel{}
	for i := range n {
		channels[fmt.Sprint("c", i)] = bridge.Channel{}
	}
	config := w.config(t, channels)
	config.ConnString = through
	r := launch(t, config).ready(t)
	w.heard.awaitGap(t, fmt.Sprint("c", n-1), api.ReasonStarted)
	for i := range n {
		channels[fmt.Sprint("d", i)] = bridge.Channel{}
	}
	if err := r.Reload(channels); err != nil {
		t.Fatal(err)
	}
	w.heard.awaitGap(t, fmt.Sprint("d", n-1), api.ReasonStarted)
	testenv.Exec(t, w.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%listener%' AND datname = current_database()")
	w.heard.awaitGap(t, fmt.Sprint("d", n-1), api.ReasonReconnected)
	return trips.Trips()
}
