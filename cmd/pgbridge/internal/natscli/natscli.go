// Package natscli finds the contexts that the nats tool keeps: which server to talk
// to, and who to be there. The commands for people use them as that tool does.
package natscli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/pgbridge/pgbridge/internal/natsconn"
)

// Contexts are those in a user's folder.
type Contexts struct{ folder string } // empty: there is none

// At returns the contexts of the user whom an environment belongs to.
func At(getenv func(string) string) Contexts {
	folder, home := getenv("XDG_CONFIG_HOME"), getenv("HOME")
	switch {
	case folder != "":
		return Contexts{filepath.Join(folder, "nats")}
	case home != "":
		return Contexts{filepath.Join(home, ".config", "nats")}
	}
	return Contexts{}
}

// Context is one of them. The zero value is none.
type Context struct{ name, file string }

// Exists reports whether it is one.
func (c Context) Exists() bool { return c.file != "" }

// Named is the context with a name, or in a file that is named by its whole path.
// It is none where no name is given.
func (c Contexts) Named(name string) Context {
	if name == "" || filepath.IsAbs(name) {
		return Context{name, name}
	}
	return Context{name, filepath.Join(c.folder, "context", name+".json")}
}

// Selected is the context that the nats tool would use; none, if none is selected.
func (c Contexts) Selected() Context {
	if c.folder == "" {
		return Context{}
	}
	name, err := os.ReadFile(filepath.Join(c.folder, "context.txt"))
	if err != nil {
		return Context{}
	}
	return c.Named(strings.TrimSpace(string(name)))
}

// Connect opens a connection as the context says, with its JetStream.
func (c Context) Connect(opts ...nats.Option) (*nats.Conn, jetstream.JetStream, error) {
	nc, settings, err := natscontext.Connect(c.file, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS with the context %s: %w", c.name, err)
	}
	js, err := natsconn.Settings{JSDomain: settings.JSDomain, JSPrefix: settings.JSAPIPrefix}.JetStream(nc)
	return nc, js, err
}
