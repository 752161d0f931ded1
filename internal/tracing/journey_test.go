// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing_test

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/httpapi"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
	"github.com/eco2-team/scan-operator/internal/provider"
	"github.com/eco2-team/scan-operator/internal/tracing"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"

	// What must not be in any span.
	userName   = "user-kim-77"
	userText   = "이거 어떻게 버려요?"
	imageQuery = "secret-image-token"
	key        = "sk-test-0123456789abcdef"
)

var created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// collector receives spans like an OpenTelemetry collector.
type collector struct {
	mu     sync.Mutex
	bodies []string
	spans  []collected
}

type collected struct {
	service string
	span    *tracev1.Span
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collectorv1.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies = append(c.bodies, string(body))
	for _, of := range request.ResourceSpans {
		service := ""
		for _, attribute := range of.Resource.Attributes {
			if attribute.Key == "service.name" {
				service = attribute.Value.GetStringValue()
			}
		}
		for _, scope := range of.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans = append(c.spans, collected{service, span})
			}
		}
	}
}

// shape describes a span. Parent is the name of its parent.
type shape struct {
	Service, Name, Parent string
	Kind                  string
	// From and To are seconds after the scan's creation, where the span's times are a scan's.
	From, To float64
	Events   []string
}

// shapes describes the spans, by start and name, and fails where one is of another trace than want.
func (c *collector) shapes(t *testing.T, want string) []shape {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	names := map[string]string{callersSpan: "caller"}
	for _, s := range c.spans {
		names[hex.EncodeToString(s.span.SpanId)] = s.span.Name
	}
	shapes := []shape{}
	for _, s := range c.spans {
		if got := hex.EncodeToString(s.span.TraceId); got != want {
			t.Errorf("the span %q is of trace %s, want %s", s.span.Name, got, want)
		}
		of := shape{
			Service: s.service, Name: s.span.Name, Parent: names[hex.EncodeToString(s.span.ParentSpanId)],
			Kind: strings.ToLower(strings.TrimPrefix(s.span.Kind.String(), "SPAN_KIND_")),
		}
		if s.span.Kind == tracev1.Span_SPAN_KIND_CONSUMER || s.span.Kind == tracev1.Span_SPAN_KIND_INTERNAL {
			of.From = secondsAfterCreation(s.span.StartTimeUnixNano)
			of.To = secondsAfterCreation(s.span.EndTimeUnixNano)
		}
		for _, event := range s.span.Events {
			of.Events = append(of.Events, event.Name)
		}
		shapes = append(shapes, of)
	}
	slices.SortFunc(shapes, func(a, b shape) int { return strings.Compare(a.Service+a.Name, b.Service+b.Name) })
	return shapes
}

func secondsAfterCreation(nanos uint64) float64 {
	return time.Unix(0, int64(nanos)).Sub(created).Seconds()
}

// export makes this process send its spans to a collector.
func export(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off") // what is traced here is what the caller traces
	return c
}

// scans stores the scan that the API creates.
type scans struct{ stored *v1alpha1.ScanRequest }

func (s *scans) Get(_ context.Context, name string) (*v1alpha1.ScanRequest, error) {
	if s.stored == nil || s.stored.Name != name {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "scanrequests"}, name)
	}
	return s.stored, nil
}

func (s *scans) GetLive(ctx context.Context, name string) (*v1alpha1.ScanRequest, error) {
	return s.Get(ctx, name)
}

func (s *scans) Create(_ context.Context, scan *v1alpha1.ScanRequest) error {
	scan.CreationTimestamp = metav1.NewTime(created)
	s.stored = scan.DeepCopy()
	return nil
}

func (s *scans) Delete(context.Context, *v1alpha1.ScanRequest) error { return nil }

func (s *scans) SupportedModels(context.Context) ([]string, error) {
	return []string{"gpt-5.4-mini"}, nil
}

