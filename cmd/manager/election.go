// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"time"

	"k8s.io/client-go/tools/leaderelection"
)

// election sets how fast a leader that is gone is replaced, and how long a leader that cannot reach the API server
// stays one.
//
// The defaults are those of Kubernetes' own components. Shorter times replace a killed leader sooner (one that is
// stopped releases its Lease at once). They also make every leader end that cannot renew its Lease for renewDeadline:
// another manager leads, and each budget's bucket starts at its most cautious. An API server takes longer to restart
// than a killed leader to be replaced, so shorter times only suit clusters with several API servers. The provider's
// limits are safe with any times: a new leader's ledger does not depend on how long there was no leader.
type election struct {
	leaseDuration, renewDeadline, retryPeriod time.Duration
}

func (e *election) bind(fs *flag.FlagSet) {
	fs.DurationVar(&e.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "Time that the other managers wait for a leader that does not renew its Lease before one of them takes over. 1s or more.")
	fs.DurationVar(&e.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "Time that a leader tries to renew its Lease before it ends. Less than --leader-elect-lease-duration.")
	fs.DurationVar(&e.retryPeriod, "leader-elect-retry-period", 2*time.Second, "Time between two tries to take or to renew the Lease. More than 0, and less than five sixths of --leader-elect-renew-deadline.")
}

// check refuses times with which two managers could lead at once, or with which no manager could stay the leader.
func (e *election) check() error {
	longest := time.Duration(leaderelection.JitterFactor * float64(e.retryPeriod))
	switch {
	case e.leaseDuration < time.Second:
		return fmt.Errorf("--leader-elect-lease-duration=%s: want 1s or more", e.leaseDuration)
	case e.renewDeadline >= e.leaseDuration:
		return fmt.Errorf("--leader-elect-renew-deadline=%s: want less than --leader-elect-lease-duration, which is %s; otherwise a leader that cannot renew its Lease still leads when another one takes over",
			e.renewDeadline, e.leaseDuration)
	case e.retryPeriod <= 0 || longest >= e.renewDeadline:
		return fmt.Errorf("--leader-elect-retry-period=%s: want more than 0 and less than five sixths of --leader-elect-renew-deadline, which is %s",
			e.retryPeriod, e.renewDeadline)
	}
	return nil
}
