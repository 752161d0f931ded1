// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/tracing"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// jobIDNamespace is the namespace of the UUIDv5 of scans with an idempotency key. It must never change: a retried
// submit would not find the first scan.
var jobIDNamespace = uuid.NewSHA1(uuid.NameSpaceDNS, []byte("job-id."+v1alpha1.GroupName))

const (
	// createAttempts bounds the creates of one scan: after an ambiguous error it is read back, and created again if it
	// was not stored.
	createAttempts = 3
	// fallbackRetryAfter is the Retry-After of a rejected submit while the rate of finished scans is unknown.
	fallbackRetryAfter = 10 * time.Second
	// maxRetryAfter bounds the Retry-After of a rejected submit.
	maxRetryAfter = 5 * time.Minute
	// drainShare divides the overall limit: a rejected client is asked to retry when a tenth of the limit has
	// drained. With less, the clients rejected together would all retry for a single place.
	drainShare = 10
)

// submit accepts a scan.
func (s *Server) submit(w http.ResponseWriter, r *http.Request, caller auth.Caller) error {
	request, err := decodeSubmit(w, r)
	if err != nil {
		return err
	}
	if err := validate(request); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	scan, err := newScan(request, caller, key)
	if err != nil {
		return err
	}
	ctx, stop := s.writeContext(r.Context())
	defer stop()
	trace.SpanFromContext(ctx).SetAttributes(tracing.AttributeJobID.String(scan.Name))
	tracing.Annotate(ctx, scan)
	if err := s.accept(ctx, scan); err != nil {
		return err
	}
	s.queue.Position(s.namespace, scan.Name) // requests it, so that the first poll can return it
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, scanapi.SubmitResponse{
		JobID:     scan.Name,
		StreamURL: scanapi.EventsPath(scan.Name),
		ResultURL: scanapi.ResultPath(scan.Name),
		Status:    scanapi.StatusQueued,
	})
	return nil
}

// newScan is the object of a submit. With an idempotency key its name is derived from user and key, so that the API
// server itself rejects a duplicate, and an annotation has the hash of the request.
func newScan(request *scanapi.SubmitRequest, caller auth.Caller, key string) (*v1alpha1.ScanRequest, error) {
	scan := &v1alpha1.ScanRequest{
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: request.ImageURL, UserInput: request.UserInput, Model: request.Model, UserID: caller.UserID,
		},
	}
	if key != "" {
		scan.Name = uuid.NewSHA1(jobIDNamespace, []byte(unambiguous(caller.UserID, key))).String()
		hash := sha256.Sum256([]byte(unambiguous(request.ImageURL, request.UserInput, request.Model)))
		scan.Annotations = map[string]string{v1alpha1.AnnotationRequestHash: hex.EncodeToString(hash[:])}
		return scan, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("generate a job id: %w", err)
	}
	scan.Name = id.String()
	return scan, nil
}

// unambiguous joins strings so that different lists give different results: each string is preceded by its length.
func unambiguous(parts ...string) string {
	var joined strings.Builder
	for _, part := range parts {
		joined.WriteString(strconv.Itoa(len(part)) + ":" + part)
	}
	return joined.String()
}

// accept creates the scan, or finds the one that an earlier try of the same submit created.
func (s *Server) accept(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	if scan.Annotations[v1alpha1.AnnotationRequestHash] != "" {
		// A retried submit succeeds even while new ones are rejected, and makes no write.
		first, err := s.scans.Get(ctx, scan.Name)
		if err != nil {
			first = s.created.get(scan.Name)
		}
		if first != nil {
			return sameRequest(first, scan)
		}
	}
	if err := s.checkSupported(ctx, scan.Spec.Model); err != nil {
		return err
	}
	if err := s.admit(scan); err != nil {
		return err
	}
	err := s.create(ctx, scan)
	if err != nil {
		s.limiter.release(scan.Spec.UserID, scan.Name)
	}
	return err
}

// create stores the scan. After an error that leaves open whether it was stored, the scan is read back by its name, and
// created again if it does not exist.
func (s *Server) create(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	var err error
	for range createAttempts {
		if err = s.createOnce(ctx, scan); err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) && !mayHaveCreated(err) {
			return fromKubernetes(err)
		}
		first, readErr := s.readBack(ctx, scan.Name)
		switch {
		case readErr == nil:
			s.limiter.release(scan.Spec.UserID, scan.Name)
			return sameRequest(first, scan)
		case !apierrors.IsNotFound(readErr):
			return fromKubernetes(readErr)
		case ctx.Err() != nil:
			return fromKubernetes(err)
		}
		// It was not stored, or it was deleted between the two calls: its name is free.
	}
	if apierrors.IsAlreadyExists(err) {
		err = apierrors.NewServerTimeout(v1alpha1.GroupVersion.WithResource("scanrequests").GroupResource(), "create", 1)
	}
	return fromKubernetes(err)
}

