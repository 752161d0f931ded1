// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "go.etcd.io/etcd/server/v3/etcdmain"

// runEtcd runs etcd, which exits the process itself on failure.
func runEtcd(args []string) int {
	etcdmain.Main(args)
	return 0
}
