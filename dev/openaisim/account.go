// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// accountKey names one set of buckets: an organization's share of one model
// group. Two API keys of the same organization draw on the same buckets.
type accountKey struct {
	organization string
	group        string
}

// limits are the bucket sizes of one account. A zero perDay or projectTokens
// switches that bucket off.
type limits struct {
	tokens, requests      int64
	perDay, projectTokens int64
	background            int64
}

// account holds the buckets of one accountKey. All of them are charged under
// one lock, so a call is admitted by every bucket or by none.
type account struct {
	key   accountKey
	cache *promptCache

	mu         sync.Mutex
	generation int64
	tokens     bucket
	requests   bucket
	perDay     *bucket
	project    *bucket
	charged    int64
}

// newAccount returns an account with full buckets, its limits those of one
// generation of the settings.
func newAccount(key accountKey, l limits, generation int64, now time.Time) *account {
	a := &account{key: key, cache: newPromptCache(), generation: generation}
	a.tokens = newBucket(l.tokens, minute, now)
	a.requests = newBucket(l.requests, minute, now)
	a.applyLocked(l, now)
	return a
}

// applyLocked puts new limits in force from now on.
func (a *account) applyLocked(l limits, now time.Time) {
	a.tokens.setLimit(l.tokens, l.background)
	a.requests.setLimit(l.requests, 0)
	a.perDay = resize(a.perDay, l.perDay, day, now)
	a.project = resize(a.project, l.projectTokens, minute, now)
}

// resize changes, creates or drops an optional bucket.
func resize(b *bucket, limit int64, window time.Duration, now time.Time) *bucket {
	switch {
	case limit == 0:
		return nil
	case b == nil:
		fresh := newBucket(limit, window, now)
		return &fresh
	default:
		b.setLimit(limit, 0)
		return b
	}
}

// syncLocked refills every bucket up to now, then follows the settings when
// they are newer than the ones this account last saw.
func (a *account) syncLocked(now time.Time, s *settings) {
	a.tokens.advance(now)
	a.requests.advance(now)
	if a.perDay != nil {
		a.perDay.advance(now)
	}
	if a.project != nil {
		a.project.advance(now)
	}
	if s.generation > a.generation {
		a.generation = s.generation
		a.applyLocked(s.limitsFor(a.key), now)
	}
}

// verdict is the outcome of an admission.
type verdict int

const (
	admitted verdict = iota
	tooLarge
	shortOfTokens
	shortOfProjectTokens
	shortOfRequests
	shortOfDailyRequests
)

// decision is what admission found, and what the reply has to say about it.
type decision struct {
	verdict                verdict
	limit, used, requested int64
	wait                   time.Duration
	levels                 levels
}

// level is one bucket as the x-ratelimit headers describe it. The zero value
// means that there is no such bucket.
type level struct {
	limit, remaining int64
	reset            time.Duration
}

// levels are the buckets right after admission: the provider's headers do not
// show what happens during generation.
type levels struct {
	tokens, requests, project level
}

// admit charges one call, or says why not. Requests are checked first; a call
// that is turned away still costs a request (the provider: "unsuccessful
// requests contribute to your per-minute limit") unless the settings say
// otherwise. One call larger than the whole bucket costs a request and leaves
// the tokens untouched, as seen in the headers of such a reply.
//
// The rate limit faults empty a bucket first, as an unseen client would: the
// refusal that follows is true, and stays true for other clients.
func (a *account) admit(clk clock.PassiveClock, s *settings, charge int64, fault FaultKind) decision {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.syncLocked(clk.Now(), s)
	switch fault {
	case FaultRateLimitTokens:
		a.tokens.drain(a.tokens.limit)
	case FaultRateLimitRequests:
		a.requests.drain(a.requests.limit)
	}
	d := a.decideLocked(charge)
	switch {
	case d.verdict == admitted:
		a.takeRequestLocked()
		a.tokens.take(charge)
		if a.project != nil {
			a.project.take(charge)
		}
		a.charged += charge
	case d.verdict == tooLarge || !s.config.SpareRequestsOnReject:
		a.takeRequestLocked()
	}
	if d.verdict == shortOfTokens && s.config.ChargeTokensOnReject {
		a.tokens.drain(charge)
	}
	d.levels = a.levelsLocked()
	return d
}

