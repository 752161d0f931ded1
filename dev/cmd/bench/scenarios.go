package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/dev/localstack"
)

// scenario is one set-up of the local stack and one load on it. The rules of the simulated provider are the same
// in all; what differs is its limits, and what else goes on there.
type scenario struct {
	name            string
	budgets         int
	tokensPerMinute int64
	// utilization is the budgets' targetUtilizationPercent.
	utilization int
	users       string
	// size is what a scan asks for.
	size scanSize
	// backlog is the number of scans to keep unfinished; zero for enough to keep the budgets busy.
	backlog  int
	warmup   time.Duration
	duration time.Duration
	// sim is a document for /sim/config, set before the load begins.
	sim string
	// midway is a document for /sim/config, set a quarter into the measurement.
	midway string
}

// scanSize is what the calls of a scan may answer at most, which makes most of what they are charged, and what that is
// for both calls together.
type scanSize struct {
	visionOutput, answerOutput int
	tokens                     float64
}

var (
	// small is as in config/samples.
	small = scanSize{300, 800, 1610}
	// large is what the replaced system's scans cost: with 4 M tokens a minute it could have done 806 scans.
	large = scanSize{1200, 3250, 4960}
)

const (
	usual = 60 * time.Second
	tail  = 30 * time.Second
)

// scenarios are the measurements this project is judged by.
func scenarios() []scenario {
	var all []scenario
	for _, budgets := range []int{1, 2, 3} {
		for _, limit := range []int64{500_000, 2_000_000, 4_000_000} {
			s := scenario{
				name:    fmt.Sprintf("steady/%d-budgets/%dk", budgets, limit/1000),
				budgets: budgets, tokensPerMinute: limit, utilization: 100, users: "one:1", warmup: usual, duration: usual,
			}
			all = append(all, s)
			s.name, s.size = s.name+"/large", large
			all = append(all, s)
		}
	}
	all = append(all,
		scenario{
			name: "burst/first-minute", budgets: 1, tokensPerMinute: 2_000_000, utilization: 100, users: "one:1",
			backlog: 3000, duration: usual,
		},
		scenario{
			name: "foreign/30-percent", budgets: 1, tokensPerMinute: 2_000_000, utilization: 100, users: "one:1",
			warmup: usual, duration: 2 * time.Minute, sim: `{"background":[{"percent":30}]}`,
		},
		scenario{
			name: "headers-missing", budgets: 1, tokensPerMinute: 2_000_000, utilization: 100, users: "one:1",
			warmup: usual, duration: usual, sim: `{"faults":[{"kind":"headers_missing"}]}`,
		},
		scenario{
			name: "quota/out-for-2-minutes", budgets: 1, tokensPerMinute: 2_000_000, utilization: 100, users: "one:1",
			warmup: tail, duration: 4 * time.Minute, midway: `{"faults":[{"kind":"insufficient_quota","durationSeconds":120}]}`,
		},
		scenario{
			name: "tenants/10-1-1", budgets: 1, tokensPerMinute: 2_000_000, utilization: 100, users: "big:10,small:1,tiny:1",
			warmup: usual, duration: 2 * time.Minute,
		},
		scenario{
			name: "default-utilization/2000k", budgets: 1, tokensPerMinute: 2_000_000, utilization: 95, users: "one:1",
			warmup: usual, duration: usual,
		},
	)
	for i := range all {
		if all[i].size == (scanSize{}) {
			all[i].size = small
		}
	}
	return all
}

// runScenarios runs those whose name matches, one after the other, each on a fresh stack.
func runScenarios(ctx context.Context, o options, out io.Writer) error {
	match, err := regexp.Compile(o.scenarios)
	if err != nil {
		return fmt.Errorf("--scenarios: %w", err)
	}
	ran := 0
	for _, s := range scenarios() {
		if !match.MatchString(s.name) {
			continue
		}
		ran++
		fmt.Fprintf(out, "== %s: %d × %d tokens/min, target %d %%, %s\n", s.name, s.budgets, s.tokensPerMinute, s.utilization, s.users)
		if err := s.run(ctx, o, out); err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
	}
	if ran == 0 {
		return fmt.Errorf("--scenarios: no scenario matches %q", o.scenarios)
	}
	return nil
}

