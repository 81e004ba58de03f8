package service

import (
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
)

// Headers of NATS's own messages, see
// https://docs.nats.io/nats-concepts/core-nats/reqreply#no-responders.
const (
	statusHeader = "Status"
	noResponders = "503"
	natsHeaders  = "Nats-"
)

// clientHeaders are those of NATS's headers, or beginnings of them, that clients
// set themselves and that NATS adds to nothing.
var clientHeaders = [...]string{
	nats.MsgIdHdr,
	"Nats-Expected-", // for a stream that would store the message
	"Nats-Trace-",
	"Nats-TTL",
	"Nats-Rollup",
	"Nats-Request-Info", // of a request from another account that shares it
}

// madeByNATS reports whether a message is none of a client's own: JetStream
// answers, delivers and republishes to any subject for whoever may call its API,
// and each of those messages has a status or tells of its stream. Its answers
// that have neither have no reply subject.
func madeByNATS(header nats.Header) bool {
	for key := range header {
		if strings.EqualFold(key, statusHeader) || startsWith(key, natsHeaders) && !setByClients(key) {
			return true
		}
	}
	return false
}

// chunk reports whether a message is one that only transactions' subjects are for. Chunks
// that are sent have a reply subject, and NATS takes them back in as requests from an account
// that imports those, where their receiver has named a subject that is imported.
func chunk(header nats.Header) bool {
	_, numbered := header[api.HeaderSeq]
	return numbered
}

func setByClients(key string) bool {
	for _, prefix := range clientHeaders {
		if startsWith(key, prefix) {
			return true
		}
	}
	return false
}

// startsWith does not tell upper from lower case.
func startsWith(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// unwelcome returns why a message is no request that may be served, or "".
func (h *host) unwelcome(msg *nats.Msg) string {
	switch {
	case len(msg.Header) > 0 && madeByNATS(msg.Header):
		return dropNATS
	case msg.Reply != "" && !h.replyAllowed(msg.Reply):
		return dropReplySubject
	}
	return ""
}

// NoResponders reports whether the message is NATS's word that nobody has
// received one whose reply subject is this request's subject. Only an endpoint
// that is Alone hears it. Anybody who may publish there can send one too.
func (r *Request) NoResponders() bool {
	return len(r.Data) == 0 && r.Header.Get(statusHeader) == noResponders
}

// maxHeaders is how many headers a request may have. Short ones take many times the
// memory that they took on their way.
const maxHeaders = 64

// CheckHeaders refuses a received message that has more headers than a request may have, or
// such that nobody can read: the library passes it on as one without any, and so without its
// message id.
func CheckHeaders(msg *nats.Msg) error {
	if msg.Header == nil && msg.Size() > len(msg.Subject)+len(msg.Reply)+len(msg.Data) {
		return Errorf(CodeInvalidRequest, "the request has headers that cannot be read")
	}
	if countHeaders(msg.Header) > maxHeaders {
		return Errorf(CodeInvalidRequest, "the request has more than %d headers", maxHeaders)
	}
	return nil
}

func countHeaders(header nats.Header) (n int) {
	if len(header) > maxHeaders {
		return len(header)
	}
	for _, values := range header {
		n += len(values)
	}
	return n
}

// sizeOf is what a message holds in memory: nats.go has its headers twice.
func sizeOf(msg *nats.Msg) int {
	return 2*msg.Size() - len(msg.Subject) - len(msg.Reply) - len(msg.Data)
}
