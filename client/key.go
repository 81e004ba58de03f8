package client

import (
	"errors"
	"strings"
)

// errNoKey says that an answer would have this client publish somewhere else than to
// a transaction.
var errNoKey = errors.New("the answer names a subject that is not a transaction's: something else than pgbridge has answered")

// checkKey refuses what cannot be the subject of a transaction. Requests go below it
// with this client's permissions, so whoever has forged the answer must not have them
// go to any other service, such as JetStream's API. The prefix need not be this
// client's: an account can import subjects under other names, and what answers hold
// stays as it is.
func checkKey(tx string) error {
	tokens := strings.Split(tx, ".")
	if n := len(tokens); n < 4 || tokens[n-3] != "tx" || strings.HasPrefix(tx, "$") || !plainSubject(tx) {
		return errNoKey
	}
	return nil
}

// checkData refuses a subject for chunks that is not below the transaction's.
func checkData(tx, data string) error {
	if data != "" && (!strings.HasPrefix(data, tx+".data.") || !plainSubject(data)) {
		return errNoKey
	}
	return checkKey(tx)
}
