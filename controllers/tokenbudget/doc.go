// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tokenbudget reconciles TokenBudgets: it checks the Secret with the provider's key and writes what the
// scheduler's ledger holds into the status.
package tokenbudget
