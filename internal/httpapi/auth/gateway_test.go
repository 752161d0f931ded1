// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func TestGateway(t *testing.T) {
	tests := map[string]struct {
		remote   string
		trusted  []netip.Prefix
		users    []string
		wantUser string // empty: 401
	}{
		"from a private range":     {remote: "10.0.0.1:1", users: []string{"kim"}, wantUser: "kim"},
		"from loopback":            {remote: "[::1]:1", users: []string{"kim"}, wantUser: "kim"},
		"from a mapped address":    {remote: "[::ffff:192.168.1.1]:1", users: []string{"kim"}, wantUser: "kim"},
		"from a unique local one":  {remote: "[fd00::5%eth0]:1", users: []string{"kim"}, wantUser: "kim"},
		"from the internet":        {remote: "203.0.113.9:1", users: []string{"kim"}},
		"from a mapped public one": {remote: "[::ffff:203.0.113.9]:1", users: []string{"kim"}},
		"from nowhere":             {remote: "@", users: []string{"kim"}},
		"from the set range":       {remote: "203.0.113.9:1", trusted: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, users: []string{"kim"}, wantUser: "kim"},
		"from outside of it":       {remote: "10.0.0.1:1", trusted: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, users: []string{"kim"}},
		"no user":                  {remote: "10.0.0.1:1"},
		"an empty user":            {remote: "10.0.0.1:1", users: []string{""}},
		"two users":                {remote: "10.0.0.1:1", users: []string{"kim", "lee"}},
		"128 characters":           {remote: "10.0.0.1:1", users: []string{strings.Repeat("김", 128)}, wantUser: strings.Repeat("김", 128)},
		"129 characters":           {remote: "10.0.0.1:1", users: []string{strings.Repeat("김", 129)}},
		"a control character":      {remote: "10.0.0.1:1", users: []string{"kim\x00"}},
		"invalid UTF-8":            {remote: "10.0.0.1:1", users: []string{"kim\xff"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			trusted := tt.trusted
			if trusted == nil {
				trusted = DefaultTrustedProxies()
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.RemoteAddr = tt.remote
			for _, user := range tt.users {
				r.Header.Add(scanapi.UserIDHeader, user)
			}
			caller, err := Gateway{TrustedProxies: trusted}.Authenticate(r)
			if caller.UserID != tt.wantUser || (err == nil) != (tt.wantUser != "") {
				t.Errorf("Authenticate() = %q, %v; want %q", caller.UserID, err, tt.wantUser)
			}
			if _, unauthorized := errors.AsType[*UnauthorizedError](err); err != nil && !unauthorized {
				t.Errorf("error %v, want an UnauthorizedError", err)
			}
		})
	}
}

func TestParseTrustedProxies(t *testing.T) {
	got, err := ParseTrustedProxies(" 10.1.2.3/8, fd00::/8 ,")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if _, err := ParseTrustedProxies("10.0.0.1"); err == nil || !strings.Contains(err.Error(), `"10.0.0.1"`) {
		t.Errorf("an address without a length: error %v, want one that names it", err)
	}
}
