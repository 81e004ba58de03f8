// Package spelling finds the word that a mistyped one most likely means.
package spelling

import "slices"

// Nearest returns the candidate with the fewest single-byte edits from word, the
// first of several. There must be a candidate.
func Nearest(word string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return distance(word, a) - distance(word, b) })
}

const (
	mostCandidates = 1000
	longest        = 128
)

// Meant returns the candidate that word most likely means, and none if they are
// not alike, too many or too long: it may be asked by anybody, and costs time.
func Meant(word string, candidates []string) (string, bool) {
	if len(candidates) == 0 || len(candidates) > mostCandidates || len(word) > longest {
		return "", false
	}
	near := slices.DeleteFunc(slices.Clone(candidates), func(c string) bool { return abs(len(c)-len(word)) > tolerated(word) })
	if len(near) == 0 {
		return "", false
	}
	found := Nearest(word, near)
	return found, distance(word, found) <= tolerated(word)
}

// tolerated is how many mistakes a word may have.
func tolerated(word string) int { return 1 + len(word)/4 }

func abs(n int) int { return max(n, -n) }

// distance is the number of single-byte edits between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
