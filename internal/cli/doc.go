// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is the start-up that the programs share: flags with their environment variables, logging, signals,
// exit codes and --version.
//
// A main describes its program with a Command and calls Main. The exit codes are the same for every program: ExitOK,
// ExitFailure and ExitUsage.
package cli
