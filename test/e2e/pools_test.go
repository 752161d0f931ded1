// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/localstack"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// pools is a local stack with one pool, "scans", and its clients.
type pools struct {
	stack *localstack.Stack
	client.Client
	sim load.Simulator
}

// startPools starts a stack whose provider divides its latencies by speed.
func startPools(t *testing.T, speed float64) *pools {
	t.Helper()
	k8sDir, binDir := programs(t)
	var progress bytes.Buffer
	stack, err := localstack.Start(within(t, time.Minute), localstack.Options{
		Dir: filepath.Join(t.TempDir(), "state"), K8sDir: k8sDir, BinDir: binDir,
		ConfigDir: testenv.Path("config"), ManifestsDir: filepath.Join("testdata", "pools"),
		Speed: speed, TokensPerMinute: 10_000_000, RequestsPerMinute: 100_000, Progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Cleanup(func() {
		stack.Hurry()
		stack.Stop()
		if t.Failed() {
			t.Logf("progress of the stack:\n%s", progress.String())
		}
	})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, appsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(stack.RESTConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &pools{stack: stack, Client: client.NewNamespacedClient(c, stack.Namespace()), sim: load.Simulator{URL: stack.SimURL()}}
}

// change patches the pool's spec.
func (p *pools) change(t *testing.T, spec string) {
	t.Helper()
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Name: "scans"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":`+spec+`}`))
	if err := p.Patch(within(t, 10*time.Second), pool, patch); err != nil {
		t.Fatalf("change the pool to %s: %v", spec, err)
	}
}

// ready lists the pods of a track that are ready, when there are n of them and no others.
func (p *pools) ready(ctx context.Context, t *testing.T, track string, n int) (names []string) {
	t.Helper()
	var last []string
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		pods := &corev1.PodList{}
		if err := p.List(ctx, pods, client.MatchingLabels{v1alpha1.LabelPool: "scans", v1alpha1.LabelTrack: track}); err != nil {
			return false, err
		}
		names, last = nil, nil
		for i := range pods.Items {
			pod := &pods.Items[i]
			last = append(last, fmt.Sprintf("%s %s %v", pod.Name, pod.Status.Phase, pod.DeletionTimestamp))
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp.IsZero() {
					names = append(names, pod.Name)
				}
			}
		}
		return len(pods.Items) == n && len(names) == n, nil
	})
	if err != nil {
		t.Fatalf("wait for %d ready pods of track %s: %v; there are: %s", n, track, err, strings.Join(last, ", "))
	}
	return names
}

// paidOnce fails the test if any call was paid for twice.
func (p *pools) paidOnce(t *testing.T) {
	t.Helper()
	stats, err := p.sim.Stats(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if pay := stats.Payments; pay.PaidMoreThanOnce > 0 || pay.WithoutID > 0 || pay.Forgotten > 0 {
		t.Errorf("payments %+v, want each call to be paid for once", pay)
	}
}

// metered waits until the manager's metrics show as many runs of each track as there were, and compares their durations.
func (p *pools) metered(ctx context.Context, t *testing.T, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	if err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		metrics, err := load.Scrape(ctx, http.DefaultClient, p.stack.MetricsURLs()[0])
		if err != nil {
			return false, err
		}
		done := true
		for track, n := range want {
			got[track] = int(metrics.Sum("scan_stage_runs_total", "track", track, "outcome", "ok"))
			done = done && got[track] == n && int(metrics.Sum("scan_stage_duration_seconds", "track", track)) == n
		}
		return done, nil
	}); err != nil {
		t.Errorf("the metrics count %v runs by track, want %v: %v", got, want, err)
	}
}

// podOf is the pod of a worker's identity: what follows its name is the start's nonce.
func podOf(worker string) string { return worker[:max(strings.LastIndex(worker, "-"), 0)] }

