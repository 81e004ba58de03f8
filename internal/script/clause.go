package script

// clause is a run of tokens, without space and comments.
type clause struct {
	source string
	tokens []token
}

func (c clause) from(i int) clause {
	return clause{c.source, c.tokens[min(i, len(c.tokens)):]}
}

// text returns the bytes of a token, nothing beyond the end.
func (c clause) text(i int) string {
	if i >= len(c.tokens) {
		return ""
	}
	return c.source[c.tokens[i].start:c.tokens[i].end]
}

func (c clause) kind(i int) kind {
	if i >= len(c.tokens) {
		return space
	}
	return c.tokens[i].kind
}

// is reports whether token i is that keyword. What follows a dot is a name.
func (c clause) is(i int, keyword string) bool {
	return c.kind(i) == word && sameWord(c.text(i), keyword) && (i == 0 || c.text(i-1) != ".")
}

// oneOf returns which of the keywords token i is, or "".
func (c clause) oneOf(i int, keywords ...string) string {
	for _, keyword := range keywords {
		if c.is(i, keyword) {
			return keyword
		}
	}
	return ""
}

// has reports whether the keywords stand at i and behind it.
func (c clause) has(i int, keywords ...string) bool {
	for k, keyword := range keywords {
		if !c.is(i+k, keyword) {
			return false
		}
	}
	return true
}

// skip returns i, or the index behind it where token i is one of the keywords.
func (c clause) skip(i int, keywords ...string) int {
	if c.oneOf(i, keywords...) != "" {
		return i + 1
	}
	return i
}

// skipGroup returns the index behind the parenthesis that closes the one at i,
// or i if there is none.
func (c clause) skipGroup(i int) int {
	depth := 0
	for k := i; k < len(c.tokens); k++ {
		switch c.text(k) {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth <= 0 {
			if k == i {
				return i
			}
			return k + 1
		}
	}
	return len(c.tokens)
}

// find returns the index of the first of the keywords at or behind i, outside
// of parentheses and before the end of those around i; -1 if there is none.
func (c clause) find(i int, keywords ...string) int {
	for i < len(c.tokens) && c.text(i) != ")" {
		if next := c.skipGroup(i); next > i {
			i = next
			continue
		}
		if c.oneOf(i, keywords...) != "" {
			return i
		}
		i++
	}
	return -1
}

// sameWord compares a word with a lower-case keyword. As for PostgreSQL only
// ASCII has case.
func sameWord(text, keyword string) bool {
	if len(text) != len(keyword) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != keyword[i] {
			return false
		}
	}
	return true
}

// nesting knows whether a semicolon ends the statement: not within parentheses
// (CREATE RULE … DO (a; b)) nor within the body of a function:
//
//	CREATE FUNCTION … BEGIN ATOMIC a; b; END
type nesting struct {
	parens int
	bodies int
	open   int // index of the token that opened the outermost
	begin  int // index of the first token of the innermost statement
}

func (n *nesting) holds() bool { return n.parens > 0 || n.bodies > 0 }

// follow takes the last token of the clause into account.
func (n *nesting) follow(c clause) {
	last := len(c.tokens) - 1
	switch text := c.text(last); {
	case text == "(":
		n.enter(last)
		n.parens++
	case text == ")":
		n.parens = max(0, n.parens-1)
	case n.parens > 0:
	case text == ";":
		n.begin = last + 1
	case n.beginsBody(c, last):
		n.enter(last - 1)
		n.bodies++
		n.begin = last + 1
	case n.bodies > 0 && last == n.begin && c.is(last, "end"):
		// Where a statement could begin: elsewhere END ends a CASE or is a name.
		n.bodies--
	}
}

func (n *nesting) enter(i int) {
	if !n.holds() {
		n.open = i
	}
}

func (n *nesting) beginsBody(c clause, last int) bool {
	return c.is(last, "atomic") && last > n.begin && c.is(last-1, "begin") && createsRoutine(c.from(n.begin))
}

// createsRoutine reports whether the clause begins with CREATE FUNCTION or
// CREATE PROCEDURE.
func createsRoutine(c clause) bool {
	if !c.is(0, "create") {
		return false
	}
	i := 1
	if c.has(i, "or", "replace") {
		i += 2
	}
	return c.oneOf(i, "function", "procedure") != ""
}
