package copier

import (
	"strings"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// rememberedFailures is how many failed uploads are kept whose clients do not
// know yet.
const rememberedFailures = 1000

// uploadKey names an upload among those of all transactions.
func uploadKey(tx, id string) string { return tx + "." + id }

// add makes chunks reach an upload.
func (c *Copier) add(key string, u *upload) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, used := c.uploads[key]; used {
		_, id, _ := strings.Cut(key, ".")
		return service.Errorf(service.CodeInvalidRequest, "the transaction has a copy %q already", id)
	}
	c.uploads[key] = u
	c.failed.take(key)
	return nil
}

// retire answers what is unanswered of an upload, which has ended, and keeps an
// error that nobody is told for the next chunk.
func (c *Copier) retire(key string, u *upload, reply []byte, err error) {
	unanswered := c.remove(key, u, err)
	u.answer(unanswered, service.Reply{Data: reply}, err)
}

// remove makes chunks not reach an upload any more, and returns those that have.
func (c *Copier) remove(key string, u *upload, err error) []*service.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	unanswered := u.finish()
	if err != nil && len(unanswered) == 0 {
		c.failed.add(key, err)
	}
	delete(c.uploads, key)
	return unanswered
}

// deliver takes a request to <tx>.data.<id>.
func (c *Copier) deliver(t *txrunner.Transaction, r *service.Request) bool {
	if len(r.Tokens) != 3 {
		return false
	}
	key := uploadKey(r.Tokens[0], r.Tokens[2])
	if u := c.find(key); u != nil && u.take(r) {
		return true
	}
	failure := c.recall(key)
	switch {
	case failure != nil:
	case t == nil:
		return false // the transaction's own reason says more
	default:
		failure = service.Errorf(service.CodeGone, "the copy has ended, or never was")
	}
	r.Answer(service.Reply{}, failure)
	return true
}

func (c *Copier) find(key string) *upload {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uploads[key]
}

// recall returns the error of an upload that has failed, once.
func (c *Copier) recall(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed.take(key)
}

// failures are the last errors of uploads, each for who asks first.
type failures struct {
	errors map[string]error
	order  []string
}

func (f *failures) add(key string, err error) {
	if f.errors == nil {
		f.errors = make(map[string]error)
	}
	f.errors[key] = err
	f.order = append(f.order, key)
	if len(f.order) > rememberedFailures {
		delete(f.errors, f.order[0])
		f.order = f.order[1:]
	}
}

func (f *failures) take(key string) error {
	err := f.errors[key]
	delete(f.errors, key)
	return err
}
