package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
)

// reloader applies changed channels to the running bridge. It compares the
// file's content, so that it sees a rename, an edit in place and the switch
// of a symbolic link, as Kubernetes mounts a ConfigMap, all alike.
type reloader struct {
	sources sources
	running *config // what the process was started with
	apply   func(map[string]bridge.Channel) error
	rescan  func() error // reads the scripts and logs their faults; nil: there are none
	log     *zap.Logger

	seen    []byte // the content that was looked at last
	pending []byte // another content, seen once; nil: none
}

func newReloader(src sources, running *config, apply func(map[string]bridge.Channel) error, log *zap.Logger) *reloader {
	r := &reloader{sources: src, running: running, apply: apply, log: log}
	r.seen, _ = r.read()
	return r
}

// run looks at the file every so often, and at once at a hangup. It blocks
// until ctx ends and returns nil.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal, every time.Duration) error {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			r.reload()
		case <-ticks.C:
			r.poll()
		}
	}
}

// poll reloads a content that it has found twice: a file may be half written
// when it is looked at, and half a file can be valid.
func (r *reloader) poll() {
	data, ok := r.read()
	switch {
	case !ok || bytes.Equal(data, r.seen):
		r.pending = nil
	case r.pending == nil || !bytes.Equal(data, r.pending):
		r.pending = data
	default:
		r.use(data)
	}
}

// read returns the file's content, if it is there: while it is being
// replaced it may not be.
func (r *reloader) read() ([]byte, bool) {
	if r.sources.file == "" {
		return nil, false
	}
	data, err := readFile(r.sources.file)
	return slices.Clip(data), err == nil
}

// reload looks at the file and the scripts now, for somebody who asked.
func (r *reloader) reload() {
	if r.rescan != nil {
		_ = r.rescan() // logged already
	}
	if r.sources.file == "" {
		return
	}
	data, ok := r.read()
	if !ok {
		r.log.Error("configuration not reloaded", zap.Error(errors.New("the file cannot be read")),
			zap.String("file", r.sources.file))
		return
	}
	r.use(data)
}

func (r *reloader) use(data []byte) {
	r.seen, r.pending = data, nil
	c, err := r.sources.parse(data)
	if err == nil {
		err = r.apply(c.Channels)
	}
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

// faultsOf lists what one error holds.
func faultsOf(err error) []error {
	var faulty *configError
	if !errors.As(err, &faulty) {
		return joined(err)
	}
	errs := make([]error, len(faulty.faults))
	for i, f := range faulty.faults {
		errs[i] = f
	}
	return errs
}

// changedKeys lists the scalar settings in which two configurations differ.
func changedKeys(a, b *config) []string {
	var keys []string
	before, after := a.settings(), b.settings()
	for i := range before {
		if before[i].raw() != after[i].raw() {
			keys = append(keys, before[i].key)
		}
	}
	return keys
}
