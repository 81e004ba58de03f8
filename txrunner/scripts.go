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

	"github.com/pgbridge/pgbridge/internal/script"
)

// scripts are the programs of a folder. A file that becomes faulty keeps the
// program it had.
type scripts struct {
	folder     string
	maxTimeout time.Duration
	log        *zap.Logger

	programs atomic.Pointer[map[string]*program]

	mu      sync.Mutex // guards what follows, and serializes loading
	loaded  script.Scripts
	faults  []error
	pending *reading // a change that was found once; nil: none
}

// reading is what was found in the folder.
type reading struct {
	loaded script.Scripts
	err    error
}

// load reads the folder and takes over what it finds. Unchanged files keep
// their programs, and so what connections have prepared of them. The error
// joins all faults.
func (s *scripts) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	loaded, err := s.read(s.loaded)
	s.pending = nil
	s.take(loaded, err)
	return err
}

// poll reads the folder and takes over a change that it finds a second time: a
// file may be half written when it is read, and half a script can be valid.
func (s *scripts) poll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != nil {
		loaded, err := s.read(s.pending.loaded)
		if maps.Equal(loaded, s.pending.loaded) && fmt.Sprint(err) == fmt.Sprint(s.pending.err) {
			s.take(loaded, err)
			s.pending = nil
			return
		}
	}
	loaded, err := s.read(s.loaded)
	s.pending = &reading{loaded, err}
	if maps.Equal(loaded, s.loaded) && fmt.Sprint(err) == fmt.Sprint(errors.Join(s.faults...)) {
		s.pending = nil
	}
}

func (s *scripts) read(last script.Scripts) (script.Scripts, error) {
	if s.folder == "" {
		return nil, nil
	}
	loaded, err := script.Load(s.folder, last)
	return loaded, errors.Join(faultsIn(err)...)
}

func (s *scripts) take(loaded script.Scripts, err error) {
	if s.programs.Load() == nil || !maps.Equal(loaded, s.loaded) {
		s.replace(loaded)
	}
	s.report(err)
}

// watch polls until ctx ends. A folder that takes long to read is read less
// often, so that it costs little in any case.
func (s *scripts) watch(ctx context.Context, every time.Duration) error {
	if s.folder == "" || every < 0 {
		return nil
	}
	for pause := every; sleep(ctx, pause); {
		began := time.Now()
		s.poll()
		pause = max(every, 50*time.Since(began))
	}
	return nil
}

func (s *scripts) replace(loaded script.Scripts) {
	old := map[string]*program{}
	if p := s.programs.Load(); p != nil {
		old = *p
	}
	programs := make(map[string]*program, len(loaded))
	for name, one := range loaded {
		if p := old[name]; p != nil && p.Script == one {
			programs[name] = p
		} else {
			programs[name] = newProgram(one, s.maxTimeout)
		}
	}
	s.programs.Store(&programs)
	s.loaded = loaded
	s.log.Info("scripts loaded", zap.Int("scripts", len(programs)))
}

// report logs the faults that are new.
func (s *scripts) report(err error) {
	faults := faultsIn(err)
	for _, fault := range faults {
		if !slices.ContainsFunc(s.faults, func(old error) bool { return old.Error() == fault.Error() }) {
			s.log.Error("a script is faulty; its last good form, if any, stays", zap.Error(fault))
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

func (s *scripts) get(name string) *program { return (*s.programs.Load())[name] }

// names returns all names in order.
func (s *scripts) names() []string { return slices.Sorted(maps.Keys(*s.programs.Load())) }

// missing lists the faults of files that give no script at all, a line each.
func (s *scripts) missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	good := make(map[string]bool, len(s.loaded))
	if len(s.faults) > 0 {
		for _, one := range s.loaded {
			good[one.File] = true
		}
	}
	var lines []string
	for _, fault := range s.faults {
		var at *script.Error
		if errors.As(fault, &at) && good[at.File] {
			continue
		}
		lines = append(lines, "scripts: "+fault.Error())
	}
	return lines
}
