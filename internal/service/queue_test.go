package service

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the limits, every request is served once, those of one key in
// order and never two batches of a key at a time.
func TestQueueKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c"}), 0, 200).Draw(t, "keys")
		seen := make(map[string][]string)
		var mu sync.Mutex
		var running atomic.Int32
		busy := make(map[string]*atomic.Bool)
		for _, key := range keys {
			busy[key] = new(atomic.Bool)
		}
		q := &queue{
			concurrency: rapid.IntRange(1, 4).Draw(t, "concurrency"),
			maxBatch:    rapid.IntRange(1, 5).Draw(t, "batch"),
			maxWaiting:  100 * len(keys),
			share:       rapid.Float64Range(0.1, 1).Draw(t, "share"),
			lanes:       make(map[string]*lane),
			lines:       make(map[string]*line),
		}
		q.serve = func(batch []*Request) {
			if n := running.Add(1); int(n) > q.concurrency {
				t.Errorf("%d batches at a time, want %d", n, q.concurrency)
			}
			key := batch[0].Tokens[0]
			if key != "" && !busy[key].CompareAndSwap(false, true) {
				t.Errorf("two batches of %q at a time", key)
			}
			if len(batch) > q.maxBatch || key == "" && len(batch) > 1 {
				t.Errorf("a batch of %d for %q", len(batch), key)
			}
			mu.Lock()
			for _, r := range batch {
				seen[key] = append(seen[key], r.Subject)
			}
			mu.Unlock()
			busy[key].Store(false)
			running.Add(-1)
		}
		want := make(map[string][]string)
		for i, key := range keys {
			name := fmt.Sprint(i)
			want[key] = append(want[key], name)
			if err := q.add(Place{Owner: name[:1], Key: key}, &Request{Subject: name, Tokens: []string{key}}); err != nil {
				t.Fatalf("request %d was refused: %v", i, err)
			}
		}
		q.wait()
		slices.Sort(seen[""])
		slices.Sort(want[""])
		for key := range want {
			if !slices.Equal(seen[key], want[key]) {
				t.Fatalf("key %q: served %v, want %v", key, seen[key], want[key])
			}
		}
		if q.waiting+q.running+q.serving+len(q.lanes)+len(q.lines)+len(q.turns) != 0 {
			t.Fatalf("left behind: %d waiting, %d running, %d serving, %d lanes, %d lines, %d turns",
				q.waiting, q.running, q.serving, len(q.lanes), len(q.lines), len(q.turns))
		}
	})
}
