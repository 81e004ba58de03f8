package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

// version is set by the linker (-X main.version=…) and never by the program.
var version string

type versionCmd struct{}

// Help shows examples.
func (versionCmd) Help() string { return "Example:\n\n    pgbridge version" }

// Run prints one line.
func (versionCmd) Run(p *process) error {
	_, err := fmt.Fprintf(p.stdout, "pgbridge %s %s %s/%s\n", ownVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// ownVersion is the linker's, or else what the go command recorded.
func ownVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// semanticVersion is ownVersion as NATS service discovery wants it, or "".
func semanticVersion() string {
	v := strings.TrimPrefix(ownVersion(), "v")
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`).MatchString(v) {
		return ""
	}
	return v
}
