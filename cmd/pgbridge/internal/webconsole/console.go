package webconsole

import (
	"context"
	"time"
)

// Console serves the page. It is safe for concurrent use.
type Console struct {
	config  Config
	history history
	streams chan struct{} // one token for each that is open
	tails   chan struct{} // the same for those that show events
	looks   looks
}

// New returns a Console, which shows no history before Run is called.
func New(config Config) *Console {
	c := &Console{config: config, streams: make(chan struct{}, maxStreams), tails: make(chan struct{}, maxTails)}
	c.looks = newLooks(config)
	return c
}

// Run keeps the history until ctx ends.
func (c *Console) Run(ctx context.Context) error {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		c.sample(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sample adds what is true now to the history.
func (c *Console) sample(now time.Time) {
	m := measure{at: now, bridge: c.config.Bridge.Snapshot(), published: buckets(c.config.Bridge.Latency())}
	if c.config.Runner != nil {
		s := c.config.Runner.Snapshot()
		m.runner = &s
	}
	c.history.add(m)
}
