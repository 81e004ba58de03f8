package testenv

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// PublishRaw publishes a message with headers as they are given, which no library would
// send: the first line and the empty one at the end included. It returns when the server
// at addr has it.
func PublishRaw(t testing.TB, addr, subject, reply, header, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("connect to nats-server: %v", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(natsLimit)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB %s %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, reply, len(header), len(header)+len(body), header, body); err != nil {
		t.Fatalf("send to nats-server: %v", err)
	}
	for answers := bufio.NewScanner(conn); answers.Scan(); {
		switch line := answers.Text(); {
		case line == "PONG":
			return
		case strings.HasPrefix(line, "-ERR"):
			t.Fatalf("nats-server says %s", line)
		}
	}
	t.Fatal("nats-server has ended the connection")
}
