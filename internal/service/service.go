// Package service answers requests from NATS. A Service is a NATS micro
// service (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md)
// whose few endpoints are wildcard subjects in one queue group:
//
//	subscription → sender → size, budget → Place → lane → one of Concurrency workers → BatchHandler → reply
//	                    ↘ Direct → reply, now or later
//
// What it promises:
//   - A request gets exactly one answer from this process, as long as the NATS
//     connection holds: a result or an error as clients know them ([Error]). A
//     panic becomes an error reply as well.
//   - Requests of one endpoint with the same key are served one at a time, in
//     the order received, alone or as a batch; all others run in parallel.
//   - What NATS can be made to send is no request, nor is what wants no answer,
//     unless its endpoint takes such. Both are dropped and counted.
//   - Nothing is published to a reply subject outside the allowed prefixes,
//     not even an answer to a $SRV request; such a request is not served.
//   - What requests hold in memory stays within the budget. Who does not fit,
//     or wants more than a fair share of it, of the queue or of the workers, is
//     refused at once, as long as the refusals keep up; what comes faster is
//     lost, counted and logged.
//   - Run ends only after everything it received has been answered.
//
// The service speaks the micro protocol itself rather than through
// micro.AddService. That would serve an endpoint's requests one at a time,
// lose the count of errors answered elsewhere, hide refused subscriptions,
// and answer $SRV requests wherever their sender wants.
package service

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/budget"
)

// Service serves requests. Its methods are safe for concurrent use, except
// that Handle must not be called after Run. It is a Prometheus collector.
type Service struct {
	*host
	id        string
	started   time.Time
	endpoints []*endpoint
}

// New returns a service that talks through nc. The connection may still be
// connecting.
func New(nc *nats.Conn, config Config) (*Service, error) {
	if !namePattern.MatchString(config.Name) {
		return nil, fmt.Errorf("create service %q: a name is made of A-Z a-z 0-9 _ -", config.Name)
	}
	if len(config.ReplyPrefixes) == 0 {
		return nil, errors.New("create service: no reply prefixes, so no request could be answered")
	}
	for _, prefix := range config.ReplyPrefixes {
		if !prefixPattern.MatchString(prefix) {
			return nil, fmt.Errorf("create service: reply prefix %q is not made of whole subject tokens", prefix)
		}
	}
	config.Lasting = cmp.Or(config.Lasting, nc)
	config.QueueGroup = cmp.Or(config.QueueGroup, config.Name)
	config.StopGrace = cmp.Or(config.StopGrace, defaultGrace)
	config.Share = cmp.Or(config.Share, budget.DefaultShare)
	config.Logger = cmp.Or(config.Logger, zap.NewNop())
	return &Service{
		host:    newHost(nc, config),
		id:      rand.Text(),
		started: time.Now().UTC(),
	}, nil
}

// Handle registers an endpoint. It must be called before Run.
func (s *Service) Handle(config Endpoint) error {
	if err := config.validate(); err != nil {
		return err
	}
	for _, e := range s.endpoints {
		if e.clashes(config) {
			return fmt.Errorf("register endpoint %s on %s: %s on %s exists", config.Name, config.Subject, e.Name, e.Subject)
		}
	}
	e := newEndpoint(s.host, config)
	s.endpoints = append(s.endpoints, e)
	if e.Private != nil {
		s.settling = append(s.settling, e.settle)
	}
	return nil
}

// Problems says why the service does not, or not yet, receive every request,
// one line for each endpoint or connection concerned. Empty means that NATS confirmed all
// subscriptions. A lost connection is not a problem of the service's own.
func (s *Service) Problems() []string {
	var problems []string
	for _, e := range s.endpoints {
		if p := e.problem.Load(); p != nil && !e.ForOperators {
			problems = append(problems, *p)
		}
	}
	for _, nc := range s.connections() {
		if p := s.full.problem(nc); p != "" {
			problems = append(problems, p)
		}
	}
	return problems
}

// Describe implements prometheus.Collector.
func (s *Service) Describe(descs chan<- *prometheus.Desc) {
	s.metrics.requests.Describe(descs)
	s.metrics.duration.Describe(descs)
	s.metrics.dropped.Describe(descs)
	s.metrics.waited.Describe(descs)
	descs <- waitingDesc
	descs <- servingDesc
}

// Collect implements prometheus.Collector.
func (s *Service) Collect(values chan<- prometheus.Metric) {
	s.metrics.requests.Collect(values)
	s.metrics.duration.Collect(values)
	s.metrics.dropped.Collect(values)
	s.metrics.waited.Collect(values)
	for _, e := range s.endpoints {
		if now := e.now.Load(); now != nil {
			waiting, serving := (*now)()
			values <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(waiting), e.Name)
			values <- prometheus.MustNewConstMetric(servingDesc, prometheus.GaugeValue, float64(serving), e.Name)
		}
	}
}
