package script

const maxNesting = 100 // of WITH in WITH: following it takes time by its depth

// reads reports whether DECLARE accepts the statement as a cursor's query:
// a SELECT, VALUES or TABLE, in parentheses or behind WITH, that writes
// nothing.
func reads(c clause) bool { return readsAt(c, 0) }

func readsAt(c clause, depth int) bool {
	for c.text(0) == "(" {
		c = c.from(1)
	}
	switch c.oneOf(0, "select", "values", "table", "with") {
	case "values", "table":
		return true
	case "select":
		into := c.find(1, "into")
		return into < 0 || c.is(into-1, "as") // a column's name
	case "with":
		return depth < maxNesting && withReads(c, depth+1)
	}
	return false
}

// withReads goes through WITH name (columns) AS (query), …
func withReads(c clause, depth int) bool {
	i := c.skip(1, "recursive")
	for {
		i = c.skipGroup(i + 1) // the name and its columns
		i = c.skip(c.skip(c.skip(i, "as"), "not"), "materialized")
		end := c.skipGroup(i)
		if end == i || !readsAt(c.from(i), depth) {
			return false
		}
		i = c.skipSearch(end)
		if c.text(i) != "," {
			return readsAt(c.from(i), depth)
		}
		i++
	}
}

// skipSearch returns the index behind the SEARCH and CYCLE clauses at i.
func (c clause) skipSearch(i int) int {
	for c.oneOf(i, "search", "cycle") != "" {
		i = c.find(i, "set") + 2
		if i < 2 {
			return len(c.tokens)
		}
		if c.is(i, "to") { // TO value DEFAULT value
			i = c.find(i, "using")
		}
		if c.is(i, "using") {
			i += 2
		}
	}
	return i
}
