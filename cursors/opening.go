package cursors

import (
	"errors"

	"github.com/pgbridge/pgbridge/internal/service"
)

// opening is a request to open a cursor.
type opening struct {
	name   string
	named  bool // by the client
	count  int64
	bytes  int
	scroll bool
	hold   bool
	sizes  sizes // of the rows; zero: as the script's were before
}

func readOpening(f service.Fields, most int) (opening, error) {
	var o opening
	var err error
	if o.count, err = readCount(f, defaultRows); err != nil {
		return o, err
	}
	if o.count < 0 {
		return o, service.Errorf(service.CodeInvalidRequest, "field \"count\": the first page goes forward")
	}
	if o.bytes, err = f.Bytes("max_bytes", most, most); err != nil {
		return o, err
	}
	err = errors.Join(f.Read("name", "a string", &o.name),
		f.Read("scroll", "true or false", &o.scroll), f.Read("hold", "true or false", &o.hold), f.End())
	if err != nil {
		return o, err
	}
	if len(o.name) > maxNameBytes || !service.Storable(o.name) {
		return o, service.Errorf(service.CodeInvalidRequest, "field \"name\": want 1 to %d bytes without NUL", maxNameBytes)
	}
	o.named = o.name != ""
	return o, nil
}

const maxNameBytes = 63 // PostgreSQL cuts longer ones
