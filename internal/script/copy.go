package script

import "strings"

// Copy says what a COPY statement does.
type Copy struct {
	In     bool // FROM STDIN, else TO STDOUT
	Format Format
}

// Format is the format of a COPY's data.
type Format uint8

// The formats.
const (
	Text Format = iota
	CSV
	Binary
)

// String returns text, csv or binary.
func (f Format) String() string {
	switch f {
	case CSV:
		return "csv"
	case Binary:
		return "binary"
	}
	return "text"
}

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
	result := &Copy{In: c.is(i, "from"), Format: legacyFormat(c, i+2)}
	if at := formatOption(c.from(i + 2)); at > 0 {
		at += i + 2
		if c.kind(at) == parameter {
			p.fault(c.tokens[at].start, "the format of a COPY cannot be a parameter")
		}
		result.Format = parseFormat(c.text(at))
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

// legacyFormat reads COPY BINARY t … and COPY t … CSV, where i is behind STDIN.
func legacyFormat(c clause, i int) Format {
	if c.is(1, "binary") {
		return Binary
	}
	if k := c.find(i, "csv", "binary", "where"); k > 0 {
		return parseFormat(c.text(k))
	}
	return Text
}

// formatOption returns the index of the value in (…, FORMAT value, …), 0 if
// there is none. The clause begins behind STDIN.
func formatOption(c clause) int {
	i := c.skip(0, "with")
	if c.text(i) != "(" {
		return 0
	}
	i++
	at := c.find(i, "format")
	if at < 0 || at > i && c.text(at-1) != "," {
		return 0
	}
	return at + 1
}

// parseFormat leaves what is no format to PostgreSQL.
func parseFormat(value string) Format {
	switch strings.ToLower(strings.Trim(value, `'"`)) {
	case "csv":
		return CSV
	case "binary":
		return Binary
	}
	return Text
}
