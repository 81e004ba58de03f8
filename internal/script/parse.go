package script

import (
	"fmt"
	"slices"
	"strings"
)

// applyHeader makes settings and a description of the header.
func (p *parser) applyHeader() {
	var description []string
	seen := map[string]bool{}
	p.mark = p.top()
	for _, line := range p.header.lines {
		name, value, ok := line.setting()
		if line.foreign() {
			p.script.Foreign = append(p.script.Foreign, line.text)
			continue
		}
		if !ok {
			description = append(description, line.text)
		} else if len(p.faults) < maxFaults {
			p.applySetting(line, name, value, seen[name])
			seen[name] = true
		}
	}
	p.script.Description = paragraphs(description)
}

func (p *parser) applySetting(line headerLine, name, value string, again bool) {
	p.mark = p.mark.to(p.script.source, line.start)
	err := p.script.Settings.set(name, value)
	switch {
	case err != nil:
	case again:
		err = fmt.Errorf("it is set twice")
	case name == "bucket" && p.faults == nil && p.script.Kind == Run:
		err = fmt.Errorf("only a COPY uses a bucket")
	}
	if err != nil {
		p.fault(line.start, name+": "+err.Error())
	}
}

// paragraphs joins lines, with at most one empty one between two others.
func paragraphs(lines []string) string {
	lines = slices.CompactFunc(lines, func(a, b string) bool { return a == "" && b == "" })
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// Parse reads the text of a file. The name is the script's, the file appears
// in messages. The error is of type Errors and holds all faults.
func Parse(name, file string, source []byte) (*Script, error) {
	p := parser{script: &Script{Name: name, File: file, source: string(source)}, settings: true}
	return p.parse()
}

// ParseSQL reads SQL that came in a request. It has no settings: comments are
// only comments. The error is of type Errors and holds all faults.
func ParseSQL(source string) (*Script, error) {
	p := parser{script: &Script{source: source}, request: true}
	return p.parse()
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
		if p.request && len(p.script.Statements) > maxStatements {
			p.fault(at, fmt.Sprintf("there are more than %d statements", maxStatements))
			return
		}
		if len(p.faults) >= maxFaults {
			p.fault(at, "there are more faults")
			return
		}
	}
	p.endStatement()
}

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
	s := Statement{Text: o.text, Line: p.mark.line, Cursorable: reads(c), MakesNulls: makesNulls(c)}
	s.Params, o.holes = parameters(c, begin)
	s.Glued = glued(c)
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

// glued returns the operators that end in @ with the names right behind them.
func glued(c clause) (all []string) {
	for i := range c.tokens {
		if c.kind(i) == operator && strings.HasSuffix(c.text(i), "@") && c.kind(i+1) == word && c.tokens[i].end == c.tokens[i+1].start {
			all = append(all, c.text(i)+c.text(i+1))
		}
	}
	return all
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
