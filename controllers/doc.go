// Package controllers connects the pure parts to Kubernetes: it feeds the scheduler from watches, stores what
// it decides, and keeps deadlines, worker Deployments and the status of budgets and pools.
package controllers
