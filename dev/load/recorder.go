// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// Scan is what was seen of one scan.
type Scan struct {
	Name string
	UID  types.UID
	// Phase and Reason are the newest seen.
	Phase  v1alpha1.ScanPhase
	Reason string
	// Finishes counts the transitions to a terminal state that were seen.
	Finishes   int
	FinishedAt time.Time
	// Submitted is when it was accepted, by the submitter's clock; User is its owner.
	Submitted time.Time
	User      string
	// AcceptedAt and BegunAt are when the product accepted it and when its first stage's last run began.
	AcceptedAt, BegunAt time.Time
	// Waited is the time it spent waiting for workers, Served the time at workers.
	Waited, Served time.Duration
	// Reserved are the tokens that its calls were charged.
	Reserved int64
	// Workers are the identities of the workers that had a stage, as far as seen.
	Workers map[v1alpha1.StageName][]string
	// Attempts are the tries of a stage that were its own success or failure.
	Attempts map[v1alpha1.StageName]int64

	current *v1alpha1.Assignment
	done    chan struct{} // closed when it is terminal
}

// Terminal says whether the scan has ended.
func (s *Scan) Terminal() bool { return s.Finishes > 0 }

// Recorder follows all scans of a namespace by one watch. Its methods may be called from any goroutine.
type Recorder struct {
	stop    context.CancelFunc
	stopped chan error

	mu      sync.Mutex
	scans   map[string]*Scan
	left    int // scans that have not ended
	broken  []string
	changed chan struct{} // closed at the next change
}

