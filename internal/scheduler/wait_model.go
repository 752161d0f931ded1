package scheduler

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// capacity is what a limit lets through: so much at once, and so much more per second.
type capacity struct{ level, rate float64 }

// timeFor is the time until so much has been let through, in seconds; ok is false where it never is.
func (f capacity) timeFor(n float64) (seconds float64, ok bool) {
	if n <= f.level {
		return 0, true
	}
	if f.rate <= 0 {
		return 0, false
	}
	return (n - f.level) / f.rate, true
}

func (f *capacity) add(g capacity) {
	f.level += g.level
	f.rate += g.rate
}

// waitModel is what an estimate of a wait is made from.
type waitModel struct {
	// tokens and requests are what the budgets let through together. held is how long they all are held back.
	tokens   capacity
	requests []capacity // by minute, and by day where every budget has such a limit
	held     time.Duration
	// own is what the scan reserves, zero where it needs no tokens; ahead and tokensAhead are the scans that go
	// first and what they reserve.
	own         int64
	ahead       int
	tokensAhead int64
	// slots and busy are the places at the pools' workers and how many are taken, for seconds each. aheadHere are
	// the scans ahead that need one of them.
	slots, busy, aheadHere int
	seconds                float64
	// follow is what a scan of this stage will reserve for a later one when it is done, and thereby before the
	// scan's turn: later stages go first. running and aheadStage are the scans of this stage under way and ahead.
	// followHere says that the later stage needs one of the slots too.
	follow              float64
	running, aheadStage int
	followHere          bool
	// stores is how many assignments can be stored in a second: with a slow API server that is what scans wait for.
	// Zero where it is not known.
	stores float64
}

// estimate estimates the time until the scan is assigned; ok is false where nothing feeds it.
//
// What goes first are the scans ahead, and the later stages that come in meanwhile: of the scans under way, which are
// done evenly over the time a call takes, and of the scans ahead that are assigned and done before the scan's own turn.
// The latter depend on the wait itself, so that it is found by iteration.
func (o *waitModel) estimate() (d time.Duration, ok bool) {
	if o.slots == 0 {
		return 0, false
	}
	wait := 0.0
	for range 16 {
		follow := o.following(wait)
		longest := o.byWorkers(follow)
		if o.stores > 0 {
			longest = max(longest, (float64(o.ahead)+follow)/o.stores)
		}
		if o.own > 0 {
			byTokens, fed := o.tokens.timeFor(float64(o.tokensAhead+o.own) + o.follow*follow)
			if !fed {
				return 0, false
			}
			longest = max(longest, byTokens)
			for _, requests := range o.requests {
				byRequests, fed := requests.timeFor(float64(o.ahead+1) + follow)
				if !fed {
					return 0, false
				}
				longest = max(longest, byRequests)
			}
		}
		wait = longest
	}
	const most = 1e6 // seconds; beyond it only the order of magnitude is known anyway
	return o.held + time.Duration(min(wait, most)*float64(time.Second)), true
}

// following is the number of later stages that come in within a time.
func (o *waitModel) following(seconds float64) float64 {
	if o.follow == 0 || o.seconds <= 0 {
		return 0
	}
	n := float64(o.running) * min(seconds/o.seconds, 1)
	if seconds > o.seconds {
		n += float64(o.aheadStage) * (seconds - o.seconds) / seconds
	}
	return n
}

// byWorkers is the time until a place is free, in seconds: places become free evenly, each after the time a call takes.
func (o *waitModel) byWorkers(follow float64) float64 {
	lack := float64(o.aheadHere + 1 - (o.slots - o.busy))
	if o.followHere {
		lack += follow
	}
	return max(lack, 0) * o.seconds / float64(o.slots)
}

// outlookFor gathers what the estimate for a waiting scan is made from.
func (s *Scheduler) outlookFor(st *scanState, stage v1alpha1.StageName, pos queue.Position) waitModel {
	lane := s.lane(st, stage)
	var own int64
	if item, ok := s.queue.Get(st.name.String()); ok {
		own = item.Tokens
	}
	return s.outlookOf(lane, pos.Ahead, pos.TokensAhead, own)
}

// outlookOf gathers what the estimate for a scan in a lane is made from, which has so many scans and tokens ahead.
func (s *Scheduler) outlookOf(lane queue.Lane, ahead int, tokensAhead, own int64) waitModel {
	stage := v1alpha1.StageName(lane.Stage)
	pools := s.byStage[stageKey{lane.Namespace, stage}]
	o := waitModel{ahead: ahead, tokensAhead: tokensAhead, own: own, aheadStage: ahead, aheadHere: ahead, stores: s.storesPerSecond()}
	for _, p := range pools {
		for w := range p.workers.all() {
			if !w.Draining {
				o.slots += w.Capacity
				o.busy += w.inFlight
			}
		}
	}
	payers := s.payersOf(lane)
	s.addBudgets(&o, payers)
	if len(pools) > 0 {
		o.seconds = s.costOf(pools[0], stage, lane.Model).Seconds
	}
	if stage == v1alpha1.StageVision {
		s.addFollowers(&o, lane)
	}
	return o
}

