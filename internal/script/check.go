package script

const (
	oneTransaction = "a script is one transaction; of transaction control only SAVEPOINT, RELEASE and ROLLBACK TO are allowed"
	modes          = "the modes of a transaction are set by the settings isolation, read_only and deferrable"
	sessionState   = "it outlives the transaction on a connection that others use"
	notInside      = "PostgreSQL cannot run it in a transaction"
)

// check refuses what no script may hold.
func (p *parser) check(c clause) {
	first := c.tokens[0].start
	if reason := p.refusal(c); reason != "" {
		p.fault(first, reason)
	}
	if p.nest.holds() {
		open := p.nest.open
		p.fault(c.tokens[open].start, "what begins here with "+c.text(open)+" has no end")
	}
	if createsRoutine(c) {
		p.checkKind(c, parameter, "a routine takes no parameters of the script; as an operator @ needs a space behind it")
		return
	}
	p.checkKind(c, position, "parameters are written @name")
	if !takesParameters(c) {
		p.checkKind(c, parameter, "PostgreSQL takes no parameters in this statement"+substitute(c))
	}
}

// checkKind notes a fault at the first token of that kind.
func (p *parser) checkKind(c clause, k kind, msg string) {
	for _, t := range c.tokens {
		if t.kind == k {
			p.fault(t.start, msg)
			return
		}
	}
}

// refusal returns why a script may not hold the statement, or "".
func (p *parser) refusal(c clause) string {
	switch {
	case isTransactionControl(c):
		return oneTransaction
	case setsModes(c):
		return modes
	case isSessionSet(c):
		return "a setting that is not LOCAL: " + sessionState + "; use SET LOCAL"
	case c.oneOf(0, "reset", "discard", "load") != "":
		return upper(c) + ": " + sessionState
	case c.oneOf(0, "listen", "unlisten") != "":
		return upper(c) + ": " + sessionState + "; notifications have their own connection"
	case c.oneOf(0, "prepare", "deallocate", "execute") != "":
		return upper(c) + ": prepared statements outlive the transaction; scripts are prepared anyway"
	case isHeldCursor(c):
		return "a cursor WITH HOLD: " + sessionState
	case runsOutside(c):
		return notInside
	}
	return ""
}

func upper(c clause) string {
	text := []byte(c.text(0))
	for i, b := range text {
		if 'a' <= b && b <= 'z' {
			text[i] -= 'a' - 'A'
		}
	}
	return string(text)
}

func isTransactionControl(c clause) bool {
	switch c.oneOf(0, "begin", "start", "commit", "end", "abort", "rollback", "prepare") {
	case "":
		return false
	case "rollback":
		return !c.is(c.skip(1, "work", "transaction"), "to")
	case "prepare":
		// A statement may be named transaction, but only with what follows.
		return c.is(1, "transaction") && c.kind(2) == literal
	}
	return true
}

func setsModes(c clause) bool {
	i := c.skip(1, "session", "local")
	if !c.is(0, "set") {
		return false
	}
	return c.oneOf(i, "transaction", "characteristics") != "" || c.has(i, "session", "characteristics")
}

func isSessionSet(c clause) bool {
	return c.is(0, "set") && c.oneOf(1, "local", "constraints") == ""
}

func isHeldCursor(c clause) bool {
	if !c.is(0, "declare") {
		return false
	}
	i := c.find(2, "cursor")
	return i > 0 && c.has(i+1, "with", "hold")
}

// runsOutside reports the statements that PostgreSQL refuses in a transaction
// and that their first words tell.
func runsOutside(c clause) bool {
	switch c.oneOf(0, "vacuum", "create", "drop", "alter", "reindex") {
	case "vacuum":
		return true
	case "create", "drop":
		if c.oneOf(1, "database", "tablespace") != "" {
			return true
		}
		i := c.skip(1, "unique")
		return c.has(i, "index", "concurrently")
	case "alter":
		return c.is(1, "system")
	case "reindex":
		i := c.skipGroup(1)
		return c.oneOf(i, "database", "system", "schema") != "" || c.is(i+1, "concurrently")
	}
	return false
}

// takesParameters reports whether the extended protocol has parameters for the
// statement. For a COPY its caller writes literals.
func takesParameters(c clause) bool {
	switch c.oneOf(0, "select", "insert", "update", "delete", "merge", "values", "table", "with",
		"explain", "declare", "call", "copy", "create") {
	case "":
		return c.text(0) == "("
	case "create": // … TABLE … AS
		i := c.find(1, "table")
		return 0 < i && i <= 3 && c.find(i, "as") > 0
	}
	return true
}

// substitute names what to use where there are no parameters.
func substitute(c clause) string {
	switch c.oneOf(0, "notify", "set") {
	case "notify":
		return "; use pg_notify(channel, payload)"
	case "set":
		return "; use set_config(name, value, true)"
	}
	return ""
}
