package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func stream(t *testing.T, nc *nats.Conn, replicas int) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: replicas}
	if _, err := js.CreateOrUpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return js
}

func publish(t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	ack, err := js.Publish(t.Context(), "s.x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ack.Sequence != want {
		t.Errorf("sequence = %d, want %d", ack.Sequence, want)
	}
}

func forever() []nats.Option {
	return []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(pollEvery), nats.ReconnectJitter(0, 0)}
}

func TestNATSStopsAndStarts(t *testing.T) {
	t.Parallel()
	n := NATS(t)
	nc := n.Connect(t, forever()...)
	js := stream(t, nc, 1)
	publish(t, js, 1)
	n.Stop(t)
	n.Stop(t)
	Wait(t, waitLimit, "the client to notice", func() bool { return !nc.IsConnected() })
	n.Start(t)
	Wait(t, waitLimit, "the client to reconnect", nc.IsConnected)
	publish(t, js, 2)
}

func TestNATSHookSetsPermissions(t *testing.T) {
	t.Parallel()
	n := NATS(t, func(o *server.Options) {
		o.MaxPayload = 2048
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"ok"}},
		}}}
	})
	refused := make(chan error, 1)
	nc := n.Connect(t, nats.UserInfo("u", "p"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if got := nc.MaxPayload(); got != 2048 {
		t.Errorf("MaxPayload() = %d, want 2048", got)
	}
	if err := nc.Publish("other", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("publish: %v, want a permission violation", err)
	}
}

func TestNATSWithTLS(t *testing.T) {
	t.Parallel()
	certs := TLS(t, "someone")
	serve := func(pair KeyPair) *NATSServer {
		return NATS(t, func(o *server.Options) {
			o.TLSConfig = certs.ServerTLS(t, pair)
			o.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
			o.TLSTimeout = waitLimit.Seconds()
		})
	}
	trust, identity := nats.RootCAs(certs.CAFile), nats.ClientCert(certs.Client.CertFile, certs.Client.KeyFile)
	serve(certs.Server).Connect(t, trust, identity)
	_, err := nats.Connect(serve(certs.Expired).URL(), trust, identity)
	if invalid := (x509.CertificateInvalidError{}); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("connect: %v, want an expired certificate", err)
	}
}

func TestNATSTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	n := NATS(t)
	second := newNATS(t, func(o *server.Options) { o.Port = n.options.Port })
	if err := second.startOnFreePort(); err == nil {
		t.Error("two servers on one port: no error")
	}
}

func TestNATSProcessIsKilledAndStarted(t *testing.T) {
	t.Parallel()
	n := NATSProcess(t, "max_payload: 4096")
	nc := n.Connect(t, forever()...)
	js := stream(t, nc, 1)
	for i, end := range []func(testing.TB){n.Kill, n.Stop} {
		publish(t, js, uint64(i+1))
		end(t)
		Wait(t, waitLimit, "the client to notice", func() bool { return !nc.IsConnected() })
		n.Start(t)
		Wait(t, waitLimit, "the client to reconnect", nc.IsConnected)
	}
	publish(t, js, 3)
	if got := nc.MaxPayload(); got != 4096 {
		t.Errorf("MaxPayload() = %d, want 4096", got)
	}
}

func TestClusterLosesQuorum(t *testing.T) {
	t.Parallel()
	c := Cluster(t, 3)
	nc := c.Connect(t, forever()...)
	js := stream(t, nc, 3)
	publish(t, js, 1)
	connectedTo := slices.IndexFunc(c.Nodes, func(n *NATSServer) bool { return n.URL() == nc.ConnectedUrl() })
	for i, node := range c.Nodes {
		if i != connectedTo {
			node.Stop(t)
		}
	}
	if _, err := js.Publish(t.Context(), "s.x", nil, jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("a stream without quorum acknowledged a message")
	}
	for i, node := range c.Nodes {
		if i != connectedTo {
			node.Start(t)
		}
	}
	c.WaitForLeader(t, 3)
	Wait(t, waitLimit, "the stream to accept messages again", func() bool {
		_, err := js.Publish(t.Context(), "s.x", nil, jetstream.WithRetryAttempts(0))
		return err == nil
	})
}