// decideLocked finds the first bucket that has no room for the call.
func (a *account) decideLocked(charge int64) decision {
	switch {
	case !a.requests.has(1):
		return shortage(shortOfRequests, &a.requests, 1)
	case a.perDay != nil && !a.perDay.has(1):
		return shortage(shortOfDailyRequests, a.perDay, 1)
	case charge > a.tokens.limit:
		return decision{verdict: tooLarge, limit: a.tokens.limit, requested: charge}
	case a.project != nil && charge > a.project.limit:
		return decision{verdict: tooLarge, limit: a.project.limit, requested: charge}
	case !a.tokens.has(charge):
		return shortage(shortOfTokens, &a.tokens, charge)
	case a.project != nil && !a.project.has(charge):
		return shortage(shortOfProjectTokens, a.project, charge)
	}
	return decision{verdict: admitted, requested: charge}
}

// shortage describes a bucket that has no room for n more.
func shortage(v verdict, b *bucket, n int64) decision {
	return decision{verdict: v, limit: b.limit, used: b.used(), requested: n, wait: b.wait(n)}
}

// takeRequestLocked charges one request to every request bucket.
func (a *account) takeRequestLocked() {
	a.requests.drain(1)
	if a.perDay != nil {
		a.perDay.drain(1)
	}
}

// takeRequest takes one request without asking for tokens: calls that are answered
// without a model, and calls the provider turns away as invalid.
func (a *account) takeRequest(clk clock.PassiveClock, s *settings) decision {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.syncLocked(clk.Now(), s)
	d := decision{verdict: admitted}
	switch {
	case !a.requests.has(1):
		d = shortage(shortOfRequests, &a.requests, 1)
	case a.perDay != nil && !a.perDay.has(1):
		d = shortage(shortOfDailyRequests, a.perDay, 1)
	}
	if d.verdict == admitted || !s.config.SpareRequestsOnReject {
		a.takeRequestLocked()
	}
	d.levels = a.levelsLocked()
	return d
}

// consume takes tokens and requests as a second client would, as far as they
// are there, and returns what it got.
func (a *account) consume(clk clock.PassiveClock, s *settings, tokens, requests int64) (gotTokens, gotRequests int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.syncLocked(clk.Now(), s)
	gotTokens = a.tokens.drain(tokens)
	if a.project != nil {
		a.project.drain(tokens)
	}
	gotRequests = a.requests.drain(requests)
	if a.perDay != nil {
		a.perDay.drain(requests)
	}
	return gotTokens, gotRequests
}

// snapshot returns the levels now and the tokens charged so far.
func (a *account) snapshot(clk clock.PassiveClock, s *settings) (levels, int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.syncLocked(clk.Now(), s)
	return a.levelsLocked(), a.charged
}

// levelsLocked reads the buckets. When a daily request limit exists, the
// request headers report that one: the published samples show reset values of
// 86400/limit seconds.
func (a *account) levelsLocked() levels {
	requests := &a.requests
	if a.perDay != nil {
		requests = a.perDay
	}
	l := levels{tokens: a.tokens.level(), requests: requests.level()}
	if a.project != nil {
		l.project = a.project.level()
	}
	return l
}

// level reads the bucket as of its last advance.
func (b *bucket) level() level {
	return level{limit: b.limit, remaining: b.remaining(), reset: b.toFull()}
}

// writeTo sets the x-ratelimit headers. Their keys are in canonical form.
func (l *levels) writeTo(h http.Header) {
	l.requests.writeTo(h, "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests")
	l.tokens.writeTo(h, "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens")
	l.project.writeTo(h, "X-Ratelimit-Limit-Project-Tokens", "X-Ratelimit-Remaining-Project-Tokens", "X-Ratelimit-Reset-Project-Tokens")
}

func (l level) writeTo(h http.Header, limit, remaining, reset string) {
	if l.limit == 0 {
		return
	}
	values := [...]string{strconv.FormatInt(l.limit, 10), strconv.FormatInt(l.remaining, 10), formatDuration(l.reset)}
	h[limit], h[remaining], h[reset] = values[0:1:1], values[1:2:2], values[2:3:3]
}
