// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import "testing"

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}
	for name, tc := range map[string]struct{ in, want string }{
		"none":              {in: "plain", want: "plain"},
		"one":               {in: "--x=$(A)", want: "--x=1"},
		"several":           {in: "$(A)$(A):$(EMPTY).", want: "11:."},
		"not recursive":     {in: "$(B)", want: "$(A)"},
		"unknown stays":     {in: "$(C)", want: "$(C)"},
		"escaped":           {in: "$$(A)", want: "$(A)"},
		"escaped then real": {in: "$$$(A)", want: "$1"},
		"unclosed":          {in: "x$(A", want: "x$(A"},
		"shell style stays": {in: "$A ${A}", want: "$A ${A}"},
		"lone dollar":       {in: "5$", want: "5$"},
		"empty":             {in: "", want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := expand(tc.in, vars); got != tc.want {
				t.Errorf("expand(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestRewritePaths(t *testing.T) {
	mounts := []mountPath{
		{container: "/data", host: "/h/d"},
		{container: "/data/keys", host: "/h/k"},
		{container: "/etc/app", host: "/h/root/etc/app", exact: true},
	}
	for name, tc := range map[string]struct{ in, want string }{
		"whole":              {in: "/data", want: "/h/d"},
		"file below":         {in: "/data/x", want: "/h/d/x"},
		"longest wins":       {in: "/data/keys/x", want: "/h/k/x"},
		"option":             {in: "--dir=/data/x", want: "--dir=/h/d/x"},
		"list":               {in: "a=/data,b=/data/keys:/data", want: "a=/h/d,b=/h/k:/h/d"},
		"quoted":             {in: `{"p":"/data"}`, want: `{"p":"/h/d"}`},
		"longer name stays":  {in: "/database", want: "/database"},
		"deeper place stays": {in: "/srv/data", want: "/srv/data"},
		"URL path stays":     {in: "http://host.name/data", want: "http://host.name/data"},
		"sibling of deeper":  {in: "/data/keysets", want: "/h/d/keysets"},
		"holder of mounts":   {in: "--keys-dir=/etc/app", want: "--keys-dir=/h/root/etc/app"},
		"beside the mounts":  {in: "--c=/etc/app/x", want: "--c=/etc/app/x"},
		"nothing":            {in: "--v=2", want: "--v=2"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := rewritePaths(tc.in, mounts); got != tc.want {
				t.Errorf("rewritePaths(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"$(A)", "$$(A)", "$(", "$", "x$(A)y$$$(B"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// Without variables only the escapes change, and each drops one byte.
		if got := expand(s, nil); len(got) > len(s) {
			t.Errorf("expand(%q) = %q grew without variables", s, got)
		}
	})
}
