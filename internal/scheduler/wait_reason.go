// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"strconv"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// waitReason is why the first scan of a lane cannot be assigned now.
type waitReason struct {
	// message applies to the whole lane. need is appended for the first scan, whose own need it is.
	reason, message, need string
	// retryAt is when to try again if nothing else happens; zero if only an event helps.
	retryAt time.Time
}

// explain returns a message for users: how much goes first, how long that may take, and what is short.
func (r *waitReason) explain(ahead queue.Position, wait time.Duration) string {
	var lead, rest string
	switch n := ahead.Ahead; {
	case n == 0:
		lead, rest = "next in line", r.message+r.need
	case r.reason == v1alpha1.ReasonWaitingForTokens && ahead.TokensAhead > 0:
		lead, rest = thousands(ahead.TokensAhead)+" tokens ahead", scansAhead(n)+", "+r.message
	default:
		lead, rest = scansAhead(n), r.message
	}
	if wait > 0 {
		lead += ", about " + humanWait(wait)
	}
	return lead + "; " + rest
}

func scansAhead(scans int) string {
	if scans == 1 {
		return "1 scan goes first"
	}
	return strconv.Itoa(scans) + " scans go first"
}

// denial is why a pool cannot take a scan now.
type denial struct {
	waitReason
	// onlyThis is true if a smaller scan of the same lane might be admitted.
	onlyThis bool
	// deferUntil means that the obstacle is this scan's alone: it leaves the queue until then, and all others go on.
	deferUntil time.Time
	// impossible is true if waiting does not help.
	impossible bool
}

// keepNearest keeps the denial that ends first: of several pools or budgets, the one to wait for.
func (d *denial) keepNearest(other denial) {
	switch {
	case d.reason == "":
		*d = other
	case d.impossible != other.impossible:
		if d.impossible {
			*d = other
		}
	case d.retryAt.IsZero() && !other.retryAt.IsZero(),
		!other.retryAt.IsZero() && other.retryAt.Before(d.retryAt):
		*d = other
	}
}

// denied returns a denial that only an event ends.
func denied(reason, message string) denial {
	return denial{waitReason: waitReason{reason: reason, message: message}}
}

// maxHeadWait is how long smaller scans wait behind the first in line. The bucket accumulates tokens for that scan
// meanwhile, so keeping the order wastes nothing. If a call is so large that the others would wait for longer, they
// may pass it, within the bounds of the queue's aging.
const maxHeadWait = time.Second

// budgetDenial translates a ledger's verdict.
func budgetDenial(tb *budgetState, v budget.Verdict, need int64, now time.Time) denial {
	d := denial{waitReason: waitReason{retryAt: v.RetryAt}}
	switch v.Dimension {
	case budget.Tokens:
		d.reason, d.onlyThis = v1alpha1.ReasonWaitingForTokens, v.RetryAt.Sub(now) > maxHeadWait || v.RetryAt.IsZero()
		d.message = fmt.Sprintf("TokenBudget %q has reached its token limit", tb.name.Name)
		d.need = fmt.Sprintf("; this call needs %s tokens", thousands(need))
	case budget.Requests:
		d.reason = v1alpha1.ReasonWaitingForRequests
		d.message = fmt.Sprintf("TokenBudget %q has reached its request limit", tb.name.Name)
	case budget.QuotaTokens:
		d.reason = v1alpha1.ReasonWaitingForQuota
		d.message = fmt.Sprintf("TokenBudget %q has exhausted spec.quota until %s; raise it to continue earlier", tb.name.Name, v.RetryAt.UTC().Format(time.RFC3339))
	case budget.TooLarge:
		d.reason, d.impossible = v1alpha1.ReasonRequestTooLarge, tb.final(v, now)
		d.message = tooLarge(tb, v)
		if !d.impossible { // smaller calls of the same lane may fit
			d.reason, d.onlyThis, d.retryAt = v1alpha1.ReasonWaitingForTokens, true, now.Add(probePrecedence)
			d.message += "; it waits, for that limit is new"
		}
	default:
		d.reason, d.message = heldReason(tb, now)
	}
	return d
}

// tooLarge names the limit that a call exceeds, and the field that sets it.
func tooLarge(tb *budgetState, v budget.Verdict) string {
	field := "tokensPerMinute"
	if v.OwnQuota {
		field = "quota.tokens"
	}
	return fmt.Sprintf("the call needs %d tokens and TokenBudget %q allows no more than %d (%s)", v.Need, tb.name.Name, v.Limit, field)
}

// final reports whether a call that is too large can be given up: the spec says so, and has for a while. A limit that a
// header shows may be a mistake, and a spec that was just changed a typo.
func (tb *budgetState) final(v budget.Verdict, now time.Time) bool {
	return !v.ByHeader && !tb.justChanged(now)
}

