// Package budget is the token ledger: it decides when a call may be sent, so that the provider never has to turn
// one away, and that none of what the provider grants is left unused.
//
// # The provider
//
// For tokens and for requests alike the provider keeps a bucket of capacity C (the limit) that refills
// continuously with r = C/60 per second. A call is charged at its admission, which is some time after it was
// reserved here: the order must be stored, the worker must see it, the call must travel. So the ledger knows when
// it reserved call i (tᵢ), but of the admission aᵢ only that tᵢ ≤ aᵢ ≤ uᵢ, where uᵢ is the instant its answer
// came or, while it has not, tᵢ + D, with D the longest dispatch delay that is reckoned with. (The answer bounds
// it because a call is admitted before it is answered. A call that was never admitted only leaves more in the
// bucket.)
//
// A mirror of the bucket that charges at tᵢ is not safe: while the provider's bucket is full it does not refill,
// so what it gained before a late charge is lost to it but not to the mirror. Up to r·D, on every burst.
//
// # The rule
//
// Charge the mirror as late as possible, and reserve as early as possible: each call is charged to the level B
// at uᵢ, and until then it is pending, in P. A call of cost c may be reserved at t if
//
//	B(t) - P(t) ≥ c, with B capped at C and refilled with r.
//
// Theorem: if every aᵢ lies in [tᵢ, uᵢ], the provider's bucket never lacks what a call costs, whatever the
// admissions are within their bounds.
//
// Proof. Written out, a bucket that started full has at an instant a, just after admitting what it admitted,
//
//	S(a) = min over s ≤ a of C + r·(a-s) - A(s,a),  A(s,a) = charges admitted in [s,a],
//
// (s = the last instant it was full gives the minimum, all others give more). It must be shown that S(a) ≥ 0 for
// every admission a, that is A(s,a) ≤ C + r·(a-s) for every s ≤ a. Every call admitted in [s,a] was reserved by
// a and has its uᵢ at or after s. Let t ≤ a be the instant of the last of their reservations. Then
//
//	A(s,a) ≤ Σ{cᵢ : tᵢ ≤ t, uᵢ ≥ s}.
//
// If s ≤ t: the calls of this sum with uᵢ ≤ t were charged to B within [s,t], those with uᵢ > t are pending at
// t. B, too, is the minimum over s of C + r·(t-s) less what it was charged in [s,t]. So the rule, just after the
// reservation at t, says 0 ≤ B(t) - P(t) ≤ C + r·(t-s) - Σ{cᵢ : tᵢ ≤ t, uᵢ ≥ s}, hence A(s,a) ≤ C + r·(t-s) ≤
// C + r·(a-s). If s > t: the calls of the sum are among those pending at t, hence A(s,a) ≤ P(t) ≤ B(t) ≤ C. ∎
// (A uᵢ that turns out earlier than tᵢ + D only makes the sum smaller from then on.)
//
// The rule is also the weakest one that is safe: if it is broken for some s, the admissions aᵢ = min(uᵢ, t) for
// the calls of the sum overdraw the bucket.
//
// What it costs: in steady state nothing. With a backlog B hovers around P, far below C, and every bit of refill
// is used: the rate is r. After an idle time the whole bucket C is granted at once, and up to r·D of refill is
// lost while that burst is pending: with D = 2 s the first minute grants C + r·58 s, 1.97 times the limit. Where
// headers show that the calls landed sooner even that comes back.
//
// The target utilization and the recovery from a "slow down" scale r, never C. So a call as large as C still
// fits, when nothing else is pending.
//
// # The provider's word
//
// Every answer says what was left right after its admission, seconds ago. With cumulative reservations remembered
// by time (history), words about different instants are brought to the present: left then + refill since - ours
// since. Which calls the provider had seen at that instant is known within bounds only, so a word is an interval.
// Its upper end lowers the mirror at once. The lower end of the latest second raises it, by at most a quarter of
// the refill rate. The fall of the words' middles over seconds is what others take from the same limit; it is
// subtracted from the refill, because words are as old as calls are long. See meter and follower.
package budget
