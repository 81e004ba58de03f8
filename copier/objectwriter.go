package copier

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// nuidPattern is what may stand in the subject of an object's chunks. Whoever may
// write a bucket's metadata could have put > there, which means the chunks of all.
var nuidPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// headerRoom is what a chunk has besides its data.
const headerRoom = 512 + 4*maxObjectName/3

// unconfirmed is how many messages of an object JetStream may have to confirm, where there
// is memory for them.
const unconfirmed = 32

// objectWriter stores an object, see
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md.
// The client library's Put purges whatever the old object's metadata names, and
// holds any amount of unconfirmed data. It is for one goroutine.
type objectWriter struct {
	copying *copying
	stream  jetstream.Stream
	nuid    string
	block   int    // bytes in a chunk
	buffer  []byte // of the next one
	digest  hash.Hash
	size    int
	chunks  int
	acks    []jetstream.PubAckFuture // of what is unconfirmed
	memory  *budget.Hold             // for that, and the buffer
	most    int                      // messages that may be unconfirmed
}

// newObjectWriter begins an object in the bucket.
func (k *copying) newObjectWriter(ctx context.Context) (*objectWriter, error) {
	chunks, err := k.copier.js.Stream(ctx, streamOf(k.object.Bucket))
	if err != nil {
		return nil, k.storeError(ctx, err)
	}
	o := &objectWriter{
		copying: k, stream: chunks, nuid: nuid.Next(), digest: sha256.New(), memory: k.task.Request.Memory(),
		block: min(objectBlock, int(k.copier.config.Requests.MaxPayload())-headerRoom),
	}
	got, err := o.memory.GrowUpTo(2*o.block, (unconfirmed+1)*o.block)
	if err != nil {
		return nil, service.AsError(err)
	}
	o.most = got/o.block - 1
	return o, nil
}

func streamOf(bucket string) string { return "OBJ_" + bucket }

func chunkSubject(bucket, nuid string) string { return "$O." + bucket + ".C." + nuid }

func metaSubject(bucket, name string) string { return "$O." + bucket + ".M." + encodedName(name) }

func encodedName(name string) string { return base64.URLEncoding.EncodeToString([]byte(name)) }

