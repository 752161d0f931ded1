// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stages runs the four stages of a scan: it builds the calls of vision and answer, reads their replies, looks
// up the rule and matches the reward. It is pure but for the Completer, which sends the calls.
package stages