// blockedDenial is the denial of a model whose calls are blocked.
func blockedDenial(tb *budgetState, model string, until time.Time) denial {
	message := fmt.Sprintf("calls of model %q with TokenBudget %q are blocked; check the key's permissions, and proxies and "+
		"firewalls in front of the provider", model, tb.name.Name)
	if !until.IsZero() {
		message += "; the next probe call is due at " + until.UTC().Format(time.RFC3339)
	}
	return denial{waitReason: waitReason{reason: v1alpha1.ReasonWaitingForBudget, message: message, retryAt: until}}
}

// otherProbeFirst is the denial of a scan whose own call was a reason of the hold.
func otherProbeFirst(tb *budgetState, turn time.Time) denial {
	return denial{deferUntil: turn, waitReason: waitReason{
		reason: v1alpha1.ReasonWaitingForBudget, retryAt: turn,
		message: fmt.Sprintf("TokenBudget %q is tested by a probe call; the call of this scan failed, so that others are tried first", tb.name.Name),
	}}
}

// unservedDenial is the denial of a model that the budget's spec may have served a moment ago.
func unservedDenial(tb *budgetState, model string) denial {
	return denial{onlyThis: true, waitReason: waitReason{
		reason: v1alpha1.ReasonWaitingForBudget, retryAt: tb.changedAt.Add(specSettle),
		message: fmt.Sprintf("TokenBudget %q was just changed and does not list model %q; the scan is rejected if that stands for %s", tb.name.Name, model, specSettle),
	}}
}

func ejectedMessage(p *pool) string {
	return fmt.Sprintf("the calls of the free workers of WorkerPool %q fail or lack a key; probe calls test them", p.name.Name)
}

// claimedDenial is the denial by a budget that accumulates tokens for the first scan in line.
func claimedDenial(tb *budgetState, until time.Time) denial {
	return denial{waitReason: waitReason{
		reason: v1alpha1.ReasonWaitingForTokens, retryAt: until,
		message: fmt.Sprintf("TokenBudget %q accumulates tokens for an earlier scan of another stage or model", tb.name.Name),
	}}
}

// heldReason explains why a budget is held.
func heldReason(tb *budgetState, now time.Time) (reason, message string) {
	hold, until, _ := tb.ledger.Held(now)
	next := ""
	if !until.IsZero() {
		next = "; the next probe call is due at " + until.UTC().Format(time.RFC3339)
	}
	switch hold {
	case budget.HoldUnauthorized:
		return v1alpha1.ReasonWaitingForBudget, fmt.Sprintf(
			"the provider rejected the key of TokenBudget %q; correct Secret %q%s", tb.name.Name, tb.spec.SecretRef.Name, next)
	case budget.HoldUnreachable:
		return v1alpha1.ReasonWaitingForBudget, fmt.Sprintf(
			"the provider of TokenBudget %q fails every call; check its endpoint and the network%s", tb.name.Name, next)
	case budget.HoldRetryAfter:
		return v1alpha1.ReasonWaitingForTokens, fmt.Sprintf(
			"the provider asked TokenBudget %q to wait for more than five minutes%s", tb.name.Name, next)
	default:
		return v1alpha1.ReasonWaitingForQuota, fmt.Sprintf(
			"the provider's quota for TokenBudget %q is exhausted; add credit or raise the limit at the provider%s", tb.name.Name, next)
	}
}

func noPoolMessage(stage v1alpha1.StageName) string {
	return fmt.Sprintf("no WorkerPool in this namespace runs stage %s; create one", stage)
}

func busyMessage(p *pool) string {
	if p.workers.len() == 0 {
		return fmt.Sprintf("WorkerPool %q has no live worker", p.name.Name)
	}
	return fmt.Sprintf("all %d workers of WorkerPool %q are busy or draining", p.workers.len(), p.name.Name)
}

// thousands formats a number of tokens for users: "412", "12 k", "3.4 M".
func thousands(n int64) string {
	switch {
	case n < 10_000:
		return strconv.FormatInt(n, 10)
	case n < 999_500:
		return strconv.FormatInt((n+500)/1000, 10) + " k"
	default:
		return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " M"
	}
}

// humanWait formats a wait for users: "less than 1 s", "12 s", "5 min", "3 h".
func humanWait(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1 s"
	case d < 100*time.Second:
		return strconv.Itoa(int(d.Round(time.Second).Seconds())) + " s"
	case d < 100*time.Minute:
		return strconv.Itoa(int(d.Round(time.Minute).Minutes())) + " min"
	default:
		return strconv.Itoa(int(d.Round(time.Hour).Hours())) + " h"
	}
}
