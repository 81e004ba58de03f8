package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzDigest wants a digest to be taken only for data that has it.
func FuzzDigest(f *testing.F) {
	f.Add([]byte("a"), "")
	f.Add([]byte("a"), "SHA-256=ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs=")
	f.Add([]byte("a"), "SHA-256=ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs")
	f.Add([]byte("b"), "SHA-256=ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs=")
	f.Fuzz(func(t *testing.T, data []byte, digest string) {
		h := sha256.New()
		h.Write(data)
		if own := FormatDigest(h); !SameDigest(h, own) || !SameDigest(h, strings.TrimRight(own, "=")) {
			t.Fatalf("%s is not the digest of %q", own, data)
		}
		if !SameDigest(h, digest) {
			return
		}
		text, found := strings.CutPrefix(strings.TrimRight(digest, "="), "SHA-256=")
		sum, err := base64.RawURLEncoding.DecodeString(text)
		if !found || err != nil || !bytes.Equal(sum, h.Sum(nil)) {
			t.Fatalf("%q is taken for the digest of %q", digest, data)
		}
	})
}
