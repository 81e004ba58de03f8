package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/txrunner"
)

// scriptsLimit is enough for tens of thousands.
const scriptsLimit = 5 * time.Minute

// parseScripts reports what is wrong with the scripts as far as it shows
// without PostgreSQL.
func parseScripts(c *config.Config, r *report) {
	if c.Scripts == "" {
		return
	}
	r.heading("Scripts")
	scripts, err := script.Load(c.Scripts, nil)
	for _, s := range slices.SortedFunc(maps.Values(scripts), func(a, b *script.Script) int { return strings.Compare(a.Name, b.Name) }) {
		r.each(txrunner.Checked{Name: s.Name, Kind: s.Kind.String(), Cursor: s.Cursorable(), Parameters: s.Params, Foreign: s.Foreign})
	}
	r.scripts(fmt.Sprintf("%d can be parsed", len(scripts)), config.Joined(err))
	r.catchUps(c, scripts)
}

// prepareScripts reports what PostgreSQL finds wrong with the scripts too.
func prepareScripts(ctx context.Context, c *config.Config, r *report) {
	if c.Scripts == "" {
		return
	}
	r.heading("Scripts")
	ctx, cancel := context.WithTimeout(ctx, scriptsLimit)
	defer cancel()
	bar := console.StartCount(r.notes, 0, "scripts")
	scripts, faults := txrunner.CheckScripts(ctx, c.Runner(), bar.Set)
	bar.Stop()
	for _, s := range scripts {
		r.each(s)
	}
	r.scripts(fmt.Sprintf("%d, PostgreSQL takes them", len(scripts)), faults)
	parsed, _ := script.Load(c.Scripts, nil) // faults are reported above
	r.catchUps(c, parsed)
}

// catchUps reports whether the channels' catch-up scripts are there, and can be that.
func (r *report) catchUps(c *config.Config, scripts script.Scripts) {
	for _, channel := range c.ChannelNames() {
		name := c.Channels[channel].CatchUp
		if name == "" {
			continue
		}
		what := "catch_up of " + channel
		s := scripts[name]
		if s == nil {
			r.fail(what, "there is no script %s, or it does not parse", name)
			continue
		}
		if err := s.CatchesUp(); err != nil {
			r.fail(what, "script %s: %v", name, err)
			continue
		}
		r.ok(what, "%s", name)
	}
}

// each says what is made of a script.
func (r *report) each(s txrunner.Checked) {
	words := []string{s.Kind}
	if s.Cursor {
		words = append(words, "can be opened as a cursor")
	}
	if len(s.Parameters) > 0 {
		words = append(words, "parameters "+strings.Join(s.Parameters, ", "))
	}
	if len(s.Columns) > 0 {
		words = append(words, "columns "+strings.Join(s.Columns, ", "))
	}
	r.detail(s.Name, strings.Join(words, "; "))
	if s.Later > 0 {
		r.detail("", fmt.Sprintf("PostgreSQL can look at statement %d only when those before it have run", s.Later))
	}
	for _, line := range s.Foreign {
		r.detail("", "a setting of another tool is passed over: "+firstWord(line))
	}
}

// detail prints what is no check.
func (r *report) detail(what, text string) {
	fmt.Fprintln(r.out, shown(fmt.Sprintf("        %-32s %s", what, text)))
}

// firstWord is what a comment's setting is called; its value is nobody's.
func firstWord(line string) string {
	name, _, _ := strings.Cut(line, ":")
	return name
}

func (r *report) scripts(good string, faults []error) {
	if len(faults) == 0 {
		r.ok("scripts", "%s", good)
	}
	for _, fault := range faults {
		r.fail("script", "%s", firstLine(fault))
	}
}
