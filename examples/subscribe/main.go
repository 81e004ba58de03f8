// Command subscribe prints the events and gaps of the channel orders as they
// arrive over core NATS:
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/subscribe
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

// gap says that events may be missing before this point: all of them were
// committed between since and until.
type gap struct {
	Reason  string     `json:"reason"`
	Since   *time.Time `json:"since"` // nil: nobody knows
	Until   time.Time  `json:"until"`
	Dropped *int64     `json:"dropped"` // nil: nobody counted
}

func main() {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	// One Go channel for both subjects keeps events and gaps in order.
	messages := make(chan *nats.Msg, 64<<10)
	for _, subject := range []string{"pgbridge.event.orders", "pgbridge.gap.orders"} {
		if _, err := nc.ChanSubscribe(subject, messages); err != nil {
			log.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		log.Fatal(err)
	}
	log.Print("listening")
	for m := range messages {
		if m.Subject == "pgbridge.gap.orders" {
			handleGap(m.Data)
		} else {
			fmt.Printf("event %s\n", m.Data)
		}
	}
}

// handleGap is where a program reads its state from the database again.
func handleGap(body []byte) {
	var g gap
	if err := json.Unmarshal(body, &g); err != nil {
		log.Fatalf("gap %s: %v", body, err)
	}
	if g.Since == nil {
		fmt.Printf("gap (%s): read everything again\n", g.Reason)
		return
	}
	fmt.Printf("gap (%s): read again what was committed from %s to %s\n",
		g.Reason, g.Since.Format(time.RFC3339Nano), g.Until.Format(time.RFC3339Nano))
}
