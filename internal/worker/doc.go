// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package worker runs the stages of scans that the scheduler assigns to this process, and reports their outcomes.
//
// A worker registers with a Lease. It receives its assignments through one watch, runs each of them at most once, and
// reports through scanstatus, which drops an outcome whose assignment is no longer current. Package stages decides what
// happens in a stage; this package watches, runs and reports.
package worker
