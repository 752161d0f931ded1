// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rewards posts the reward of each finished scan to another service, once it is in the scan's status.
package rewards
