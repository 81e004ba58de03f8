package shell

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

const (
	keyTab = '\t'
	// askLimit is how long a person waits for a completion.
	askLimit = time.Second
)

// Complete completes words at a terminal: verbs, and the scripts and their parameters,
// for which pgbridge is asked. What cannot be completed stays as it is; where several
// words are meant they are shown.
func Complete(ctx context.Context, c *client.Client, show func(words []string)) func(line string, pos int, key rune) (string, int, bool) {
	var scripts []string
	return func(line string, pos int, key rune) (string, int, bool) {
		if key != keyTab {
			return "", 0, false
		}
		ctx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		if scripts == nil {
			scripts = names(ctx, c)
		}
		before := line[:pos]
		start := strings.LastIndexByte(before, ' ') + 1
		done := strings.Fields(before[:start])
		meant := beginning(candidates(ctx, c, scripts, done), before[start:])
		completed := common(meant, before[start:])
		if len(meant) == 1 && pos == len(line) && !strings.HasSuffix(completed, "=") {
			completed += " "
		}
		if len(meant) > 1 && completed == before[start:] {
			show(meant)
		}
		return before[:start] + completed + line[pos:], start + len(completed), true
	}
}

func names(ctx context.Context, c *client.Client) []string {
	all := []string{}
	scripts, err := c.Scripts(ctx)
	if err != nil {
		return all
	}
	for _, s := range scripts {
		all = append(all, s.Name)
	}
	return all
}

// candidates are what may come behind the words of a line.
func candidates(ctx context.Context, c *client.Client, scripts, done []string) []string {
	if len(done) > 0 && (done[0] == "run" || done[0] == "cursor") {
		done = done[1:]
		if len(done) == 0 {
			return scripts
		}
	}
	if len(done) == 0 {
		return append(Verbs(), scripts...)
	}
	if !slices.Contains(scripts, done[0]) {
		return nil
	}
	d, err := c.Describe(ctx, done[0])
	if err != nil {
		return nil
	}
	var all []string
	for _, p := range d.Parameters {
		all = append(all, p.Name+"=")
	}
	return all
}

// beginning are those of the words that begin as one does, in order, and hold nothing
// that the terminal would obey or that would make several words of one: whoever answers
// in pgbridge's stead chooses them.
func beginning(words []string, as string) (all []string) {
	for _, w := range words {
		if strings.HasPrefix(w, as) && console.Printable(w) == w && !strings.ContainsAny(w, " '\"\\") {
			all = append(all, w)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// common is what sorted words begin with, or else the word itself.
func common(sorted []string, word string) string {
	if len(sorted) == 0 {
		return word
	}
	first, last := sorted[0], sorted[len(sorted)-1]
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return first[:n]
}
