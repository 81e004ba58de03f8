package web

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"
)

// A web page that has given its name this address, or another site that has a browser
// ask, gets no profile; and nobody is shown the command line, which may hold a password.
func TestProfilesAreForPrograms(t *testing.T) {
	t.Parallel()
	h := (&server{Config: Config{Pprof: true, Logger: zap.NewNop()}, metrics: http.NotFoundHandler()}).handler()
	for _, tt := range []struct {
		path, host, site string
		want             int
	}{
		{"/debug/pprof/heap", "127.0.0.1:8080", "", 200},
		{"/debug/pprof/", "localhost:8080", "none", 200},
		{"/debug/pprof/symbol", "[::1]:8080", "same-origin", 200},
		{"/debug/pprof/heap", "evil.example", "", 403},
		{"/debug/pprof/goroutine", "evil.example:8080", "same-origin", 403},
		{"/debug/pprof/trace", "evil.example", "", 403},
		{"/debug/pprof/profile", "localhost:8080", "cross-site", 403},
		{"/debug/pprof/symbol", "evil.example", "", 403},
		{"/debug/pprof/cmdline", "localhost:8080", "", 404},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Host = tt.host
		if tt.site != "" {
			r.Header.Set("Sec-Fetch-Site", tt.site)
			r.Header.Set("Sec-Fetch-Mode", "navigate") // a link, or a page that sends its reader there
			r.Header.Set("Sec-Fetch-Dest", "document")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s as %s from %q: %d, want %d", tt.path, tt.host, tt.site, w.Code, tt.want)
		}
	}
}
