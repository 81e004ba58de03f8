package config

import (
	"net/url"
	"regexp"
	"strings"
)

// mask stands for a secret wherever a setting is shown.
const mask = "***"

func maskAll(s string) string {
	if s == "" {
		return ""
	}
	return mask
}

// maskValue masks what a value of any setting holds that was meant for another one.
func maskValue(s string) string {
	if strings.Contains(s, "://") && !strings.HasPrefix(s, "postgres") {
		return MaskURLs(s)
	}
	return MaskConnString(s)
}

// MaskURLs masks passwords and tokens in a list of NATS URLs.
func MaskURLs(list string) string {
	urls := strings.Split(list, ",")
	for i, u := range urls {
		urls[i] = maskURL(u)
	}
	return strings.Join(urls, ",")
}

// maskURL masks a password, and a user without one: to NATS that is a token.
func maskURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	} else {
		scheme += "://"
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return s
	}
	user, _, hasPassword := strings.Cut(rest[:at], ":")
	if !hasPassword {
		return scheme + mask + rest[at:]
	}
	return scheme + user + ":" + mask + rest[at:]
}

// MaskConnString masks the passwords of a PostgreSQL URL or key=value string.
func MaskConnString(s string) string {
	if !strings.HasPrefix(s, "postgres://") && !strings.HasPrefix(s, "postgresql://") {
		if strings.Contains(s, "://") { // what it is, nobody knows
			return mask
		}
		secret := regexp.MustCompile(`(?i)\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)`)
		return secret.ReplaceAllString(s, "${1}"+mask)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return mask
	// A password with a character that should have been encoded ends the host.
	case u.User == nil && strings.Contains(s, "@"), u.Fragment != "":
		return mask
	}
	u.RawQuery = maskQuery(u.RawQuery)
	if _, ok := u.User.Password(); !ok {
		return u.String()
	}
	user := url.User(u.User.Username()).String()
	u.User = nil
	return strings.Replace(u.String(), "://", "://"+user+":"+mask+"@", 1)
}

// maskQuery masks the passwords of a URL's query. Their keys may be percent-encoded.
func maskQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		written, _, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(written)
		if key = strings.ToLower(key); err != nil || key == "password" || key == "sslpassword" {
			pairs[i] = written + "=" + mask
		}
	}
	return strings.Join(pairs, "&")
}
