// Package natsconn opens the connections that pgbridge keeps to NATS, and
// runs the embedded server.
//
// A connection opened for keeping (Events, Requests) never gives up: it exists
// before its server does, reconnects for ever with capped jittered backoff,
// and says so in the log without repeating itself. Only credentials that were
// refused before the first success are reported as a fault, because they are
// a mistake in the configuration and not an outage.
package natsconn

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/files"
)

// Settings says where NATS is and who we are there. The zero value of a field
// leaves it out; without URLs it is nats://127.0.0.1:4222.
type Settings struct {
	URLs []string
	// Credentials: the first of Creds, NKey, User, Token that is set counts,
	// and a URL's own user and password only without them.
	Creds string // path of a .creds file, read at each connect
	NKey  string // path of a file with an nkey seed
	User  string
	// Password goes with User. PasswordFile overrides it and is read at each
	// connect, so a rotated password needs no restart.
	Password     string
	PasswordFile string
	Token        string
	// Paths of PEM files. CA verifies the server; Cert and Key go together.
	CA, Cert, Key string
	// TLSFirst begins TLS before the server says anything, as servers with
	// handshake_first want it.
	TLSFirst bool
	// InboxPrefix begins the subjects of replies to our own requests, _INBOX
	// where it is empty.
	InboxPrefix string
	// JSDomain or JSPrefix say where JetStream's API is: in a domain, or under a
	// subject of an import's. One of them at most.
	JSDomain, JSPrefix string
}

// JetStream returns JetStream as the settings reach it through a connection.
func (s Settings) JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	switch {
	case s.JSDomain != "":
		return jetstream.NewWithDomain(nc, s.JSDomain)
	case s.JSPrefix != "":
		return jetstream.NewWithAPIPrefix(nc, s.JSPrefix)
	}
	return jetstream.New(nc)
}

// WithCredentials returns the settings with c's credentials instead, if c has
// any.
func (s Settings) WithCredentials(c Settings) Settings {
	if c.Creds == "" && c.NKey == "" && c.User == "" && c.Token == "" {
		return s
	}
	s.Creds, s.NKey, s.User, s.Token = c.Creds, c.NKey, c.User, c.Token
	s.Password, s.PasswordFile = c.Password, c.PasswordFile
	return s
}

// Validate reports every fault that can be seen without a server or a file,
// as pairs of the setting's name and the reason.
func (s Settings) Validate() []Fault {
	var f []Fault
	for _, u := range s.URLs {
		if err := checkURL(u); err != nil {
			f = append(f, Fault{"url", err})
		}
	}
	if (s.Cert == "") != (s.Key == "") {
		f = append(f, Fault{"tls.cert", errors.New("tls.cert and tls.key go together")})
	}
	for _, p := range []struct{ key, value string }{
		{"inbox_prefix", s.InboxPrefix}, {"jetstream.domain", s.JSDomain}, {"jetstream.api_prefix", s.JSPrefix},
	} {
		if !plainSubject(p.value) {
			f = append(f, Fault{p.key, fmt.Errorf("%q: want subject tokens without wildcards", p.value)})
		}
	}
	if s.JSDomain != "" && s.JSPrefix != "" {
		f = append(f, Fault{"jetstream.api_prefix", errors.New("a domain has a prefix of its own: give one of them")})
	}
	for _, p := range []struct{ key, value string }{{"password", s.Password}, {"password_file", s.PasswordFile}} {
		if p.value != "" && s.User == "" {
			f = append(f, Fault{p.key, errors.New("a user is wanted with it")})
		}
	}
	return append(f, s.oneCredential()...)
}

// plainSubject reports whether s is empty or can be the beginning of a subject.
func plainSubject(s string) bool {
	if s == "" {
		return true
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return false
		}
	}
	return true
}

func (s Settings) oneCredential() []Fault {
	var set []string
	for _, c := range []struct{ name, value string }{
		{"creds", s.Creds}, {"nkey", s.NKey}, {"user", s.User}, {"token", s.Token},
	} {
		if c.value != "" {
			set = append(set, c.name)
		}
	}
	if len(set) < 2 {
		return nil
	}
	return []Fault{{set[1], fmt.Errorf("only one of %s can be used", strings.Join(set, ", "))}}
}

