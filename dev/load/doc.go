// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package load submits scans in a closed loop, through the HTTP API or as objects, and checks the product's contract:
// every scan that was accepted ends, once, and no call is paid for twice without a reason.
//
// A watch of the objects shows what happens to scans; the simulated provider's counters show what was paid for.
package load
