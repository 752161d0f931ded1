package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// share is a user and its part of the load.
type share struct {
	name   string
	weight int
}

func parseUsers(s string) ([]share, error) {
	var shares []share
	for part := range strings.SplitSeq(s, ",") {
		name, weight, ok := strings.Cut(part, ":")
		n, err := strconv.Atoi(weight)
		if !ok || err != nil || n < 1 {
			return nil, fmt.Errorf("--users: %q is not NAME:WEIGHT with a weight of at least 1", part)
		}
		shares = append(shares, share{name, n})
	}
	return shares, nil
}

// scanRecord is what is remembered of a scan.
type scanRecord struct {
	user      string
	created   time.Time
	finished  time.Time
	succeeded bool
	reason    string
	wait      time.Duration
	duration  time.Duration
	service   time.Duration // time at workers
	charged   int64         // tokens reserved by calls
	foretold  prediction
	began     time.Time // its first stage's last try
}

// maxWarmup is how long the warm-up may last until the full buckets are used up.
const maxWarmup = 5 * time.Minute

// generator keeps the backlog: each user has its own closed loop, so that a user's share is of what is asked,
// not of what is served.
type generator struct {
	client client.Client
	opts   options
	users  []share
	run0   string
	ask    *forecaster

	mu      sync.Mutex
	scans   map[string]*scanRecord
	next    int
	pending map[string]int // unfinished scans by user
	wake    chan struct{}
	done    int
	// midway is called once, a quarter into the measurement.
	midway func() error
}

func newGenerator(c client.Client, o options, users []share) *generator {
	return &generator{
		client: c, opts: o, users: users, run0: strconv.FormatInt(time.Now().Unix(), 36),
		ask:   newForecaster(o.queueURLs, o.namespace),
		scans: map[string]*scanRecord{}, pending: map[string]int{}, wake: make(chan struct{}, 1),
	}
}

func (g *generator) handler() toolscache.ResourceEventHandler {
	observe := func(obj any) {
		if scan, ok := obj.(*v1alpha1.ScanRequest); ok {
			g.observe(scan)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{AddFunc: observe, UpdateFunc: func(_, obj any) { observe(obj) }}
}

func (g *generator) observe(scan *v1alpha1.ScanRequest) {
	s := &scan.Status
	if s.FinishedAt.IsZero() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.scans[scan.Name]
	if r == nil || !r.finished.IsZero() {
		return
	}
	r.finished, r.succeeded, r.reason = s.FinishedAt.Time, s.Phase == v1alpha1.ScanSucceeded, s.Summary.Reason
	r.wait = time.Duration(s.WaitedMilliseconds) * time.Millisecond
	r.duration = s.FinishedAt.Sub(s.AcceptedAt.Time)
	for i := range s.Stages {
		st := &s.Stages[i]
		r.charged += st.Tokens.Reserved
		if st.Name == v1alpha1.StageVision {
			r.began = st.StartedAt.Time
		}
		r.service += st.FinishedAt.Sub(st.StartedAt.Time)
	}
	g.pending[r.user]--
	g.done++
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// want says for which user the next scan is to be created, if any is.
func (g *generator) want() (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	total := 0
	for _, u := range g.users {
		total += u.weight
	}
	for _, u := range g.users {
		if most := max(1, g.opts.backlog*u.weight/total); g.pending[u.name] < most {
			g.pending[u.name]++
			return u.name, true
		}
	}
	return "", false
}

func (g *generator) create(ctx context.Context, user string) error {
	g.mu.Lock()
	g.next++
	n := g.next
	name := fmt.Sprintf("load-%s-%06d", g.run0, n)
	record := &scanRecord{user: user, created: time.Now()}
	g.scans[name] = record
	g.mu.Unlock()
	ttl := int32(0)
	scan := &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: g.opts.namespace, Name: name},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: fmt.Sprintf(g.opts.images, n), UserInput: "이거 어떻게 버려요?", UserID: user,
			DeadlineSeconds: int32(g.opts.deadline), TTLSecondsAfterFinished: &ttl,
		},
	}
	if err := g.client.Create(ctx, scan); err != nil {
		return fmt.Errorf("create a scan: %w", err)
	}
	return nil
}

// run loads the operator, measures, and lets what is left finish.
func (g *generator) run(ctx context.Context) (*report, error) {
	var creators, forecasters sync.WaitGroup
	asking, stopAsking := context.WithCancel(ctx)
	defer forecasters.Wait()
	defer stopAsking()
	forecasters.Go(func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				g.forecast(asking)
			case <-asking.Done():
				return
			}
		}
	})
	jobs := make(chan string)
	failed := make(chan error, 16)
	for range 16 {
		creators.Go(func() {
			for user := range jobs {
				if err := g.create(ctx, user); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	begin := time.Now()
	var from time.Time // when measuring began
	var before, after *simStats
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for from.IsZero() || time.Since(from) < g.opts.duration {
		if from.IsZero() && time.Since(begin) >= g.opts.warmup {
			if now := readSim(ctx, g.opts.simURL); g.warm(now, time.Since(begin)) {
				before, from = now, time.Now()
			}
		}
		if g.midway != nil && !from.IsZero() && time.Since(from) >= g.opts.duration/4 {
			if err := g.midway(); err != nil {
				return nil, err
			}
			g.midway = nil
		}
		if user, ok := g.want(); ok {
			select {
			case jobs <- user:
				continue
			case <-ticker.C:
				g.progress(begin)
				continue
			case err := <-failed:
				return nil, err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		select {
		case <-g.wake:
		case <-ticker.C:
			g.progress(begin)
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	to := time.Now()
	after = readSim(ctx, g.opts.simURL)
	close(jobs)
	creators.Wait()
	measured := time.Now()
	for left := g.left(); left > 0 && time.Since(measured) < g.opts.drain; left = g.left() {
		select {
		case <-ticker.C:
			g.progress(begin)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.report(from, to, before, after, readSim(ctx, g.opts.simURL)), nil
}

// warm says whether measuring may begin: where a full bucket is not what is to be measured, it must have been used up.
func (g *generator) warm(now *simStats, after time.Duration) bool {
	return now == nil || g.opts.warmup == 0 || after > maxWarmup || now.level() < now.limit()/20
}

// forecast asks for the predictions of scans that are new.
func (g *generator) forecast(ctx context.Context) {
	if g.ask == nil {
		return
	}
	g.mu.Lock()
	var names []string
	for name, r := range g.scans {
		if r.finished.IsZero() && r.foretold.at.IsZero() && time.Since(r.created) > 200*time.Millisecond && time.Since(r.created) < 2*time.Second && len(names) < 20 {
			names = append(names, name)
		}
	}
	g.mu.Unlock()
	if len(names) == 0 {
		return
	}
	found := g.ask.ask(ctx, names)
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, p := range found {
		g.scans[name].foretold = p
	}
}

func (g *generator) left() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next - g.done
}

func (g *generator) progress(begin time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(os.Stderr, "\r%4.0f s  created %d, finished %d, unfinished %d   ", time.Since(begin).Seconds(), g.next, g.done, g.next-g.done)
}
