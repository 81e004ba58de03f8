package stage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// startNATS starts one server, or several that form a cluster and do not tell their
// clients of each other, who would go round the proxies.
func (s *Stage) startNATS(t testing.TB) error {
	routes := make([]int, s.config.Servers)
	for i := range routes {
		port, err := pgserver.FreePort()
		if err != nil {
			return err
		}
		routes[i] = port
	}
	for i := range routes {
		monitor, err := pgserver.FreePort()
		if err != nil {
			return err
		}
		s.monitors = append(s.monitors, monitor)
		config := fmt.Sprintf("http: \"127.0.0.1:%d\"\n", monitor)
		if len(routes) > 1 {
			config += fmt.Sprintf("server_name: node%d\ncluster { name: chaos, listen: \"127.0.0.1:%d\", no_advertise: true, routes: [%s] }\n",
				i+1, routes[i], routesTo(routes))
		}
		s.NATS = append(s.NATS, testenv.NATSProcess(t, config))
	}
	return s.connectNATS(t)
}

func routesTo(ports []int) string {
	var urls []string
	for _, port := range ports {
		urls = append(urls, fmt.Sprintf("\"nats://127.0.0.1:%d\"", port))
	}
	return strings.Join(urls, ", ")
}
