package execution

import (
	"strings"

	"github.com/pgbridge/pgbridge/internal/script"
)

// Modes are the modes of a transaction. The zero value of a field means the
// session's default.
type Modes struct {
	Isolation  script.Isolation
	ReadOnly   *bool
	Deferrable *bool
}

// ModesOf returns the modes that a script asks for.
func ModesOf(s script.Settings) Modes {
	return Modes{Isolation: s.Isolation, ReadOnly: s.ReadOnly, Deferrable: s.Deferrable}
}

// Begin returns the statement that opens such a transaction.
func (m Modes) Begin() string {
	sql := "BEGIN"
	if m.Isolation != "" {
		sql += " ISOLATION LEVEL " + strings.ToUpper(string(m.Isolation))
	}
	sql += word(m.ReadOnly, " READ ONLY", " READ WRITE")
	return sql + word(m.Deferrable, " DEFERRABLE", " NOT DEFERRABLE")
}

func word(choice *bool, yes, no string) string {
	switch {
	case choice == nil:
		return ""
	case *choice:
		return yes
	}
	return no
}