// removeOld removes the chunks of the object that had the name before, if they say
// that they are its: its metadata could name another object's. What is left only
// takes room.
func (o *objectWriter) removeOld(ctx context.Context, old *jetstream.ObjectInfo) {
	if old == nil || old.NUID == o.nuid || !nuidPattern.MatchString(old.NUID) {
		return
	}
	object := o.copying.object
	subject := chunkSubject(object.Bucket, old.NUID)
	last, err := o.stream.GetLastMsgForSubject(ctx, subject)
	if err != nil || last.Header.Get(api.HeaderObject) != encodedName(object.Name) {
		return
	}
	_ = o.stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// add appends data.
func (o *objectWriter) add(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		if o.buffer == nil {
			o.buffer = make([]byte, 0, o.block)
		}
		n := min(len(data), o.block-len(o.buffer))
		o.buffer, data = append(o.buffer, data[:n]...), data[n:]
		if len(o.buffer) == o.block {
			if err := o.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends a chunk.
func (o *objectWriter) send(ctx context.Context) error {
	if len(o.buffer) == 0 {
		return nil
	}
	_, _ = o.digest.Write(o.buffer)
	bucket := o.copying.object.Bucket
	message := &nats.Msg{ // whose memory it keeps, to send it again
		Subject: chunkSubject(bucket, o.nuid), Data: o.buffer,
		Header: nats.Header{api.HeaderObject: {encodedName(o.copying.object.Name)}},
	}
	ack, err := o.copying.copier.js.PublishMsgAsync(message, jetstream.WithExpectStream(streamOf(bucket)))
	if err != nil {
		return o.copying.storeError(ctx, err)
	}
	o.acks = append(o.acks, ack)
	o.size += len(o.buffer)
	o.chunks++
	o.buffer = nil
	return o.confirm(ctx, o.most)
}

// confirm waits until no more than so many messages are unconfirmed.
func (o *objectWriter) confirm(ctx context.Context, most int) error {
	silence := time.NewTimer(o.copying.stall)
	defer silence.Stop()
	for len(o.acks) > most {
		select {
		case <-o.acks[0].Ok():
		case err := <-o.acks[0].Err():
			return o.refusal(ctx, err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C:
			return service.Errorf(service.CodeUnavailable, "JetStream has confirmed nothing of the object for %s", o.copying.stall)
		}
		silence.Reset(o.copying.stall)
		o.acks = o.acks[1:]
	}
	return nil
}

// refusal is an error of the bucket's stream as clients see it. What the bucket takes no
// more by its own limits it would not take the next time either: a job that is told to
// wait would be done again and again, for ever.
func (o *objectWriter) refusal(ctx context.Context, err error) error {
	bucket := o.copying.object.Bucket
	if why := stream.Refuses(ctx, o.stream, o.block+headerRoom, err); why != "" {
		return service.Errorf(service.CodeTooLarge, "the bucket %q does not take the object: %s", bucket, why).WithCause(err)
	}
	return o.copying.storeError(ctx, err)
}

// publish makes the object seen under its name, and removes the chunks of the one
// that had it.
func (o *objectWriter) publish(ctx context.Context, store jetstream.ObjectStore) (*jetstream.ObjectInfo, error) {
	k := o.copying
	if err := o.send(ctx); err != nil {
		return nil, err
	}
	if err := o.confirm(ctx, 0); err != nil {
		return nil, err
	}
	old, _ := store.GetInfo(ctx, k.object.Name) // nothing to remove then
	info := &jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: k.object.Name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: uint32(o.block)}},
		Bucket:     k.object.Bucket, NUID: o.nuid, Size: uint64(o.size), Chunks: uint32(o.chunks), Digest: api.FormatDigest(o.digest),
	}
	if err := k.putInfo(ctx, info); err != nil {
		return nil, o.refusal(ctx, err)
	}
	o.removeOld(ctx, old)
	return info, nil
}

// putInfo writes an object's metadata.
func (k *copying) putInfo(ctx context.Context, info *jetstream.ObjectInfo) error {
	data, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode an object's metadata: %w", err)
	}
	_, err = k.copier.js.PublishMsg(ctx, &nats.Msg{
		Subject: metaSubject(k.object.Bucket, info.Name), Data: data,
		Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}},
	}, jetstream.WithExpectStream(streamOf(k.object.Bucket)))
	return err
}

// there looks whether all chunks are: others may purge them.
func (o *objectWriter) there(ctx context.Context) error {
	k := o.copying
	subject := chunkSubject(k.object.Bucket, o.nuid)
	info, err := o.stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return k.storeError(ctx, err)
	}
	if n := info.State.Subjects[subject]; n != uint64(o.chunks) {
		return service.Errorf(service.CodeUnavailable, "of the %d chunks of the object %q in the bucket %q there are %d: somebody has removed some",
			o.chunks, k.object.Name, k.object.Bucket, n)
	}
	return nil
}

// remove takes back what was written, and the name if the object still has it.
func (o *objectWriter) remove(ctx context.Context) error {
	k := o.copying
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	store, err := k.store(ctx)
	if err != nil {
		return err
	}
	if now, err := store.GetInfo(ctx, k.object.Name); err == nil && now.NUID == o.nuid {
		now.Deleted, now.Size, now.Chunks, now.Digest = true, 0, 0, ""
		if err := k.putInfo(ctx, now); err != nil {
			return fmt.Errorf("delete the object: %w", err)
		}
	}
	return o.stream.Purge(ctx, jetstream.WithPurgeSubject(chunkSubject(k.object.Bucket, o.nuid)))
}
