// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/dev/localstack"
	"github.com/eco2-team/scan-operator/test/testenv"
)

// TestLeaderFailover kills the leader while the provider's limit is used up and a standby waits. The provider's own
// counters show whether the new leader kept the limit and paid for no call twice.
func TestLeaderFailover(t *testing.T) {
	const (
		unfinished = 50
		// atTheLimit is the share of the limit that may be left in the provider's bucket when the leader is killed.
		atTheLimit = 10
		// after is how many scans are to end under the new leader.
		after = 30
	)
	k8sDir, binDir := programs(t)
	var progress bytes.Buffer
	stack, err := localstack.Start(within(t, time.Minute), localstack.Options{
		Dir: filepath.Join(t.TempDir(), "state"), K8sDir: k8sDir, BinDir: binDir,
		ConfigDir: testenv.Path("config"), ManifestsDir: filepath.Join("testdata", "failover"),
		Speed: 10, TokensPerMinute: 240_000, StandbyManager: true, Progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Cleanup(func() {
		stack.Hurry()
		stack.Stop()
		if t.Failed() {
			t.Logf("progress of the stack:\n%s", progress.String())
			logManagers(t, stack.LogDir())
		}
	})
	ctx := within(t, 90*time.Second)
	recorder, err := load.Watch(ctx, stack.RESTConfig(), stack.Namespace())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Close(); err != nil {
			t.Errorf("the watch ended: %v", err)
		}
	})
	sim := load.Simulator{URL: stack.SimURL()}

	submitting, enough := context.WithCancel(ctx)
	users := &load.Users{Count: unfinished, APIURL: stack.APIURL(), Name: "failover", Recorder: recorder}
	left := make(chan error, 1)
	go func() { left <- users.Run(submitting) }()
	stopUsers := func() {
		enough()
		if err := <-left; err != nil {
			t.Error(err)
		}
	}

	if got := stack.Leader(ctx); got != "manager" {
		stopUsers()
		t.Fatalf("the leader is %q, want the manager that was started first", got)
	}
	if err := awaitLimit(ctx, sim, atTheLimit); err != nil {
		stopUsers()
		t.Fatalf("the provider's limit was not used up: %v", err)
	}
	if err := stack.Crash("manager"); err != nil {
		stopUsers()
		t.Fatal(err)
	}
	killed := time.Now()
	if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		return stack.Leader(ctx) == "manager-2", nil
	}); err != nil {
		stopUsers()
		t.Fatalf("the standby does not take over: %v", err)
	}
	t.Logf("the standby led %.1f s after the leader was killed", time.Since(killed).Seconds())
	ended := endedOf(recorder)
	err = recorder.Await(ctx, func() bool { return endedOf(recorder) >= ended+after })
	stopUsers()
	if err != nil {
		t.Fatalf("scans do not end under the new leader: %v", err)
	}
	if err := recorder.AwaitAllEnded(ctx); err != nil {
		t.Fatalf("scans were lost: %v", err)
	}

	for _, broken := range recorder.Broken() {
		t.Error(broken)
	}
	scans := recorder.Scans()
	for i := range scans {
		if s := &scans[i]; s.Phase != v1alpha1.ScanSucceeded || s.Finishes != 1 {
			t.Errorf("scan %s ended as %s (%s), %d times, want Succeeded, once", s.Name, s.Phase, s.Reason, s.Finishes)
		}
	}
	stats, err := sim.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := stats.RateLimitedTotal(); n > 0 {
		t.Errorf("%d calls met a 429, want none: %v", n, stats.RateLimited)
	}
	// No worker died, so no call may be paid for twice.
	if p := stats.Payments; p.PaidMoreThanOnce > 0 || p.AnsweredMoreThanOnce > 0 || p.WithoutID > 0 || p.Forgotten > 0 {
		t.Errorf("payments %+v, want each call to be paid for once", p)
	}
	if want := int64(2 * len(scans)); stats.Payments.Distinct > want {
		t.Errorf("%d different calls for %d scans, want at most two each", stats.Payments.Distinct, len(scans))
	}
	t.Logf("%d scans, %d calls, %d tokens of a limit of 240,000 a minute", len(scans), stats.Admitted, stats.TokensCharged)
}

// awaitLimit waits until no more than a share of the token limit is left in the provider's bucket.
func awaitLimit(ctx context.Context, sim load.Simulator, percent int64) error {
	return wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		stats, err := sim.Stats(ctx)
		if err != nil {
			return false, err
		}
		for _, a := range stats.Accounts {
			if a.TokensCharged > 0 && a.TokensRemaining*100 <= a.TokenLimit*percent {
				return true, nil
			}
		}
		return false, nil
	})
}

func endedOf(r *load.Recorder) int {
	n := 0
	for _, s := range r.Scans() {
		if s.Terminal() {
			n++
		}
	}
	return n
}

// logManagers prints the managers' logs, which are removed with the test's directory.
func logManagers(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"manager.log", "manager-2.log"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s:\n%s", name, content[max(0, len(content)-20_000):])
	}
}
