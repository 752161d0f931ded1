// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import "syscall"

// attributes puts the child into its own process group and has the kernel end
// it when its owner dies without a chance to clean up.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
