// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package scanstatus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// page is the error that a client makes of an answer that is not from the API's handlers.
func page(code int, text string) error {
	return apierrors.NewGenericServerResponse(code, http.MethodPatch, resource, "a", text, 0, true)
}

func terminating() error {
	err := apierrors.NewForbidden(resource, "a", errors.New("the namespace is being terminated"))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	return err
}

func invalid() error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "ScanRequest"}, "a", field.ErrorList{
		field.Invalid(field.NewPath("status", "result", "answer", "userAnswer"), "what the user wrote", "too long"),
	})
}

// TestErrorTable runs every API error with every policy: the first patch fails with it, and then every patch.
func TestErrorTable(t *testing.T) {
	tests := map[string]struct {
		err error
		// final is how the write ends at once; empty for errors that are worth another try.
		final Result
		cause error // that the returned error has, where the write ends at once
		// wait is the least time before the second patch.
		wait time.Duration
	}{
		"404: the scan does not exist": {err: apierrors.NewNotFound(resource, "a"), final: Deleted, cause: pipeline.ErrGone},
		// A custom resource answered with a plain 404 page while the API server or etcd restarted, and a garbage
		// collector took that for the object's deletion.
		"404: the path is not served yet": {err: page(http.StatusNotFound, "404 page not found"), wait: 90 * time.Millisecond},
		"409: the scan has changed":       {err: apierrors.NewConflict(resource, "a", errors.New("changed"))},
		"413: the API server's limit":     {err: apierrors.NewRequestEntityTooLargeError("limit is 3145728"), final: Rejected},
		// A reconciler repeated a status that etcd refused as too large for ever, because the error came as a 500.
		"500: etcd's limit":            {err: apierrors.NewInternalError(errors.New("etcdserver: request is too large")), final: Rejected},
		"500: etcd's client's limit":   {err: apierrors.NewInternalError(errors.New("rpc error: code = ResourceExhausted desc = trying to send message larger than max (3 vs. 2)")), final: Rejected},
		"422: the schema":              {err: invalid(), final: Rejected},
		"400: the patch is malformed":  {err: apierrors.NewBadRequest("malformed"), final: Rejected},
		"400: a proxy's page":          {err: page(http.StatusBadRequest, "<html>"), wait: 90 * time.Millisecond},
		"401: the token was rotated":   {err: apierrors.NewUnauthorized("expired"), wait: 90 * time.Millisecond},
		"403: the right is missing":    {err: apierrors.NewForbidden(resource, "a", errors.New("no")), wait: 90 * time.Millisecond},
		"403: namespace terminating":   {err: terminating(), final: Deleted, cause: pipeline.ErrGone},
		"429: priority and fairness":   {err: apierrors.NewTooManyRequests("busy", 0), wait: 90 * time.Millisecond},
		"429: with Retry-After":        {err: apierrors.NewTooManyRequests("busy", 7), wait: 7 * time.Second},
		"500: a failure":               {err: apierrors.NewInternalError(errors.New("panic")), wait: 90 * time.Millisecond},
		"500: with Retry-After":        {err: apierrors.NewServerTimeout(resource, "patch", 3), wait: 3 * time.Second},
		"500: etcd is unavailable":     {err: apierrors.NewInternalError(errors.New("rpc error: code = Unavailable desc = keepalive ping failed")), wait: 90 * time.Millisecond},
		"502: a load balancer's page":  {err: page(http.StatusBadGateway, "<html>"), wait: 90 * time.Millisecond},
		"503: the server is starting":  {err: apierrors.NewServiceUnavailable("starting"), wait: 90 * time.Millisecond},
		"504: etcd took too long":      {err: apierrors.NewTimeoutError("request did not complete within requested timeout", 0), wait: 90 * time.Millisecond},
		"network: connection refused":  {err: syscall.ECONNREFUSED, wait: 90 * time.Millisecond},
		"network: connection reset":    {err: syscall.ECONNRESET, wait: 90 * time.Millisecond},
		"network: the answer cut off":  {err: io.ErrUnexpectedEOF, wait: 90 * time.Millisecond},
		"the request timed out":        {err: context.DeadlineExceeded, wait: 90 * time.Millisecond},
		"an error of an unknown class": {err: errors.New("what is this"), wait: 90 * time.Millisecond},
	}
	policies := map[string]Policy{"never give up": NeverGiveUp, "give up": GiveUp}
	for name, tc := range tests {
		for policyName, policy := range policies {
			t.Run(name+"/"+policyName+"/once", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t, assigned(t))
					s.onPatch = func(_ context.Context, n int, do func() error) error {
						if n == 1 {
							return fmt.Errorf("send: %w", tc.err)
						}
						return do()
					}
					_, result, err := s.writer(policy).Store(t.Context(), s.scan(), classified())
					if tc.final != "" {
						checkFinal(t, result, tc.final, err, tc.cause)
						return
					}
					if result != Written || err != nil {
						t.Fatalf("Store = %s, %v, want %s", result, err, Written)
					}
					if waited := s.patchedAt[1].Sub(s.patchedAt[0]); waited < tc.wait || waited > tc.wait+time.Second {
						t.Errorf("the second patch came after %s, want at least %s and not much more", waited, tc.wait)
					}
				})
			})
			t.Run(name+"/"+policyName+"/always", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t, assigned(t))
					s.onPatch = func(context.Context, int, func() error) error { return fmt.Errorf("send: %w", tc.err) }
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					began := time.Now()
					_, result, err := s.writer(policy).Store(ctx, s.scan(), classified())
					if tc.final != "" {
						checkFinal(t, result, tc.final, err, tc.cause)
						if s.patches != 1 {
							t.Errorf("%d patches, want 1", s.patches)
						}
						return
					}
					if result != Abandoned || !errors.Is(err, tc.err) {
						t.Fatalf("Store = %s, %v, want %s because of %v", result, err, Abandoned, tc.err)
					}
					switch took := time.Since(began); {
					case policy == GiveUp && took > defaultGiveUpAfter+defaultMaxDelay+time.Second:
						t.Errorf("gave up after %s, want %s and not much more", took, defaultGiveUpAfter)
					case policy == NeverGiveUp && took != 10*time.Minute:
						t.Errorf("gave up after %s, before ctx ended", took)
					}
				})
			})
		}
	}
}

