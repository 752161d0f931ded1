// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

func TestPosition(t *testing.T) {
	q := New()
	fill(q,
		scan("a1", "a", 1), scan("a2", "a", 2, tokens(700)), scan("a3", "a", 3),
		scan("b1", "b", 4, tokens(5000)), scan("b2", "b", 5),
		scan("urgent", "c", 9, priority(1)), scan("answer", "c", 9, in(answer, 2), tokens(10)),
		scan("suspended", "a", 0, suspended), scan("backing off", "new", 9, after(time.Hour)),
		scan("other", "a", 0, in(other, 0)),
	)
	tests := map[string]struct {
		want   Position
		wantOK bool
	}{
		"urgent":      {Position{}, true},
		"answer":      {Position{Ahead: 1, TokensAhead: 1000}, true},
		"a1":          {Position{Ahead: 2, TokensAhead: 1010}, true},
		"b1":          {Position{Ahead: 3, TokensAhead: 2010}, true},
		"a2":          {Position{Ahead: 4, TokensAhead: 7010}, true},
		"a3":          {Position{Ahead: 5, TokensAhead: 7710}, true},
		"b2":          {Position{Ahead: 6, TokensAhead: 8710}, true},
		"suspended":   {Position{Ahead: 2, TokensAhead: 1010}, true},
		"backing off": {Position{Ahead: 4, TokensAhead: 7010}, true},
		"other":       {Position{}, true},
		"none":        {Position{}, false},
	}
	for key, tc := range tests {
		t.Run(key, func(t *testing.T) {
			if got, ok := q.Position(key); got != tc.want || ok != tc.wantOK {
				t.Errorf("Position() = %+v, %v, want %+v, %v", got, ok, tc.want, tc.wantOK)
			}
		})
	}
}

// TestPositionIsPickOrder checks that the place of every item is the one in which
// Pick then offers it.
func TestPositionIsPickOrder(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 5))
		q := New(WithWeight(func(user string) int64 { return int64(len(user)) }))
		for i := range 500 {
			user := "uuuuu"[:1+r.IntN(5)]
			fill(q, scan(strconv.Itoa(i), user, r.IntN(100), tokens(r.Int64N(2000))))
			if i%9 == 0 {
				takeAll(q, epoch, 1)
			}
		}
		want := map[string]Position{}
		for key := range q.index {
			want[key], _ = q.Position(key)
		}
		var pos Position
		q.Pick(epoch, func(it Item) Decision {
			if want[it.Key] != pos {
				t.Errorf("seed %d: %s was announced at %+v and came at %+v", seed, it.Key, want[it.Key], pos)
			}
			pos.Ahead++
			pos.TokensAhead += it.Tokens
			return Take
		})
		if pos.Ahead != len(want) {
			t.Errorf("seed %d: %d of %d items went", seed, pos.Ahead, len(want))
		}
	}
}

// TestPositionEstimate compares places that are estimated with exact ones.
func TestPositionEstimate(t *testing.T) {
	for _, straddle := range []int{0, 10, 50} {
		t.Run(strconv.Itoa(straddle), func(t *testing.T) {
			r := rand.New(rand.NewPCG(9, 9))
			q := New()
			for i := range 5000 {
				// Some users have much to do, most little.
				user := strconv.Itoa(min(r.IntN(500), r.IntN(500)))
				it := scan(strconv.Itoa(i), user, r.IntN(1000), tokens(500+r.Int64N(2000)))
				if i%10 == 0 {
					it.Priority = 1
				}
				fill(q, it)
			}
			takeAll(q, epoch, 100)
			estimated, off := 0, 0.0
			for i := 0; i < 5000; i += 7 {
				key := strconv.Itoa(i)
				q.straddle = math.MaxInt
				exact, ok := q.Position(key)
				if !ok {
					continue
				}
				if exact.AheadError != 0 || exact.TokensError != 0 {
					t.Fatalf("exact position %+v states an error", exact)
				}
				q.straddle = straddle
				got, _ := q.Position(key)
				ahead, tokens := abs(got.Ahead-exact.Ahead), abs(got.TokensAhead-exact.TokensAhead)
				if ahead > got.AheadError || tokens > got.TokensError {
					t.Fatalf("Position(%s) = %+v, exactly %+v: off by more than stated", key, got, exact)
				}
				if got.AheadError > 0 {
					estimated++
					off += float64(ahead) / float64(q.Len())
				}
			}
			if estimated < 400 {
				t.Errorf("only %d positions were estimated", estimated)
			}
			if mean := off / float64(estimated); mean > 0.06 {
				t.Errorf("estimates are off by %.3f of the queue on average, want at most 0.06", mean)
			}
		})
	}
}

func abs[T int | int64](x T) T { return max(x, -x) }
