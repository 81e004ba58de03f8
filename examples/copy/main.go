// Command copy writes what the script export_orders copies out of PostgreSQL
// to stdout, and checks that all of it has come.
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/copy > orders.csv
package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

func main() {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewWriter(os.Stdout)
	rows, err := download(nc, "pgbridge.copy.export_orders", `{"params": {"customer": null}}`, out)
	if err := errors.Join(err, out.Flush()); err != nil {
		log.Fatal("what was written is not all: ", err)
	}
	fmt.Fprintln(os.Stderr, rows, "rows")
}

// download writes a copy's data to out and returns how many rows they are.
func download(nc *nats.Conn, subject, request string, out io.Writer) (rows string, err error) {
	// An inbox of its own: when this process is gone, so is the inbox, and
	// pgbridge stops sending.
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return "", err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, sub.Subject, []byte(request)); err != nil {
		return "", err
	}
	digest := sha256.New()
	for seq := 0; ; seq++ {
		m, err := sub.NextMsg(time.Minute)
		switch {
		case err != nil:
			return "", err
		case m.Header.Get("Nats-Service-Error") != "":
			return "", errors.New(m.Header.Get("Nats-Service-Error"))
		case seq == 0:
			continue // what the copy is called, and what limits it has
		case len(m.Data) == 0:
			if m.Header.Get("Pgbridge-Digest") != "SHA-256="+base64.URLEncoding.EncodeToString(digest.Sum(nil)) {
				return "", errors.New("something was lost on the way")
			}
			return m.Header.Get("Pgbridge-Rows"), nil
		case m.Header.Get("Pgbridge-Seq") != strconv.Itoa(seq):
			return "", fmt.Errorf("chunk %d was lost on the way", seq)
		}
		if _, err := io.MultiWriter(out, digest).Write(m.Data); err != nil {
			return "", err
		}
		if err := nc.Publish(m.Reply, nil); err != nil { // consumed: send more
			return "", err
		}
	}
}
