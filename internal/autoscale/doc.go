// Package autoscale decides how many workers a WorkerPool has: as many as its calls need, and no more than its token
// budgets can keep busy, changed as fast as spec.behavior allows.
//
// The package is pure: no Kubernetes client and no clock. Decide reads; the owner of a History says what was decided
// and done.
package autoscale
