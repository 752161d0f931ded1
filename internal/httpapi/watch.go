// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// WatchHandler handles the events of the watch of the namespace's scans. Register it with the informer behind Scans.Get
// before the server gets requests.
func (s *Server) WatchHandler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { s.observe(object, false) },
		UpdateFunc: func(_, object any) { s.observe(object, false) },
		DeleteFunc: func(object any) { s.observe(object, true) },
	}
}

func (s *Server) observe(object any, deleted bool) {
	if missed, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = missed.Obj
	}
	scan, ok := object.(*v1alpha1.ScanRequest)
	if !ok {
		s.log.Error(nil, "watch delivered an unexpected object", "type", fmt.Sprintf("%T", object))
		return
	}
	s.created.drop(scan.Name)
	s.limiter.observe(scan, deleted)
	s.hub.publish(scan, deleted)
}
