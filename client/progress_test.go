package client_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
)

// TestWatchCopy is told how far the copy of an object is while a lock holds it up, for
// whoever asks for it.
func TestWatchCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	js, err := jetstream.New(w.Client)
	w.ok(err)
	store, err := js.CreateObjectStore(w.ctx(), jetstream.ObjectStoreConfig{Bucket: "imports"})
	w.ok(err)
	data := orders(1000)
	_, err = store.PutString(w.ctx(), "new.csv", data)
	w.ok(err)
	for _, caller := range []string{"", "al.ice"} {
		c := w.client(client.Options{Caller: caller})
		tx, err := w.client(client.Options{}).Begin(w.ctx(), client.TxOptions{})
		w.ok(err)
		_, err = tx.Run(w.ctx(), client.Script{SQL: "LOCK orders IN ACCESS EXCLUSIVE MODE"})
		w.ok(err)
		seen := make(chan [2]int64, 100)
		stop, err := c.WatchCopy("mine", func(bytes, total int64) { seen <- [2]int64{bytes, total} })
		w.ok(err)
		w.ok(w.Client.Publish("pgbridge.progress.mine", []byte("nonsense"))) // anybody may
		ended := make(chan error, 1)
		ctx := w.ctx()
		go func() {
			_, err := c.CopyObject(ctx, client.Script{Name: "import_orders"}, client.Object{Bucket: "imports", Name: "new.csv"}, client.CopyOptions{ID: "mine"})
			ended <- err
		}()
		select {
		case p := <-seen:
			if p[1] != int64(len(data)) || p[0] > p[1] {
				t.Errorf("it is told %d of %d bytes, there are %d", p[0], p[1], len(data))
			}
		case err := <-ended:
			t.Fatalf("the copy has ended: %v", err)
		case <-ctx.Done():
			t.Fatal("nothing was told")
		}
		w.ok(tx.Rollback(w.ctx()))
		w.ok(<-ended)
		stop()
	}
	harness.Equal(t, "orders", w.count("orders"), 2000)
	for _, id := range []string{"", "a.b", "*", "ü", strings.Repeat("x", 129)} {
		if _, err := w.client(client.Options{}).WatchCopy(id, nil); err == nil {
			t.Errorf("the id %q is taken", id)
		}
	}
	w.WantIdle()
}
