package testenv

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/pgbridge/pgbridge/internal/pgserver"
)

// NATSCluster is several JetStream servers that form one cluster. Its
// methods are for one goroutine at a time.
type NATSCluster struct {
	// Nodes can be stopped and started one by one. With half of them or more
	// stopped JetStream has no quorum.
	Nodes []*NATSServer
}

// Cluster starts a cluster of n servers and waits until JetStream has a leader
// that knows them all. It ends with the test.
func Cluster(t testing.TB, n int, hooks ...func(*server.Options)) *NATSCluster {
	t.Helper()
	var routes []*url.URL
	for range n {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", freePort(t))})
	}
	c := &NATSCluster{}
	for i := range n {
		node := newNATS(t, append([]func(*server.Options){member(t, i, routes)}, hooks...)...)
		c.Nodes = append(c.Nodes, node)
	}
	for _, node := range c.Nodes {
		node.Start(t)
	}
	c.WaitForLeader(t, n)
	return c
}

func member(t testing.TB, i int, routes []*url.URL) func(*server.Options) {
	return func(o *server.Options) {
		o.ServerName = fmt.Sprintf("node%d", i+1)
		o.Port = freePort(t)
		o.Cluster.Name = "test"
		o.Cluster.Host = "127.0.0.1"
		_, _ = fmt.Sscanf(routes[i].Port(), "%d", &o.Cluster.Port) // made by freePort
		o.Routes = routes
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// URL returns the URLs of all nodes, separated by commas.
func (c *NATSCluster) URL() string {
	var urls []string
	for _, node := range c.Nodes {
		urls = append(urls, node.URL())
	}
	return strings.Join(urls, ",")
}

// Connect opens a connection that ends with the test.
func (c *NATSCluster) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connectNATS(t, c.URL(), opts)
}

// WaitForLeader waits until JetStream has a leader that knows of n nodes and
// every running node has caught up with it.
func (c *NATSCluster) WaitForLeader(t testing.TB, n int) {
	t.Helper()
	Wait(t, natsLimit, "the NATS cluster to elect a leader", func() bool {
		led := false
		for _, node := range c.Nodes {
			if node.running == nil {
				continue
			}
			if !node.running.JetStreamIsCurrent() {
				return false
			}
			led = led || node.running.JetStreamIsLeader() && len(node.running.JetStreamClusterPeers()) >= n
		}
		return led
	})
}
