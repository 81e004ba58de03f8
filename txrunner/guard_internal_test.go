package txrunner

import (
	"os"
	"regexp"
	"testing"
)

// Each word that the protocol has behind a prefix makes one that is not served beside it.
func TestPrefixesWithinAnothersSubjects(t *testing.T) {
	t.Parallel()
	protocol, err := os.ReadFile("../docs/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`address: pgbridge\.([a-z]+)`).FindAllSubmatch(protocol, -1)
	if len(words) < 20 {
		t.Fatalf("the protocol has %d addresses", len(words))
	}
	for _, word := range words {
		for _, own := range []string{"pgbridge." + string(word[1]), "pgbridge." + string(word[1]) + ".more"} {
			if !takes("pgbridge", own) {
				t.Errorf("%s is served beside pgbridge", own)
			}
		}
	}
	for _, own := range []string{"pgbridge", "pgbridge.shop", "pgbridge.runs", "shop.run", "pgbridgerun"} {
		if takes("pgbridge", own) {
			t.Errorf("%s is not served beside pgbridge", own)
		}
	}
}
