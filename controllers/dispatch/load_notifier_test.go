// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"testing"

	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/controllers/controllertest"
)

// TestWantingPoolsAreWokenAtOnce runs the notifier with a clock that stands still.
func TestWantingPoolsAreWokenAtOnce(t *testing.T) {
	clk := clocktesting.NewFakeClock(controllertest.T0)
	w := NewScaleUpSignal()
	n := NewLoadNotifier(nil, nil, w, clk, "ns")
	done := make(chan error)
	ctx := t.Context()
	go func() { done <- n.Start(ctx) }()
	w.Raise(controllertest.Request("vision").NamespacedName)
	w.Raise(controllertest.Request("vision").NamespacedName)
	if got := <-n.Pools(); client.ObjectKeyFromObject(got.Object) != controllertest.Request("vision").NamespacedName {
		t.Errorf("%s was woken, want ns/vision", client.ObjectKeyFromObject(got.Object))
	}
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
