// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanstatus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// lost carries a request out and loses its answer.
func lost(do func() error) error {
	if err := do(); err != nil {
		return err
	}
	return errors.New("connection reset by peer")
}

// TestStore has one thing happen in the way of a write, with every policy.
func TestStore(t *testing.T) {
	type want struct {
		result  Result
		err     error
		patches int
		stage   v1alpha1.StageState // of vision, afterwards
		worker  string              // of the assignment, afterwards
	}
	assign := func() pipeline.Event { return assignTo(v1alpha1.StageVision, "1", worker) }
	wait := func() pipeline.Event {
		return pipeline.Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "12 s"}
	}
	handBack := func() pipeline.Event { return released("1", v1alpha1.FailureDrained) }
	tests := map[string]struct {
		event  func() pipeline.Event // of a scan that runs, unless it is an assignment, a reason or the end
		before func(*server)         // happens unseen by the writer
		// during happens at the first patch; nil carries it out.
		during func(*server, func() error) error
		want   want
	}{
		"nothing in the way of a result": {
			event: classified, want: want{result: Written, patches: 1, stage: v1alpha1.StageSucceeded},
		},
		"nothing in the way of an assignment": {
			event: assign, want: want{result: Written, patches: 1, stage: v1alpha1.StageRunning, worker: worker},
		},
		"nothing in the way of a hand-back": {
			event: handBack, want: want{result: Written, patches: 1, stage: v1alpha1.StageWaiting},
		},
		"a label was changed": {
			event: assign,
			before: func(s *server) {
				s.edit(func(scan *v1alpha1.ScanRequest) { scan.Labels = map[string]string{"changed": "yes"} })
			},
			want: want{result: Written, patches: 2, stage: v1alpha1.StageRunning, worker: worker},
		},
		"the scan was suspended before its assignment": {
			event:  assign,
			before: func(s *server) { s.edit(func(scan *v1alpha1.ScanRequest) { scan.Spec.Suspend = true }) },
			want:   want{result: Stale, err: pipeline.ErrStale, patches: 1},
		},
		"the scan was suspended before its result": {
			event:  classified,
			before: func(s *server) { s.edit(func(scan *v1alpha1.ScanRequest) { scan.Spec.Suspend = true }) },
			want:   want{result: Written, patches: 2, stage: v1alpha1.StageSucceeded},
		},
		"another worker has the scan": {
			event: classified,
			before: func(s *server) {
				s.store(released("1", v1alpha1.FailureWorkerLost))
				s.store(assignTo(v1alpha1.StageVision, "2", "other"))
			},
			want: want{result: Fenced, err: pipeline.ErrFenced, patches: 1, stage: v1alpha1.StageRunning, worker: "other"},
		},
		"the scan was taken and waits": {
			event:  classified,
			before: func(s *server) { s.store(released("1", v1alpha1.FailureWorkerLost)) },
			want:   want{result: Fenced, err: pipeline.ErrFenced, patches: 1, stage: v1alpha1.StageWaiting},
		},
		"an event of an old assignment": {
			event: func() pipeline.Event { return released("0", v1alpha1.FailureWorkerLost) },
			want:  want{result: Fenced, err: pipeline.ErrFenced, stage: v1alpha1.StageRunning, worker: worker},
		},
		"outcomes that do not fit the scan": {
			event: func() pipeline.Event {
				ev := classified().(pipeline.Completed)
				ev.Outcomes = ev.Outcomes[1:]
				return ev
			},
			want: want{result: Rejected, stage: v1alpha1.StageRunning, worker: worker},
		},
		"the scan was deleted": {
			event: classified, before: (*server).delete, want: want{result: Deleted, err: pipeline.ErrGone, patches: 1},
		},
		// An object that was deleted and created again under its name got the status of the old one.
		"the scan was replaced by one of the same name": {
			event: classified,
			before: func(s *server) {
				s.delete()
				other := pendingScan()
				other.UID = "uid-b"
				other.Status = assigned(s.t).Status
				if err := s.stored.Create(s.t.Context(), other); err != nil {
					s.t.Fatal(err)
				}
			},
			want: want{result: Deleted, err: pipeline.ErrGone, patches: 1, stage: v1alpha1.StageRunning, worker: worker},
		},
		// Retries of an update read the informer's cache, which still had the version that had just conflicted.
		"the caller's version is several versions old": {
			event: classified,
			before: func(s *server) {
				for _, label := range []string{"one", "two", "three"} {
					s.edit(func(scan *v1alpha1.ScanRequest) { scan.Labels = map[string]string{"changed": label} })
				}
			},
			want: want{result: Written, patches: 2, stage: v1alpha1.StageSucceeded},
		},
		"the answer to a result is lost": {
			event:  classified,
			during: func(_ *server, do func() error) error { return lost(do) },
			want:   want{result: Written, patches: 1, stage: v1alpha1.StageSucceeded},
		},
		"the answer to a hand-back is lost": {
			event:  handBack,
			during: func(_ *server, do func() error) error { return lost(do) },
			want:   want{result: Written, patches: 1, stage: v1alpha1.StageWaiting},
		},
		"the answer to an assignment is lost": {
			event:  assign,
			during: func(_ *server, do func() error) error { return lost(do) },
			want:   want{result: Written, patches: 1, stage: v1alpha1.StageRunning, worker: worker},
		},
		"the answer to a reason for waiting is lost": {
			event:  wait,
			during: func(_ *server, do func() error) error { return lost(do) },
			want:   want{result: Written, patches: 1},
		},
		"a reason for waiting is lost": {
			event:  wait,
			during: func(*server, func() error) error { return errDown },
			want:   want{result: Written, patches: 2},
		},
		"the end of a scan that waited is lost": {
			event:  func() pipeline.Event { return pipeline.Expired{} },
			during: func(*server, func() error) error { return errDown },
			want:   want{result: Written, patches: 2},
		},
		"the request is lost": {
			event:  assign,
			during: func(*server, func() error) error { return errDown },
			want:   want{result: Written, patches: 2, stage: v1alpha1.StageRunning, worker: worker},
		},
		// The API server timed out waiting for etcd, answered 504, and etcd carried the write out.
		"etcd carries out what the API server reports as timed out": {
			event: classified,
			during: func(_ *server, do func() error) error {
				if err := do(); err != nil {
					return err
				}
				return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
			},
			want: want{result: Written, patches: 1, stage: v1alpha1.StageSucceeded},
		},
		// The client library repeated a request after an answer with Retry-After that had been carried out, and reported
		// a conflict with its own first attempt. The operation was then recorded as failed.
		"a conflict with the write itself": {
			event: classified,
			during: func(_ *server, do func() error) error {
				if err := do(); err != nil {
					return err
				}
				return apierrors.NewConflict(resource, "a", errors.New("changed"))
			},
			want: want{result: Written, patches: 1, stage: v1alpha1.StageSucceeded},
		},
		"the next stage is assigned while the answer to a result is lost": {
			event: classified,
			during: func(s *server, do func() error) error {
				err := lost(do)
				s.store(assignTo(v1alpha1.StageAnswer, "2", "other"))
				return err
			},
			want: want{result: Written, patches: 1, stage: v1alpha1.StageSucceeded, worker: "other"},
		},
		// A manager was cut off right after its write. Writing the same assignment again would have it wait for a worker
		// that has run it and runs nothing twice.
		"a worker hands the scan back while the answer to its assignment is lost": {
			event: assign,
			during: func(s *server, do func() error) error {
				err := lost(do)
				s.store(released("1", v1alpha1.FailureRateLimited))
				return err
			},
			// It was written: who reserved tokens for it has to settle them with what the call used.
			want: want{result: Written, patches: 1, stage: v1alpha1.StageWaiting},
		},
		"the scan is deleted while the answer is lost": {
			event: classified,
			during: func(s *server, do func() error) error {
				err := lost(do)
				s.delete()
				return err
			},
			want: want{result: Deleted, err: pipeline.ErrGone, patches: 1},
		},
		// The scan's deadline passes while the API server refuses the worker's writes.
		"the scan expires between two tries": {
			event: classified,
			during: func(s *server, _ func() error) error {
				s.store(pipeline.Expired{})
				return apierrors.NewForbidden(resource, "a", errors.New("denied by a webhook"))
			},
			want: want{result: Fenced, err: pipeline.ErrFenced, patches: 1, stage: v1alpha1.StageFailed},
		},
	}
	for name, tc := range tests {
		for policyName, policy := range map[string]Policy{"never give up": NeverGiveUp, "give up": GiveUp} {
			t.Run(name+"/"+policyName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					event := tc.event()
					scan := assigned(t)
					switch event.(type) {
					case pipeline.Assigned, pipeline.Waiting, pipeline.Expired:
						scan = pendingScan()
					}
					s := newServer(t, scan)
					seen := s.scan()
					if tc.before != nil {
						tc.before(s)
					}
					s.onPatch = func(_ context.Context, n int, do func() error) error {
						if n == 1 && tc.during != nil {
							return tc.during(s, do)
						}
						return do()
					}
					newest, result, err := s.writer(policy).Store(t.Context(), seen, event)
					if result != tc.want.result || tc.want.err != nil && !errors.Is(err, tc.want.err) || (err == nil) != (result == Written) {
						t.Errorf("Store = %s, %v, want %s, %v", result, err, tc.want.result, tc.want.err)
					}
					if s.patches != tc.want.patches {
						t.Errorf("%d patches, want %d", s.patches, tc.want.patches)
					}
					if s.reads > 1 {
						t.Errorf("%d reads, want one at most", s.reads)
					}
					stored := s.scan()
					if stored == nil {
						return
					}
					if result != Deleted && newest.ResourceVersion != stored.ResourceVersion {
						t.Errorf("returned version %s, the newest is %s", newest.ResourceVersion, stored.ResourceVersion)
					}
					var state v1alpha1.StageState
					if stage := pipeline.Stage(&stored.Status, v1alpha1.StageVision); stage != nil {
						state = stage.State
					}
					var holder string
					if a := stored.Status.Assignment; a != nil {
						holder = a.Worker
					}
					if state != tc.want.stage || holder != tc.want.worker {
						t.Errorf("vision is %q at %q, want %q at %q", state, holder, tc.want.stage, tc.want.worker)
					}
				})
			})
		}
	}
}

