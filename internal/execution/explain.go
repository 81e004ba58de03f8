package execution

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/spelling"
)

var (
	numbered = regexp.MustCompile(`\$(\d+)\b`)
	// inPortal begins the context that PostgreSQL adds when it cannot read the value
	// of a parameter: unnamed portal parameter $1.
	inPortal = regexp.MustCompile(`(?i)^[^'"$\n]*\bporta[^'"$\n]*\$(\d+)\b`)
)

// Explain puts what PostgreSQL says of a script's statement in the words of who
// wrote it: parameters have names and no numbers, and what is often done wrong comes
// with advice.
func Explain(e *service.Error, s *script.Statement) {
	direct := e.Where == "" // and not from within a function, which has its own $1
	e.Where = inPortal.ReplaceAllStringFunc(e.Where, func(begin string) string {
		return "parameter " + named(s, numbered.FindString(begin))
	})
	switch e.SQLState {
	case "42P18", "42P08", "42P02": // indeterminate, ambiguous and undefined parameter
		if !direct {
			return
		}
		parameter := named(s, numbered.FindString(e.Message))
		name := func(number string) string { return named(s, number) }
		e.Message, e.Detail = numbered.ReplaceAllStringFunc(e.Message, name), numbered.ReplaceAllStringFunc(e.Detail, name)
		if e.SQLState != "42P02" && strings.HasPrefix(parameter, "@") {
			advise(e, fmt.Sprintf("A cast settles the type, as in CAST(%s AS text).", parameter))
		}
	case "42883", "42703", "42601", "42725": // undefined function or column, syntax, ambiguous function
		for _, glued := range s.Glued {
			operator, name, _ := strings.Cut(glued, "@")
			if strings.Contains(e.Message, operator+"@") || strings.Contains(e.Message, `"`+name+`"`) {
				advise(e, glueAdvice(glued))
				return
			}
		}
	}
}

// named returns the name of a parameter for its number, and the number if there is
// none.
func named(s *script.Statement, number string) string {
	n, err := strconv.Atoi(strings.TrimPrefix(number, "$"))
	if err != nil || n < 1 || n > len(s.Params) {
		return number
	}
	return "@" + s.Params[n-1]
}

func advise(e *service.Error, text string) { e.Hint = strings.TrimLeft(e.Hint+" "+text, " ") }

func glueAdvice(glued string) string {
	operator, name, _ := strings.Cut(glued, "@")
	return fmt.Sprintf("PostgreSQL reads the @ of %s as a part of the operator; with a space before it, %s @%s, it is a parameter.", glued, operator, name)
}

// misspelt returns the advice for a parameter that the script does not have: its @
// became a part of an operator, or another one was meant; empty where there is none.
func (p *Program) misspelt(name string) string {
	for i := range p.Script.Statements {
		for _, glued := range p.Script.Statements[i].Glued {
			if strings.HasSuffix(glued, "@"+name) {
				return ". " + glueAdvice(glued)
			}
		}
	}
	if meant, found := spelling.Meant(name, p.Script.Params); found {
		return fmt.Sprintf("; is %q meant?", meant)
	}
	return ""
}
