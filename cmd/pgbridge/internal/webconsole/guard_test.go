package webconsole

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// ask asks a handler as a browser or a program would.
func ask(h http.Handler, path, host string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func handlerOf(c *Console) http.Handler {
	mux := http.NewServeMux()
	c.Register(mux)
	return mux
}

func TestNamesItAnswersTo(t *testing.T) {
	t.Parallel()
	h := handlerOf(New(Config{Bridge: newBridge(t, nil), Hosts: []string{"pgbridge.example.com"}, Logger: zap.NewNop()}))
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "10.1.2.3:8080": 200, "[::1]:8080": 200, "::1": 200, "[fe80::1]": 200,
		"localhost:8080": 200, "LOCALHOST": 200, "a.localhost:1": 200,
		"pgbridge.example.com": 200, "PGBridge.Example.Com:443": 200, "pgbridge.example.com.": 200,
		"evil.example": 421, "evil.example:8080": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421,
		"pgbridge": 421, "example.com": 421, "": 421,
	} {
		for _, path := range []string{"/", "/console/app.js", "/console/api/view?view=channels", "/console/api/history"} {
			if got := ask(h, path, host).Code; got != want {
				t.Errorf("%s as %q: %d, want %d", path, host, got, want)
			}
		}
	}
}

func TestOtherSites(t *testing.T) {
	t.Parallel()
	h := handlerOf(New(Config{Bridge: newBridge(t, nil), Logger: zap.NewNop()}))
	tests := []struct {
		headers []string
		want    int
	}{
		{nil, 200},
		{[]string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, 200},
		{[]string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200}, // a link
		{[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 403},
		{[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 403},
	}
	for _, tt := range tests {
		for _, path := range []string{"/", "/console/api/view?view=channels"} {
			r, want := ask(h, path, "localhost", tt.headers...), tt.want
			if path != "/" && slices.Contains(tt.headers, "cross-site") {
				want = http.StatusForbidden // a link to what is no page takes up a place
			}
			if r.Code != want {
				t.Errorf("%s with %q: %d, want %d", path, tt.headers, r.Code, want)
			}
			if r.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s lets other sites read it", path)
			}
		}
	}
}

// Every answer says what the page may do, refusals too.
func TestHeaders(t *testing.T) {
	t.Parallel()
	h := handlerOf(New(Config{Bridge: newBridge(t, nil), Logger: zap.NewNop()}))
	for _, path := range []string{
		"/", "/console/app.js", "/console/app.css", "/console/vendor/uPlot.js", "/console/icon.svg", "/console/nothing", "/console/index.html",
		"/console/api/view?view=channels", "/console/api/view?view=nothing", "/console/api/stream?view=nothing", "/console/api/history", "/console/api/tail",
	} {
		for _, host := range []string{"localhost", "evil.example"} {
			r := ask(h, path, host)
			csp := r.Header().Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("%s as %s: the policy %q lacks %q", path, host, csp, want)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "http") || strings.Contains(csp, "data:") {
				t.Errorf("%s: the policy %q lets too much", path, csp)
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := r.Header().Get(name); got != want {
					t.Errorf("%s as %s: %s is %q, want %q", path, host, name, got, want)
				}
			}
			if kind := r.Header().Get("Content-Type"); strings.HasPrefix(path, "/console/api/") && strings.Contains(kind, "html") {
				t.Errorf("%s is %s", path, kind)
			}
		}
	}
}

func TestOnlyReads(t *testing.T) {
	t.Parallel()
	h := handlerOf(New(Config{Bridge: newBridge(t, nil), Logger: zap.NewNop()}))
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		for _, path := range []string{"/", "/console/api/view", "/console/api/stream", "/console/api/tail"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, path, strings.NewReader("{}"))
			r.Host = "localhost"
			h.ServeHTTP(w, r)
			if w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d, want 405", method, path, w.Code)
			}
		}
	}
}