// Watch follows the scans of a namespace until Close.
func Watch(ctx context.Context, config *rest.Config, namespace string) (*Recorder, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	objects, err := cache.New(config, cache.Options{
		Scheme: scheme, DefaultNamespaces: map[string]cache.Config{namespace: {}},
		DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return nil, fmt.Errorf("watch scans: %w", err)
	}
	informer, err := objects.GetInformer(ctx, &v1alpha1.ScanRequest{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch scans: %w", err)
	}
	r := newRecorder()
	if _, err := informer.AddEventHandler(r.handler()); err != nil {
		return nil, fmt.Errorf("watch scans: %w", err)
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	go func() { r.stopped <- objects.Start(watching) }()
	if !objects.WaitForCacheSync(ctx) {
		return nil, errors.Join(errors.New("watch scans: the watch does not start"), r.Close())
	}
	return r, nil
}

func newRecorder() *Recorder {
	return &Recorder{stopped: make(chan error, 1), scans: map[string]*Scan{}, changed: make(chan struct{})}
}

// Close ends the watch.
func (r *Recorder) Close() error {
	r.stop()
	return <-r.stopped
}

func (r *Recorder) handler() toolscache.ResourceEventHandler {
	observe := func(obj any) {
		if scan, ok := obj.(*v1alpha1.ScanRequest); ok {
			r.observe(scan)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, obj any) { observe(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if scan, ok := obj.(*v1alpha1.ScanRequest); ok {
				r.gone(scan)
			}
		},
	}
}

// observe records a scan's newest version.
func (r *Recorder) observe(obj *v1alpha1.ScanRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.scanLocked(obj.Name)
	if s.UID != "" && s.UID != obj.UID {
		r.breakLocked("scan %s was replaced by another of the same name", s.Name)
	}
	s.UID = obj.UID
	status := &obj.Status
	finished := !status.FinishedAt.IsZero()
	switch {
	case finished && s.Finishes == 0:
		s.Finishes, s.FinishedAt = 1, status.FinishedAt.Time
		r.left--
		close(s.done)
	case finished && (!s.FinishedAt.Equal(status.FinishedAt.Time) || s.Phase != status.Phase):
		s.Finishes++
		r.breakLocked("scan %s finished twice: as %s at %s, then as %s at %s", s.Name,
			s.Phase, s.FinishedAt.Format(time.RFC3339Nano), status.Phase, status.FinishedAt.Format(time.RFC3339Nano))
	case !finished && s.Finishes > 0:
		r.breakLocked("scan %s had finished as %s and is %s again", s.Name, s.Phase, status.Phase)
	}
	s.Phase, s.Reason = status.Phase, status.Summary.Reason
	s.User, s.AcceptedAt = obj.Spec.UserID, status.AcceptedAt.Time
	s.Waited, s.Served, s.Reserved = time.Duration(status.WaitedMilliseconds)*time.Millisecond, 0, 0
	s.current = status.Assignment
	if a := status.Assignment; a != nil {
		s.hadLocked(a.Stage, a.Worker)
	}
	for i := range status.Stages {
		stage := &status.Stages[i]
		s.hadLocked(stage.Name, stage.Worker)
		s.Attempts[stage.Name] = int64(stage.Attempts)
		s.Reserved += stage.Tokens.Reserved
		if !stage.FinishedAt.IsZero() {
			s.Served += stage.FinishedAt.Sub(stage.StartedAt.Time)
		}
		if stage.Name == v1alpha1.StageVision {
			s.BegunAt = stage.StartedAt.Time
		}
	}
	r.wakeLocked()
}

// gone records a deletion, which is allowed only after the scan's end.
func (r *Recorder) gone(obj *v1alpha1.ScanRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.scans[obj.Name]
	if ended := s != nil && s.Terminal() || !obj.Status.FinishedAt.IsZero(); !ended {
		r.breakLocked("scan %s was deleted before it had ended", obj.Name)
	}
	r.wakeLocked()
}

func (s *Scan) hadLocked(stage v1alpha1.StageName, worker string) {
	if worker != "" && !slices.Contains(s.Workers[stage], worker) {
		s.Workers[stage] = append(s.Workers[stage], worker)
	}
}

func (r *Recorder) scanLocked(name string) *Scan {
	s := r.scans[name]
	if s == nil {
		s = &Scan{
			Name: name, Workers: map[v1alpha1.StageName][]string{}, Attempts: map[v1alpha1.StageName]int64{},
			done: make(chan struct{}),
		}
		r.scans[name] = s
		r.left++
	}
	return s
}

func (r *Recorder) breakLocked(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

func (r *Recorder) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Accepted records that the product has accepted a scan: from now on it must end.
func (r *Recorder) Accepted(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.scanLocked(name)
	if s.Submitted.IsZero() {
		s.Submitted = time.Now()
	}
	r.wakeLocked()
}

// AwaitEnd waits until a scan is terminal.
func (r *Recorder) AwaitEnd(ctx context.Context, name string) error {
	r.mu.Lock()
	done := r.scanLocked(name).done
	r.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Await waits until the condition holds. It is checked at each change.
func (r *Recorder) Await(ctx context.Context, condition func() bool) error {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AwaitAllEnded waits until every scan is terminal. On error it names some that are not.
func (r *Recorder) AwaitAllEnded(ctx context.Context) error {
	err := r.Await(ctx, func() bool {
		_, unfinished := r.Counts()
		return unfinished == 0
	})
	if left := r.Unfinished(); len(left) > 0 {
		return fmt.Errorf("%d scans have not ended, such as %s: %w", len(left), left[0], err)
	}
	return nil
}

// Counts returns how many scans are known, and how many of them have not ended.
func (r *Recorder) Counts() (all, unfinished int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.scans), r.left
}

// Unfinished describes the scans that have not ended.
func (r *Recorder) Unfinished() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []string
	for _, s := range r.scans {
		if !s.Terminal() {
			left = append(left, fmt.Sprintf("%s (%s %s)", s.Name, s.Phase, s.Reason))
		}
	}
	slices.Sort(left)
	return left
}

// Broken describes what was seen that must never happen.
func (r *Recorder) Broken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.broken)
}

// Busy counts the scans that each worker has now, of one stage and assigned to it between youngest and oldest ago:
// their calls are at the provider, neither just sent nor about to be answered.
func (r *Recorder) Busy(stage v1alpha1.StageName, youngest, oldest time.Duration) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	busy := map[string]int{}
	for _, s := range r.scans {
		if s.current == nil || s.current.Stage != stage {
			continue
		}
		if age := time.Since(s.current.AssignedAt.Time); age >= youngest && age <= oldest {
			busy[s.current.Worker]++
		}
	}
	return busy
}

// Scans returns copies of all scans, sorted by name.
func (r *Recorder) Scans() []Scan {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Scan, 0, len(r.scans))
	for _, name := range slices.Sorted(maps.Keys(r.scans)) {
		s := *r.scans[name]
		s.Workers = maps.Clone(s.Workers)
		s.Attempts = maps.Clone(s.Attempts)
		all = append(all, s)
	}
	return all
}

// Forget drops the scans that have ended.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.scans, func(_ string, s *Scan) bool { return s.Terminal() })
}