// TestOutages has requests fail for some time. A result outlives all of them, an assignment only the short ones.
func TestOutages(t *testing.T) {
	conflict := apierrors.NewConflict(resource, "a", errors.New("changed"))
	forbidden := apierrors.NewForbidden(resource, "a", errors.New("no"))
	tests := map[string]struct {
		lasts      time.Duration
		patch      error // during the outage; nil for a request that hangs
		carriedOut bool  // the first patch is stored
		read       error // during the outage; nil if reads work
		assignment Result
		// A write that is known not to be stored frees its place at the scheduler.
		within time.Duration
	}{
		"the API server restarts": {lasts: 5 * time.Second, patch: errDown, read: errDown, assignment: Written, within: 15 * time.Second},
		// An unknown outcome is never given up: the tokens of an assignment that was stored would be spent twice.
		"the API server is away for minutes": {lasts: 3 * time.Minute, patch: errDown, read: errDown, assignment: Abandoned, within: 4 * time.Minute},
		"the manager is cut off after its write": {
			lasts: 3 * time.Minute, patch: errDown, carriedOut: true, read: errDown, assignment: Written, within: 4 * time.Minute,
		},
		"the manager is cut off after a conflict with its own write": {
			lasts: 3 * time.Minute, patch: conflict, carriedOut: true, read: errDown, assignment: Written, within: 4 * time.Minute,
		},
		// An upgrade replaced the role some minutes after the program, and work in between was recorded as failed.
		"the role is updated after the program": {lasts: 3 * time.Minute, patch: forbidden, assignment: Abandoned, within: 21 * time.Second},
		"the role allows nothing for a while":   {lasts: 3 * time.Minute, patch: forbidden, read: forbidden, assignment: Abandoned, within: 21 * time.Second},
		// A request without a timeout on a connection that a load balancer had dropped held its worker for ever.
		"a connection hangs": {lasts: 5 * time.Second, assignment: Written, within: 15 * time.Second},
	}
	for name, tc := range tests {
		for _, policy := range []Policy{NeverGiveUp, GiveUp} {
			want, kind := Written, "result"
			if policy == GiveUp {
				want, kind = tc.assignment, "assignment"
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t, pendingScan())
					began := time.Now()
					s.onPatch = func(ctx context.Context, n int, do func() error) error {
						switch {
						case time.Since(began) >= tc.lasts:
							return do()
						case tc.patch == nil:
							<-ctx.Done()
							return ctx.Err()
						case tc.carriedOut && n == 1:
							if err := do(); err != nil {
								return err
							}
							return tc.patch
						default:
							return tc.patch
						}
					}
					s.onRead = func(_ context.Context, _ int, do func() error) error {
						if tc.read != nil && time.Since(began) < tc.lasts {
							return tc.read
						}
						return do()
					}
					_, result, err := s.writer(policy).Store(t.Context(), s.scan(), assignTo(v1alpha1.StageVision, "1", worker))
					if result != want {
						t.Errorf("Store = %s, %v, want %s", result, err, want)
					}
					if took := time.Since(began); policy == GiveUp && took > tc.within {
						t.Errorf("it took %s, want at most %s", took, tc.within)
					}
					if stored := s.scan().Status.Assignment != nil; stored != (want == Written) {
						t.Errorf("the assignment is stored: %t", stored)
					}
				})
			})
		}
	}
}

