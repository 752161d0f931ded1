package scheduler

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// outlook is what an estimate of a wait is made from.
type outlook struct {
	// model is the model of the calls, charge what one of them usually reserves.
	model  string
	charge float64
	// rate is what the budgets refill together, in tokens per second; level what is in them now, below zero where
	// they owe. held is how long they all are held back from now on.
	rate, level float64
	held        time.Duration
	// ahead and tokensAhead are the scans that go first and what they reserve; own is what the scan reserves.
	ahead       int
	tokensAhead int64
	own         int64
	// slots and busy are the places at the pool's workers and how many are taken, for seconds each.
	slots, busy int
	seconds     float64
	// follow is what each scan ahead will reserve for a later stage when this one is done, and thereby before the
	// scan's turn: later stages go first. running is the number of scans of this stage under way.
	follow  float64
	running int
	// stores is how many assignments can be stored in a second: with a slow API server that is what scans wait for.
	// Zero where it is not known.
	stores float64
}

// wait estimates the time until the scan is assigned; ok is false where nothing feeds it.
func (o outlook) wait() (d time.Duration, ok bool) {
	if o.slots == 0 {
		return 0, false
	}
	var byTokens, byStores float64
	if o.own > 0 {
		if o.rate <= 0 {
			return 0, false
		}
		byTokens = o.served(float64(o.tokensAhead+o.own)-o.level, o.follow, o.rate)
	}
	if o.stores > 0 {
		follow := 0.0
		if o.follow > 0 {
			follow = 1
		}
		byStores = o.served(float64(o.ahead), follow, o.stores)
	}
	// Places become free evenly, each after the time a call takes.
	byWorkers := 0.0
	if lack := o.ahead + 1 - (o.slots - o.busy); lack > 0 {
		byWorkers = float64(lack) * o.seconds / float64(o.slots)
	}
	return o.held + time.Duration(max(byTokens, byStores, byWorkers)*float64(time.Second)), true
}

// served is after how many seconds need has been served at a rate.
//
// With it are served the later stages that come in meanwhile, of follow each: of the scans under way, which are done
// evenly over the time a call takes, and of the scans ahead that are assigned and done before the scan's own turn.
// The latter depend on the time itself, so that it is found by iteration.
func (o outlook) served(need, follow, rate float64) float64 {
	t := max(need/rate, 0)
	for range 12 {
		done := 0.0
		if o.seconds > 0 {
			done = float64(o.running) * min(t/o.seconds, 1)
			if t > o.seconds {
				done += float64(o.ahead) * (t - o.seconds) / t
			}
		}
		t = max((need+follow*done)/rate, 0)
	}
	return t
}

// outlookFor gathers what the estimate for a waiting scan is made from.
func (s *Scheduler) outlookFor(st *scanState, stage v1alpha1.StageName) outlook {
	o := s.outlookOf(st.name.Namespace, stage, s.lane(st, stage).Model)
	pos, _ := s.queue.Position(st.name.String())
	o.ahead, o.tokensAhead = pos.Ahead, pos.TokensAhead
	if item, ok := s.queue.Get(st.name.String()); ok {
		o.own = item.Tokens
	}
	return o
}

// outlookOf gathers what is the same for all scans of a stage and a model.
func (s *Scheduler) outlookOf(namespace string, stage v1alpha1.StageName, model string) outlook {
	now := s.clk.Now()
	o := outlook{model: model, stores: s.storesPerSecond()}
	if e, ok := s.estimator.Expect(string(stage), model); ok {
		o.seconds, o.charge = e.Seconds, e.Charge
	}
	held, seen := time.Duration(-1), map[types.NamespacedName]bool{}
	for _, p := range s.byStage[stageKey{namespace, stage}] {
		for w := range p.workers.all() {
			if !w.Draining {
				o.slots += w.Capacity
				o.busy += w.inFlight
			}
		}
		for _, ref := range p.spec.Budgets {
			name := types.NamespacedName{Namespace: namespace, Name: ref.Name}
			acc := s.budgets[name]
			if acc == nil || !acc.key.Ready || seen[name] || !acc.serves(model) {
				continue
			}
			seen[name] = true
			stats := acc.ledger.Stats(now)
			o.rate += ours(stats) / 60
			o.level += float64(stats.Tokens.Available)
			until := time.Duration(0)
			if !stats.ResumeAt.IsZero() {
				until = max(stats.ResumeAt.Sub(now), 0)
			}
			if held < 0 || until < held {
				held = until
			}
		}
	}
	o.held = max(held, 0)
	if stage == v1alpha1.StageVision {
		if e, ok := s.estimator.Expect(string(v1alpha1.StageAnswer), model); ok {
			o.follow = e.Charge
		}
		o.running = o.busy
	}
	return o
}

// ours is what a budget may spend of its tokens per minute: its share of the limit, less what others take.
func ours(stats budget.Stats) float64 {
	others := stats.Tokens.ForeignPerMinute
	if stats.Project != nil {
		others = max(others, stats.Project.ForeignPerMinute)
	}
	return max(float64(stats.TokensPerMinute)*float64(stats.RatePercent)/100-float64(others), 0)
}

// waitOf estimates how long a waiting scan has still to wait; ok is false where that is not known.
func (s *Scheduler) waitOf(st *scanState) (time.Duration, bool) {
	stage := pipeline.NextStage(&st.obj.Status)
	if st.obj.Spec.Suspend || stage == "" {
		return 0, false
	}
	d, ok := s.outlookFor(st, stage).wait()
	if r := st.obj.Status.Retry; ok && r != nil && r.Stage == stage {
		d = max(d, r.After.Sub(s.clk.Now()))
	}
	return d, ok
}

// NewcomerWait estimates the wait of a scan that would be created now by a user who has none; ok is false where
// that is not known. It is the wait behind everything that is in the queue for the first stage, and so the
// longest a newcomer has to expect.
func (s *Scheduler) NewcomerWait(namespace string) (wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stage := pipeline.Stages[0]
	pools := s.byStage[stageKey{namespace, stage}]
	if len(pools) == 0 {
		return 0, false
	}
	o := s.outlookOf(namespace, stage, s.model(pools[0], &v1alpha1.ScanRequestSpec{}))
	counts := s.queue.LenLane(queue.Lane{Namespace: namespace, Stage: string(stage), Model: o.model})
	o.ahead, o.tokensAhead, o.own = counts.Ready, counts.ReadyTokens, int64(o.charge)
	if counts.Ready > 0 {
		o.own = counts.ReadyTokens / int64(counts.Ready)
	}
	return o.wait()
}
