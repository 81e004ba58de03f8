package script

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is what a token is. Only what splitting needs is told apart.
type kind uint8

const (
	space        kind = iota
	lineComment       // -- to the end of the line
	blockComment      // nested
	word              // an identifier or keyword without quotes
	quotedName        // "…" U&"…"
	literal           // '…' E'…' U&'…' B'…' X'…' N'…' $tag$…$tag$
	number            // a run of digits
	parameter         // @name
	position          // $1
	operator
	punctuation // any other single byte
	unfinished  // a comment, literal or name that the end of the text cuts off
)

// token is the bytes from start to end of a text.
type token struct {
	kind       kind
	start, end int
}

// lex returns the token at the offset, which is within the text. It follows
// the rules of PostgreSQL's own scanner:
// https://github.com/postgres/postgres/blob/master/src/backend/parser/scan.l
func lex(source string, at int) token {
	c, rest := source[at], source[at:]
	switch {
	case isSpace(c):
		return token{space, at, at + run(rest, isSpace)}
	case strings.HasPrefix(rest, "--"):
		return token{lineComment, at, at + lineLength(rest)}
	case strings.HasPrefix(rest, "/*"):
		return closed(blockComment, at, skipComment(source, at+2))
	case c == '\'':
		return closed(literal, at, skipQuoted(source, at+1, c))
	case c == '"':
		return closed(quotedName, at, skipQuoted(source, at+1, c))
	case c == '$':
		return lexDollar(source, at)
	case isNameStart(c):
		return lexWord(source, at)
	case isDigit(c):
		return token{number, at, at + run(rest, isDigit)}
	case isOperator(c):
		return lexOperator(source, at)
	}
	return token{punctuation, at, at + 1}
}

// closed makes a token of what ends at end, which is -1 if nothing does.
func closed(k kind, start, end int) token {
	if end < 0 {
		return token{kind: unfinished, start: start, end: start}
	}
	return token{k, start, end}
}

// lexWord also takes the literals and names that begin with a letter.
func lexWord(source string, at int) token {
	rest := source[at:]
	end := at + run(rest, isNamePart)
	if len(rest) > 2 && (rest[0]|0x20) == 'u' && rest[1] == '&' {
		switch rest[2] {
		case '\'':
			return closed(literal, at, skipQuoted(source, at+3, '\''))
		case '"':
			return closed(quotedName, at, skipQuoted(source, at+3, '"'))
		}
	}
	if end == at+1 && end < len(source) && source[end] == '\'' {
		switch rest[0] | 0x20 {
		case 'e':
			return closed(literal, at, skipEscaped(source, end+1))
		case 'b', 'x', 'n':
			return closed(literal, at, skipQuoted(source, end+1, '\''))
		}
	}
	return token{word, at, end}
}

// lexDollar takes $1, $$…$$ and $tag$…$tag$. A $ that begins none of them
// stands alone.
func lexDollar(source string, at int) token {
	rest := source[at+1:]
	if n := run(rest, isDigit); n > 0 {
		return token{position, at, at + 1 + n}
	}
	tag := 0
	if rest != "" && isNameStart(rest[0]) {
		tag = run(rest, isTagPart)
	}
	if !strings.HasPrefix(rest[tag:], "$") {
		return token{punctuation, at, at + 1}
	}
	delimiter := source[at : at+tag+2]
	body := at + len(delimiter)
	length := strings.Index(source[body:], delimiter)
	if length < 0 {
		return closed(literal, at, -1)
	}
	return token{literal, at, body + length + len(delimiter)}
}

// lexOperator takes all operator characters up to a comment: an @ among them
// is PostgreSQL's, an @ alone before a letter is a parameter. (PostgreSQL cuts
// some signs off the end, which makes no difference here.)
func lexOperator(source string, at int) token {
	end := at + 1
	for end < len(source) && isOperator(source[end]) && !isComment(source[end:]) {
		end++
	}
	if source[at:end] == "@" && isParameterStart(source[end:]) {
		return token{parameter, at, end + run(source[end:], isNamePart)}
	}
	return token{operator, at, end}
}

func isComment(rest string) bool {
	return strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*")
}

// isParameterStart reports whether a letter or underscore is next. Beyond
// ASCII PostgreSQL takes any character for a part of a name.
func isParameterStart(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return r == '_' || unicode.IsLetter(r)
}

// skipQuoted returns the end of what a quote opened before the offset, in
// which two quotes stand for one; -1 if it has no end.
func skipQuoted(source string, at int, quote byte) int {
	for {
		i := strings.IndexByte(source[at:], quote)
		if i < 0 {
			return -1
		}
		at += i + 1
		if at == len(source) || source[at] != quote {
			return at
		}
		at++
	}
}

// skipEscaped is skipQuoted for E'…'. Its escapes still hold where the literal
// goes on after a line break: E'a'⏎'b\'c'.
func skipEscaped(source string, at int) int {
	for at < len(source) {
		switch source[at] {
		case '\\':
			at += 2
			continue
		case '\'':
			next := continuation(source, at+1)
			if next < 0 {
				return at + 1
			}
			at = next
			continue
		}
		at++
	}
	return -1
}

// continuation returns where a literal goes on whose quote was closed before
// the offset: after another quote, or after space and comments that hold a
// line break and a quote. It returns -1 where the literal ends.
func continuation(source string, at int) int {
	begin, newLine := at, false
	for at < len(source) {
		c := source[at]
		switch {
		case c == '\'' && (newLine || at == begin):
			return at + 1
		case isSpace(c):
			newLine = newLine || c == '\n' || c == '\r'
			at++
		case strings.HasPrefix(source[at:], "--"):
			at += lineLength(source[at:])
		default:
			return -1
		}
	}
	return -1
}

// skipComment returns the end of the block comment that was opened before the
// offset, -1 if it has none.
func skipComment(source string, at int) int {
	for depth := 1; at < len(source); {
		switch {
		case strings.HasPrefix(source[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(source[at:], "*/"):
			depth--
			at += 2
			if depth == 0 {
				return at
			}
		default:
			at++
		}
	}
	return -1
}

// run returns how many bytes at the start of s satisfy is.
func run(s string, is func(byte) bool) int {
	for i := range len(s) {
		if !is(s[i]) {
			return i
		}
	}
	return len(s)
}

func lineLength(s string) int {
	if i := strings.IndexAny(s, "\n\r"); i >= 0 {
		return i
	}
	return len(s)
}

// isSpace includes the vertical tab, as PostgreSQL does since 16.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

func isTagPart(c byte) bool { return isNameStart(c) || isDigit(c) }

func isNamePart(c byte) bool { return isTagPart(c) || c == '$' }

func isOperator(c byte) bool { return strings.IndexByte("~!@#^&|`?+-*/%<>=", c) >= 0 }