// submit submits a scan through an API that traces, and returns the object that it created.
func submit(t *testing.T, headers map[string]string) *v1alpha1.ScanRequest {
	t.Helper()
	tracer, flush, err := tracing.Start(t.Context(), "scan-api", os.Getenv, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer flush()
	store := &scans{}
	server, err := httpapi.New(httpapi.Options{
		Namespace: "scans", Scans: store, Models: store, Synced: func() bool { return true },
		MetricsRegistry: prometheus.NewRegistry(), Tracer: tracer,
	})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"image_url":"https://images.example/1.jpg?class=재활용폐기물/종이&t=` + imageQuery + `","user_input":"` + userText + `"}`
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, scanapi.SubmitPath, strings.NewReader(body))
	r.RemoteAddr = "10.1.2.3:4567"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(scanapi.UserIDHeader, userName)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("the submit is answered with %d %s", w.Code, w.Body)
	}
	return store.stored
}

// fold folds an event into the status of a scan.
func fold(t *testing.T, scan *v1alpha1.ScanRequest, now time.Time, event pipeline.Event) {
	t.Helper()
	_, err := pipeline.Fold(pipeline.Context{
		Spec: scan.Spec, CreatedAt: created, Now: now, Jitter: func() float64 { return 0 },
	}, &scan.Status, event)
	if err != nil {
		t.Fatal(err)
	}
}

// work runs every stage of a scan as workers that trace do, against a provider. Each pair of stages waits four
// seconds for its assignment and one for its worker.
func work(t *testing.T, scan *v1alpha1.ScanRequest, providerURL string) {
	t.Helper()
	tracer, flush, err := tracing.Start(t.Context(), "scan-worker", os.Getenv, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer flush()
	clk := clocktesting.NewFakeClock(created)
	httpClient := provider.NewHTTPClient(1)
	defer httpClient.CloseIdleConnections()
	completer := tracing.TraceCalls(provider.New(provider.Options{
		Keys:       keyFunc(func(string) (string, error) { return key, nil }),
		Endpoints:  provider.EndpointFunc(func(string) (string, error) { return providerURL + "/v1", nil }),
		HTTPClient: httpClient,
	}), tracer)
	runner := tracing.TraceStages(stages.NewRunner(knowledge.Default(), completer, clk), tracer, clk)
	scan.Spec.DeadlineSeconds = 300
	for _, stage := range []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageAnswer} {
		clk.Step(4 * time.Second)
		fold(t, scan, clk.Now(), pipeline.Assigned{AcceptedAt: created, Assignment: v1alpha1.Assignment{
			ID: "assignment-of-" + string(stage), Stage: stage, Worker: "worker-0", Pool: "pool", Budget: "main", Model: "gpt-5.4-mini",
			Attempt: 1, MaxAttempts: 3, MaxOutputTokens: 800, Deadline: metav1.NewMicroTime(clk.Now().Add(time.Minute)),
		}})
		clk.Step(time.Second)
		input := stages.Scan{ID: "uid", Spec: scan.Spec, Assignment: *scan.Status.Assignment}
		if scan.Status.Result != nil {
			input.Result = *scan.Status.Result
		}
		outcomes := runner.Run(tracing.WithScan(t.Context(), scan), input, pipeline.Stages[:])
		if failure := outcomes[len(outcomes)-1].Failure; failure != nil {
			t.Fatalf("%s failed: %v", stage, failure)
		}
		fold(t, scan, clk.Now(), pipeline.Completed{AssignmentID: scan.Status.Assignment.ID, Outcomes: outcomes})
	}
}

// keyFunc makes a function a provider.KeySource.
type keyFunc func(budget string) (string, error)

func (f keyFunc) Key(budget string) (string, error) { return f(budget) }

// The trace that a caller started goes through the API, the object and the worker to the provider, and ends there.
func TestOneTraceFromTheRequestToTheProvider(t *testing.T) {
	c := export(t)
	var leaked []string
	sim := openaisim.New(openaisim.Options{Config: openaisim.Config{Speed: 1e9}})
	llm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent") != "" {
			leaked = append(leaked, r.URL.Path)
		}
		sim.Handler().ServeHTTP(w, r)
	}))
	defer llm.Close()

	scan := submit(t, map[string]string{
		"Traceparent": "00-" + callersTrace + "-" + callersSpan + "-01", "Tracestate": "vendor=1", "Baggage": "user=" + userName,
	})
	work(t, scan, llm.URL)

	if scan.Status.Phase != v1alpha1.ScanSucceeded {
		t.Fatalf("the scan ended in %+v", scan.Status)
	}
	assigned := []string{"assigned"}
	want := []shape{
		{Service: "scan-api", Name: "POST /api/v1/scan", Parent: "caller", Kind: "server"},
		{Service: "scan-api", Name: "create ScanRequest", Parent: "POST /api/v1/scan", Kind: "client"},
		{Service: "scan-worker", Name: "answer", Parent: "POST /api/v1/scan", Kind: "consumer", From: 10, To: 10},
		{Service: "scan-worker", Name: "chat gpt-5.4-mini", Parent: "answer", Kind: "client"},
		{Service: "scan-worker", Name: "chat gpt-5.4-mini", Parent: "vision", Kind: "client"},
		{Service: "scan-worker", Name: "reward", Parent: "POST /api/v1/scan", Kind: "consumer", From: 10, To: 10},
		{Service: "scan-worker", Name: "rule", Parent: "POST /api/v1/scan", Kind: "consumer", From: 5, To: 5},
		{Service: "scan-worker", Name: "vision", Parent: "POST /api/v1/scan", Kind: "consumer", From: 5, To: 5},
		{Service: "scan-worker", Name: "wait for answer", Parent: "POST /api/v1/scan", Kind: "internal", From: 5, To: 10, Events: assigned},
		{Service: "scan-worker", Name: "wait for vision", Parent: "POST /api/v1/scan", Kind: "internal", From: 0, To: 5, Events: assigned},
	}
	got := c.shapes(t, callersTrace)
	slices.SortStableFunc(got, func(a, b shape) int {
		return strings.Compare(a.Service+a.Name+a.Parent, b.Service+b.Name+b.Parent)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if len(leaked) > 0 {
		t.Errorf("the trace was passed on to the provider at %q", leaked)
	}
	sent := strings.Join(c.bodies, "")
	for _, private := range []string{userName, userText, imageQuery, "images.example", key} {
		if strings.Contains(sent, private) {
			t.Errorf("a span holds %q", private)
		}
	}
	if !strings.Contains(sent, scan.Name) {
		t.Error("no span names the job")
	}
}

// A trace that the caller does not sample is sampled by no program; the object carries that to the workers.
func TestACallersDecisionNotToSampleHolds(t *testing.T) {
	c := export(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
	sim := openaisim.New(openaisim.Options{Config: openaisim.Config{Speed: 1e9}})
	llm := httptest.NewServer(sim.Handler())
	defer llm.Close()
	scan := submit(t, map[string]string{"Traceparent": "00-" + callersTrace + "-" + callersSpan + "-00"})
	work(t, scan, llm.URL)
	if got := scan.Annotations[v1alpha1.AnnotationTraceparent]; !strings.HasPrefix(got, "00-"+callersTrace) || !strings.HasSuffix(got, "-00") {
		t.Errorf("the object carries %q", got)
	}
	if got := c.shapes(t, callersTrace); len(got) > 0 {
		t.Errorf("spans: %+v", got)
	}
}
