// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// HoldReason is why a budget is held.
type HoldReason string

// The reasons of a hold.
const (
	// HoldQuotaExhausted: the provider's quota or credit is exhausted. Probe calls test when it is available again.
	HoldQuotaExhausted HoldReason = "QuotaExhausted"
	// HoldUnauthorized: the provider rejects the key. Ends when the key changes or a probe call succeeds.
	HoldUnauthorized HoldReason = "Unauthorized"
	// HoldUnreachable: calls of several scans failed without a success in between, because the provider could not be
	// reached or was unavailable. Probe calls test when it is available again.
	HoldUnreachable HoldReason = "Unreachable"
	// HoldRetryAfter: the provider demanded a wait longer than retryAfterBlock. Probe calls test whether it accepts calls
	// earlier.
	HoldRetryAfter HoldReason = "RetryAfter"
)

const (
	// probeFirst is the time to the first probe call of an exhausted quota or a rejected key. It doubles with each
	// failed probe, up to probeLast.
	probeFirst = ledgerTime(30 * time.Second)
	probeLast  = ledgerTime(5 * time.Minute)

	// A changed key reaches the workers when their kubelet has refreshed the mounted Secret, which takes up to 90 s.
	// Until then a rejected call may have carried the old key, or none: for keySpread after a change, the key is
	// probed every keyProbe.
	keySpread = ledgerTime(2 * time.Minute)
	keyProbe  = ledgerTime(10 * time.Second)
)

// hold blocks all calls except probes.
type hold struct {
	active   bool
	since    ledgerTime
	interval ledgerTime
	next     ledgerTime // time of the next probe; never: no probe
	probe    string     // id of the probe under way, or empty
}

// gate reports whether a probe may be sent, and if not, until when; never: until an event.
func (h *hold) gate(now ledgerTime) (probe bool, until ledgerTime) {
	if h.probe != "" {
		return false, never
	}
	return now >= h.next, h.next
}

// holds are the reasons to hold a budget.
type holds struct {
	quota, key, endpoint, retryAfter hold

	outage       evidence // of calls that failed since the last success
	failingSince ledgerTime
	version      string
	known        bool       // version is set
	changed      ledgerTime // when the key last changed
}

func (h *holds) all() [4]*hold { return [...]*hold{&h.quota, &h.key, &h.endpoint, &h.retryAfter} }

func (h *holds) init() { h.changed = -never }

// gate reports whether calls are held and until when, and if not, whether the next one is a probe.
func (h *holds) gate(now ledgerTime) (probe bool, until ledgerTime, held bool) {
	for _, one := range h.all() {
		if !one.active {
			continue
		}
		free, at := one.gate(now)
		if !free {
			held, until = true, max(until, at)
		}
		probe = true
	}
	return probe && !held, until, held
}

// probing marks a call as the probe of every hold.
func (h *holds) probing(id string) {
	for _, one := range h.all() {
		if one.active {
			one.probe = id
		}
	}
}

// canceled processes a probe that was never sent: the next one may be sent at once.
func (h *holds) canceled(id string) {
	for _, one := range h.all() {
		if one.probe == id {
			one.probe = ""
		}
	}
}

// inconclusive processes a probe that proved nothing: the next one follows after the same interval.
func (h *holds) inconclusive(id string, now ledgerTime) {
	for _, one := range h.all() {
		if one.active && one.probe == id {
			one.probe, one.next = "", now+one.interval
		}
	}
}

// settled processes a call that ended.
func (h *holds) settled(id string, r Result, reserved, now ledgerTime) {
	h.reached(id, r, reserved, now)
	switch r.Class {
	case v1alpha1.FailureQuotaExhausted:
		h.exhausted(id, r, now)
	case v1alpha1.FailureRateLimited:
		h.askedToWait(id, ledgerTime(r.RetryAfter), now)
	case v1alpha1.FailureUnauthorized:
		h.unauthorized(id, reserved, now)
	case "", v1alpha1.FailureRefused, v1alpha1.FailureInvalidOutput, v1alpha1.FailureNotClassifiable:
		// The model answered, so key and quota are valid. A call from before the hold proves nothing.
		for _, one := range [...]*hold{&h.quota, &h.key, &h.retryAfter} {
			if one.active && (one.probe == id || reserved > one.since) {
				*one = hold{}
			}
		}
	default:
	}
	h.inconclusive(id, now)
}

// exhausted holds the budget for lack of quota. Only a failed probe lengthens the interval: calls that were under way
// when the quota ran out fail together.
func (h *holds) exhausted(id string, r Result, now ledgerTime) {
	q := &h.quota
	switch {
	case !q.active:
		*q = hold{active: true, since: now, interval: probeFirst}
	case q.probe == id:
		q.interval = min(2*q.interval, probeLast)
	default:
		return
	}
	q.probe, q.next = "", now+max(q.interval, min(ledgerTime(r.RetryAfter), probeLast))
}

// unauthorized holds the budget until the key changes or a probe succeeds: the provider may accept the key later, and
// a worker may have received it later. A call from before a change carried the old key.
func (h *holds) unauthorized(id string, reserved, now ledgerTime) {
	if reserved < h.changed {
		return
	}
	k := &h.key
	switch {
	case !k.active:
		*k = hold{active: true, since: now, interval: probeFirst}
	case k.probe == id:
		k.interval = min(2*k.interval, probeLast)
	default:
		return
	}
	if now < h.changed+keySpread {
		k.interval = keyProbe
	}
	k.probe, k.next = "", now+k.interval
}

// setKey records which key is in use. A new key ends the hold for the key, and may have quota.
func (h *holds) setKey(version string, now ledgerTime) {
	if h.known && h.version == version {
		return
	}
	first := !h.known
	h.version, h.known = version, true
	if first {
		return
	}
	h.changed = now
	h.key = hold{}
	if h.quota.active {
		h.quota.interval, h.quota.next = probeFirst, min(h.quota.next, now)
	}
}

// Held reports whether the budget is held, why, and until when: the time of the next probe call, or zero while a
// probe is under way.
func (l *Ledger) Held(now time.Time) (reason HoldReason, until time.Time, held bool) {
	l.advance(now)
	for _, one := range [...]struct {
		*hold
		reason HoldReason
	}{
		{&l.holds.key, HoldUnauthorized},
		{&l.holds.quota, HoldQuotaExhausted},
		{&l.holds.endpoint, HoldUnreachable},
		{&l.holds.retryAfter, HoldRetryAfter},
	} {
		if one.active {
			_, at := one.gate(l.now)
			return one.reason, l.time(at), true
		}
	}
	return "", time.Time{}, false
}

// SetKeyVersion sets the version of the key in use. A change ends the hold HoldUnauthorized and, if the quota is
// exhausted, allows a probe call at once. The first version is only recorded; an empty one means that there is no key
// yet.
func (l *Ledger) SetKeyVersion(version string, now time.Time) {
	l.advance(now)
	l.holds.setKey(version, l.now)
}
