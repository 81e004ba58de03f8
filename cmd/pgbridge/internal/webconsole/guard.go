package webconsole

import (
	"net/http"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/web"
)

// policy lets the page load what this server has, and nothing else do anything.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// guard refuses what browsers send on behalf of other sites, and says what the page
// may do.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !web.KnownAs(r.Host, c.config.Hosts):
			http.Error(rw, "The console is not known by this name. Ask by an address or as localhost, or name it in console.hosts.", http.StatusMisdirectedRequest)
		case !web.SameSite(r.Header, r.URL.Path == "/"):
			http.Error(rw, "The console answers no other site.", http.StatusForbidden)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}
