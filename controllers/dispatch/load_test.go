// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/controllers/controllertest"
	"github.com/eco2-team/scan-operator/controllers/tokenbudget"
)

// pagedReader serves scans in pages, as an API server does, and fails its first requests.
type pagedReader struct {
	client.Reader
	scans    int
	failures int
	lists    int
}

func (r *pagedReader) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if r.failures > 0 {
		r.failures--
		return apierrors.NewTooManyRequests("the server is busy", 1)
	}
	scans, ok := list.(*v1alpha1.ScanRequestList)
	if !ok {
		return r.Reader.List(ctx, list, opts...)
	}
	r.lists++
	o := (&client.ListOptions{}).ApplyOptions(opts)
	from, _ := strconv.Atoi(o.Continue)
	to := min(from+int(o.Limit), r.scans)
	for i := from; i < to; i++ {
		scan := controllertest.MakeScan()
		scan.Name = fmt.Sprintf("s%04d", i)
		scans.Items = append(scans.Items, *scan)
	}
	if to < r.scans {
		scans.Continue = strconv.Itoa(to)
	}
	return nil
}

// An API server that throttled a new leader's lists ended both managers, again and again.
func TestTheStateIsLoadedInPagesWhenTheAPIServerAnswers(t *testing.T) {
	var n controllertest.Calls
	c := controllertest.NewClient(t, &n, controllertest.MakePool(), controllertest.MakeBudget())
	synctest.Test(t, func(t *testing.T) {
		reader := &pagedReader{Reader: c, scans: 2*loadPage + 7, failures: 9}
		r := &Runner{
			APIReader: reader, Keys: &tokenbudget.SecretChecker{APIReader: c}, Namespace: "ns", Clock: clock.RealClock{}, Log: logr.Discard(),
		}
		began := time.Now()
		state, ok := r.loadUntilItWorks(t.Context())
		if !ok || len(state.Pools) != 1 || len(state.Budgets) != 1 || len(state.Keys) != 1 {
			t.Fatalf("loaded %t: %d pools, %d budgets, %d keys", ok, len(state.Pools), len(state.Budgets), len(state.Keys))
		}
		if len(state.Scans) != reader.scans || state.Scans[loadPage].Name != fmt.Sprintf("s%04d", loadPage) {
			t.Errorf("%d scans were loaded, want %d", len(state.Scans), reader.scans)
		}
		if time.Since(began) < loadDelayFirst {
			t.Errorf("failed lists were repeated after %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		reader.failures = 1 << 20
		if _, ok := r.loadUntilItWorks(ctx); ok {
			t.Error("loaded from an API server that answers nothing")
		}
	})
}
