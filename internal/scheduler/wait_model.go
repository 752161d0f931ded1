// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"time"

	"github.com/eco2-team/scan-operator/internal/budget"
)

// estimateWait estimates the time until a scan is assigned; ok is false if nothing can admit it.
func estimateWait(facts waitFacts) (d time.Duration, ok bool) {
	m := waitModel{
		own: facts.own, ahead: facts.ahead, tokensAhead: facts.tokensAhead,
		slots: facts.slots, busy: facts.busy, callSeconds: facts.callSeconds, aheadForSlots: facts.ahead,
		storesPerSecond: facts.storesPerSecond,
		running:         facts.running, aheadInStage: facts.ahead,
	}
	m.addBudgets(facts.budgets, facts.now)
	if answers := facts.answers; answers != nil {
		m.answerTokens, m.answersUseSlots = answers.tokens, answers.sameWorkers
		// All answers that wait are ahead, except those of a lower priority.
		m.aheadInStage = max(facts.ahead-answers.ready, 0)
		if !answers.sameWorkers {
			m.aheadForSlots = m.aheadInStage
		}
	}
	d, ok = m.estimate()
	if ok && !facts.notBefore.IsZero() {
		d = max(d, facts.notBefore.Sub(facts.now))
	}
	return d, ok
}

// waitModel estimates a wait from rates: of tokens, of requests, of slots that become free and of stored assignments.
type waitModel struct {
	// tokens and requests are what the budgets admit together. All of them admit nothing for the duration of held.
	tokens   capacity
	requests []capacity // per minute, and per day if every budget has such a limit
	held     time.Duration
	// own is what the scan reserves, zero if it needs no tokens. ahead is the number of scans that go first,
	// tokensAhead what they reserve.
	own         int64
	ahead       int
	tokensAhead int64
	// slots is the capacity of the workers and busy what is taken of it, each slot for callSeconds. aheadForSlots is
	// how many of the scans ahead need one.
	slots, busy, aheadForSlots int
	callSeconds                float64
	// answerTokens is what a scan of this stage reserves for its answer when it is done. Later stages go first, so
	// that happens before the scan's turn. running and aheadInStage are the scans of this stage under way and ahead.
	// answersUseSlots is set if answers need one of the slots too.
	answerTokens          float64
	running, aheadInStage int
	answersUseSlots       bool
	// storesPerSecond is the rate at which assignments are stored, which is the bottleneck with a slow API server.
	// Zero means unknown.
	storesPerSecond float64
}

// estimate estimates the time until the scan is assigned; ok is false if nothing can admit it.
//
// First go the scans ahead, and the answers that become ready meanwhile: those of the scans under way, which end
// evenly over the duration of a call, and those of the scans ahead that are assigned and done before the scan's own
// turn. The latter depend on the wait itself, so the wait is found by iteration.
func (m *waitModel) estimate() (d time.Duration, ok bool) {
	if m.slots == 0 {
		return 0, false
	}
	wait := 0.0
	for range 16 {
		answers := m.answersWithin(wait)
		longest := m.slotWait(answers)
		if m.storesPerSecond > 0 {
			longest = max(longest, (float64(m.ahead)+answers)/m.storesPerSecond)
		}
		if m.own > 0 {
			tokenWait, ok := m.tokens.timeFor(float64(m.tokensAhead+m.own) + m.answerTokens*answers)
			if !ok {
				return 0, false
			}
			longest = max(longest, tokenWait)
			for _, requests := range m.requests {
				requestWait, ok := requests.timeFor(float64(m.ahead+1) + answers)
				if !ok {
					return 0, false
				}
				longest = max(longest, requestWait)
			}
		}
		wait = longest
	}
	const most = 1e6 // seconds; beyond it only the order of magnitude counts
	return m.held + time.Duration(min(wait, most)*float64(time.Second)), true
}

// answersWithin is the number of answers that become ready within a time.
func (m *waitModel) answersWithin(seconds float64) float64 {
	if m.answerTokens == 0 || m.callSeconds <= 0 {
		return 0
	}
	n := float64(m.running) * min(seconds/m.callSeconds, 1)
	if seconds > m.callSeconds {
		n += float64(m.aheadInStage) * (seconds - m.callSeconds) / seconds
	}
	return n
}

// slotWait is the time until a slot is free, in seconds: slots become free evenly, each after the duration of a call.
func (m *waitModel) slotWait(answers float64) float64 {
	missing := float64(m.aheadForSlots + 1 - (m.slots - m.busy))
	if m.answersUseSlots {
		missing += answers
	}
	return max(missing, 0) * m.callSeconds / float64(m.slots)
}

// addBudgets adds up what budgets admit. Of held budgets only those with the shortest hold count; a budget that is
// held for an unknown time does not count.
func (m *waitModel) addBudgets(budgets []budget.Stats, now time.Time) {
	var minute, day capacity
	first, daily := true, true
	for i := range budgets {
		stats := &budgets[i]
		held, known := heldFor(stats, now)
		if !known || !first && held > m.held {
			continue
		}
		if first || held < m.held {
			first, m.held = false, held
			m.tokens, minute, day, daily = capacity{}, capacity{}, capacity{}, true
		}
		m.tokens.add(tokenCapacity(stats, held))
		minute.add(levelCapacity(&stats.Requests, stats.RatePercent, held))
		if d := stats.RequestsPerDay; d != nil {
			day.add(levelCapacity(d, stats.RatePercent, held))
		} else {
			daily = false
		}
	}
	if first {
		return
	}
	m.requests = append(m.requests, minute)
	if daily {
		m.requests = append(m.requests, day)
	}
}

// capacity is what a limit admits: level at once, and rate more per second.
type capacity struct{ level, rate float64 }

// timeFor is the time until n has been admitted, in seconds; ok is false if that never happens.
func (c capacity) timeFor(n float64) (seconds float64, ok bool) {
	if n <= c.level {
		return 0, true
	}
	if c.rate <= 0 {
		return 0, false
	}
	return (n - c.level) / c.rate, true
}

func (c *capacity) add(other capacity) {
	c.level += other.level
	c.rate += other.rate
}

// heldFor is how long a budget admits nothing; known is false if only an event ends the hold.
func heldFor(stats *budget.Stats, now time.Time) (held time.Duration, known bool) {
	until := stats.ResumeAt
	switch {
	case stats.Hold != "" && until.IsZero():
		return 0, false
	case stats.Hold == "" && stats.QuotaExhausted:
		until = stats.QuotaPeriodEnd
	}
	return max(until.Sub(now), 0), true
}

// tokenCapacity is what a budget admits after a hold, without the estimated use by other clients.
func tokenCapacity(stats *budget.Stats, held time.Duration) capacity {
	c := levelCapacity(&stats.Tokens, stats.RatePercent, held)
	if stats.Project != nil {
		project := levelCapacity(stats.Project, stats.RatePercent, held)
		c = capacity{level: min(c.level, project.level), rate: min(c.rate, project.rate)}
	}
	return c
}

// levelCapacity is what a bucket admits after a hold, during which it refills.
func levelCapacity(l *budget.Level, ratePercent int32, held time.Duration) capacity {
	c := capacity{level: float64(l.Available), rate: l.PerSecond(ratePercent)}
	if held > 0 {
		c.level = min(c.level+c.rate*held.Seconds(), float64(l.Limit))
	}
	return c
}
