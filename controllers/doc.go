// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers wires the operator together: Setup builds the scheduler and the controllers of the packages below
// it and adds them to a manager.
package controllers