// TestCanary gives a pool a canary under load and takes it away again: the canary gets about its share, and no scan
// fails when it starts or ends.
func TestCanary(t *testing.T) {
	t.Parallel()
	const (
		weight = 30
		enough = 200 // scans
	)
	p := startPools(t, 10)
	ctx := within(t, 2*time.Minute)
	recorder, err := load.Watch(ctx, p.stack.RESTConfig(), p.stack.Namespace())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Close(); err != nil {
			t.Errorf("the watch ended: %v", err)
		}
	})
	p.change(t, fmt.Sprintf(`{"canary": {"weightPercent": %d, "template": {"env": [{"name": "TRIED", "value": "yes"}]}}}`, weight))
	canaries := p.ready(ctx, t, v1alpha1.TrackCanary, 1)
	stable := p.ready(ctx, t, v1alpha1.TrackStable, 1)

	submitting, stop := context.WithCancel(ctx)
	users := &load.Users{Count: 40, APIURL: p.stack.APIURL(), Name: "canary", Recorder: recorder}
	left := make(chan error, 1)
	go func() { left <- users.Run(submitting) }()
	err = recorder.Await(ctx, func() bool { return endedOf(recorder) >= enough })
	runs := runsByPod(recorder)
	if err == nil { // and off again, while its calls run
		p.change(t, `{"canary": null}`)
		p.ready(ctx, t, v1alpha1.TrackCanary, 0)
	}
	stop()
	if err := errors.Join(err, <-left, recorder.AwaitAllEnded(ctx)); err != nil {
		t.Fatal(err)
	}

	total := runs[canaries[0]] + runs[stable[0]]
	if share := 100 * runs[canaries[0]] / max(total, 1); share < weight/2 || share > weight*3/2 {
		t.Errorf("the canary had %d %% of %d runs, want about %d %%: %v", share, total, weight, runs)
	}
	for _, broken := range recorder.Broken() {
		t.Error(broken)
	}
	for _, s := range recorder.Scans() {
		if s.Phase != v1alpha1.ScanSucceeded {
			t.Errorf("scan %s ended as %s (%s), want Succeeded", s.Name, s.Phase, s.Reason)
		}
	}
	p.paidOnce(t)
	runs = runsByPod(recorder) // of all scans
	p.metered(within(t, 10*time.Second), t, map[string]int{
		v1alpha1.TrackStable: runs[stable[0]], v1alpha1.TrackCanary: runs[canaries[0]],
	})
}

// runsByPod counts the calls that each pod's worker has made or makes: workers before the last one released them.
func runsByPod(r *load.Recorder) map[string]int {
	runs := map[string]int{}
	for _, scan := range r.Scans() {
		for _, stage := range []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageAnswer} {
			if workers := scan.Workers[stage]; len(workers) > 0 {
				runs[podOf(workers[len(workers)-1])]++
			}
		}
	}
	return runs
}

// TestIdleWorkersGoFirst takes a worker from a pool whose older worker is idle: without the deletion
// costs, the younger one would be removed.
func TestIdleWorkersGoFirst(t *testing.T) {
	t.Parallel()
	const scans = 10
	p := startPools(t, 0.5) // a call takes 9 seconds or more
	ctx := within(t, 2*time.Minute)
	idle := p.ready(ctx, t, v1alpha1.TrackStable, 1)[0]
	p.change(t, `{"minReplicas": 2, "maxReplicas": 2}`)
	var busy string
	for _, name := range p.ready(ctx, t, v1alpha1.TrackStable, 2) {
		if name != idle {
			busy = name
		}
	}
	for i := range scans {
		scan := &v1alpha1.ScanRequest{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("scan-%d", i)}}
		scan.Spec.ImageURL, scan.Spec.UserID = "https://images.example.org/can.jpg", "somebody"
		if err := p.Create(ctx, scan); err != nil {
			t.Fatal(err)
		}
	}
	byPod := p.assigned(ctx, t, scans)
	if len(byPod[idle]) == 0 || len(byPod[busy]) == 0 {
		t.Fatalf("the workers have %d and %d scans, want some each", len(byPod[idle]), len(byPod[busy]))
	}
	for _, name := range byPod[idle] { // their users cancel them
		if err := p.Delete(ctx, &v1alpha1.ScanRequest{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	p.change(t, `{"minReplicas": 1, "maxReplicas": 1}`)
	if left := p.ready(ctx, t, v1alpha1.TrackStable, 1); left[0] != busy {
		t.Errorf("pod %s is left, want the busy one, %s", left[0], busy)
	}
	for _, name := range byPod[busy] {
		scan := &v1alpha1.ScanRequest{}
		if err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			err := p.Get(ctx, client.ObjectKey{Namespace: p.stack.Namespace(), Name: name}, scan)
			return err == nil && !scan.Status.FinishedAt.IsZero(), err
		}); err != nil {
			t.Fatalf("scan %s does not end: %v", name, err)
		}
		if scan.Status.Phase != v1alpha1.ScanSucceeded {
			t.Errorf("scan %s ended as %s (%s), want Succeeded", name, scan.Status.Phase, scan.Status.Summary.Reason)
		}
	}
	p.paidOnce(t)
}

// assigned waits until all scans are with workers, and lists them by pod.
func (p *pools) assigned(ctx context.Context, t *testing.T, scans int) map[string][]string {
	t.Helper()
	var byPod map[string][]string
	if err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		list := &v1alpha1.ScanRequestList{}
		if err := p.List(ctx, list); err != nil {
			return false, err
		}
		byPod = map[string][]string{}
		n := 0
		for i := range list.Items {
			if a := list.Items[i].Status.Assignment; a != nil {
				byPod[podOf(a.Worker)] = append(byPod[podOf(a.Worker)], list.Items[i].Name)
				n++
			}
		}
		return n == scans, nil
	}); err != nil {
		t.Fatalf("the scans are not assigned: %v", err)
	}
	return byPod
}