// TestConflictStorm has something else change the scan before each patch. Retries without a delay would double the load
// of an API server that is busy with the other writer.
func TestConflictStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const storm = 12
		s := newServer(t, assigned(t))
		seen := s.scan()
		s.onPatch = func(_ context.Context, n int, do func() error) error {
			if n <= storm {
				s.edit(func(scan *v1alpha1.ScanRequest) { scan.Labels = map[string]string{"n": string(rune('a' + n))} })
			}
			return do()
		}
		began := time.Now()
		if _, result, err := s.writer(NeverGiveUp).Store(t.Context(), seen, classified()); result != Written {
			t.Fatalf("Store = %s, %v", result, err)
		}
		if s.patches != storm+1 {
			t.Fatalf("%d patches, want %d", s.patches, storm+1)
		}
		for i, at := range s.patchedAt {
			if prompt := at.Equal(began); prompt != (i <= promptConflicts) {
				t.Errorf("patch %d came %s after the first", i+1, at.Sub(began))
			}
		}
		if last := s.patchedAt[storm].Sub(s.patchedAt[storm-1]); last < 4*time.Second {
			t.Errorf("the last delay was %s: delays do not grow", last)
		}
	})
}

func TestAnEventThatChangesNothingMakesNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		event := pipeline.Waiting{Reason: v1alpha1.ReasonWaitingForTokens, Message: "12 s"}
		scan := fold(t, pendingScan(), event)
		s := newServer(t, scan)
		_, result, err := s.writer(NeverGiveUp).Store(t.Context(), scan, event)
		if result != Unchanged || err != nil || s.patches+s.reads != 0 {
			t.Errorf("Store = %s, %v with %d calls, want %s with none", result, err, s.patches+s.reads, Unchanged)
		}
	})
}

func TestRetriesAreSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, assigned(t))
		s.onPatch = func(context.Context, int, func() error) error { return errDown }
		retries := 0
		w := New(Options{Client: s.client(), APIReader: s.reader(), Clock: clock.RealClock{}, Retried: func() { retries++ }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, result, err := w.Store(ctx, s.scan(), classified())
		if result != Abandoned || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errDown) {
			t.Errorf("Store = %s, %v after the end of the process, want %s", result, err, Abandoned)
		}
		if want := 10; s.patches < want {
			t.Errorf("%d patches in a minute, want at least %d", s.patches, want)
		}
		if retries != s.patches-1 {
			t.Errorf("%d retries counted, want %d", retries, s.patches-1)
		}
		for i := 1; i < len(s.patchedAt); i++ {
			if gap := s.patchedAt[i].Sub(s.patchedAt[i-1]); gap < 90*time.Millisecond || gap > 5500*time.Millisecond {
				t.Errorf("patch %d came %s after the one before", i+1, gap)
			}
		}
		if last := s.patchedAt[len(s.patchedAt)-1].Sub(s.patchedAt[len(s.patchedAt)-2]); last < 4*time.Second {
			t.Errorf("the last gap is %s: the delay does not grow", last)
		}
	})
}

func TestTheEventHappenedWhenItHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, assigned(t))
		s.onPatch = func(_ context.Context, n int, do func() error) error {
			if n < 12 {
				return errDown
			}
			return do()
		}
		began := time.Now()
		if _, result, err := s.writer(NeverGiveUp).Store(t.Context(), s.scan(), released("1", v1alpha1.FailureDrained)); result != Written {
			t.Fatalf("Store = %s, %v", result, err)
		}
		if time.Since(began) < 20*time.Second {
			t.Fatal("the write was not delayed: the test tests nothing")
		}
		got := pipeline.Stage(&s.scan().Status, v1alpha1.StageVision).FinishedAt.Time
		if diff := cmp.Diff(began.UTC(), got.UTC()); diff != "" {
			t.Errorf("finishedAt (-want +got):\n%s", diff)
		}
	})
}

func TestConcurrentWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 4
		var now, most atomic.Int32
		proceed := make(chan struct{})
		s := newServer(t)
		c := interceptor.NewClient(s.stored, interceptor.Funcs{
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer now.Add(-1)
				<-proceed
				return nil
			},
		})
		w := New(Options{Client: c, APIReader: c, Clock: clock.RealClock{}, MaxConcurrent: limit})
		var writes sync.WaitGroup
		for range 3 * limit {
			scan, event := assigned(t), classified()
			writes.Go(func() { _, _, _ = w.Store(t.Context(), scan, event) })
		}
		synctest.Wait()
		if got := now.Load(); got != limit {
			t.Errorf("%d writes at a time, want %d", got, limit)
		}
		close(proceed)
		writes.Wait()
		if most.Load() > limit {
			t.Errorf("up to %d writes at a time, want %d", most.Load(), limit)
		}
	})
}

// TestAWriteThatWaitsHoldsNoSlot has one scan whose patches fail. A controller that waited inside its worker was out of
// service for all others.
func TestAWriteThatWaitsHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, assigned(t))
		s.onPatch = func(_ context.Context, n int, do func() error) error {
			if n == 1 {
				return apierrors.NewTooManyRequests("busy", 30)
			}
			return do()
		}
		w := New(Options{Client: s.client(), APIReader: s.reader(), Clock: clock.RealClock{}, MaxConcurrent: 1})
		scan := s.scan()
		var first sync.WaitGroup
		first.Go(func() { _, _, _ = w.Store(t.Context(), scan, classified()) })
		synctest.Wait()
		began := time.Now()
		if _, result, err := w.Store(t.Context(), scan, classified()); result != Written {
			t.Errorf("Store = %s, %v", result, err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the second write waited %s for the first", took)
		}
		first.Wait()
	})
}
