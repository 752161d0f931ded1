// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"math"
	"time"
)

// MaxTokens is the largest number of tokens of one item or one adjustment;
// larger values are clamped. It is far above any context window and keeps sums
// of counters within 64 bits.
const MaxTokens = 1 << 32

// Lane identifies the items that compete for the same workers and budgets. It is
// comparable.
type Lane struct {
	Namespace string
	Stage     string
	Model     string
}

// Item is one scan waiting for its next call.
type Item struct {
	// Key is namespace/name of the scan; at most one item has it.
	Key string
	// Lane is the lane it waits in.
	Lane Lane
	// StageIndex is the place of the stage in the pipeline, 0 to 3. Later stages
	// go first.
	StageIndex int
	// Priority is the scan's priority, 0 to 1000. The highest goes first.
	Priority int32
	// User is the user that the tokens are charged to. The empty string is a user
	// like any other.
	User string
	// Arrival is when the scan was accepted. A scan that returns keeps it, and
	// with it its place.
	Arrival time.Time
	// Tokens is what the call would reserve, 0 to MaxTokens.
	Tokens int64
	// NotBefore is when a scan that backs off becomes ready; zero means now.
	NotBefore time.Time
	// Suspended keeps the item out of the order until an Upsert clears it.
	Suspended bool
}

// State is whether an item can be picked.
type State uint8

// The states of a queued item.
const (
	// Ready items are offered by Pick.
	Ready State = iota
	// BackingOff items become ready at their NotBefore.
	BackingOff
	// Suspended items become ready when an Upsert clears Suspended.
	Suspended

	stateCount = iota
)

// Decision is the caller's answer to an item that Pick offers.
type Decision int

// The answers to an offered item.
const (
	// Take removes the item and charges its Tokens to its user.
	Take Decision = iota
	// Skip leaves the item because it is too large for the capacity left. Items of
	// the lane that are at least as large are not offered in this Pick; smaller
	// ones are, in order, up to the look-ahead and the bounds of WithAging. For
	// any other obstacle use SkipLane: a skipped item acquires a claim on the next
	// tokens of its domain.
	Skip
	// SkipLane ends the offers from the item's lane in this Pick.
	SkipLane
	// Drop removes the item without a charge, for one that can never be sent.
	Drop
	// Stop ends this Pick.
	Stop
)

// Counts is the content of a domain.
type Counts struct {
	Ready      int
	BackingOff int
	Suspended  int
	// ReadyTokens is what all ready items together would reserve.
	ReadyTokens int64
}

// Position is the place of an item among the items that compete with it.
type Position struct {
	// Ahead is the number of ready items that go first.
	Ahead int
	// TokensAhead is what these would reserve.
	TokensAhead int64
	// AheadError and TokensError are how far Ahead and TokensAhead may be off, in
	// either direction. Both are zero unless the item's place depends on the
	// partial backlogs of very many users.
	AheadError  int
	TokensError int64
}

// unixNanos is t in nanoseconds since 1970, without the monotonic clock reading:
// times read from objects have none, and a mix of both is not a total order.
// Times that do not fit 64 bits, including the zero time, sort first or last.
func unixNanos(t time.Time) int64 {
	switch year := t.Year(); {
	case year < 1700:
		return math.MinInt64 / 2
	case year > 2250:
		return math.MaxInt64 / 2
	default:
		return t.UnixNano()
	}
}

// clampTokens bounds an amount of tokens from outside.
func clampTokens(tokens int64) int64 {
	return min(max(tokens, -MaxTokens), MaxTokens)
}

// compareArrival is the order of arrival, which the key makes total.
func compareArrival(a, b *entry) int {
	if c := cmp.Compare(a.arrival, b.arrival); c != 0 {
		return c
	}
	return cmp.Compare(a.item.Key, b.item.Key)
}
