package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
)

// web answers probes and scrapers.
type web struct {
	problems func() []string
	status   func() bridge.Status
	metrics  http.Handler
	log      *zap.Logger
}

func newWeb(s *daemon) *web {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		s.bridge, s.runner, s.copier,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return &web{
		problems: s.problems,
		status:   s.bridge.Status,
		metrics:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		log:      s.log,
	}
}

// problems joins those of all parts; what two of them see is said once.
func (s *daemon) problems() []string {
	problems := s.bridge.Problems()
	for _, p := range s.runner.Problems() {
		if !slices.Contains(problems, p) {
			problems = append(problems, p)
		}
	}
	return problems
}

// serve blocks until ctx ends; requests under way then have 2 s.
func (w *web) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           w.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		ErrorLog:          zap.NewStdLog(w.log),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	w.log.Info("http listens", zap.String("address", l.Addr().String()))
	select {
	case err := <-ended:
		return fmt.Errorf("http %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("http %s: %w", l.Addr(), err)
	}
	return nil
}

func (w *web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", w.healthz)
	mux.HandleFunc("GET /readyz", w.readyz)
	mux.Handle("GET /metrics", w.metrics)
	return mux
}

func (w *web) healthz(rw http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(rw, "ok")
}

// readiness is the body of /readyz.
type readiness struct {
	Ready    bool          `json:"ready"`
	Problems []string      `json:"problems"`
	Status   bridge.Status `json:"status"`
}

func (w *web) readyz(rw http.ResponseWriter, _ *http.Request) {
	body := readiness{Problems: w.problems(), Status: w.status()}
	body.Ready = len(body.Problems) == 0
	if body.Ready {
		body.Problems = []string{}
	}
	rw.Header().Set("Content-Type", "application/json")
	if !body.Ready {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		w.log.Debug("probe went away", zap.Error(err))
	}
}
