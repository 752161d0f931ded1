// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package monitoring pins the Prometheus Operator, for the definitions of its types: test/install applies
// config/prometheus to them. The module has them as files, beside a package that must be imported to keep the version in
// go.mod.
package monitoring

import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil" // see above
