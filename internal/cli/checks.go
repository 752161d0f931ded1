// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// AtLeast returns an error unless the value of a flag is least or more.
func AtLeast[T cmp.Ordered](flagName string, value, least T) error {
	if value < least {
		return fmt.Errorf("--%s=%v: want %v or more", flagName, value, least)
	}
	return nil
}

// Above returns an error unless the value of a flag is more than limit.
func Above[T cmp.Ordered](flagName string, value, limit T) error {
	if cmp.Compare(value, limit) <= 0 { // NaN is less than any number
		return fmt.Errorf("--%s=%v: want more than %v", flagName, value, limit)
	}
	return nil
}

// OneOf returns an error unless the value of a flag is one of those allowed.
func OneOf(flagName, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("--%s=%q: want %s", flagName, value, strings.Join(allowed, " or "))
	}
	return nil
}

// HTTPURL returns an error unless the value of a flag is an absolute http or https URL.
func HTTPURL(flagName, value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--%s=%q: want an absolute http or https URL such as https://api.example.com/v1", flagName, value)
	}
	return nil
}
