// Package worker runs the stages of scans that the scheduler assigns to this process, and writes down how they
// ended.
//
// A worker is known by its Lease. It sees its assignments through one watch, runs each of them exactly once, and
// reports with a patch that is dropped if the assignment is no longer current. What happens in the stages is the
// pipeline's business; this package reads objects, calls the pipeline and patches.
package worker
