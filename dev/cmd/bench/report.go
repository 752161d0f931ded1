package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"
)

// simStats is the part of the simulated provider's counters that is used here.
type simStats struct {
	Admitted      int64            `json:"admitted"`
	TokensCharged int64            `json:"tokensCharged"`
	RateLimited   map[string]int64 `json:"rateLimited"`
	Errors        map[string]int64 `json:"errors"`
	MaxInFlight   int64            `json:"maxInFlight"`
	Payments      struct {
		Distinct         int64 `json:"distinct"`
		PaidMoreThanOnce int64 `json:"paidMoreThanOnce"`
	} `json:"payments"`
	Accounts []struct {
		TokenLimit      int64 `json:"tokenLimit"`
		TokensCharged   int64 `json:"tokensCharged"`
		TokensRemaining int64 `json:"tokensRemaining"`
	} `json:"accounts"`
}

// limit is what the accounts refill a minute, together; level what is left in their buckets.
func (s *simStats) limit() (n int64) {
	for _, a := range s.Accounts {
		n += a.TokenLimit
	}
	return n
}

func (s *simStats) level() (n int64) {
	for _, a := range s.Accounts {
		n += a.TokensRemaining
	}
	return n
}

// readSim returns nil where there is no simulated provider.
func readSim(ctx context.Context, base string) *simStats {
	if base == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/sim/stats", http.NoBody)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	s := &simStats{}
	if json.NewDecoder(resp.Body).Decode(s) != nil {
		return nil
	}
	return s
}

// report is what was measured.
type report struct {
	scans         []*scanRecord
	unfinished    int
	from, to      time.Time
	before, after *simStats
	last          *simStats
}

func (g *generator) report(from, to time.Time, before, after, last *simStats) *report {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &report{
		scans: slices.Collect(maps.Values(g.scans)), unfinished: g.next - g.done,
		from: from, to: to, before: before, after: after, last: last,
	}
}

func (r *report) print(w io.Writer) {
	var succeeded, inWindow, vain, charged int64
	reasons := map[string]int{}
	byUser := map[string][]*scanRecord{}
	for _, s := range r.scans {
		if s.finished.IsZero() {
			continue
		}
		byUser[s.user] = append(byUser[s.user], s)
		charged += s.charged
		if s.succeeded {
			succeeded++
			if !s.finished.Before(r.from) && s.finished.Before(r.to) {
				inWindow++
			}
		} else {
			vain += s.charged
			reasons[s.reason]++
		}
	}
	minutes := r.to.Sub(r.from).Minutes()
	fmt.Fprintf(w, "scans        created %d, succeeded %d (%.2f %%), failed %v, unfinished %d\n",
		len(r.scans), succeeded, 100*float64(succeeded)/float64(max(len(r.scans), 1)), reasons, r.unfinished)
	fmt.Fprintf(w, "throughput   %.1f scans/min over %.0f s\n", float64(inWindow)/minutes, r.to.Sub(r.from).Seconds())
	fmt.Fprintf(w, "tokens       %d charged, %d of them for scans that did not succeed\n", charged, vain)
	if r.before != nil && r.after != nil {
		limit := r.after.limit()
		used := r.after.TokensCharged - r.before.TokensCharged
		perScan := float64(charged) / float64(max(succeeded, 1))
		fmt.Fprintf(w, "utilization  provider charged %d tokens/min of %d allowed: %.2f %%; %.0f tokens per scan, so at most %.1f scans/min: %.2f %%\n",
			int64(float64(used)/minutes), limit, 100*float64(used)/minutes/float64(max(limit, 1)), perScan,
			float64(limit)/perScan, 100*float64(inWindow)/minutes/(float64(limit)/perScan))
		// What was there at the beginning could be spent, too. An account that the provider did not know then was full.
		held := r.before.level() + limit - r.before.limit()
		fmt.Fprintf(w, "buckets      held %d tokens (%.1f %% of a minute) when measuring began, %d when it ended: %.2f %% of what could be spent was\n",
			held, 100*float64(held)/float64(max(limit, 1)), r.after.level(), 100*float64(used)/(float64(held)+minutes*float64(limit)))
		fmt.Fprintf(w, "provider     429s %v, errors %v, most calls in flight %d, calls paid for more than once %d of %d\n",
			r.last.RateLimited, r.last.Errors, r.last.MaxInFlight, r.last.Payments.PaidMoreThanOnce, r.last.Payments.Distinct)
	}
	r.printForecasts(w)
	for _, user := range slices.Sorted(maps.Keys(byUser)) {
		scans := byUser[user]
		var tokens int64
		for _, s := range scans {
			if !s.finished.Before(r.from) && s.finished.Before(r.to) {
				tokens += s.charged
			}
		}
		fmt.Fprintf(w, "user %-8s %5d scans, %9d tokens while measured; wait %s; duration %s; overhead %s\n", user, len(scans), tokens,
			quantiles(scans, func(s *scanRecord) time.Duration { return s.wait }),
			quantiles(scans, func(s *scanRecord) time.Duration { return s.duration }),
			quantiles(scans, func(s *scanRecord) time.Duration { return s.duration - s.service - s.wait }))
	}
}

// printForecasts compares the waits that were predicted a second after creation with those that followed.
func (r *report) printForecasts(w io.Writer) {
	var errs []time.Duration
	var sumErr, sumBias, sumWait time.Duration
	for _, s := range r.scans {
		if s.foretold.at.IsZero() || s.began.IsZero() || s.created.Before(r.from) {
			continue
		}
		actual := max(s.began.Sub(s.foretold.at), 0)
		errs = append(errs, (s.foretold.wait - actual).Abs())
		sumErr += (s.foretold.wait - actual).Abs()
		sumBias += s.foretold.wait - actual
		sumWait += actual
	}
	if len(errs) == 0 {
		return
	}
	slices.Sort(errs)
	n := time.Duration(len(errs))
	fmt.Fprintf(w, "predictions  %d waits; actual mean %s, mean error %s (bias %s), P95 of the error %s\n", len(errs),
		(sumWait / n).Round(time.Millisecond), (sumErr / n).Round(time.Millisecond), (sumBias / n).Round(time.Millisecond),
		errs[int(0.95*float64(len(errs)-1))].Round(time.Millisecond))
}

// quantiles prints P50, P95 and P99.
func quantiles(scans []*scanRecord, of func(*scanRecord) time.Duration) string {
	if len(scans) == 0 {
		return "-"
	}
	d := make([]time.Duration, len(scans))
	for i, s := range scans {
		d[i] = of(s)
	}
	slices.SortFunc(d, cmp.Compare[time.Duration])
	at := func(q float64) time.Duration { return d[int(q*float64(len(d)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("P50 %s P95 %s P99 %s", at(0.50), at(0.95), at(0.99))
}
