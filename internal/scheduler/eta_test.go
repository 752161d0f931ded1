package scheduler

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/internal/budget"
)

func TestOutlook(t *testing.T) {
	tests := map[string]struct {
		outlook outlook
		want    time.Duration
		wantOK  bool
	}{
		"a full bucket": {
			outlook: outlook{rate: 1000, level: 60_000, own: 1000, slots: 10}, want: 0, wantOK: true,
		},
		"an empty bucket": {
			outlook: outlook{rate: 1000, own: 1000, slots: 10}, want: time.Second, wantOK: true,
		},
		"others ahead": {
			outlook: outlook{rate: 1000, level: 500, own: 1000, ahead: 5, tokensAhead: 5000, slots: 10}, want: 5500 * time.Millisecond, wantOK: true,
		},
		"calls under way want their next stage first": { // half of the ten are done in the time it takes
			outlook: outlook{rate: 1000, own: 1000, slots: 100, running: 10, follow: 200, seconds: 4}, want: 2 * time.Second, wantOK: true,
		},
		"busy workers": {
			outlook: outlook{rate: 1e6, level: 1e6, own: 1000, ahead: 9, slots: 10, busy: 10, seconds: 5}, want: 5 * time.Second, wantOK: true,
		},
		"a slow API server": {
			outlook: outlook{rate: 1e6, level: 1e6, own: 1000, ahead: 100, slots: 1000, stores: 50}, want: 2 * time.Second, wantOK: true,
		},
		"a slow API server that later stages use first": { // half of the ten are done in the time it takes
			outlook: outlook{rate: 1e6, level: 1e6, own: 1000, ahead: 35, slots: 1000, stores: 20, running: 10, follow: 200, seconds: 4}, want: 2 * time.Second, wantOK: true,
		},
		"a held budget": {
			outlook: outlook{rate: 1000, level: 60_000, own: 1000, slots: 10, held: 20 * time.Second}, want: 20 * time.Second, wantOK: true,
		},
		"no worker":              {outlook: outlook{rate: 1000, own: 1000}},
		"no budget":              {outlook: outlook{own: 1000, slots: 10}},
		"a stage without tokens": {outlook: outlook{slots: 10}, want: 0, wantOK: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := tc.outlook.wait()
			if ok != tc.wantOK || math.Abs((got-tc.want).Seconds()) > 0.02 {
				t.Errorf("wait = %s, %t; want %s, %t", got, ok, tc.want, tc.wantOK)
			}
		})
	}
}

// TestPredictedWaits lets a backlog run in simulated time and compares the wait predicted for each scan when it
// was created with the one it had.
func TestPredictedWaits(t *testing.T) {
	w := newWorld(t)
	w.standard(300_000)
	w.worker("w", "p", 1000)
	const seconds = 5
	due := map[string]time.Time{}
	finish := func() {
		for n, at := range due {
			if !w.clk.Now().Before(at) {
				delete(due, n)
				w.complete(n)
			}
		}
	}
	begin := func() {
		for n, obj := range w.store {
			if _, known := due[n.Name]; !known && obj.Status.Assignment != nil {
				due[n.Name] = w.clk.Now().Add(seconds * time.Second)
			}
		}
	}
	predicted, created, actual := map[string]time.Duration{}, map[string]time.Time{}, map[string]time.Duration{}
	for tick := range 4000 { // 400 s in steps of 100 ms
		if tick < 2000 && tick%5 == 0 && len(w.s.scans) < 400 { // 2 a second wait longer and longer, as 3 a second are too many
			for k := range 2 {
				n := fmt.Sprintf("s%d-%d", tick, k)
				w.create(n)
				created[n] = w.clk.Now()
				if s, ok := w.s.Standing(name(n)); ok && s.WaitKnown && tick > 300 {
					predicted[n] = s.Wait
				}
			}
		}
		w.worker("w", "p", 1000)
		finish()
		w.settle()
		begin()
		for n := range created {
			if st := w.get(n).Status.Stages; len(st) > 0 {
				if _, done := actual[n]; !done {
					actual[n] = w.clk.Since(created[n])
				}
			}
		}
		w.clk.Step(100 * time.Millisecond)
	}
	var errs, sum float64
	n := 0
	for name, p := range predicted {
		a, ok := actual[name]
		if !ok {
			continue
		}
		errs += math.Abs((p - a).Seconds())
		sum += a.Seconds()
		n++
	}
	if n < 100 || sum/float64(n) < 5 {
		t.Fatalf("%d predictions with a mean wait of %.1f s: the backlog is too small to tell", n, sum/float64(n))
	}
	t.Logf("%d predictions, mean wait %.1f s, mean error %.1f s", n, sum/float64(n), errs/float64(n))
	if errs > 0.25*sum {
		t.Errorf("mean error %.1f s of a mean wait of %.1f s, want at most a quarter", errs/float64(n), sum/float64(n))
	}
}

