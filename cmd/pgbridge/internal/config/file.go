package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/bridge"
)

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