// Fault is one thing wrong with Settings; Key is the setting's name.
type Fault struct {
	Key string
	Err error
}

// checkURL never puts the URL into its error: it may hold a password.
func checkURL(s string) error {
	if !strings.Contains(s, "://") {
		s = "nats://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return errors.New("want URLs such as nats://host:4222, several of them with commas between")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
		return nil
	}
	return fmt.Errorf("scheme %q: want nats, tls, ws or wss", u.Scheme)
}

func (s Settings) urls() string {
	if len(s.URLs) == 0 {
		return nats.DefaultURL
	}
	return strings.Join(s.URLs, ",")
}

// options turns the settings into nats.go's, reading the files that have to
// be there now.
func (s Settings) options() ([]nats.Option, error) {
	opts, err := s.credentials()
	if err != nil {
		return nil, err
	}
	if s.CA != "" {
		opts = append(opts, nats.RootCAs(s.CA))
	}
	if s.Cert != "" {
		opts = append(opts, nats.ClientCert(s.Cert, s.Key))
	}
	if s.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	if s.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(s.InboxPrefix))
	}
	return opts, s.readable()
}

// readable finds a missing file now: nats.go would look for it at each
// connect and take it for an outage.
func (s Settings) readable() error {
	for _, path := range []string{s.Creds, s.NKey, s.PasswordFile, s.CA, s.Cert, s.Key} {
		if path == "" {
			continue
		}
		f, err := files.Open(path)
		if err != nil {
			return fmt.Errorf("read NATS credentials: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("read NATS credentials: %w", err)
		}
	}
	return nil
}

// Override returns options that put what is set here in the place of what earlier
// options say; without URLs the servers stay.
func (s Settings) Override() ([]nats.Option, error) {
	opts, err := s.options()
	if err != nil {
		return nil, err
	}
	before := func(o *nats.Options) error {
		if len(s.URLs) > 0 {
			o.Url, o.Servers = "", s.URLs
		}
		if s.Creds != "" || s.NKey != "" || s.User != "" || s.Token != "" {
			o.User, o.Password, o.Token, o.Nkey = "", "", "", ""
			o.UserInfo, o.UserJWT, o.SignatureCB, o.TokenHandler = nil, nil, nil, nil
		}
		return nil
	}
	return append([]nats.Option{before}, opts...), nil
}

func (s Settings) credentials() ([]nats.Option, error) {
	switch {
	case s.Creds != "":
		return []nats.Option{nats.UserCredentials(s.Creds)}, nil
	case s.NKey != "":
		o, err := nats.NkeyOptionFromSeed(s.NKey)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed %s: %w", s.NKey, err)
		}
		return []nats.Option{o}, nil
	case s.User != "" && s.PasswordFile != "":
		return []nats.Option{nats.UserInfoHandler(s.userInfo)}, nil
	case s.User != "":
		return []nats.Option{nats.UserInfo(s.User, s.Password)}, nil
	case s.Token != "":
		return []nats.Option{nats.Token(s.Token)}, nil
	}
	return nil, nil
}

// userInfo reads the password at each connect. Where the file is gone for a
// moment, as while a secret is swapped, the server's refusal is retried.
func (s Settings) userInfo() (user, password string) {
	f, err := files.Open(s.PasswordFile)
	if err != nil {
		return s.User, s.Password
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return s.User, s.Password
	}
	return s.User, strings.TrimRight(string(b), "\r\n")
}

// Once connects now or returns why not, for programs that people run. After
// that the connection reconnects as nats.go does by default, or as more
// options say. It blocks for at most the number of servers times 2 s.
func Once(s Settings, name string, more ...nats.Option) (*nats.Conn, error) {
	opts, err := s.options()
	if err != nil {
		return nil, err
	}
	opts = append(opts, nats.Name(name), nats.ErrorHandler(ignoreError)) // else nats.go prints it
	nc, err := nats.Connect(s.urls(), append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}

func ignoreError(*nats.Conn, *nats.Subscription, error) {}
