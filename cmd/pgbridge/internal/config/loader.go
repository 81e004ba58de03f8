package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/spelling"
)

// loader fills a configuration and collects faults on the way.
type loader struct {
	config     *Config
	folder     string
	faults     []Fault
	unreadable bool // the file is no YAML
}

// reported tells a fault that is only an echo: a value that could not be read
// leaves its default, which may then be found wanting.
func (l *loader) reported(key string) bool {
	return slices.ContainsFunc(l.faults, func(f Fault) bool { return key != "" && f.Key == key })
}

func (l *loader) fault(origin, key string, err error) {
	l.faults = append(l.faults, Fault{origin, key, err})
}

func (l *loader) apply(s setting, origin, text string) {
	if err := s.set(text); err != nil {
		l.fault(origin, s.key, err)
		return
	}
	l.config.origins[s.key] = origin
}

func (l *loader) addChannels(origin string, names []string) {
	for _, name := range names {
		if _, ok := l.config.Channels[name]; !ok {
			l.config.Channels[name] = bridge.Channel{}
			l.config.origins["channels."+name] = origin
		}
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
	return fmt.Errorf("unknown key; the nearest is %s", spelling.Nearest(key, keys))
}

// parentOf is the group that a key is in, empty at the top.
func parentOf(key string) string {
	return key[:max(0, strings.LastIndexByte(key, '.'))]
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