func TestNewcomerWait(t *testing.T) {
	w := newWorld(t)
	if _, ok := w.s.NewcomerWait("ns"); ok {
		t.Error("a wait is known without a pool")
	}
	w.standard(60_000)
	w.worker("w", "p", 1000)
	if got, ok := w.s.NewcomerWait("ns"); !ok || got != 0 {
		t.Errorf("wait with nothing queued = %s, %t; want none", got, ok)
	}
	for i := range 200 {
		w.create(fmt.Sprint("s", i))
	}
	w.settle()
	left := w.s.queue.Ready("ns", "vision")
	each := w.get("s0").Status.Assignment.ReservedTokens
	want := time.Duration(int64(left+1)*each) * time.Millisecond // 1000 tokens refill in a second
	got, ok := w.s.NewcomerWait("ns")
	if diff := got - want; !ok || diff.Abs() > 10*time.Second {
		t.Errorf("wait behind %d scans of %d tokens = %s, %t; want about %s", left, each, got, ok, want)
	}
}

// TestSlowStoresArePredicted lets assignments take up to 400 ms to be stored, while tokens and workers are plenty: the
// scans behind wait for the API server, and are told so.
func TestSlowStoresArePredicted(t *testing.T) {
	w := newWorld(t)
	w.standard(1_000_000_000)
	w.worker("w", "p", 10_000)
	w.fail = func(*write) error {
		w.clk.Step(400 * time.Millisecond / 16)
		return nil
	}
	for i := range 500 {
		w.create(fmt.Sprintf("s-%03d", i))
	}
	for range 8 {
		w.work() // 16 writes, decided at once and stored one after the other: after 200 ms on average
	}
	const left = 500 - 8*16
	got, ok := w.s.NewcomerWait("ns")
	if want := left * 200 * time.Millisecond / 16; !ok || got < want/2 || got > 2*want {
		t.Errorf("wait behind %d scans = %s, %t; want about %s", left, got, ok, want)
	}
}

func TestOursLeavesWhatOthersTake(t *testing.T) {
	tests := map[string]struct {
		stats budget.Stats
		want  float64
	}{
		"alone":                    {budget.Stats{TokensPerMinute: 1000, RatePercent: 95}, 950},
		"others in the account":    {budget.Stats{TokensPerMinute: 1000, RatePercent: 95, Tokens: budget.Level{ForeignPerMinute: 300}}, 650},
		"others in the project":    {budget.Stats{TokensPerMinute: 1000, RatePercent: 100, Project: &budget.Level{ForeignPerMinute: 400}}, 600},
		"others take all there is": {budget.Stats{TokensPerMinute: 1000, RatePercent: 50, Tokens: budget.Level{ForeignPerMinute: 900}}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ours(tc.stats); got != tc.want {
				t.Errorf("tokens per minute = %v, want %v", got, tc.want)
			}
		})
	}
}
