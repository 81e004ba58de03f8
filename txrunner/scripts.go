package txrunner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// scripts are the programs of a folder. A file that becomes faulty keeps the
// program it had.
type scripts struct {
	folder     string
	maxTimeout time.Duration
	log        *zap.Logger
	loaded     func(faults int) // is told of each change; nil: nobody

	programs atomic.Pointer[map[string]*execution.Program]
	changed  wait.Signal // programs are others

	mu     sync.Mutex // guards what follows, and serializes loading
	found  *wait.Settled[reading]
	faults []error
}

// newScripts returns the scripts of a folder that was not read yet; an empty name
// is that of none.
func newScripts(folder string, maxTimeout time.Duration, log *zap.Logger) *scripts {
	return &scripts{folder: folder, maxTimeout: maxTimeout, log: log, changed: wait.NewSignal(), found: wait.NewSettled(reading{}, sameReading)}
}

// reading is what was found in the folder.
type reading struct {
	loaded script.Scripts
	err    error
}

func sameReading(a, b reading) bool {
	return maps.Equal(a.loaded, b.loaded) && fmt.Sprint(a.err) == fmt.Sprint(b.err)
}

// load reads the folder and takes over what it finds. Unchanged files keep
// their programs, and so what connections have prepared of them. The error
// joins all faults.
func (s *scripts) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.read(s.found.Value().loaded)
	s.found.Set(now)
	s.take(now)
	return now.err
}

// poll reads the folder and takes over a change that it finds a second time.
func (s *scripts) poll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.read(s.found.Latest().loaded); s.found.Read(now) {
		s.take(now)
	}
}

func (s *scripts) read(last script.Scripts) reading {
	if s.folder == "" {
		return reading{}
	}
	loaded, err := script.Load(s.folder, last)
	return reading{loaded, errors.Join(faultsIn(err)...)}
}

// take makes programs of what was found.
func (s *scripts) take(now reading) {
	old := s.programs.Load()
	changed := old == nil || !s.holds(*old, now.loaded)
	if changed {
		s.replace(now.loaded)
	}
	if faults := faultsIn(now.err); s.loaded != nil && (changed || len(faults) > 0) {
		s.loaded(len(faults))
	}
	s.report(now.err)
}

// holds reports whether programs are those of the scripts.
func (s *scripts) holds(programs map[string]*execution.Program, loaded script.Scripts) bool {
	return maps.EqualFunc(programs, loaded, func(p *execution.Program, one *script.Script) bool { return p.Script.Script == one })
}

// watch polls until ctx ends.
func (s *scripts) watch(ctx context.Context, every time.Duration) error {
	if s.folder != "" {
		wait.Poll(ctx, every, s.poll)
	}
	return nil
}

func (s *scripts) replace(loaded script.Scripts) {
	old := map[string]*execution.Program{}
	if p := s.programs.Load(); p != nil {
		old = *p
	}
	programs := make(map[string]*execution.Program, len(loaded))
	for name, one := range loaded {
		if p := old[name]; p != nil && p.Script.Script == one {
			programs[name] = p
		} else {
			programs[name] = execution.NewProgram(one, s.maxTimeout)
		}
	}
	s.programs.Store(&programs)
	s.changed.Raise()
	s.log.Info("scripts loaded", zap.Int("scripts", len(programs)))
}

// report logs the faults that are new.
func (s *scripts) report(err error) {
	faults := faultsIn(err)
	for _, fault := range faults {
		if !slices.ContainsFunc(s.faults, func(old error) bool { return old.Error() == fault.Error() }) {
			s.log.Error("a script is faulty; its last good version, if any, stays in use", zap.Error(fault))
		}
	}
	s.faults = faults
}

// faultsIn lists what one error holds.
func faultsIn(err error) []error {
	var all script.Errors
	if errors.As(err, &all) {
		return all.Unwrap()
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// known returns the faults that the last load found.
func (s *scripts) known() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

func (s *scripts) get(name string) *execution.Program { return (*s.programs.Load())[name] }

// names returns all names in order.
func (s *scripts) names() []string { return slices.Sorted(maps.Keys(*s.programs.Load())) }

// missing lists the faults of files that give no script at all, a line each.
func (s *scripts) missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	good := make(map[string]bool)
	if len(s.faults) > 0 {
		for _, one := range s.found.Value().loaded {
			good[one.File] = true
		}
	}
	var lines []string
	for _, fault := range s.faults {
		var at *script.Error
		if errors.As(fault, &at) && good[at.File] {
			continue
		}
		lines = append(lines, part.Scripts.Problem(fault.Error()))
	}
	return lines
}
