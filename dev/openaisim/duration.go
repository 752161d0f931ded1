// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"strconv"
	"time"
)

// formatDuration writes a wait the way the provider does, in headers and in
// messages: a Go duration string with at most millisecond precision ("174ms",
// "8.64s", "6m0s", "0s").
func formatDuration(d time.Duration) string {
	return d.Round(time.Millisecond).String()
}

// ceilSeconds is the Retry-After of a wait: whole seconds, rounded up.
func ceilSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// ceilMillis is the retry-after-ms of a wait. It is rounded up, so that a
// client that waits exactly this long does find room.
func ceilMillis(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10)
}
