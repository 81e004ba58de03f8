package script

import (
	"strings"
	"unicode/utf8"
)

const (
	byteOrderMark = "\ufeff" // psql skips it too
	maxFaults     = 100      // in one text; a request can hold a million
	maxParams     = 65535    // of a statement in PostgreSQL's protocol
	maxStatements = 1000     // of a request: a script's author is trusted
)

// parser makes one script. It gathers the tokens of a statement until a
// semicolon that nothing holds, and makes the statement of them.
type parser struct {
	script   *Script
	settings bool // whether comments before the first statement are read
	request  bool // it is what a request has brought
	faults   Errors

	header header
	mark   mark    // where the last statement begins
	hint   int     // where a hint before the statement begins, else -1
	tokens []token // of the statement, without space and comments
	nest   nesting
}

// top returns the mark of the text's first character.
func (p *parser) top() mark {
	source := p.script.source
	return mark{len(source) - len(strings.TrimPrefix(source, byteOrderMark)), 1, 1}
}

// readable finds what PostgreSQL could not take at all.
func (p *parser) readable() bool {
	source := p.script.source
	p.mark = p.top()
	if i := strings.IndexByte(source, 0); i >= 0 {
		p.fault(i, "a zero byte, which PostgreSQL's text cannot hold")
	} else if !utf8.ValidString(source) {
		p.fault(invalidUTF8(source), "the text is not UTF-8")
	}
	return p.faults == nil
}

func invalidUTF8(s string) int {
	at := 0
	for at < len(s) {
		r, size := utf8.DecodeRuneInString(s[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

func (p *parser) text(t token) string { return p.script.source[t.start:t.end] }

func (p *parser) clause() clause { return clause{p.script.source, p.tokens} }

// fault notes a fault at an offset of the source, which is not before the last
// statement's begin.
func (p *parser) fault(offset int, msg string) {
	at := p.mark.to(p.script.source, offset)
	p.faults = append(p.faults, &Error{File: p.script.File, Line: at.line, Column: at.column, Msg: msg})
}