func checkFinal(t *testing.T, got, want Result, err, cause error) {
	t.Helper()
	if got != want {
		t.Errorf("Store = %s, %v, want %s", got, err, want)
	}
	if cause != nil && !errors.Is(err, cause) {
		t.Errorf("error = %v, want %v", err, cause)
	}
	_, typed := errors.AsType[*RejectedError](err)
	if typed != (want == Rejected) {
		t.Errorf("error %v is a RejectedError: %t, want %t", err, typed, want == Rejected)
	}
	if strings.Contains(err.Error(), "what the user wrote") {
		t.Errorf("the error repeats what was rejected: %v", err)
	}
}

// TestRetryAfterIsBounded has a proxy ask for an hour.
func TestRetryAfterIsBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		policy     Policy
		want       Result
		wantWithin time.Duration
	}{
		"a result waits a minute at most":              {policy: NeverGiveUp, want: Written, wantWithin: 61 * time.Second},
		"an assignment that would be late is given up": {policy: GiveUp, want: Abandoned},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, assigned(t))
				s.onPatch = func(_ context.Context, n int, do func() error) error {
					if n == 1 {
						return apierrors.NewTooManyRequests("busy", 3600)
					}
					return do()
				}
				began := time.Now()
				_, result, _ := s.writer(tc.policy).Store(t.Context(), s.scan(), classified())
				if result != tc.want {
					t.Errorf("Store = %s, want %s", result, tc.want)
				}
				if took := time.Since(began); took > tc.wantWithin {
					t.Errorf("it took %s, want at most %s", took, tc.wantWithin)
				}
				if s.reads != 0 {
					t.Errorf("%d reads of a server that asked for fewer requests", s.reads)
				}
			})
		})
	}
}
