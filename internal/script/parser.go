package script

import (
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	byteOrderMark = "\ufeff" // psql skips it too
	maxFaults     = 100      // in one text; a request can hold a million
	maxParams     = 65535    // of a statement in PostgreSQL's protocol
)

// parser makes one script. It gathers the tokens of a statement until a
// semicolon that nothing holds, and makes the statement of them.
type parser struct {
	script   *Script
	settings bool // whether comments before the first statement are read
	faults   Errors

	header header
	mark   mark    // where the last statement begins
	hint   int     // where a hint before the statement begins, else -1
	tokens []token // of the statement, without space and comments
	nest   nesting
}

func (p *parser) parse() (*Script, error) {
	if p.readable() {
		p.split()
	}
	if p.settings {
		p.applyHeader()
	}
	if p.faults == nil && len(p.script.Statements) == 0 {
		p.faults = Errors{{File: p.script.File, Msg: "there is no statement"}}
	}
	if p.faults != nil {
		p.faults.sort()
		return nil, p.faults
	}
	p.script.Params = p.allParams()
	return p.script, nil
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

// split walks over the text. It stops early where it cannot know what follows.
func (p *parser) split() {
	p.hint = -1
	for at := p.mark.offset; at < len(p.script.source); {
		t := lex(p.script.source, at)
		at = t.end
		if t.kind == unfinished {
			p.fault(t.start, "a comment, literal or quoted name begins here and has no end")
			return
		}
		if p.text(t) == `\` {
			p.fault(t.start, "a command of psql, which a script cannot hold; nor can it hold the data of a COPY")
			return
		}
		p.take(t)
		if len(p.faults) >= maxFaults {
			p.fault(at, "there are more faults")
			return
		}
	}
	p.endStatement()
}

func (p *parser) text(t token) string { return p.script.source[t.start:t.end] }

func (p *parser) take(t token) {
	switch {
	case t.kind <= blockComment:
		p.comment(t)
	case p.text(t) == ";" && !p.nest.holds():
		p.endStatement()
	default:
		p.tokens = append(p.tokens, t)
		p.nest.follow(p.clause())
	}
}

// comment takes space too. Those within a statement are a part of its text, and
// so is a hint for the planner before it.
func (p *parser) comment(t token) {
	if len(p.tokens) > 0 {
		return
	}
	if strings.HasPrefix(p.text(t), "/*+") && p.hint < 0 {
		p.hint = t.start
	}
	if p.settings && len(p.script.Statements) == 0 {
		p.header.add(p.text(t), t)
	}
}

func (p *parser) clause() clause { return clause{p.script.source, p.tokens} }

// endStatement makes a statement of the tokens, if there are any.
func (p *parser) endStatement() {
	if len(p.tokens) > 0 {
		p.script.Statements = append(p.script.Statements, p.statement())
	}
	p.tokens, p.nest, p.hint = p.tokens[:0], nesting{}, -1
}

func (p *parser) statement() Statement {
	source, c := p.script.source, p.clause()
	begin, end := p.tokens[0].start, p.tokens[len(p.tokens)-1].end
	if p.hint >= 0 {
		begin = p.hint
	}
	p.mark = p.mark.to(source, begin)
	o := &origin{text: source[begin:end], begin: p.mark}
	s := Statement{Text: o.text, Line: p.mark.line, Cursorable: reads(c)}
	s.Params, o.holes = parameters(c, begin)
	s.Query = o.rewrite(o.numbered)
	if len(s.Params) > maxParams {
		p.fault(begin, "more parameters than PostgreSQL takes")
	}
	p.check(c)
	if c.is(0, "copy") {
		s.Query = o.rewrite(o.asWritten)
		s.Copy = p.copy(c)
	}
	return s
}

// parameters returns the names in the order of their first use, and where they
// are in the text that begins at the offset.
func parameters(c clause, begin int) (names []string, holes []hole) {
	var index map[string]int
	for _, t := range c.tokens {
		if t.kind != parameter {
			continue
		}
		name := c.source[t.start+1 : t.end]
		i, known := index[name]
		if !known {
			if index == nil {
				index = map[string]int{}
			}
			i = len(names)
			index[name], names = i, append(names, name)
		}
		holes = append(holes, hole{t.start - begin, t.end - begin, i})
	}
	return names, holes
}

// allParams returns the parameters of all statements, each once.
func (p *parser) allParams() []string {
	statements := p.script.Statements
	if len(statements) == 1 {
		return statements[0].Params
	}
	var names []string
	seen := map[string]bool{}
	for i := range statements {
		for _, name := range statements[i].Params {
			if !seen[name] {
				seen[name], names = true, append(names, name)
			}
		}
	}
	return slices.Clip(names)
}

// fault notes a fault at an offset of the source, which is not before the last
// statement's begin.
func (p *parser) fault(offset int, msg string) {
	at := p.mark.to(p.script.source, offset)
	p.faults = append(p.faults, &Error{File: p.script.File, Line: at.line, Column: at.column, Msg: msg})
}