// payersOf are the budgets that pay for a lane's calls and have a key.
func (s *Scheduler) payersOf(lane queue.Lane) []*budgetState {
	var payers []*budgetState
	seen := map[types.NamespacedName]bool{}
	for _, p := range s.byStage[stageKey{lane.Namespace, v1alpha1.StageName(lane.Stage)}] {
		for _, ref := range p.spec.Budgets {
			name := types.NamespacedName{Namespace: lane.Namespace, Name: ref.Name}
			if tb := s.budgets[name]; tb != nil && tb.key.Ready && tb.serves(lane.Model) && !seen[name] {
				seen[name] = true
				payers = append(payers, tb)
			}
		}
	}
	return payers
}

// addBudgets sums up what budgets let through. Of budgets that are held only those count that are held for the
// shortest, and one of which it is not known for how long does not.
func (s *Scheduler) addBudgets(o *waitModel, payers []*budgetState) {
	now, first := s.clk.Now(), true
	var minute, day capacity
	daily := true
	for _, tb := range payers {
		stats := tb.ledger.Stats(now)
		held, known := heldFor(&stats, now)
		if !known || !first && held > o.held {
			continue
		}
		if first || held < o.held {
			first, o.held = false, held
			o.tokens, minute, day, daily = capacity{}, capacity{}, capacity{}, true
		}
		o.tokens.add(tokensOf(&stats, held))
		minute.add(levelFlow(&stats.Requests, stats.RatePercent, held))
		if d := stats.RequestsPerDay; d != nil {
			day.add(levelFlow(d, stats.RatePercent, held))
		} else {
			daily = false
		}
	}
	if first {
		return
	}
	o.requests = append(o.requests, minute)
	if daily {
		o.requests = append(o.requests, day)
	}
}

// heldFor is how long a budget sends nothing; known is false where only an event helps.
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

// tokensOf is what a budget lets through after a hold: what others are believed to use is theirs.
func tokensOf(stats *budget.Stats, held time.Duration) capacity {
	f := levelFlow(&stats.Tokens, stats.RatePercent, held)
	if stats.Project != nil {
		project := levelFlow(stats.Project, stats.RatePercent, held)
		f = capacity{level: min(f.level, project.level), rate: min(f.rate, project.rate)}
	}
	return f
}

// levelFlow is what a bucket lets through after a hold, in which it refills.
func levelFlow(l *budget.Level, ratePercent int32, held time.Duration) capacity {
	f := capacity{level: float64(l.Available), rate: l.PerSecond(ratePercent)}
	if held > 0 {
		f.level = min(f.level+f.rate*held.Seconds(), float64(l.Limit))
	}
	return f
}

// addFollowers adds the answers that come in before the turn of a photo, where the same budgets pay for them.
func (s *Scheduler) addFollowers(o *waitModel, lane queue.Lane) {
	o.running = s.running[stageKey{lane.Namespace, v1alpha1.StageVision}]
	pools := s.byStage[stageKey{lane.Namespace, v1alpha1.StageAnswer}]
	answer := queue.Lane{Namespace: lane.Namespace, Stage: string(v1alpha1.StageAnswer), Model: lane.Model}
	if len(pools) > 0 && lane.Model == s.model(s.byStage[stageKey{lane.Namespace, v1alpha1.StageVision}][0], &v1alpha1.ScanRequestSpec{}) {
		answer.Model = s.model(pools[0], &v1alpha1.ScanRequestSpec{}) // the scans name no model
	}
	if len(pools) == 0 || s.domain(answer) != s.domain(lane) {
		return
	}
	o.follow = s.costOf(pools[0], v1alpha1.StageAnswer, answer.Model).Tokens
	for _, p := range pools {
		for _, stage := range p.spec.Stages {
			o.followHere = o.followHere || stage == v1alpha1.StageVision
		}
	}
	// All answers that wait are ahead, but for those of a lower priority.
	o.aheadStage = max(o.ahead-s.queue.Ready(lane.Namespace, string(v1alpha1.StageAnswer)), 0)
	if !o.followHere {
		o.aheadHere = o.aheadStage
	}
}

// waitOf estimates how long a waiting scan at a place of the queue has still to wait; ok is false where that is not
// known.
func (s *Scheduler) waitOf(st *scanState, pos queue.Position) (time.Duration, bool) {
	stage := pipeline.NextStage(&st.obj.Status)
	if st.obj.Spec.Suspend || stage == "" {
		return 0, false
	}
	o := s.outlookFor(st, stage, pos)
	d, ok := o.estimate()
	if r := st.obj.Status.Retry; ok && r != nil && r.Stage == stage {
		d = max(d, r.After.Sub(s.clk.Now()))
	}
	return d, ok
}

// EstimateNewScanWait estimates the wait of a scan that would be created now by a user who has none; ok is false where
// that is not known. It is the wait behind everything that is paid from the same budgets, and so the longest a
// newcomer has to expect.
func (s *Scheduler) EstimateNewScanWait(namespace string) (wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stage := pipeline.Stages[0]
	pools := s.byStage[stageKey{namespace, stage}]
	if len(pools) == 0 {
		return 0, false
	}
	lane := queue.Lane{Namespace: namespace, Stage: string(stage), Model: s.model(pools[0], &v1alpha1.ScanRequestSpec{})}
	backlog := s.queue.LenDomain(lane)
	own := s.costOf(pools[0], stage, lane.Model).Tokens
	o := s.outlookOf(lane, backlog.Ready, backlog.ReadyTokens, int64(own))
	return o.estimate()
}
