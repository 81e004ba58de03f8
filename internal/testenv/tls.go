package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificates are a certificate authority and certificates that it signed.
type Certificates struct {
	CAFile  string // path of the authority's own certificate, PEM
	CA      []byte // its content
	Server  KeyPair
	Expired KeyPair // a server's too, not valid since yesterday
	Client  KeyPair
}

// KeyPair is a certificate with its key, both PEM.
type KeyPair struct {
	CertFile, KeyFile string // paths, readable by this process's user
	Cert, Key         []byte // their contents
}

// TLS makes certificates in a temporary folder: servers' for 127.0.0.1 and
// localhost, the client's for the common name clientName.
func TLS(t testing.TB, clientName string) *Certificates {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), now: time.Now()}
	ca := a.sign("ca", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	forServers := func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	return &Certificates{
		CAFile: ca.CertFile,
		CA:     ca.Cert,
		Server: a.sign("server", forServers),
		Expired: a.sign("expired", func(c *x509.Certificate) {
			forServers(c)
			c.NotBefore, c.NotAfter = a.now.AddDate(0, 0, -30), a.now.AddDate(0, 0, -1)
		}),
		Client: a.sign("client", func(c *x509.Certificate) {
			c.Subject.CommonName = clientName
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}),
	}
}

// PGOptions makes a PostgreSQL server offer TLS with one of the server
// certificates, and verify client certificates. TLS is not required, and no
// client certificate, unless the caller adds a pg_hba.conf to the files.
func (c *Certificates) PGOptions(server KeyPair) PGOptions {
	return PGOptions{
		Settings: map[string]string{
			"ssl":           "on",
			"ssl_cert_file": "server.crt",
			"ssl_key_file":  "server.key",
			"ssl_ca_file":   "ca.crt",
		},
		Files: map[string][]byte{"server.crt": server.Cert, "server.key": server.Key, "ca.crt": c.CA},
	}
}

// ServerTLS is a nats-server's TLS configuration with one of the server
// certificates. Client certificates are verified where they are sent; set
// ClientAuth to require them.
func (c *Certificates) ServerTLS(t testing.TB, server KeyPair) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CA)
	pair, err := tls.X509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatalf("load the server's certificate: %v", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.VerifyClientCertIfGiven,
		MinVersion:   tls.VersionTLS12,
	}
}

// authority signs certificates; the first one it makes is its own.
type authority struct {
	t      testing.TB
	dir    string
	now    time.Time
	serial int64
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func (a *authority) sign(name string, change func(*x509.Certificate)) KeyPair {
	a.t.Helper()
	a.serial++
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    a.now.Add(-time.Hour),
		NotAfter:     a.now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	change(cert)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatalf("make a key: %v", err)
	}
	if a.cert == nil {
		a.cert, a.key = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatalf("sign the certificate %s: %v", name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatalf("encode the key of %s: %v", name, err)
	}
	return a.write(name, pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", keyDER))
}

func (a *authority) write(name string, cert, key []byte) KeyPair {
	a.t.Helper()
	pair := KeyPair{
		CertFile: filepath.Join(a.dir, name+".crt"),
		KeyFile:  filepath.Join(a.dir, name+".key"),
		Cert:     cert,
		Key:      key,
	}
	for path, content := range map[string][]byte{pair.CertFile: cert, pair.KeyFile: key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			a.t.Fatalf("write %s: %v", path, err)
		}
	}
	return pair
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
