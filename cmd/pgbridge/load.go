package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/pgserver"
)

// sources are the places a configuration comes from, the later ones winning:
// the defaults, a file, the environment, flags.
type sources struct {
	file     string   // path; empty: none
	environ  []string // as from os.Environ
	postgres string   // --postgres
	nats     string   // --nats
	channels []string // --channel
	set      []string // --set, each key=value
}

// load reads the configuration. An error is a *configError with every fault,
// or says why the file could not be read.
func (s sources) load() (*config, error) {
	data, err := s.read()
	if err != nil {
		return nil, err
	}
	return s.parse(data)
}

// read returns the file's content; without a file there is none.
func (s sources) read() ([]byte, error) {
	if s.file == "" {
		return nil, nil
	}
	data, err := readFile(s.file)
	if err != nil {
		return nil, &configError{[]fault{{err: err}}}
	}
	return data, nil
}

// parse is load with the file's content at hand.
func (s sources) parse(data []byte) (*config, error) {
	return s.parseFor(data, func(string) bool { return true })
}

// loadClient is load for a program that talks to NATS only: whatever else is
// wrong or missing does not matter to it.
func (s sources) loadClient() (*config, error) {
	data, err := s.read()
	if err != nil {
		return nil, err
	}
	return s.parseFor(data, func(key string) bool {
		return key == "prefix" || strings.HasPrefix(key, "nats.")
	})
}

// parseFor checks only the keys that are wanted.
func (s sources) parseFor(data []byte, wanted func(key string) bool) (*config, error) {
	l := &loader{config: newConfig(), folder: filepath.Dir(s.file)}
	if s.file != "" {
		l.fromFile(s.file, data)
	}
	l.fromEnvironment(s.environ)
	l.fromFlags(s)
	if l.unreadable { // whatever is missing may stand there
		return nil, &configError{l.faults}
	}
	for _, f := range l.config.validate() {
		if wanted(f.key) && !l.reported(f.key) {
			l.faults = append(l.faults, f)
		}
	}
	if len(l.faults) > 0 {
		return nil, &configError{l.faults}
	}
	return l.config, nil
}

// loader fills a configuration and collects faults on the way.
type loader struct {
	config     *config
	folder     string
	faults     []fault
	unreadable bool // the file is no YAML
}

// reported tells a fault that is only an echo: a value that could not be read
// leaves its default, which may then be found wanting.
func (l *loader) reported(key string) bool {
	return slices.ContainsFunc(l.faults, func(f fault) bool { return key != "" && f.key == key })
}

func (l *loader) fault(origin, key string, err error) {
	l.faults = append(l.faults, fault{origin, key, err})
}

func (l *loader) apply(s setting, origin, text string) {
	if err := s.set(text); err != nil {
		l.fault(origin, s.key, err)
		return
	}
	l.config.origins[s.key] = origin
}

func (l *loader) fromFile(path string, data []byte) {
	root, faults := parseYAML(data)
	for _, err := range faults {
		l.fault(path, "", err)
	}
	if len(faults) > 0 {
		l.unreadable = true
		return
	}
	l.config.StoreDir = filepath.Join(l.folder, l.config.StoreDir)
	l.fields(path, "", root, l.config.settings())
}

// fields applies the members of one mapping, whose keys begin with prefix.
func (l *loader) fields(origin, prefix string, n node, settings []setting) {
	for _, name := range slices.Sorted(maps.Keys(n.fields)) {
		value, key := n.fields[name], prefix+name
		switch i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key }); {
		case key == "channels":
			l.channels(origin, value)
		case isGroup(settings, key) && (i < 0 || len(value.fields) > 0):
			l.group(origin, key, value, settings)
		case i >= 0 && isGroup(settings, key) && value.kind == mapping:
			l.fault(origin, key, fmt.Errorf("want true, false or settings below it, as in {%s: …}", firstBelow(settings, key)))
		case i >= 0:
			l.value(origin, settings[i], value)
		default:
			l.fault(origin, key, unknownKey(key, settings))
		}
	}
}

func (l *loader) group(origin, key string, n node, settings []setting) {
	if n.kind == scalar || n.kind == list {
		l.fault(origin, key, fmt.Errorf("want a mapping of settings below it, as in {%s: …}", firstBelow(settings, key)))
		return
	}
	l.fields(origin, key+".", n, settings)
}

// value applies one setting; a null leaves what was there before.
func (l *loader) value(origin string, s setting, n node) {
	switch {
	case n.kind == scalar:
		l.apply(s.fromFile(l.folder), origin, n.text)
	case n.kind == list && s.list:
		l.items(origin, s, n)
	case n.kind != absent:
		l.fault(origin, s.key, errors.New("want one value, not a list or a mapping"))
	}
}

