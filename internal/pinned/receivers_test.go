package pinned

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pgbridge/pgbridge/internal/service"
)

func taking(name string, into *string) Receiver {
	return func(*service.Request) bool { *into = name; return true }
}

func request(verb, id string) *service.Request {
	return &service.Request{Tokens: []string{"tx", verb, id}}
}

func TestReceiversAreBounded(t *testing.T) {
	t.Parallel()
	var all receivers
	var took string
	var retire []func(Receiver)
	for i := range maxReceivers {
		done, err := all.add(&receiver{verb: "data", id: fmt.Sprint(i), take: taking("live", &took)})
		if err != nil {
			t.Fatal(err)
		}
		retire = append(retire, done)
	}
	one := func() *receiver { return &receiver{verb: "data", id: "more", take: taking("more", &took)} }
	var busy *service.Error
	if _, err := all.add(one()); !errors.As(err, &busy) || busy.Code != service.CodeBusy {
		t.Fatalf("receiver %d: %v, want busy", maxReceivers+1, err)
	}
	retire[1](taking("retired 1", &took))
	retire[0](taking("retired 0", &took))
	if _, err := all.add(one()); err != nil { // at the cost of the oldest that is retired
		t.Fatal(err)
	}
	for id, want := range map[string]string{"0": "", "1": "retired 1", "2": "live", "more": "more"} {
		took = ""
		if got := all.deliver(request("data", id)); got != (want != "") || took != want {
			t.Errorf("a request for %s was taken by %q: %t, want %q", id, took, got, want)
		}
	}
	if all.deliver(request("ack", "2")) {
		t.Error("a request with another verb was taken")
	}
}

func TestReceiverIDs(t *testing.T) {
	t.Parallel()
	var all receivers
	var took string
	retire, err := all.add(&receiver{verb: "data", id: "a", take: taking("first", &took)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.add(&receiver{verb: "data", id: "a"}); err == nil {
		t.Error("an id that is in use was given away")
	}
	retire(taking("its last word", &took))
	second, err := all.add(&receiver{verb: "data", id: "a", take: taking("second", &took)})
	if err != nil {
		t.Fatal(err)
	}
	retire(nil) // again: it is gone
	if !all.deliver(request("data", "a")) || took != "second" {
		t.Errorf("a request was taken by %q, want the second", took)
	}
	if second(nil); !all.empty() {
		t.Error("a receiver that was retired without a last word is still there")
	}
}
