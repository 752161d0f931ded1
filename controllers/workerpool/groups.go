// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package workerpool

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// workerGroup is the stable or the canary part of a pool's workers. Each has its own Deployment.
type workerGroup struct {
	// track is v1alpha1.TrackStable or TrackCanary, name the Deployment's name.
	track, name string
	template    *v1alpha1.WorkerTemplate
	replicas    int32
}

// Names of a pool's Deployments.
func stableName(pool *v1alpha1.WorkerPool) string { return pool.Name + "-workers" }
func canaryName(pool *v1alpha1.WorkerPool) string { return pool.Name + "-canary" }

// workerGroups divides replicas between the pool's groups. Both shares are rounded up, so that a canary with a weight has
// at least one worker; the sum may exceed replicas by one.
func workerGroups(pool *v1alpha1.WorkerPool, replicas int32) []workerGroup {
	stable := workerGroup{track: v1alpha1.TrackStable, name: stableName(pool), template: pool.Spec.Template, replicas: replicas}
	c := pool.Spec.Canary
	if c == nil {
		return []workerGroup{stable}
	}
	weight := int32(0)
	if c.WeightPercent != nil {
		weight = *c.WeightPercent
	}
	stable.replicas = percentOf(replicas, 100-weight)
	return []workerGroup{stable, {
		track: v1alpha1.TrackCanary, name: canaryName(pool), template: mergeTemplates(pool.Spec.Template, c.Template),
		replicas: percentOf(replicas, weight),
	}}
}

// percentOf is percent of n, rounded up.
func percentOf(n, percent int32) int32 { return int32((int64(n)*int64(percent) + 99) / 100) }

func totalReplicas(groups []workerGroup) (n int32) {
	for _, g := range groups {
		n += g.replicas
	}
	return n
}

// labels select the group's pods.
func (g workerGroup) labels(pool *v1alpha1.WorkerPool) map[string]string {
	l := maps.Clone(poolLabels(pool))
	l[v1alpha1.LabelTrack] = g.track
	return l
}

// deployedReplicas is the number of workers of the pool's Deployments, as it was before workerGroups divided it.
func deployedReplicas(pool *v1alpha1.WorkerPool, deployments map[string]*appsv1.Deployment) int32 {
	total := int32(0)
	for _, d := range deployments {
		if d.Spec.Replicas != nil {
			total += *d.Spec.Replicas
		}
	}
	for n := total; n > 0; n-- {
		if totalReplicas(workerGroups(pool, n)) <= total {
			return n
		}
	}
	return 0
}