func (l *loader) items(origin string, s setting, n node) {
	texts := make([]string, len(n.items))
	for i, item := range n.items {
		if item.kind != scalar || strings.Contains(item.text, ",") {
			l.fault(origin, s.key, errors.New("want a list of plain values"))
			return
		}
		texts[i] = item.text
	}
	l.apply(s, origin, strings.Join(texts, ","))
}

func (l *loader) channels(origin string, n node) {
	if n.kind == scalar || n.kind == list {
		l.fault(origin, "channels", errors.New("want a mapping of channels, as in {orders: {}}"))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.fields)) {
		key, value := "channels."+name, n.fields[name]
		var ch bridge.Channel
		settings := channelSettings(name, &ch)
		l.group(origin, key, value, settings)
		l.config.Channels[name] = ch
		l.config.origins[key] = origin
	}
}

func isGroup(settings []setting, key string) bool {
	return firstBelow(settings, key) != ""
}

// firstBelow is the name of the first setting below a key, if any.
func firstBelow(settings []setting, key string) string {
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(s.key, key+"."); ok {
			name, _, _ := strings.Cut(rest, ".")
			return name
		}
	}
	return ""
}

// parentOf is the group that a key is in, empty at the top.
func parentOf(key string) string {
	return key[:max(0, strings.LastIndexByte(key, '.'))]
}

func unknownKey(key string, settings []setting) error {
	var keys []string
	for _, s := range settings {
		for name := s.key; name != ""; name = parentOf(name) {
			keys = append(keys, name)
		}
	}
	if !strings.HasPrefix(key, "channels.") {
		keys = append(keys, "channels")
	}
	return fmt.Errorf("unknown key; the nearest is %s", nearest(key, keys))
}

const (
	envPrefix   = "PGBRIDGE_"
	envConfig   = envPrefix + "CONFIG"   // the file, where there is no -c
	envChannels = envPrefix + "CHANNELS" // names, as with --channel
)

// envName derives a key's environment variable.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// fromEnvironment applies PGBRIDGE_* variables. An empty one counts as not
// set, as Kubernetes leaves an optional one.
func (l *loader) fromEnvironment(environ []string) {
	settings := map[string]setting{}
	for _, s := range l.config.settings() {
		settings[envName(s.key)] = s
	}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		s, known := settings[name]
		switch {
		case !strings.HasPrefix(name, envPrefix) || name == envConfig || name == pgserver.EnvBin || value == "":
		case known:
			l.apply(s, name, value)
		case name == envChannels:
			l.addChannels(name, splitCommas(value))
		case !kubernetesMade(name, value):
			names := append(slices.Collect(maps.Keys(settings)), envConfig, envChannels)
			l.fault(name, "", fmt.Errorf("unknown variable; the nearest is %s", nearest(name, slices.Sorted(slices.Values(names)))))
		}
	}
}

// kubernetesMade recognizes the variables that Kubernetes sets in each pod
// beside a Service named pgbridge or pgbridge-….
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
func kubernetesMade(name, value string) bool {
	made := regexp.MustCompile(`_SERVICE_(HOST|PORT(_.+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
	return made.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

func (l *loader) addChannels(origin string, names []string) {
	for _, name := range names {
		if _, ok := l.config.Channels[name]; !ok {
			l.config.Channels[name] = bridge.Channel{}
			l.config.origins["channels."+name] = origin
		}
	}
}

func (l *loader) fromFlags(s sources) {
	l.addChannels("--channel", s.channels)
	for _, f := range []struct{ flag, key, value string }{
		{"--postgres", "postgres.url", s.postgres}, {"--nats", "nats.url", s.nats},
	} {
		if f.value != "" {
			l.setKey(f.flag, f.key, f.value)
		}
	}
	for _, assignment := range s.set {
		key, value, ok := strings.Cut(assignment, "=")
		if !ok {
			l.fault("--set", key, errors.New("want key=value"))
			continue
		}
		l.setKey("--set", key, value)
	}
}

func (l *loader) setKey(origin, key, value string) {
	if rest, ok := strings.CutPrefix(key, "channels."); ok {
		l.setChannelKey(origin, key, rest, value)
		return
	}
	settings := l.config.settings()
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		l.fault(origin, key, unknownKey(key, settings))
		return
	}
	l.apply(settings[i], origin, value)
}

// setChannelKey sets <name>.<field>; a name may hold dots, a field has none.
func (l *loader) setChannelKey(origin, key, rest, value string) {
	name := rest[:max(0, strings.LastIndexByte(rest, '.'))]
	ch, existed := l.config.Channels[name]
	settings := channelSettings(name, &ch)
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		l.fault(origin, key, unknownKey(key, settings))
		return
	}
	l.apply(settings[i], origin, value)
	l.config.Channels[name] = ch
	if !existed {
		l.config.origins["channels."+name] = origin
	}
}
