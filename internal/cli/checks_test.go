// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"math"
	"testing"
	"time"
)

func TestChecks(t *testing.T) {
	tests := map[string]struct {
		err  error
		want string // empty: valid
	}{
		"at the least":         {err: AtLeast("n", 0, 0)},
		"below the least":      {err: AtLeast("n", -1, 0), want: "--n=-1: want 0 or more"},
		"a negative duration":  {err: AtLeast("t", -time.Second, 0), want: "--t=-1s: want 0s or more"},
		"above":                {err: Above("t", time.Nanosecond, 0)},
		"not above":            {err: Above("t", time.Duration(0), 0), want: "--t=0s: want more than 0s"},
		"not a number":         {err: Above("x", math.NaN(), 0), want: "--x=NaN: want more than 0"},
		"a choice":             {err: OneOf("auth", "gateway", "gateway", "tokenreview")},
		"no choice":            {err: OneOf("auth", "", "gateway", "tokenreview"), want: `--auth="": want gateway or tokenreview`},
		"a URL":                {err: HTTPURL("url", "http://127.0.0.1:9090/v1")},
		"a URL without scheme": {err: HTTPURL("url", "api.openai.com"), want: `--url="api.openai.com": want an absolute http or https URL such as https://api.example.com/v1`},
		"another scheme":       {err: HTTPURL("url", "ftp://host"), want: `--url="ftp://host": want an absolute http or https URL such as https://api.example.com/v1`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if tc.err != nil {
				got = tc.err.Error()
			}
			if got != tc.want {
				t.Errorf("error %q, want %q", got, tc.want)
			}
		})
	}
}
