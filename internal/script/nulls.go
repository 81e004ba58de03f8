package script

// nullMakers are the words by which a column of a table can come out as NULL although
// it holds none: outer joins, grouping sets, set operations (PostgreSQL names the
// first query's column for the result's), and RETURNING of a row that is not there.
var nullMakers = []string{
	"left", "right", "full", "rollup", "cube", "sets", "union", "intersect", "except", "old", "new", "merge",
}

// makesNulls reports whether one of those words stands in a statement. A name that is
// such a word counts, too: what is not known for certain is not said.
func makesNulls(c clause) bool {
	if c.oneOf(0, "fetch", "execute") != "" {
		return true // what they read stands elsewhere
	}
	for i := range c.tokens {
		if c.kind(i) == quotedName && rowThatIsNone(c.text(i)) {
			return true
		}
		for _, maker := range nullMakers {
			if c.kind(i) == word && sameWord(c.text(i), maker) {
				return true
			}
		}
	}
	return false
}

// rowThatIsNone reports whether a quoted name may be OLD or NEW: they are names, and not
// keywords as the other words are.
func rowThatIsNone(name string) bool {
	return name == `"old"` || name == `"new"` || name[0] != '"' // U&"…" can be anything
}
