package config

import (
	"strings"
	"testing"
)

func TestConsole(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		shown, payloads bool
		hosts           string
	}{
		"prefix: a\n":                      {},
		"console: true\n":                  {shown: true},
		"console: {payloads: true}\n":      {shown: true, payloads: true},
		"console: {hosts: [a.example, b]}": {shown: true, hosts: "a.example,b"},
	} {
		c := loaded(t, "postgres: {url: postgres://app@db/app}\n"+text)
		if c.Console.Shown != want.shown || c.Console.Payloads != want.payloads || strings.Join(c.Console.Hosts, ",") != want.hosts {
			t.Errorf("%s: %+v", text, c.Console)
		}
	}
}

func TestConsoleNeedsAnAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"console: true\nhttp: off\n":                "console: it is a page on the HTTP address",
		"console: {hosts: [\"a.example:8080\"]}\n":  "console.hosts: \"a.example:8080\"",
		"console: {hosts: [\"https://a.example\"]}": "console.hosts: \"https://a.example\"",
		"console: {payload: true}\n":                "console.payload",
	} {
		_, err := Sources{File: configFile(t, "postgres: {url: postgres://app@db/app}\n"+text)}.Load()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
}
