package stream

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Kind is what a stream is for. It decides what an existing stream must be like
// besides its subjects, so that whoever looks at one sees what its user will.
type Kind uint8

// The kinds of streams.
const (
	Any     Kind = iota // nothing more is asked of it
	Events              // of notifications
	Durable             // events from the write-ahead log
	Jobs
)

// MinEventBytes is what a stream of events must take: the largest NOTIFY payload,
// grown sixfold by JSON escapes in an envelope, and headers.
const MinEventBytes = 64 << 10

// suits says why a stream cannot serve its purpose.
func (k Kind) suits(have jetstream.StreamConfig) error {
	switch k {
	case Events:
		return takesEvents(have)
	case Durable:
		return keepsEvents(have)
	case Jobs:
		return isWorkQueue(have)
	case Any:
	}
	return nil
}

func takesEvents(have jetstream.StreamConfig) error {
	if have.MaxMsgSize > 0 && have.MaxMsgSize < MinEventBytes {
		return fmt.Errorf("max_msg_size is %d bytes, at least %d are needed", have.MaxMsgSize, MinEventBytes)
	}
	return nil
}

// keepsEvents says why a stream cannot keep what was acknowledged, in order.
func keepsEvents(have jetstream.StreamConfig) error {
	switch {
	case have.Retention != jetstream.LimitsPolicy:
		return errors.New("its retention is not limits: consumers would take events away")
	case have.SubjectDeleteMarkerTTL != 0:
		return errors.New("subject_delete_marker_ttl is set: the server would write messages between ours")
	case have.PersistMode == jetstream.AsyncPersistMode:
		return errors.New("persist_mode is async: what was acknowledged may be lost")
	case have.Storage != jetstream.FileStorage && have.Replicas == 1:
		return errors.New("one copy in memory: what was acknowledged is lost when the server restarts")
	case have.DiscardNewPerSubject && have.MaxMsgsPerSubject > 0:
		return errors.New("discard_new_per_subject is set: whoever fills one subject would stop all others, and gaps too")
	case len(have.Sources) > 0:
		return errors.New("it has sources: others would write between ours")
	}
	return nil
}

// isWorkQueue says why a stream is no queue of jobs, forgets some before they are done, or
// lets whoever may leave one do more than that.
func isWorkQueue(have jetstream.StreamConfig) error {
	switch {
	case have.Retention != jetstream.WorkQueuePolicy:
		return fmt.Errorf("its retention is %s, jobs need a work queue", strings.ToLower(have.Retention.String()))
	case have.Discard == jetstream.DiscardOld && (have.MaxMsgs > 0 || have.MaxBytes > 0 || have.MaxMsgsPerSubject > 0):
		return errors.New("its discard is old, and it has a limit: new jobs would put out others that are not done; set it to new")
	case have.AllowMsgSchedules: // with which a server sets allow_rollup_hdrs, too
		return errors.New("allow_msg_schedules is set: whoever leaves a job could leave others, and remove those that wait")
	case have.AllowRollup:
		return errors.New("allow_rollup_hdrs is set: whoever leaves a job could remove all others")
	}
	return nil
}
