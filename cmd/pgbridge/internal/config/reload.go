package config

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Reloader applies changed channels to the running bridge. It compares the
// file's content, so that it sees a rename, an edit in place and the switch
// of a symbolic link, as Kubernetes mounts a ConfigMap, all alike.
type Reloader struct {
	sources Sources
	running *Config // what the process was started with
	apply   func(map[string]bridge.Channel) error
	rescan  func() error // reads the scripts and logs their faults; nil: there are none
	log     *zap.Logger
	// Reloaded, if set, is told of each reload whether the file was good. It is
	// set before Run is called.
	Reloaded func(good bool)

	mu    sync.Mutex            // serializes reloads, and guards found
	found *wait.Settled[[]byte] // the file's content
}

// NewReloader makes one for a process that runs with a configuration from
// these sources. Changed channels are given to apply, which may refuse them;
// rescan, which may be nil, reads the scripts again and logs their faults.
func NewReloader(src Sources, running *Config, apply func(map[string]bridge.Channel) error, rescan func() error, log *zap.Logger) *Reloader {
	r := &Reloader{sources: src, running: running, apply: apply, rescan: rescan, log: log}
	content, _ := r.read()
	r.found = wait.NewSettled(content, bytes.Equal)
	return r
}

// Run looks at the file every so often, and at once at a hangup. It blocks
// until ctx ends and returns nil.
func (r *Reloader) Run(ctx context.Context, hangups <-chan os.Signal, every time.Duration) error {
	var polling sync.WaitGroup
	defer polling.Wait()
	polling.Go(func() { wait.Poll(ctx, every, r.poll) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			r.reload()
		}
	}
}

// poll reloads a content that it has found twice.
func (r *Reloader) poll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.read()
	switch {
	case !ok:
		r.found.Unread()
	case r.found.Read(data):
		r.use(data)
	}
}

// read returns the file's content, if it is there: while it is being
// replaced it may not be.
func (r *Reloader) read() ([]byte, bool) {
	if r.sources.File == "" {
		return nil, false
	}
	data, err := readAgain(r.sources.File)
	return slices.Clip(data), err == nil
}

// reload looks at the file and the scripts now, for somebody who asked.
func (r *Reloader) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rescan != nil {
		_ = r.rescan() // logged already
	}
	if r.sources.File == "" {
		return
	}
	data, ok := r.read()
	if !ok {
		r.tell(false)
		r.log.Error("configuration not reloaded", zap.Error(errors.New("the file cannot be read")),
			zap.String("file", r.sources.File))
		return
	}
	r.found.Set(data)
	r.use(data)
}

func (r *Reloader) use(data []byte) {
	c, err := r.sources.Parse(data)
	if err == nil {
		err = r.apply(c.Channels)
	}
	r.tell(err == nil)
	if err != nil {
		for _, fault := range faultsOf(err) {
			r.log.Error("configuration not reloaded; the old one stays", zap.Error(fault))
		}
		return
	}
	for _, key := range changedKeys(r.running, c) {
		r.log.Warn("a changed setting needs a restart", zap.String("key", key))
	}
	r.log.Info("configuration reloaded", zap.Int("channels", len(c.Channels)))
}

func (r *Reloader) tell(good bool) {
	if r.Reloaded != nil {
		r.Reloaded(good)
	}
}

// faultsOf lists what one error holds.
func faultsOf(err error) []error {
	var faulty *Error
	if !errors.As(err, &faulty) {
		return Joined(err)
	}
	errs := make([]error, len(faulty.Faults))
	for i, f := range faulty.Faults {
		errs[i] = f
	}
	return errs
}

// changedKeys lists the scalar settings in which two configurations differ.
func changedKeys(a, b *Config) []string {
	var keys []string
	before, after := a.settings(), b.settings()
	for i := range before {
		if before[i].raw() != after[i].raw() {
			keys = append(keys, before[i].key)
		}
	}
	return keys
}
