package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// The console is there where it is asked for, and a viewer keeps no process from
// stopping.
func TestServeConsole(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	for _, shown := range []bool{false, true} {
		path := configFile(t, fmt.Sprintf("postgres: {url: %q}\nnats: {url: %q}\nhttp: 127.0.0.1:0\nprefix: p%t\nconsole: %t\nchannels: {orders: {}}\n", url, bus.URL(), shown, shown))
		c := start(t, "serve", "-c", path)
		address := httpAddress(t, c)
		waitReady(t, address)
		want := map[bool]int{false: http.StatusNotFound, true: http.StatusOK}[shown]
		for _, page := range []string{"/", "/console/app.js", "/console/api/view?view=overview", "/console/api/view?view=transactions"} {
			if code, body := get(t, address, page); code != want {
				t.Errorf("console: %t: %s: %d %.200s, want %d", shown, page, code, body, want)
			}
		}
		if shown {
			answer, err := http.Get("http://" + address + "/console/api/stream?view=overview")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			lines := bufio.NewScanner(answer.Body)
			for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
			}
			if !strings.Contains(lines.Text(), `"state":"publishing"`) || !strings.Contains(lines.Text(), `"Purpose":"run"`) {
				t.Errorf("the stream begins with %.300s", lines.Text())
			}
		}
		c.signal(t, syscall.SIGTERM)
		if code := c.code(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	}
}
