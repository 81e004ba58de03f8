package config

import (
	"errors"
	"path/filepath"
	"strings"
)

// Sources are the places a configuration comes from, the later ones winning:
// the defaults, a file, the environment, flags.
type Sources struct {
	File     string   // path; empty: none
	Environ  []string // as from os.Environ
	Postgres string   // --postgres
	NATS     string   // --server
	Channels []string // --channel
	Set      []string // --set, each key=value
	Flags    []Flag   // others, each of which sets a key
}

// Flag is one on the command line that stands for a key of the file.
type Flag struct{ Name, Key, Value string }

// Load reads the configuration. An error is an *Error with every fault,
// or says why the file could not be read.
func (s Sources) Load() (*Config, error) {
	data, err := s.read()
	if err != nil {
		return nil, err
	}
	return s.Parse(data)
}

// read returns the file's content; without a file there is none.
func (s Sources) read() ([]byte, error) {
	if s.File == "" {
		return nil, nil
	}
	data, err := readFile(s.File)
	if err != nil {
		return nil, &Error{[]Fault{{Err: err}}}
	}
	return data, nil
}

// Parse is Load with the file's content at hand.
func (s Sources) Parse(data []byte) (*Config, error) {
	return s.parseFor(data, func(string) bool { return true })
}

// LoadClient is Load for a program that talks to NATS only: whatever else is
// wrong or missing does not matter to it.
func (s Sources) LoadClient() (*Config, error) {
	data, err := s.read()
	if err != nil {
		return nil, err
	}
	return s.parseFor(data, func(key string) bool {
		return key == "prefix" || strings.HasPrefix(key, "nats.")
	})
}

// parseFor checks only the keys that are wanted.
func (s Sources) parseFor(data []byte, wanted func(key string) bool) (*Config, error) {
	l := &loader{config: newConfig(), folder: filepath.Dir(s.File)}
	if s.File != "" {
		l.fromFile(s.File, data)
	}
	l.fromEnvironment(s.Environ)
	l.fromFlags(s)
	if l.unreadable { // whatever is missing may stand there
		return nil, &Error{l.faults}
	}
	for _, f := range l.config.validate() {
		if wanted(f.Key) && !l.reported(f.Key) {
			l.faults = append(l.faults, f)
		}
	}
	if len(l.faults) > 0 {
		return nil, &Error{l.faults}
	}
	return l.config, nil
}

func (l *loader) fromFlags(s Sources) {
	l.addChannels("--channel", s.Channels)
	for _, f := range []struct{ flag, key, value string }{
		{"--postgres", "postgres.url", s.Postgres}, {"--server", "nats.url", s.NATS},
	} {
		if f.value != "" {
			l.setKey(f.flag, f.key, f.value)
		}
	}
	for _, f := range s.Flags {
		l.setKey(f.Name, f.Key, f.Value)
	}
	for _, assignment := range s.Set {
		key, value, ok := strings.Cut(assignment, "=")
		if !ok {
			l.fault("--set", key, errors.New("want key=value"))
			continue
		}
		l.setKey("--set", key, value)
	}
}
