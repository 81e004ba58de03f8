// Command transfer runs the script transfer, and goes on asking until it knows
// what became of it:
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/transfer order-77
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

// answer is the reply to a run, good or bad.
type answer struct {
	Results []struct {
		Command string `json:"command"`
	} `json:"results"`
	Error *failure `json:"error"` // nil: it is done
}

type failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("name the order")
	}
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		a, err := transfer(nc, os.Args[1])
		switch {
		case err == nil && a.Error == nil:
			fmt.Printf("done: %d statements\n", len(a.Results))
			return
		case err == nil && a.Error.Code != "unknown" && !a.Error.Retryable:
			log.Fatalf("refused: %s: %s", a.Error.Code, a.Error.Message)
		case err == nil:
			err = errors.New(a.Error.Message)
		}
		log.Printf("trying again in %s: %v", pause, err)
		<-time.After(pause)
	}
}

// transfer may be called again with the same id: the money moves once.
func transfer(nc *nats.Conn, id string) (a answer, err error) {
	msg := nats.NewMsg("pgbridge.run.transfer")
	msg.Header.Set(nats.MsgIdHdr, id)
	msg.Data = []byte(`{"params": {"source": 1, "target": 2, "amount": "10.50"}}`)
	reply, err := nc.RequestMsg(msg, 10*time.Second)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(reply.Data, &a)
}
