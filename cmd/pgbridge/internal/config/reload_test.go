package config

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/bridge"
)

// reloading is a reloader on a file, with what it applied last.
type reloading struct {
	*Reloader
	path    string
	applied []string // nil: nothing yet
	refuse  error    // what the bridge says
	logs    *observer.ObservedLogs
}

func newReloading(t *testing.T, path string) *reloading {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	r := &reloading{path: path, logs: logs}
	src := Sources{File: path}
	running, err := src.Load()
	if err != nil {
		t.Fatal(err)
	}
	r.Reloader = NewReloader(src, running, r.take, nil, zap.New(core))
	return r
}

func (r *reloading) take(channels map[string]bridge.Channel) error {
	if r.refuse != nil {
		return r.refuse
	}
	r.applied = slices.Sorted(maps.Keys(channels))
	return nil
}

func (r *reloading) want(t *testing.T, when string, channels ...string) {
	t.Helper()
	if !slices.Equal(r.applied, channels) {
		t.Errorf("%s: channels %v, want %v", when, r.applied, channels)
	}
}

func (r *reloading) polls(n int) {
	for range n {
		r.poll()
	}
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

const oneChannel, twoChannels = least + "channels: {a: {}}\n", least + "channels: {a: {}, b: {}}\n"

func TestReloadOfAFileInPlace(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	r.polls(3)
	r.want(t, "without a change")
	rewrite(t, r.path, twoChannels[:len(twoChannels)-5]) // half written
	r.polls(1)
	rewrite(t, r.path, twoChannels)
	r.polls(1)
	r.want(t, "while the content still changes")
	r.polls(1)
	r.want(t, "after two looks", "a", "b")
}

func TestReloadOfARenamedFile(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	r.polls(3)
	r.want(t, "while the file is gone")
	rewrite(t, r.path+".new", twoChannels)
	if err := os.Rename(r.path+".new", r.path); err != nil {
		t.Fatal(err)
	}
	r.polls(2)
	r.want(t, "after the rename", "a", "b")
}

// Kubernetes mounts a ConfigMap as file → ..data/file, ..data → a folder with
// a date, and switches ..data by a rename.
func TestReloadOfAConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount := func(version, content string) {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		rewrite(t, filepath.Join(dir, version, "pgbridge.yaml"), content)
		link := filepath.Join(dir, "..data_tmp")
		if err := errors.Join(os.Symlink(version, link), os.Rename(link, filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	mount("..1", oneChannel)
	path := filepath.Join(dir, "pgbridge.yaml")
	if err := os.Symlink(filepath.Join("..data", "pgbridge.yaml"), path); err != nil {
		t.Fatal(err)
	}
	r := newReloading(t, path)
	mount("..2", twoChannels)
	r.polls(2)
	r.want(t, "after the switch", "a", "b")
}

func TestFaultyFileIsRefused(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	rewrite(t, r.path, twoChannels+"prefix: 'x y'\nhttp: nowhere\n")
	r.polls(5)
	r.want(t, "with a faulty file")
	lines := r.logs.FilterLevelExact(zap.ErrorLevel).All()
	if len(lines) != 2 {
		t.Errorf("%d lines, want one for each of 2 faults: %v", len(lines), lines)
	}
	rewrite(t, r.path, "")
	r.polls(2)
	r.want(t, "with an empty file")
	rewrite(t, r.path, twoChannels)
	r.polls(2)
	r.want(t, "after the correction", "a", "b")
}

func TestRefusalOfTheBridgeIsLogged(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	r.refuse = errors.Join(&bridge.ConfigError{Key: "a", Err: os.ErrInvalid}, &bridge.ConfigError{Key: "b", Err: os.ErrInvalid})
	rewrite(t, r.path, twoChannels)
	r.reload()
	if n := r.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 2 {
		t.Errorf("%d error lines, want 2", n)
	}
}

func TestOtherChangesNeedARestart(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	rewrite(t, r.path, strings.Replace(twoChannels, "postgres://", "postgres://app:secret@db/app", 1)+"queue: {bytes: 64MiB}\n")
	r.reload()
	r.want(t, "with other changes too", "a", "b")
	var keys []string
	for _, line := range r.logs.FilterMessage("a changed setting needs a restart").All() {
		keys = append(keys, line.ContextMap()["key"].(string))
	}
	if !slices.Equal(keys, []string{"postgres.url", "queue.bytes"}) {
		t.Errorf("needing a restart: %v, want postgres.url and queue.bytes", keys)
	}
}

func TestHangupReadsTheScripts(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	n := 0
	r.rescan = func() error { n++; return os.ErrNotExist }
	r.polls(3)
	if n != 0 {
		t.Errorf("a look at the file read the scripts %d times, want 0", n)
	}
	r.reload()
	r.want(t, "with faulty scripts", "a")
	r.sources.File = ""
	r.reload()
	if n != 2 {
		t.Errorf("2 hangups read the scripts %d times", n)
	}
}

func TestReloaderRunsAtHangupsAndTicks(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	applied := make(chan int, 10)
	r.apply = func(channels map[string]bridge.Channel) error { applied <- len(channels); return nil }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	hangups := make(chan os.Signal, 1)
	go func() { ended <- r.Run(ctx, hangups, time.Millisecond) }()
	hangups <- syscall.SIGHUP
	wantApplied(t, applied, 1)
	rewrite(t, r.path, twoChannels)
	wantApplied(t, applied, 2)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

func wantApplied(t *testing.T, applied <-chan int, want int) {
	t.Helper()
	select {
	case n := <-applied:
		if n != want {
			t.Errorf("%d channels applied, want %d", n, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing was applied, want %d channels", want)
	}
}

// A pipe in the place of the file, which nobody writes to, holds up neither later reloads
// nor the end of the process.
func TestReloadBehindAPipe(t *testing.T) {
	t.Parallel()
	r := newReloading(t, configFile(t, oneChannel))
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(r.path, 0o600); err != nil {
		t.Fatal(err)
	}
	r.polls(2)
	r.reload()
	if r.logs.FilterMessage("configuration not reloaded").Len() != 1 {
		t.Errorf("the log has %v", r.logs.All())
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	rewrite(t, r.path, twoChannels)
	r.polls(2)
	r.want(t, "behind the pipe", "a", "b")
}
