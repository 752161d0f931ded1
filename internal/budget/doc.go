// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package budget is the token ledger. It decides when a call may be sent, so that the provider rejects none and
// the provider's limit is fully used.
//
// # The provider
//
// For tokens and for requests alike the provider keeps a bucket of capacity C (the limit) that refills
// continuously with r = C/60 per second. A call is charged at its admission, some time after its reservation in
// the ledger: the assignment is stored, the worker sees it, the call travels. So the time of the reservation tᵢ of
// call i is known, but its admission aᵢ only within bounds: tᵢ ≤ aᵢ ≤ uᵢ, where uᵢ is the time of its answer or,
// before that, tᵢ + D, with D the longest expected dispatch delay. (The answer is a bound because a call is admitted
// before it is answered. A call that was never admitted only leaves more in the bucket.)
//
// A mirror of the bucket that charges at tᵢ is not safe: while the provider's bucket is full it does not refill,
// so what it gained before a late charge is lost to it but not to the mirror. Up to r·D, on every burst.
//
// # The rule
//
// Charge the mirror as late as possible, and reserve as early as possible: each call is charged to the level B
// at uᵢ; until then it is pending, in P. A call of cost c may be reserved at t if
//
//	B(t) - P(t) ≥ c, with B capped at C and refilled with r.
//
// Theorem: if every aᵢ lies in [tᵢ, uᵢ], the provider's bucket always holds what a call costs, whatever the
// admissions are within their bounds.
//
// Proof. A bucket that started full has at time a, just after an admission, the level
//
//	S(a) = min over s ≤ a of C + r·(a-s) - A(s,a),  A(s,a) = charges admitted in [s,a],
//
// (the minimum is at s = the last time it was full). To be shown: S(a) ≥ 0 for every admission a, that is
// A(s,a) ≤ C + r·(a-s) for every s ≤ a. Every call admitted in [s,a] was reserved by a and has its uᵢ at or after
// s. Let t ≤ a be the time of the last of their reservations. Then
//
//	A(s,a) ≤ Σ{cᵢ : tᵢ ≤ t, uᵢ ≥ s}.
//
// If s ≤ t: the calls of this sum with uᵢ ≤ t were charged to B within [s,t], those with uᵢ > t are pending at
// t. B is likewise the minimum over s of C + r·(t-s) less what it was charged in [s,t]. So by the rule, just after
// the reservation at t, 0 ≤ B(t) - P(t) ≤ C + r·(t-s) - Σ{cᵢ : tᵢ ≤ t, uᵢ ≥ s}, hence A(s,a) ≤ C + r·(t-s) ≤
// C + r·(a-s). If s > t: the calls of the sum are among those pending at t, hence A(s,a) ≤ P(t) ≤ B(t) ≤ C. ∎
// (A uᵢ that turns out earlier than tᵢ + D only makes the sum smaller from then on.)
//
// No weaker rule is safe: if it is violated for some s, the admissions aᵢ = min(uᵢ, t) of the calls of the sum
// overdraw the bucket.
//
// The cost of the rule: none in steady state. With a backlog B stays near P, far below C, and all refill is used:
// the rate is r. After idle time the whole bucket C is admitted at once, and up to r·D of refill is lost while that
// burst is pending: with D = 2 s the first minute admits C + r·58 s, 1.97 times the limit. If headers show that the
// calls landed sooner, even that is recovered.
//
// The target utilization and the recovery from a "slow down" scale r, never C. So a call as large as C still
// fits, when nothing else is pending.
//
// # Rate-limit headers
//
// The headers of every answer state what was left right after the call's admission, seconds ago. The history of
// cumulative reservations projects observations of different times to the present: left then + refill since - own
// calls since. Which calls the provider had seen at that time is known only within bounds, so an observation is an
// interval. Its upper end lowers the mirror at once. The lower ends of the latest second raise it, by at most a
// quarter of the refill rate. The fall of the intervals' middles over seconds is what other clients of the same
// limit use; it is subtracted from the refill, because an observation is as old as its call is long. See meter and
// otherUsage.
package budget
