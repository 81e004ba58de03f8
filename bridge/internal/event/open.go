package event

import (
	"strconv"
	"strings"
	"time"
)

// Open is the losses that go on: channels with events that were neither published
// nor announced. It is what a message says of them: for each channel its token, @,
// and since when in microseconds of PostgreSQL's clock, 0 where that is unknown,
// separated by spaces' stead +. Empty: none.
type Open string

// ManyOpen stands for more losses than a message can name.
const ManyOpen Open = "*"

const (
	// NamedOpen is how many losses are named at the most.
	NamedOpen    = 32
	maxOpenBytes = 2048
)

// With adds a loss.
func (o Open) With(token string, since time.Time) Open {
	us := int64(0)
	if !since.IsZero() {
		us = since.UnixMicro()
	}
	one := Open(token + "@" + strconv.FormatInt(us, 10))
	switch {
	case o == "":
		return one
	case o == ManyOpen || len(o)+1+len(one) > maxOpenBytes:
		return ManyOpen
	}
	return o + "+" + one
}

// OpenLoss is one of them.
type OpenLoss struct {
	Token string
	Since time.Time // zero: unknown
}

// Losses returns them one by one; false means that not all are known.
func (o Open) Losses() (all []OpenLoss, ok bool) {
	if o == "" {
		return nil, true
	}
	for one := range strings.SplitSeq(string(o), "+") {
		token, since, _ := strings.Cut(one, "@")
		us, err := strconv.ParseInt(since, 10, 64)
		if err != nil || token == "" || us < 0 || us > maxMicros {
			return nil, false
		}
		l := OpenLoss{Token: token}
		if us > 0 {
			l.Since = time.UnixMicro(us).UTC()
		}
		all = append(all, l)
	}
	return all, true
}

// maxMicros is the end of the year 9999, the last that JSON has.
const maxMicros = 253402300799_999999
