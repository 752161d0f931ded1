// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package retention caps the number of finished scans in a namespace; the oldest ones beyond it are deleted.
package retention
