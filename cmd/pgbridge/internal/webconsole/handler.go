package webconsole

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static
var static embed.FS

// Paths are what the handler serves.
const (
	pagePath   = "/{$}"
	assetsPath = "/console/"
	apiPath    = "/console/api/"
)

// Register adds the page, what it loads and what it asks for to a server.
func (c *Console) Register(mux *http.ServeMux) {
	handle := func(pattern string, h http.HandlerFunc) { mux.Handle("GET "+pattern, c.guard(h)) }
	handle(pagePath, c.serveAsset)
	handle(assetsPath, c.serveAsset)
	handle(apiPath+"history", c.serveHistory)
	handle(apiPath+"view", c.serveView)
	handle(apiPath+"stream", c.serveStream)
	handle(apiPath+"tail", c.serveTail)
}

// contentTypes are those of the files there are; the system's own table may say
// anything.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

func (c *Console) serveAsset(rw http.ResponseWriter, r *http.Request) {
	name := "index.html"
	if r.URL.Path != "/" {
		name = strings.TrimPrefix(r.URL.Path, assetsPath)
	}
	body, err := fs.ReadFile(static, "static/"+name)
	kind := contentTypes[path.Ext(name)]
	if err != nil || kind == "" || name == "index.html" && r.URL.Path != "/" {
		http.NotFound(rw, r)
		return
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h := rw.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache") // but it may be kept, and asked for again
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = rw.Write(body) // who went away needs nothing
}

func (c *Console) serveHistory(rw http.ResponseWriter, r *http.Request) {
	since, err := whole(r.URL.Query(), "since", 0)
	if err != nil {
		c.refuse(rw, http.StatusBadRequest, err)
		return
	}
	c.answer(rw, c.history.since(int64(since)))
}

// serveView answers what a view shows now.
func (c *Console) serveView(rw http.ResponseWriter, r *http.Request) {
	v, err := c.view(r.URL.Query())
	if err != nil {
		c.refuse(rw, statusOf(err), err)
		return
	}
	value, err := v(r.Context())
	if err != nil {
		c.refuse(rw, statusOf(err), err)
		return
	}
	c.answer(rw, value)
}
