package testenv

import (
	"testing"
	"time"
)

const pollEvery = 5 * time.Millisecond

// Fewer returns how many of something a test that asks for n is to have: n, or a fifth
// of it in a short run, which is the race detector's, under which each costs ten times
// as much.
func Fewer(n int) int {
	if testing.Short() {
		return n / 5
	}
	return n
}

// Wait polls cond until it holds and fails the test when it does not within
// the timeout; what names it: "the listener to reconnect". It is for what
// cannot signal; where a channel can, receive from it.
func Wait(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	if !poll(timeout, cond) {
		t.Fatalf("waited %v in vain for %s", timeout, what)
	}
}

func poll(timeout time.Duration, cond func() bool) bool {
	deadline := time.After(timeout)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-deadline:
			return cond()
		}
	}
	return true
}
