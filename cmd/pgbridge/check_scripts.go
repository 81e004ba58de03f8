package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/txrunner"
)

// scriptsLimit is enough for tens of thousands.
const scriptsLimit = 5 * time.Minute

// parseScripts reports what is wrong with the scripts as far as it shows
// without PostgreSQL.
func parseScripts(c *config, r *report) {
	if c.Scripts == "" {
		return
	}
	r.heading("Scripts")
	scripts, err := script.Load(c.Scripts, nil)
	r.scripts(fmt.Sprintf("%d can be parsed", len(scripts)), joined(err))
}

// prepareScripts reports what PostgreSQL finds wrong with the scripts too.
func prepareScripts(ctx context.Context, c *config, r *report) {
	if c.Scripts == "" {
		return
	}
	r.heading("Scripts")
	ctx, cancel := context.WithTimeout(ctx, scriptsLimit)
	defer cancel()
	n, faults := txrunner.CheckScripts(ctx, c.runner())
	r.scripts(fmt.Sprintf("%d, PostgreSQL takes them", n), faults)
}

func (r *report) scripts(good string, faults []error) {
	if len(faults) == 0 {
		r.ok("scripts", "%s", good)
	}
	for _, fault := range faults {
		r.fail("script", "%s", firstLine(fault))
	}
}
