package listen

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// translation is between a database's encoding and UTF-8. It is done here and not
// by the server, because the server ends the session over a single payload that
// it cannot convert, and anybody may send one.
type translation struct {
	encoding encoding.Encoding // nil: bytes are what they are
	strict   bool              // a C1 control stands for a byte that means nothing
}

// translationOf is that of a database's encoding, by PostgreSQL's name for it.
// https://www.postgresql.org/docs/current/multibyte.html
func translationOf(name string) translation {
	return translation{encoding: encodingOf(name), strict: strings.HasPrefix(name, "WIN")}
}

func encodingOf(name string) encoding.Encoding {
	known := map[string]encoding.Encoding{
		"LATIN1": charmap.ISO8859_1, "LATIN2": charmap.ISO8859_2, "LATIN3": charmap.ISO8859_3,
		"LATIN4": charmap.ISO8859_4, "LATIN5": charmap.ISO8859_9, "LATIN6": charmap.ISO8859_10,
		"LATIN7": charmap.ISO8859_13, "LATIN8": charmap.ISO8859_14, "LATIN9": charmap.ISO8859_15,
		"LATIN10": charmap.ISO8859_16, "ISO_8859_5": charmap.ISO8859_5, "ISO_8859_6": charmap.ISO8859_6,
		"ISO_8859_7": charmap.ISO8859_7, "ISO_8859_8": charmap.ISO8859_8,
		"KOI8R": charmap.KOI8R, "KOI8U": charmap.KOI8U, "WIN866": charmap.CodePage866,
		"WIN874": charmap.Windows874, "WIN1250": charmap.Windows1250, "WIN1251": charmap.Windows1251,
		"WIN1252": charmap.Windows1252, "WIN1253": charmap.Windows1253, "WIN1254": charmap.Windows1254,
		"WIN1255": charmap.Windows1255, "WIN1256": charmap.Windows1256, "WIN1257": charmap.Windows1257,
		"WIN1258": charmap.Windows1258,
		"EUC_JP":  japanese.EUCJP, "EUC_KR": korean.EUCKR, "EUC_CN": simplifiedchinese.GBK,
	}
	return known[name]
}

// text returns what the server sent as UTF-8, and as it is where that cannot be.
func (t translation) text(s string) string {
	if t.encoding == nil || isASCII(s) {
		return s
	}
	out, err := t.encoding.NewDecoder().String(s)
	if err != nil || strings.ContainsRune(out, utf8.RuneError) || t.strict && strings.ContainsFunc(out, isC1) {
		return s
	}
	return out
}

// bytes returns a name as the server has it.
func (t translation) bytes(name string) (string, error) {
	if t.encoding == nil || isASCII(name) {
		return name, nil
	}
	out, err := t.encoding.NewEncoder().String(name)
	if err != nil {
		return "", fmt.Errorf("channel %q: the database's encoding has no such characters", name)
	}
	return out, nil
}

func isC1(r rune) bool { return 0x80 <= r && r <= 0x9f }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
