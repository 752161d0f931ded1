// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"regexp"
	"strings"
	"testing"
)

func TestIdentityNamesTheStart(t *testing.T) {
	pattern := regexp.MustCompile(`^vision-7f9c-x2x4z-[0-9a-f]{6}$`)
	first, second := newIdentity("vision-7f9c-x2x4z"), newIdentity("vision-7f9c-x2x4z")
	if !pattern.MatchString(first) {
		t.Errorf("identity %q does not match %s", first, pattern)
	}
	if first == second {
		t.Errorf("two starts have the identity %q", first)
	}
}

func TestCheckPodName(t *testing.T) {
	tests := map[string]struct {
		pod     string
		wantErr bool
	}{
		"a pod of a Deployment":     {pod: "vision-6d4cf56db6-2xk8v"},
		"a name with dots":          {pod: "host.example.com"},
		"the longest":               {pod: strings.Repeat("a", 63) + strings.Repeat(".a", 91)},
		"too long":                  {pod: strings.Repeat("a", 63) + strings.Repeat(".a", 92), wantErr: true},
		"empty":                     {pod: "", wantErr: true},
		"upper case":                {pod: "MyHost", wantErr: true},
		"a character out of bounds": {pod: "my_host", wantErr: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if err := checkPodName(tc.pod); (err != nil) != tc.wantErr {
				t.Errorf("checkPodName(%q) = %v, want an error: %t", tc.pod, err, tc.wantErr)
			}
		})
	}
}
