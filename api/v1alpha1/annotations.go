// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels and annotations this system sets or reads.
const (
	// LabelPool on a Deployment, a Pod and a Lease names the WorkerPool.
	LabelPool = GroupName + "/pool"
	// LabelComponent on a Lease distinguishes a worker's Lease from others.
	LabelComponent = GroupName + "/component"
	// ComponentWorker is LabelComponent's value for workers.
	ComponentWorker = "worker"
	// LabelTrack on a Deployment, a Pod and a worker's Lease is TrackStable or TrackCanary.
	LabelTrack = GroupName + "/track"
	// TrackStable is LabelTrack's value for workers that run with a pool's own settings, and the default without the label.
	TrackStable = "stable"
	// TrackCanary is LabelTrack's value for workers that run with spec.canary's settings.
	TrackCanary = "canary"

	// AnnotationCapacity on a worker's Lease is the number of scans it runs at a time.
	AnnotationCapacity = GroupName + "/capacity"
	// AnnotationState on a worker's Lease is WorkerActive or WorkerDraining.
	AnnotationState = GroupName + "/state"
	// AnnotationPod on a worker's Lease is the name of its pod.
	AnnotationPod = GroupName + "/pod"

	// WorkerActive means that a worker takes work.
	WorkerActive = "active"
	// WorkerDraining means that a worker finishes what it has and takes no more.
	WorkerDraining = "draining"

	// AnnotationRequestHash on a ScanRequest is the hash of the request body that an idempotency key was
	// first used with.
	AnnotationRequestHash = GroupName + "/request-hash"

	// AnnotationTraceparent and AnnotationTracestate on a ScanRequest are the trace that it belongs to, in the form of
	// W3C trace context. The creator of a scan may set them; workers that trace continue the trace. A traceparent of
	// more than 128 bytes and a tracestate of more than 512 are ignored.
	AnnotationTraceparent = GroupName + "/traceparent"
	AnnotationTracestate  = GroupName + "/tracestate"

	// AnnotationAutoscaling on a WorkerPool set to AutoscalingPaused leaves the number of workers to spec.replicas.
	AnnotationAutoscaling = GroupName + "/autoscaling"
	// AutoscalingPaused is AnnotationAutoscaling's value that stops autoscaling.
	AutoscalingPaused = "paused"
)
