// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/budget"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/queue"
)

// waitFacts is everything that the estimate of a wait depends on. See estimateWait.
type waitFacts struct {
	now time.Time
	// own is what the scan reserves, zero for a stage without tokens. ahead is the number of scans that go first,
	// tokensAhead what they reserve.
	own         int64
	ahead       int
	tokensAhead int64
	// notBefore is the end of the scan's backoff, zero without one.
	notBefore time.Time
	// budgets are the figures of the budgets that serve the scan and have a key.
	budgets []budget.Stats
	// slots is the capacity of the active workers, busy what is taken of it, each slot for callSeconds.
	slots, busy int
	callSeconds float64
	// storesPerSecond is the rate at which assignments are stored, zero while it is unknown.
	storesPerSecond float64
	// running is the number of assigned scans of the same stage.
	running int
	// answers are set for a photo whose budgets also serve the answers.
	answers *answerFacts
}

// answerFacts describe the later stage that competes with photos. Later stages go first, so answers that become ready
// before a photo's turn delay it.
type answerFacts struct {
	// tokens is what an answer reserves.
	tokens float64
	// ready is the number of answers that are queued already.
	ready int
	// sameWorkers is set if the photos' workers run the answers too.
	sameWorkers bool
}

// waitOf estimates the wait of a queued scan at a position; ok is false if it is unknown.
func (s *Scheduler) waitOf(st *scanState, pos queue.Position) (time.Duration, bool) {
	stage := pipeline.NextStage(&st.obj.Status)
	if st.obj.Spec.Suspend || stage == "" {
		return 0, false
	}
	facts := s.gatherWaitFacts(s.lane(st, stage))
	facts.ahead, facts.tokensAhead = pos.Ahead, pos.TokensAhead
	if item, ok := s.queue.Get(st.name.String()); ok {
		facts.own = item.Tokens
	}
	if r := st.obj.Status.Retry; r != nil && r.Stage == stage {
		facts.notBefore = r.After.Time
	}
	return estimateWait(facts)
}

// EstimateNewScanWait estimates the wait of a scan that a user without other scans would create now; ok is false if
// it is unknown. It assumes that everything which competes for the same budgets goes first, so it is an upper bound.
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
	facts := s.gatherWaitFacts(lane)
	facts.ahead, facts.tokensAhead = backlog.Ready, backlog.ReadyTokens
	facts.own = int64(s.costOf(pools[0], stage, lane.Model).Tokens)
	return estimateWait(facts)
}

// gatherWaitFacts gathers, in one pass over the lane's pools, what the wait of its scans depends on. The caller adds
// the scan's own place and size.
func (s *Scheduler) gatherWaitFacts(lane queue.Lane) waitFacts {
	now, stage := s.clk.Now(), v1alpha1.StageName(lane.Stage)
	pools := s.byStage[stageKey{lane.Namespace, stage}]
	facts := waitFacts{
		now: now, storesPerSecond: s.storesPerSecond(), running: s.running[stageKey{lane.Namespace, stage}],
	}
	var seen []string
	for _, p := range pools {
		for w := range p.workers.all() {
			if !w.Draining {
				facts.slots += w.Capacity
				facts.busy += w.inFlight
			}
		}
		for _, ref := range p.spec.Budgets {
			tb := s.budgets[p.budget(ref)]
			if tb == nil || !tb.key.Ready || !tb.serves(lane.Model) || slices.Contains(seen, ref.Name) {
				continue
			}
			seen = append(seen, ref.Name)
			facts.budgets = append(facts.budgets, tb.ledger.Stats(now))
		}
	}
	if len(pools) > 0 {
		facts.callSeconds = s.costOf(pools[0], stage, lane.Model).Seconds
	}
	if stage == v1alpha1.StageVision {
		facts.answers = s.gatherAnswerFacts(lane)
	}
	return facts
}

// gatherAnswerFacts returns nil if the answers draw on other budgets than a lane of photos.
func (s *Scheduler) gatherAnswerFacts(photos queue.Lane) *answerFacts {
	pools := s.byStage[stageKey{photos.Namespace, v1alpha1.StageAnswer}]
	if len(pools) == 0 {
		return nil
	}
	answers := queue.Lane{Namespace: photos.Namespace, Stage: string(v1alpha1.StageAnswer), Model: photos.Model}
	anyModel := v1alpha1.ScanRequestSpec{}
	if photoPools := s.byStage[stageKey{photos.Namespace, v1alpha1.StageVision}]; len(photoPools) > 0 && photos.Model == s.model(photoPools[0], &anyModel) {
		answers.Model = s.model(pools[0], &anyModel) // scans without spec.model
	}
	if s.domain(answers) != s.domain(photos) {
		return nil
	}
	facts := &answerFacts{
		tokens: s.costOf(pools[0], v1alpha1.StageAnswer, answers.Model).Tokens,
		ready:  s.queue.Ready(photos.Namespace, string(v1alpha1.StageAnswer)),
	}
	for _, p := range pools {
		facts.sameWorkers = facts.sameWorkers || slices.Contains(p.spec.Stages, v1alpha1.StageVision)
	}
	return facts
}