func (s scenario) run(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "scan-perf-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	manifests := filepath.Join(dir, "manifests")
	if err := s.writeManifests(manifests); err != nil {
		return err
	}
	stack, err := localstack.Start(ctx, localstack.Options{
		Dir: filepath.Join(dir, "state"), K8sDir: o.k8sDir, BinDir: o.binDir, ConfigDir: o.configDir, ManifestsDir: manifests,
		TokensPerMinute: s.tokensPerMinute, RequestsPerMinute: 1_000_000,
	})
	if err != nil {
		return err
	}
	defer stack.Stop()

	o.kubeconfig, o.simURL, o.users = stack.Kubeconfig(), stack.SimURL(), s.users
	o.queueURLs = strings.Join(stack.QueueURLs(), ",")
	o.warmup, o.duration = s.warmup, s.duration
	// Enough to keep the budgets busy: the twelve seconds that a scan takes at the provider, and as much again that waits.
	o.backlog = int(float64(s.budgets)*float64(s.tokensPerMinute)/60/s.size.tokens*24) + 100
	if s.backlog > 0 {
		o.backlog = s.backlog
	}
	l, err := newLoad(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	if err := s.distinctKeys(ctx, l.client); err != nil {
		return err
	}
	if err := configureSim(ctx, stack.SimURL(), s.sim); err != nil {
		return err
	}
	if s.midway != "" {
		l.generator.midway = func() error { return configureSim(ctx, stack.SimURL(), s.midway) }
	}
	r, err := l.generator.run(ctx)
	if err != nil {
		return err
	}
	r.print(out)
	return nil
}

// writeManifests writes the budgets and one pool each for photos and answers, with room for all calls.
func (s scenario) writeManifests(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var b strings.Builder
	var refs []string
	for i := range s.budgets {
		name := fmt.Sprintf("account-%d", i+1)
		refs = append(refs, fmt.Sprintf("{name: %s}", name))
		fmt.Fprintf(&b, `---
apiVersion: scan.growbin.app/v1alpha1
kind: TokenBudget
metadata: {name: %[1]s}
spec:
  secretRef: {name: %[1]s, key: api-key}
  models: [gpt-5.1]
  tokensPerMinute: %[2]d
  requestsPerMinute: 1000000
  targetUtilizationPercent: %[3]d
`, name, s.tokensPerMinute, s.utilization)
	}
	for _, p := range []struct {
		name, stages string
		output       int
	}{{"vision", "[vision, rule]", s.size.visionOutput}, {"answer", "[answer, reward]", s.size.answerOutput}} {
		fmt.Fprintf(&b, `---
apiVersion: scan.growbin.app/v1alpha1
kind: WorkerPool
metadata: {name: %s}
spec:
  stages: %s
  budgets: [%s]
  concurrencyPerWorker: 2000
  minReplicas: 1
  maxReplicas: 4
  stageDefaults: {timeoutSeconds: 60, maxOutputTokens: %d}
`, p.name, p.stages, strings.Join(refs, ", "), p.output)
	}
	return os.WriteFile(filepath.Join(dir, "stack.yaml"), []byte(b.String()), 0o600)
}

// distinctKeys gives each budget an account of its own at the provider: the stack starts with one key for all.
func (s scenario) distinctKeys(ctx context.Context, c client.Client) error {
	for i := range s.budgets {
		name := fmt.Sprintf("account-%d", i+1)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "scans", Name: name}}
		if err := c.Get(ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			return fmt.Errorf("get Secret %s: %w", name, err)
		}
		secret.Data["api-key"] = []byte("sk-" + name)
		if err := c.Update(ctx, secret); err != nil {
			return fmt.Errorf("update Secret %s: %w", name, err)
		}
	}
	return nil
}

// configureSim changes the simulated provider's settings.
func configureSim(ctx context.Context, base, document string) error {
	if document == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, base+"/sim/config", bytes.NewReader([]byte(document)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("configure the simulated provider: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("configure the simulated provider: %s: %s", resp.Status, answer)
	}
	return nil
}
