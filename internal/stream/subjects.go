package stream

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Missing returns the patterns of want that none of have covers.
func Missing(have, want []string) []string {
	covering := cover{}
	for _, pattern := range have {
		covering.add(pattern)
	}
	return slices.DeleteFunc(slices.Clone(want), covering.covers)
}

// Widest returns the patterns that no other covers, each once, sorted: the
// subjects of one stream must not overlap.
func Widest(patterns []string) []string {
	wideFirst := slices.SortedFunc(slices.Values(patterns), func(a, b string) int {
		return cmp.Or(cmp.Compare(reach(a), reach(b)), strings.Count(b, "*")-strings.Count(a, "*"))
	})
	covering := cover{}
	var widest []string
	for _, pattern := range wideFirst {
		if !covering.covers(pattern) {
			covering.add(pattern)
			widest = append(widest, pattern)
		}
	}
	slices.Sort(widest)
	return widest
}

// reach orders patterns so that none comes before another that covers it, if
// those with more wildcards come first among equals.
func reach(pattern string) int {
	if tokens := strings.Count(pattern, "."); strings.HasSuffix(pattern, ">") {
		return tokens
	}
	return 1 << 20
}

// cover is a set of patterns, as a tree of their tokens: a stream can have
// thousands, and comparing each with each takes seconds then.
type cover map[string]cover

// ends marks where a pattern ends; no token is empty.
const ends = ""

func (c cover) add(pattern string) {
	for token := range strings.SplitSeq(pattern, ".") {
		if c[token] == nil {
			c[token] = cover{}
		}
		c = c[token]
	}
	c[ends] = cover{}
}

// covers reports whether one pattern of the set matches everything that this
// one does.
func (c cover) covers(pattern string) bool {
	token, rest, more := strings.Cut(pattern, ".")
	if c[">"] != nil {
		return true
	}
	if token == ">" {
		return false
	}
	for _, branch := range []cover{c[token], c["*"]} {
		switch {
		case branch == nil:
		case more && branch.covers(rest), !more && branch[ends] != nil:
			return true
		}
	}
	return false
}

// besides returns a pattern of the set that shares some subjects with this one
// and also has others.
func (c cover) besides(pattern string) (string, bool) {
	return c.search(strings.Split(pattern, "."), false)
}

// search looks below a node of the tree for a pattern that overlaps the rest of
// a pattern. wider says that it has others, from the tokens so far.
func (c cover) search(rest []string, wider bool) (string, bool) {
	if len(rest) == 0 {
		return "", wider && c[ends] != nil
	}
	if c[">"] != nil && (wider || rest[0] != ">") {
		return ">", true
	}
	for token := range c.meeting(rest[0]) {
		if rest[0] == ">" {
			if wider {
				return join(token, c[token].any()), true
			}
			continue
		}
		if found, ok := c[token].search(rest[1:], wider || token == "*" && rest[0] != "*"); ok {
			return join(token, found), true
		}
	}
	return "", false
}

// meeting yields the tokens below a node that share some subjects with one of a
// pattern, ">" left out.
func (c cover) meeting(token string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if token != "*" && token != ">" {
			_ = (c[token] == nil || yield(token)) && (c["*"] == nil || yield("*"))
			return
		}
		for each := range c {
			if each != ends && each != ">" && !yield(each) {
				return
			}
		}
	}
}

// any returns the rest of some pattern below a node.
func (c cover) any() string {
	for token, branch := range c {
		if token == ends {
			return ""
		}
		return join(token, branch.any())
	}
	return ""
}

func join(token, rest string) string {
	if rest == ends {
		return token
	}
	return token + "." + rest
}
