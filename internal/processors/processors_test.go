package processors

import (
	"context"
	"runtime"
	"slices"
	"testing"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		used []float64 // by look; what is left of the looks before some are given up are at idle
		idle float64
		want []int // that were used, one after the other
	}{
		{"idle", nil, 0.1, []int{1}},
		{"busy with one", nil, 0.85, []int{1}},
		{"a moment", []float64{1, 1, 0.5, 1, 1}, 0.1, []int{1}},
		{"more than one", []float64{1, 1, 1}, 1.3, []int{1, 2}},
		{"as many as there are", []float64{1, 1, 1, 2, 2, 2, 4, 4, 4}, 5.5, []int{1, 2, 4, 6}},
		{"for a while", []float64{0.95, 0.95, 0.95}, 0.2, []int{1, 2, 1}},
		{"not as few again as are not enough", []float64{1, 1, 1, 2, 2, 2}, 1.6, []int{1, 2, 4}},
		{"all at once", []float64{1, 1, 1, 2, 2, 2, 4, 4, 4}, 0, []int{1, 2, 4, 6, 1}},
	} {
		var got []int
		g := governor{allowed: func() int { return 6 }, use: func(n int) {
			if len(got) == 0 || got[len(got)-1] != n {
				got = append(got, n)
			}
		}}
		g.begin()
		for _, used := range tt.used {
			g.decide(used)
		}
		for range 2 * looks {
			g.decide(tt.idle)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v were used, want %v", tt.name, got, tt.want)
		}
	}
}

// A process begins with one, and has all of them when nobody governs any more.
func TestGovern(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	all := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Govern(ctx) }()
	for runtime.GOMAXPROCS(0) != 1 || Most() != all {
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := runtime.GOMAXPROCS(0); n != all || Most() != all {
		t.Errorf("%d are used and %d allowed behind it, want %d", n, Most(), all)
	}
	t.Setenv("GOMAXPROCS", "3")
	if err := Govern(t.Context()); err != nil {
		t.Errorf("with GOMAXPROCS: %v", err)
	}
}
