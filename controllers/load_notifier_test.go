package controllers

import (
	"testing"

	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWantingPoolsAreWokenAtOnce runs the notifier with a clock that stands still.
func TestWantingPoolsAreWokenAtOnce(t *testing.T) {
	clk := clocktesting.NewFakeClock(t0)
	w := newWanting()
	n := NewLoadNotifier(nil, nil, w, clk, "ns")
	done := make(chan error)
	ctx := t.Context()
	go func() { done <- n.Start(ctx) }()
	w.add(request("vision").NamespacedName)
	w.add(request("vision").NamespacedName)
	if got := <-n.Pools(); client.ObjectKeyFromObject(got.Object) != request("vision").NamespacedName {
		t.Errorf("%s was woken, want ns/vision", client.ObjectKeyFromObject(got.Object))
	}
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
