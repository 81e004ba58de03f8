package docs_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/micro"
)

// TestProtocolNumber asks a replica for what upgrades.md says that it is.
func TestProtocolNumber(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	reply, err := b.client.Request("$SRV.INFO.pgbridge", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		t.Fatal(err)
	}
	number := info.Metadata["protocol"]
	if number == "" || !strings.Contains(read(t, "upgrades.md"), "It is "+number+".") {
		t.Errorf("the protocol is %q, and upgrades.md says otherwise", number)
	}
}
