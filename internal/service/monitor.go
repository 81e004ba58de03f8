package service

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"
)

// monitorQueue is how many $SRV requests may wait.
const monitorQueue = 64

// monitor answers $SRV.PING, INFO and STATS until ctx ends. A user without
// permission to subscribe them only loses discovery.
func (s *Service) monitor(ctx context.Context) error {
	requests := make(chan *nats.Msg, monitorQueue)
	for _, verb := range []micro.Verb{micro.PingVerb, micro.InfoVerb, micro.StatsVerb} {
		for _, of := range [][2]string{{"", ""}, {s.config.Name, ""}, {s.config.Name, s.id}} {
			subject, err := micro.ControlSubject(verb, of[0], of[1])
			if err != nil {
				return fmt.Errorf("subscribe discovery of %s: %w", s.config.Name, err)
			}
			sub, err := s.nc.ChanSubscribe(subject, requests)
			if err != nil {
				return fmt.Errorf("subscribe %s: %w", subject, err)
			}
			defer func() { _ = sub.Unsubscribe() }()
		}
	}
	for {
		select {
		case msg := <-requests:
			s.describe(msg)
		case <-ctx.Done():
			return nil
		}
	}
}

// describe answers one $SRV request.
func (s *Service) describe(msg *nats.Msg) {
	why := s.unwelcome(msg)
	if why == "" && msg.Reply == "" {
		why = dropNoReply
	}
	if why != "" {
		s.metrics.drop(why)
		return
	}
	var answer any
	switch strings.Split(msg.Subject, ".")[1] {
	case micro.PingVerb.String():
		answer = micro.Ping{ServiceIdentity: s.identity(), Type: micro.PingResponseType}
	case micro.InfoVerb.String():
		answer = s.info()
	case micro.StatsVerb.String():
		answer = s.statistics()
	}
	body, err := json.Marshal(answer)
	if err == nil {
		err = s.nc.Publish(msg.Reply, body)
	}
	if err != nil {
		s.config.Logger.Warn("discovery failed", zap.String("subject", msg.Subject), zap.Error(err))
	}
}

func (s *Service) identity() micro.ServiceIdentity {
	metadata := map[string]string{}
	if s.config.Metadata != nil {
		metadata = s.config.Metadata()
	}
	return micro.ServiceIdentity{
		Name:     s.config.Name,
		ID:       s.id,
		Version:  s.config.Version,
		Metadata: metadata,
	}
}

func (s *Service) info() micro.Info {
	info := micro.Info{
		ServiceIdentity: s.identity(),
		Type:            micro.InfoResponseType,
		Description:     s.config.Description,
		Endpoints:       []micro.EndpointInfo{},
	}
	for _, e := range s.endpoints {
		info.Endpoints = append(info.Endpoints, micro.EndpointInfo{
			Name:       e.Name,
			Subject:    e.Subject,
			QueueGroup: e.queueGroup(),
			Metadata:   map[string]string{},
		})
	}
	return info
}

func (s *Service) statistics() micro.Stats {
	stats := micro.Stats{
		ServiceIdentity: s.identity(),
		Type:            micro.StatsResponseType,
		Started:         s.started,
		Endpoints:       []*micro.EndpointStats{},
	}
	for _, e := range s.endpoints {
		one := e.stats.snapshot()
		one.Name, one.Subject, one.QueueGroup = e.Name, e.Subject, e.queueGroup()
		stats.Endpoints = append(stats.Endpoints, one)
	}
	return stats
}
