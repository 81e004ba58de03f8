package natsconn

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Both connections of a pair go to the same server of a cluster, at the start and
// whichever of them is lost.
func TestRequestPairKeepsTogether(t *testing.T) {
	t.Parallel()
	cluster := testenv.Cluster(t, 3)
	settings := Settings{}
	for _, node := range cluster.Nodes {
		settings.URLs = append(settings.URLs, node.URL())
	}
	for range 4 {
		requests, lasting, err := RequestPair(settings, Keeper{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		defer requests.Close()
		defer lasting.Close()
		together := func() bool {
			return requests.IsConnected() && lasting.IsConnected() && requests.ConnectedServerId() == lasting.ConnectedServerId()
		}
		testenv.Wait(t, patience, "both to be at one server", together)
		for _, lost := range []*nats.Conn{requests, lasting} {
			before := lost.Stats().Reconnects
			if err := lost.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
			testenv.Wait(t, patience, "the lost one to be back", func() bool { return lost.Stats().Reconnects > before && lost.IsConnected() })
			testenv.Wait(t, patience, "both to be at one server after "+lost.Opts.Name+" was lost", together)
		}
		for range 10 { // as with a server that goes away
			if err := errors.Join(requests.ForceReconnect(), lasting.ForceReconnect()); err != nil {
				t.Fatal(err)
			}
			testenv.Wait(t, patience, "both to be at one server after both were lost", together)
		}
	}
}

const patience = 60 * time.Second

func TestRequestPairWithoutServers(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	server.Stop(t)
	requests, lasting, err := RequestPair(Settings{URLs: []string{server.URL()}}, Keeper{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer requests.Close()
	defer lasting.Close()
	server.Start(t)
	testenv.Wait(t, patience, "both to be connected", func() bool { return requests.IsConnected() && lasting.IsConnected() })
	if got := requests.Opts.Name + ", " + lasting.Opts.Name; got != "test requests, test transactions" {
		t.Errorf("their names are %s", got)
	}
}
