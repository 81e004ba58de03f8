package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Targets returns what pgx would try, in its order: for every host with TLS,
// without or both, as sslmode says, every address of its name. Connect to the
// first that accepts and stop early where [Final] says so. It reads the
// password again and asks the name server, for connect_timeout at most.
// The error is a [*ConfigError] or says that no host has an address.
func (s *Settings) Targets(ctx context.Context) ([]Target, error) {
	cc, err := s.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cc.ConnectTimeout)
	defer cancel()
	var targets []Target
	var faults []error
	for _, a := range alternatives(cc) {
		found, err := resolve(ctx, cc, a)
		targets = append(targets, found...)
		faults = append(faults, err)
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("look up the hosts of %s: %w", s.Describe(), errors.Join(faults...))
	}
	return targets, nil
}

// resolve returns one target for each address of a's host.
func resolve(ctx context.Context, cc *pgx.ConnConfig, a *pgconn.FallbackConfig) ([]Target, error) {
	at := endpoint{host: a.Host, port: a.Port, tls: a.TLSConfig, direct: cc.SSLNegotiation == "direct", dial: cc.DialFunc}
	if at.network, at.address = pgconn.NetworkAddress(a.Host, a.Port); at.network == "unix" {
		return []Target{{at, cc}}, nil
	}
	addresses, err := cc.LookupFunc(ctx, a.Host)
	if err != nil {
		return nil, err
	}
	targets := make([]Target, 0, len(addresses))
	for _, address := range addresses {
		at.address = net.JoinHostPort(address, strconv.Itoa(int(a.Port)))
		targets = append(targets, Target{at, cc})
	}
	return targets, nil
}
