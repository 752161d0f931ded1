// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

func eventNames(events []Event) string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = fmt.Sprintf("%d %s %s %d", e.Seq, e.Stage, e.Status, e.Progress)
	}
	return strings.Join(names, "\n")
}

const wholeSequence = `0 queued started 0
1 vision started 0
2 vision completed 25
3 rule started 25
4 rule completed 50
5 answer started 50
6 answer completed 75
7 reward started 75
8 reward completed 100
9 done completed 100`

// head is the first n events of a scan that succeeds.
func head(n int, then ...string) string {
	return strings.Join(append(strings.Split(wholeSequence, "\n")[:n:n], then...), "\n")
}

func TestEventsOfEveryState(t *testing.T) {
	tests := map[string][]string{
		"as planned":          {head(1), head(2), head(5), head(6), wholeSequence},
		"one stage at a time": {head(1), head(2), head(3), head(4), head(5), head(6), head(7), head(8), wholeSequence},
		"all in one write":    {head(1), head(2), wholeSequence},
		"vision tried again, worker lost in answer": {
			head(1), head(2), head(2), head(2), head(2), head(2), head(5), head(6), head(6), head(6), wholeSequence,
		},
		"rule fails after vision in one write, then succeeds": {
			head(1), head(2), head(4), head(4), head(5), head(6), wholeSequence,
		},
		"refused":               {head(1), head(2), head(2, "2 vision failed 0", "3 error failed 0")},
		"answer refused":        {head(1), head(2), head(5), head(6), head(6, "6 answer failed 50", "7 error failed 50")},
		"expired in the queue":  {head(1), head(1, "1 error failed 0")},
		"expired while it runs": {head(1), head(2), head(2, "2 vision failed 0", "3 error failed 0")},
		"expired between stages": {
			head(1), head(2), head(5), head(5, "5 error failed 50"),
		},
		"rejected while it waits to be tried again": {
			head(1), head(2), head(2), head(2), head(2, "2 error failed 0"),
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, "job")
			scanLives[name](l)
			var got []string
			for _, state := range l.states {
				got = append(got, eventNames(Events(state)))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events of each state (-want +got):\n%s", diff)
			}
		})
	}
	if len(tests) != len(scanLives) {
		t.Errorf("%d lives are tested, there are %d", len(tests), len(scanLives))
	}
}

// An id that a client has seen means the same event in every later state, whichever replica serves it.
func TestEventsOnlyGrow(t *testing.T) {
	for name, live := range scanLives {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, "job")
			live(l)
			for i := 1; i < len(l.states); i++ {
				before, after := eventNames(Events(l.states[i-1])), eventNames(Events(l.states[i]))
				if !strings.HasPrefix(after+"\n", before+"\n") {
					t.Errorf("state %d changes events that state %d had:\n%s\nbefore:\n%s", i, i-1, after, before)
				}
			}
			events := Events(l.scan)
			for i, e := range events {
				if e.Seq != i || e.JobID != "job" || e.TS.IsZero() {
					t.Errorf("event %d is %+v", i, e.Event)
				}
				if e.Last() != (i == len(events)-1) {
					t.Errorf("event %d of %d: Last() = %v", i, len(events), e.Last())
				}
			}
		})
	}
}

// What is dropped from watched scans must not be missed.
func TestEventsAndResultSurviveTrimming(t *testing.T) {
	for name, live := range scanLives {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, "job")
			live(l)
			for i, state := range l.states {
				want := encodeAll(t, Events(state))
				wantResult := resultOf(state)
				trimmed, err := Trim(state.DeepCopy())
				if err != nil {
					t.Fatal(err)
				}
				kept := asScan(t, trimmed)
				if diff := cmp.Diff(want, encodeAll(t, Events(kept))); diff != "" {
					t.Errorf("state %d: events (-whole +trimmed):\n%s", i, diff)
				}
				if diff := cmp.Diff(wantResult, resultOf(kept)); diff != "" {
					t.Errorf("state %d: result (-whole +trimmed):\n%s", i, diff)
				}
			}
		})
	}
}

func TestEventData(t *testing.T) {
	l := newLife(t, "job")
	succeed(l)
	want := []string{
		`{"job_id":"job","stage":"queued","status":"started","seq":0,"ts":"2026-03-01T12:00:00.01Z","progress":0}`,
		`{"job_id":"job","stage":"vision","status":"started","seq":1,"ts":"2026-03-01T12:00:01Z","progress":0}`,
		`{"job_id":"job","stage":"vision","status":"completed","seq":2,"ts":"2026-03-01T12:00:01.5Z","progress":25,"result":{"classification":{"major_category":"재활용폐기물","middle_category":"종이","minor_category":"골판지 상자"},"situation_tags":["내용물_있음"]}}`,
		`{"job_id":"job","stage":"rule","status":"started","seq":3,"ts":"2026-03-01T12:00:01Z","progress":25}`,
		`{"job_id":"job","stage":"rule","status":"completed","seq":4,"ts":"2026-03-01T12:00:01.5Z","progress":50,"result":{"disposal_rules":{"id":"paper","title":"종이","steps":["펴기","묶기"],"exclusions":[]}}}`,
		`{"job_id":"job","stage":"answer","status":"started","seq":5,"ts":"2026-03-01T12:00:03Z","progress":50}`,
		`{"job_id":"job","stage":"answer","status":"completed","seq":6,"ts":"2026-03-01T12:00:03.5Z","progress":75,"result":{"final_answer":{"disposal_steps":["상자를 펴세요"],"insufficiencies":[],"user_answer":"상자를 펴서 묶어 내놓으세요."}}}`,
		`{"job_id":"job","stage":"reward","status":"started","seq":7,"ts":"2026-03-01T12:00:03Z","progress":75}`,
		`{"job_id":"job","stage":"reward","status":"completed","seq":8,"ts":"2026-03-01T12:00:03.5Z","progress":100,"result":{"reward":{"name":"페이피","dialog":"고마워!","match_reason":"종이","type":"paper"}}}`,
		`{"job_id":"job","stage":"done","status":"completed","seq":9,"ts":"2026-03-01T12:00:04Z","progress":100,"result":` + wholeResult + `}`,
	}
	if diff := cmp.Diff(want, encodeAll(t, Events(l.scan))); diff != "" {
		t.Errorf("event data (-want +got):\n%s", diff)
	}
}

func TestEventDataOfFailure(t *testing.T) {
	l := newLife(t, "job")
	scanLives["refused"](l)
	const failure = `"result":{"code":"CONTENT_REFUSED","message":"The photo or the question was declined. Send another one."}}`
	want := []string{
		`{"job_id":"job","stage":"vision","status":"failed","seq":2,"ts":"2026-03-01T12:00:01.5Z","progress":0,` + failure,
		`{"job_id":"job","stage":"error","status":"failed","seq":3,"ts":"2026-03-01T12:00:02Z","progress":0,` + failure,
	}
	if diff := cmp.Diff(want, encodeAll(t, Events(l.scan)[2:])); diff != "" {
		t.Errorf("event data (-want +got):\n%s", diff)
	}
}

func encodeAll(t *testing.T, events []Event) []string {
	t.Helper()
	var all []string
	for _, e := range events {
		data, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	return all
}

func TestCanceled(t *testing.T) {
	l := newLife(t, "job")
	l.assign("vision").complete(visionOutcome, ruleOutcome)
	got := canceled("job", l.now, Events(l.scan))
	if got.Seq != 5 || got.Stage != scanapi.EventError || got.Status != scanapi.EventFailed || got.Progress != 50 || !got.Last() {
		t.Errorf("canceled() = %+v", got.Event)
	}
}
