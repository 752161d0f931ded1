// Package pipeline knows what a scan is: its four stages, the requests they send and the answers they read, and
// the one function that folds what happened to a scan into its status. It is pure: no Kubernetes client, no
// HTTP, no wall clock.
package pipeline
