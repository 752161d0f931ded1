package main

import (
	"flag"
	"fmt"
	"time"

	"k8s.io/client-go/tools/leaderelection"
)

// election is how fast a leader that is gone is replaced, and how long one that cannot reach the API server stays.
//
// The defaults are those of Kubernetes' own components. Shorter times replace a killed leader sooner (one that is
// stopped gives its lead away at once), and make every leader give up that cannot renew for renewDeadline: it ends,
// another one leads, and each budget's bucket begins at its most cautious. An API server that restarts is away for
// longer than a killed leader is worth hurrying for, so shorter times are for those who run several API servers.
// The limits of the provider are safe with any: a new leader's ledger does not depend on how long nobody led.
type election struct {
	leaseDuration, renewDeadline, retryPeriod time.Duration
}

func (e *election) bind(fs *flag.FlagSet) {
	fs.DurationVar(&e.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "How long a leader that does not renew its lead is waited for until another manager takes it.")
	fs.DurationVar(&e.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "How long a leader tries to renew its lead before it gives up and ends; less than --leader-elect-lease-duration.")
	fs.DurationVar(&e.retryPeriod, "leader-elect-retry-period", 2*time.Second, "Least time between two tries to take or renew the lead; less than five sixths of --leader-elect-renew-deadline.")
}

// check refuses times with which two managers could lead at once, or none could stay the leader.
func (e *election) check() error {
	longest := time.Duration(leaderelection.JitterFactor * float64(e.retryPeriod))
	switch {
	case e.leaseDuration < time.Second:
		return fmt.Errorf("--leader-elect-lease-duration is %s; make it a second or more", e.leaseDuration)
	case e.renewDeadline >= e.leaseDuration:
		return fmt.Errorf("--leader-elect-renew-deadline is %s and --leader-elect-lease-duration %s; make the deadline shorter, or a leader that cannot renew would still lead when another one takes over",
			e.renewDeadline, e.leaseDuration)
	case e.retryPeriod <= 0 || longest >= e.renewDeadline:
		return fmt.Errorf("--leader-elect-retry-period is %s and --leader-elect-renew-deadline %s; make the period more than zero and less than five sixths of the deadline",
			e.retryPeriod, e.renewDeadline)
	}
	return nil
}
