package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// KnownAs reports whether a Host header names an address, localhost, or one of hosts. A
// web page elsewhere can give its own name any address (DNS rebinding), and its scripts
// could then read what that name answers; it cannot do so with an address itself.
func KnownAs(host string, hosts []string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost") ||
		slices.ContainsFunc(hosts, func(known string) bool { return strings.EqualFold(known, name) })
}

// SameSite refuses what a browser asks for because another site told it to, but for
// links to a page. A link to a profile or a stream would have it made. Programs that are
// no browsers do not say.
func SameSite(h http.Header, page bool) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return page && h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document"
}

// guarded refuses browsers that ask on behalf of other sites, or by a name that anybody
// may have given this address.
func guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if !KnownAs(r.Host, nil) || !SameSite(r.Header, false) {
			http.Error(rw, "Ask by an address or as localhost, and from no other site.", http.StatusForbidden)
			return
		}
		next(rw, r)
	}
}
