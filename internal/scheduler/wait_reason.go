package scheduler

import (
	"fmt"
	"strconv"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// waitReason is why the first scan of a lane cannot go now.
type waitReason struct {
	// message is what holds up the lane; need is added to it for the first scan, whose own need it is.
	reason, message, need string
	// retryAt is when it is worth another look if nothing else happens; zero where only an event helps.
	retryAt time.Time
}

// explain says for people why a scan waits: how much goes first, how long that may take, and what it is that is short.
func (b *waitReason) explain(ahead queue.Position, wait time.Duration) string {
	var lead, rest string
	switch n := ahead.Ahead; {
	case n == 0:
		lead, rest = "next in line", b.message+b.need
	case b.reason == v1alpha1.ReasonWaitingForTokens && ahead.TokensAhead > 0:
		lead, rest = thousands(ahead.TokensAhead)+" tokens ahead", goFirst(n)+", "+b.message
	default:
		lead, rest = goFirst(n), b.message
	}
	if wait > 0 {
		lead += ", about " + humanWait(wait)
	}
	return lead + "; " + rest
}

func goFirst(scans int) string {
	if scans == 1 {
		return "1 scan goes first"
	}
	return strconv.Itoa(scans) + " scans go first"
}

// denial is why a pool cannot take a scan now.
type denial struct {
	waitReason
	// onlyThis says that a smaller scan of the same lane might be taken.
	onlyThis bool
	// impossible says that waiting will not help.
	impossible bool
}

// keepNearest keeps the refusal that is nearest to being lifted: of several pools or budgets, the one to wait for.
func (r *denial) keepNearest(other denial) {
	switch {
	case r.reason == "":
		*r = other
	case r.impossible != other.impossible:
		if r.impossible {
			*r = other
		}
	case r.retryAt.IsZero() && !other.retryAt.IsZero(),
		!other.retryAt.IsZero() && other.retryAt.Before(r.retryAt):
		*r = other
	}
}

// denied is a refusal of which only an event helps.
func denied(reason, message string) denial {
	return denial{waitReason: waitReason{reason: reason, message: message}}
}

// maxHeadWait is how long smaller scans wait behind one that is first in line. While it waits the bucket fills for
// it, so that nothing is lost by keeping the order; only a call so large that it holds up the others for longer is
// passed by them, within the bounds of the queue's aging.
const maxHeadWait = time.Second

// budgetDenial translates a ledger's verdict.
func budgetDenial(tb *budgetState, v budget.Verdict, need int64, now time.Time) denial {
	r := denial{waitReason: waitReason{retryAt: v.RetryAt}}
	switch v.Dimension {
	case budget.Tokens:
		r.reason, r.onlyThis = v1alpha1.ReasonWaitingForTokens, v.RetryAt.Sub(now) > maxHeadWait || v.RetryAt.IsZero()
		r.message = fmt.Sprintf("the token limit of TokenBudget %q is used up for now", tb.name.Name)
		r.need = fmt.Sprintf("; this call needs %s tokens", thousands(need))
	case budget.Requests:
		r.reason = v1alpha1.ReasonWaitingForRequests
		r.message = fmt.Sprintf("the request limit of TokenBudget %q is used up for now", tb.name.Name)
	case budget.QuotaTokens:
		r.reason = v1alpha1.ReasonWaitingForQuota
		r.message = fmt.Sprintf("spec.quota of TokenBudget %q is used up until %s; raise it to go on earlier", tb.name.Name, v.RetryAt.UTC().Format(time.RFC3339))
	case budget.TooLarge:
		r.reason, r.impossible = v1alpha1.ReasonRequestTooLarge, true
		r.message = tooLarge(tb, v)
	default:
		r.reason, r.message = heldReason(tb, now)
	}
	return r
}

// tooLarge says which limit a call exceeds, and which number to change.
func tooLarge(tb *budgetState, v budget.Verdict) string {
	field := "tokensPerMinute"
	if v.OwnQuota {
		field = "quota.tokens"
	}
	return fmt.Sprintf("it needs %d tokens in one call and TokenBudget %q allows no more than %d (%s)", v.Need, tb.name.Name, v.Limit, field)
}

// claimedDenial is that of a budget that fills up for a scan which is first in line.
func claimedDenial(tb *budgetState, until time.Time) denial {
	return denial{waitReason: waitReason{
		reason: v1alpha1.ReasonWaitingForTokens, retryAt: until,
		message: fmt.Sprintf("TokenBudget %q fills up for a scan of another stage or model", tb.name.Name),
	}}
}

// heldReason explains a budget that holds everything back.
func heldReason(tb *budgetState, now time.Time) (reason, message string) {
	why, until, _ := tb.ledger.Held(now)
	next := ""
	if !until.IsZero() {
		next = "; the next probe call is due at " + until.UTC().Format(time.RFC3339)
	}
	switch why {
	case budget.HoldUnauthorized:
		return v1alpha1.ReasonWaitingForBudget, fmt.Sprintf(
			"the provider rejected the key of TokenBudget %q; correct Secret %q%s", tb.name.Name, tb.spec.SecretRef.Name, next)
	default:
		return v1alpha1.ReasonWaitingForQuota, fmt.Sprintf(
			"the provider's quota for TokenBudget %q is used up; add credit or raise the limit at the provider%s", tb.name.Name, next)
	}
}

func noPoolMessage(stage v1alpha1.StageName) string {
	return fmt.Sprintf("no WorkerPool of the namespace runs stage %s; create one", stage)
}

func busyMessage(p *pool) string {
	if p.workers.len() == 0 {
		return fmt.Sprintf("WorkerPool %q has no live worker", p.name.Name)
	}
	return fmt.Sprintf("all %d workers of WorkerPool %q are busy or draining", p.workers.len(), p.name.Name)
}

// thousands prints a number of tokens for people: "412", "12 k", "3.4 M".
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

// humanWait prints a time to wait for people: "less than 1 s", "12 s", "5 min", "3 h".
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
