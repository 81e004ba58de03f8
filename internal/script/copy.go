package script

import "strings"

// copy reads a COPY statement and refuses those that do not copy from or to
// the client.
func (p *parser) copy(c clause) *Copy {
	i := c.find(1, "from", "to")
	if i < 0 {
		p.fault(c.tokens[0].start, "a COPY is COPY … FROM STDIN or COPY … TO STDOUT")
		return nil
	}
	// To PostgreSQL STDIN and STDOUT are the same word.
	if c.oneOf(i+1, "stdin", "stdout") == "" {
		p.fault(c.tokens[i].start, "a COPY is FROM STDIN or TO STDOUT; files and programs are not for scripts")
		return nil
	}
	result := &Copy{In: c.is(i, "from"), Options: p.copyOptions(c.from(i + 2))}
	format, given := result.Options["format"]
	switch {
	case given:
		result.Format = parseFormat(strings.Trim(format.Literal, "'"))
	case c.is(1, "binary"):
		result.Format = Binary
	}
	p.setKind(c, result)
	return result
}

func (p *parser) setKind(c clause, found *Copy) {
	switch {
	case p.script.Kind != Run:
		p.fault(c.tokens[0].start, "a second COPY; a script holds one at most")
	case found.In:
		p.script.Kind = CopyIn
	default:
		p.script.Kind = CopyOut
	}
}

// copyOptions reads (FORMAT csv, QUOTE '|') or, as before PostgreSQL 9.0, CSV
// QUOTE AS '|', whose CSV and BINARY it takes for a FORMAT. The clause begins
// behind STDIN.
func (p *parser) copyOptions(c clause) map[string]Option {
	options := make(map[string]Option)
	i := c.skip(0, "with")
	if c.text(i) == "(" {
		p.listedOptions(c.from(i+1), options)
		return options
	}
	for ; i < len(c.tokens) && !c.is(i, "where"); i++ {
		switch keyword := c.oneOf(i, "csv", "binary", "force", "quote", "escape", "encoding"); keyword {
		case "":
		case "csv", "binary":
			options["format"] = Option{Literal: "'" + keyword + "'"}
		case "force":
			i = skipColumns(c, i+1)
		default:
			i = c.skip(i+1, "as")
			p.addOption(options, keyword, c, i)
		}
	}
	return options
}

// skipColumns returns the index of the last token of what follows FORCE: QUOTE,
// NOT NULL or NULL, and columns, whose names can be keywords.
func skipColumns(c clause, i int) int {
	i = c.skip(i, "not")
	i = c.skip(i, "quote", "null")
	for c.text(i+1) == "," {
		i += 2
	}
	return i
}

// listedOptions reads the options up to the parenthesis that closes their list.
func (p *parser) listedOptions(c clause, options map[string]Option) {
	for i := 0; i < len(c.tokens) && c.text(i) != ")"; {
		name := c.text(i)
		if c.kind(i) == quotedName {
			name = strings.Trim(name, `"`)
		} else {
			name = lowerASCII(name)
		}
		p.addOption(options, name, c, i+1)
		for i < len(c.tokens) && c.text(i) != "," && c.text(i) != ")" {
			i = max(i+1, c.skipGroup(i))
		}
		if c.text(i) == "," {
			i++
		}
	}
}

// addOption keeps the value at i, if it is one word.
func (p *parser) addOption(options map[string]Option, name string, c clause, i int) {
	switch text := c.text(i); c.kind(i) {
	case literal:
		options[name] = Option{Literal: text}
	case word:
		options[name] = Option{Literal: "'" + lowerASCII(text) + "'"}
	case quotedName:
		options[name] = Option{Literal: literalOf(text)}
	case parameter:
		options[name] = Option{Param: text[1:]}
	}
	switch format := options[name]; {
	case name != "format":
	case format.Param != "":
		p.fault(c.tokens[i].start, "the format of a COPY cannot be a parameter")
	case format.Literal != "" && format.Literal[0] != '\'':
		p.fault(c.tokens[i].start, "the format of a COPY has to be a plain word")
	}
}

// literalOf makes a literal of a quoted name with the same text.
func literalOf(name string) string {
	prefix, quoted, _ := strings.Cut(name, `"`)
	text := strings.ReplaceAll(strings.TrimSuffix(quoted, `"`), `""`, `"`)
	return prefix + "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// lowerASCII is what PostgreSQL makes of a word without quotes.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r | 0x20
		}
		return r
	}, s)
}

// parseFormat leaves what is no format to PostgreSQL.
func parseFormat(value string) Format {
	switch value {
	case "csv":
		return CSV
	case "binary":
		return Binary
	}
	return Text
}
