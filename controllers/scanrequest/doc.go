// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scanrequest reconciles ScanRequests: it ends runs and scans that are past their deadline, and deletes
// finished scans after their time to live.
package scanrequest
