package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// onCluster is a lab whose stream is kept by several servers, all of them in this
// process. The returned function stops them.
func (l *lab) onCluster(ctx context.Context, servers int) (_ *lab, stop func(), err error) {
	c := *l
	var running []*server.Server
	stop = func() {
		if c.nc != nil && c.nc != l.nc {
			c.nc.Close()
		}
		for _, s := range running {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	ports := make([]int, servers)
	routes := make([]*url.URL, servers)
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, stop, err
		}
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])}
	}
	for i, port := range ports {
		o := &server.Options{ServerName: fmt.Sprint("bench", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true,
			StoreDir: filepath.Join(l.dir, fmt.Sprint("nats", i)), NoSigs: true, NoLog: true, Routes: routes}
		o.Cluster.Name, o.Cluster.Host, o.Cluster.Port = "bench", "127.0.0.1", port
		s, err := server.NewServer(o)
		if err != nil {
			return nil, stop, err
		}
		running = append(running, s)
		s.Start()
	}
	for _, s := range running {
		if !s.ReadyForConnections(10 * time.Second) {
			return nil, stop, errors.New("a nats-server of the cluster does not start")
		}
	}
	if err := await(ctx, func() bool { return led(running) }); err != nil {
		return nil, stop, err
	}
	c.nats, c.replicas = running[0], servers
	if c.nc, err = nats.Connect(c.natsURL()); err != nil {
		return nil, stop, err
	}
	c.js, err = jetstream.New(c.nc)
	return &c, stop, err
}

// led reports whether JetStream has a leader that knows all servers.
func led(servers []*server.Server) bool {
	for _, s := range servers {
		if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
			return true
		}
	}
	return false
}
