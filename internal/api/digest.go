package api

import (
	"encoding/base64"
	"hash"
	"strings"
)

// digestPrefix names the hash function, as in NATS's object store.
const digestPrefix = "SHA-256="

// FormatDigest writes the sum of a SHA-256 hash as clients see it.
func FormatDigest(h hash.Hash) string {
	return digestPrefix + base64.URLEncoding.EncodeToString(h.Sum(nil))
}

// SameDigest reports whether a client's digest is the sum of h. It may be
// without padding.
func SameDigest(h hash.Hash, digest string) bool {
	return strings.TrimRight(digest, "=") == strings.TrimRight(FormatDigest(h), "=")
}
