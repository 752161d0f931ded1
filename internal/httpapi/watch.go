package httpapi

import (
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// WatchHandler takes the events of the watch on the namespace's scans. Register it with the informer that feeds
// Scans.Get before the server takes requests.
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
		s.log.Error(nil, "The watch delivered something that is no scan", "object", object)
		return
	}
	s.recent.drop(scan.Name)
	s.census.observe(scan, deleted)
	s.hub.publish(scan, deleted)
}