func (s *Server) createOnce(ctx context.Context, scan *v1alpha1.ScanRequest) error {
	// The other half of the time is for reading it back.
	attempt, stop := context.WithTimeout(ctx, s.apiTimeout/2)
	defer stop()
	attempt, span := tracing.StartChild(attempt, "create ScanRequest", trace.SpanKindClient)
	defer span.End()
	created := scan.DeepCopy()
	if err := s.scans.Create(attempt, created); err != nil {
		return err
	}
	s.remember(ctx, created)
	return nil
}

// readBack reads a scan that was just written, even if the time for the write is over.
func (s *Server) readBack(ctx context.Context, name string) (*v1alpha1.ScanRequest, error) {
	ctx, stop := s.writeContext(ctx)
	defer stop()
	return s.scans.GetLive(ctx, name)
}

// mayHaveCreated says whether a failed create may have stored the object: the request was sent, and the response is
// missing or inconclusive.
func mayHaveCreated(err error) bool {
	if network, ok := errors.AsType[*net.OpError](err); ok && network.Op == "dial" {
		return false
	}
	return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsInternalError(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsUnexpectedServerError(err) ||
		errors.Is(err, context.DeadlineExceeded) || isConnectionError(err)
}

// sameRequest returns an error if a retried submit differs from the first one.
func sameRequest(first, again *v1alpha1.ScanRequest) error {
	if first.Spec.UserID == again.Spec.UserID &&
		first.Annotations[v1alpha1.AnnotationRequestHash] == again.Annotations[v1alpha1.AnnotationRequestHash] {
		return nil
	}
	return &problemError{
		status: http.StatusConflict, code: scanapi.CodeIdempotencyReused,
		detail: "The idempotency key was used with a different request. Use a new key for each scan.",
		fields: []scanapi.FieldError{{
			Field: scanapi.IdempotencyKeyHeader, Rule: "unique", Detail: "was used with another body",
		}},
	}
}

// admit rejects a scan that would exceed a limit, before anything is created. A scan that it admits has a reservation
// until that is released or the watch delivers the scan.
func (s *Server) admit(scan *v1alpha1.ScanRequest) error {
	if err := s.checkWait(); err != nil {
		return err
	}
	switch s.limiter.reserve(scan.Spec.UserID, scan.Name) {
	case userLimit:
		p := problemf(http.StatusTooManyRequests, scanapi.CodeTooManyScans,
			"You have %d unfinished scans, the limit for one user. Wait for one to finish.", s.limiter.perUser)
		// Users take turns: one of the user's scans finishes in each round of all users.
		p.retryAfter = s.retryAfterDrain(s.limiter.users())
		s.metrics.rejected.WithLabelValues("user_limit").Inc()
		return p
	case overallLimit:
		p := problemf(http.StatusTooManyRequests, scanapi.CodeOverloaded,
			"%d scans are unfinished, the limit of the service. Try again later.", s.limiter.overall)
		p.retryAfter = s.retryAfterDrain(s.limiter.overall / drainShare)
		s.metrics.rejected.WithLabelValues("overall_limit").Inc()
		return p
	default:
		s.admitted.add()
		return nil
	}
}

// checkWait rejects a scan that would wait too long. The leader's estimate is a moment old: if there is a queue, the scans
// admitted since then are added to it, at the rate at which scans finish. After a quiet time that rate shows the past
// demand and not the capacity, so it adds no more than the estimate itself: otherwise a burst would be rejected while
// workers are being started for it.
func (s *Server) checkWait() error {
	if s.maxEstimatedWait == 0 {
		return nil
	}
	wait, asOf, ok := s.queue.EstimatedWait(s.namespace)
	if !ok {
		return nil
	}
	if more, ok := s.limiter.drainTime(s.admitted.since(asOf)); ok && wait > 0 {
		wait += min(more, wait)
	}
	if wait <= s.maxEstimatedWait {
		return nil
	}
	p := problemf(http.StatusTooManyRequests, scanapi.CodeOverloaded,
		"A scan would wait for about %s now. Try again later.", wait.Round(time.Second))
	// The queue has drained to the limit by then, if no other scans are admitted.
	p.retryAfter = bounded(wait - s.maxEstimatedWait)
	s.metrics.rejected.WithLabelValues("estimated_wait").Inc()
	return p
}

// retryAfterDrain is the time in which n scans finish at the rate of the last minute.
func (s *Server) retryAfterDrain(n int) time.Duration {
	if drained, ok := s.limiter.drainTime(max(n, 1)); ok {
		return bounded(drained)
	}
	return fallbackRetryAfter
}

func bounded(retryAfter time.Duration) time.Duration {
	return min(max(retryAfter, time.Second), maxRetryAfter)
}
