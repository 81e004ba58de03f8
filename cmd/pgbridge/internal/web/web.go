// Package web is the HTTP server for probes and scrapers: liveness, readiness with
// what is wrong, metrics. Whoever only holds connections keeps nobody else out.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
)

// Config is what the server tells.
type Config struct {
	// Problems are why this replica is not ready; none: it is.
	Problems func() []string
	Status   func() bridge.Status
	// Metrics are shown with those of the process.
	Metrics []prometheus.Collector
	// Pprof serves profiles below /debug/pprof/.
	Pprof bool
	// More adds what else is served; nil: nothing.
	More   func(*http.ServeMux)
	Logger *zap.Logger
}

// server answers probes and scrapers.
type server struct {
	Config
	metrics http.Handler
}

// Serve answers what comes to a listener until ctx ends; requests under way then
// have 2 s.
func Serve(ctx context.Context, l net.Listener, config Config) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(append(config.Metrics,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)...)
	scrapes := few{most: mostScrapes}
	s := &server{config, scrapes.bound(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))}
	return s.serve(ctx, l)
}

func (s *server) serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // streams end with it
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       90 * time.Second, // longer than scrapers and probes pause
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(s.Logger),
	}
	newCrowd(mostConnections).bound(h)
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	s.Logger.Info("http listens", zap.String("address", l.Addr().String()))
	select {
	case err := <-ended:
		return fmt.Errorf("http %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := h.Shutdown(closing); err != nil {
		_ = h.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http %s: %w", l.Addr(), err)
	}
	return nil
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.metrics)
	if s.Pprof {
		mux.HandleFunc("GET /debug/pprof/", guarded(pprof.Index)) // it finds the profiles by their names
		mux.HandleFunc("GET /debug/pprof/profile", guarded(pprof.Profile))
		mux.HandleFunc("GET /debug/pprof/symbol", guarded(pprof.Symbol))
		mux.HandleFunc("GET /debug/pprof/trace", guarded(pprof.Trace))
	}
	if s.More != nil {
		s.More(mux)
	}
	return mux
}

func (s *server) healthz(rw http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(rw, "ok")
}

// readiness is the body of /readyz.
type readiness struct {
	Ready    bool          `json:"ready"`
	Problems []string      `json:"problems"`
	Status   bridge.Status `json:"status"`
}

func (s *server) readyz(rw http.ResponseWriter, _ *http.Request) {
	body := readiness{Problems: s.Problems(), Status: s.Status()}
	body.Ready = len(body.Problems) == 0
	if body.Ready {
		body.Problems = []string{}
	}
	rw.Header().Set("Content-Type", "application/json")
	if !body.Ready {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		s.Logger.Debug("probe went away", zap.Error(err))
	}
}
