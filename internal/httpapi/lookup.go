// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const (
	// watchLag bounds how far the watch of a working replica is behind. A scan whose id is older is not read from the
	// API server.
	watchLag = 2 * time.Minute
	// readThroughRate and readThroughBurst limit the reads of the API server that polls of unknown ids cause.
	readThroughRate  = 100 // per second
	readThroughBurst = 200
)

// ownScan finds a scan of the caller. A scan of another user is not found, with code as the problem's code.
func (s *Server) ownScan(ctx context.Context, name string, caller auth.Caller, code string) (*v1alpha1.ScanRequest, error) {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return nil, notFound(code)
	}
	scan, err := s.scans.Get(ctx, name)
	if apierrors.IsNotFound(err) {
		if scan = s.created.get(name); scan != nil {
			err = nil
		} else if scan, err = s.readThrough(ctx, name); err == nil {
			s.remember(ctx, scan)
		}
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, notFound(code)
	case err != nil:
		return nil, fromKubernetes(err)
	case scan.Spec.UserID != caller.UserID:
		return nil, notFound(code)
	default:
		return scan, nil
	}
}

// readThrough reads a scan from the API server that the watch has not delivered: it may have been created a moment ago,
// here or on another replica.
func (s *Server) readThrough(ctx context.Context, name string) (*v1alpha1.ScanRequest, error) {
	notFound := apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("scanrequests").GroupResource(), name)
	now := s.clock.Now()
	if id, err := uuid.Parse(name); err == nil && id.Version() == 7 {
		seconds, nanos := id.Time().UnixTime()
		if now.Sub(time.Unix(seconds, nanos)) > watchLag {
			return nil, notFound
		}
	}
	if !s.readThroughs.AllowN(now, 1) {
		s.metrics.readThroughs.WithLabelValues("limited").Inc()
		return nil, &problemError{
			status: http.StatusServiceUnavailable, code: scanapi.CodeUnavailable,
			detail: "Too many requests for unknown scans. Try again.", retryAfter: time.Second,
		}
	}
	ctx, stop := s.writeContext(ctx)
	defer stop()
	scan, err := s.scans.GetLive(ctx, name)
	switch {
	case err == nil:
		s.metrics.readThroughs.WithLabelValues("found").Inc()
	case apierrors.IsNotFound(err):
		s.metrics.readThroughs.WithLabelValues("not_found").Inc()
	default:
		s.metrics.readThroughs.WithLabelValues("error").Inc()
	}
	return scan, err
}

func notFound(code string) *problemError {
	return problemf(http.StatusNotFound, code,
		"You have no such scan. It may have been deleted: results are kept for a limited time.")
}

// writeContext bounds a call to the API server. It outlives the client's request, so that a call is completed even if the
// client leaves.
func (s *Server) writeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.apiTimeout)
}
