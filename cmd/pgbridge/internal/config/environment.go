package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/spelling"
)

const (
	envPrefix = "PGBRIDGE_"
	// EnvFile is the variable that names the file where there is no -c.
	EnvFile = envPrefix + "CONFIG"
	// EnvCompletion is the variable that says how long a completion waits for answers.
	EnvCompletion = envPrefix + "COMPLETION_TIMEOUT"
	envChannels   = envPrefix + "CHANNELS" // names, as with --channel
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
		case !strings.HasPrefix(name, envPrefix) || slices.Contains([]string{EnvFile, EnvCompletion, pgserver.EnvBin}, name) || value == "":
		case known:
			l.apply(s, name, value)
		case name == envChannels:
			l.addChannels(name, splitCommas(value))
		case !kubernetesMade(name, value):
			names := append(slices.Collect(maps.Keys(settings)), EnvFile, envChannels)
			l.fault(name, "", fmt.Errorf("unknown variable; the nearest is %s", spelling.Nearest(name, slices.Sorted(slices.Values(names)))))
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
