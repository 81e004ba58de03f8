package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
)

var update = flag.Bool("update", false, "write what the Helm chart's schema says of the configuration")

const chartSchema = "../../../../deploy/helm/pgbridge/values.schema.json"

type object = map[string]any

// TestChartKnowsEveryKey compares what the schema of the Helm chart's values says of
// config with the settings. So a mistyped key is refused when the chart is rendered,
// and not by a pod. After a change of the settings:
//
//	go test ./cmd/pgbridge/internal/config -run Chart -update
func TestChartKnowsEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(chartSchema)
	if err != nil {
		t.Fatal(err)
	}
	var schema object
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatalf("%s: %v", chartSchema, err)
	}
	values := schema["properties"].(object)
	if reflect.DeepEqual(values["config"], generic(t, configSchema())) {
		return
	}
	if !*update {
		t.Fatalf("%s does not have the keys of the configuration: run this test with -update", chartSchema)
	}
	values["config"] = configSchema()
	if err := os.WriteFile(chartSchema, encode(t, schema), 0o600); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// generic is a value as JSON knows it.
func generic(t *testing.T, value any) (decoded any) {
	t.Helper()
	if err := json.Unmarshal(encode(t, value), &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

func configSchema() object {
	root := group()
	for _, s := range newConfig().settings() {
		root.add(strings.Split(s.key, "."), valueSchema(s))
	}
	channel := group()
	for _, s := range channelSettings("x", &bridge.Channel{}) {
		channel.add([]string{strings.TrimPrefix(s.key, "channels.x.")}, valueSchema(s))
	}
	root.properties["channels"] = object{"type": "object", "additionalProperties": channel.schema()}
	schema := root.schema()
	// Without these the chart could not say how the pods are to be.
	schema["required"] = []string{"postgres", "queue", "requests", "stop", "http"}
	properties := schema["properties"].(object)
	for name, key := range map[string]string{"postgres": "url", "queue": "bytes", "requests": "bytes", "stop": "grace"} {
		properties[name].(object)["required"] = []string{key}
	}
	return schema
}

// properties is a mapping of the configuration: settings and further mappings.
type properties struct {
	properties object
	groups     map[string]*properties
}

func group() *properties { return &properties{properties: object{}, groups: map[string]*properties{}} }

func (p *properties) add(path []string, value object) {
	if len(path) == 1 {
		p.properties[path[0]] = value
		return
	}
	if p.groups[path[0]] == nil {
		p.groups[path[0]] = group()
	}
	p.groups[path[0]].add(path[1:], value)
}

func (p *properties) schema() object {
	all := object{}
	for name, value := range p.properties {
		all[name] = value
	}
	for name, g := range p.groups {
		if on, both := p.properties[name]; both { // sql: true, or settings below it
			all[name] = object{"anyOf": []any{on, g.schema()}}
			continue
		}
		all[name] = g.schema()
	}
	return object{"type": "object", "additionalProperties": false, "properties": all}
}

// valueSchema asks a setting what it takes.
func valueSchema(s setting) object {
	if special, ok := specials()[s.key]; ok {
		return special
	}
	takes := func(text string) bool { return s.set(text) == nil }
	switch {
	case s.list:
		return object{"anyOf": []any{object{"type": "string"}, object{"type": "array", "items": object{"type": "string"}}}}
	case takes("anything"):
		return oneOfWords(s.key)
	case takes("true"):
		return object{"type": "boolean"}
	case takes("1MiB"):
		return object{"type": []string{"string", "integer"}, "pattern": "^[0-9]+ *(GiB|MiB|KiB|B)?$", "minimum": 0}
	case takes("1s"):
		return object{"type": "string", "pattern": durations}
	case takes("0.5"):
		return object{"type": "number"}
	}
	return object{"type": "integer"}
}

const durations = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`

func oneOfWords(key string) object {
	words := map[string][]string{
		"log.form":            {"json", "console"},
		"log.level":           {"debug", "info", "warn", "error"},
		"channels.x.envelope": {"raw", "json", "cloudevents"},
		"channels.x.delivery": {"core", "jetstream"},
	}
	if words[key] != nil {
		return object{"enum": words[key]}
	}
	return object{"type": "string"}
}

// specials are settings of which the pods stand less than the program.
func specials() map[string]object {
	return map[string]object{
		"postgres.url":  {"type": "string", "minLength": 1},
		"http":          {"type": "string", "pattern": `^(0\.0\.0\.0|\[::\]):[0-9]+$`, "description": "probes come from outside the pod"},
		"nats.embedded": {"const": false, "description": "pods would not share it; see natsServer"},
	}
}
