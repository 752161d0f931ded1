// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"time"
)

// scaleScenario is a load on pools.
type scaleScenario struct {
	name, about string
	// tokensPerMinute is the limit of the one budget.
	tokensPerMinute int64
	// memory measures what workers need. One pool, "scans", runs all stages then, instead of two, "vision" and "answer".
	memory bool
	// minReplicas and maxReplicas bound each pool; perWorker is its concurrencyPerWorker.
	minReplicas, maxReplicas, perWorker int
	// speed divides the provider's latencies; 0 leaves them as they were measured.
	speed float64
	// load is how many scans a second to create t after the beginning.
	load func(t time.Duration) float64
	// last is how long the load lasts, settle how long the pools are watched afterwards.
	last, settle time.Duration
}

func (s scaleScenario) title() (name, about string) { return s.name, s.about }

// poolSpecs are the scenario's pools.
func (s scaleScenario) poolSpecs() []poolSpec {
	pools := []poolSpec{
		{name: "vision", stages: "[vision, rule]", maxOutputTokens: small.visionOutput},
		{name: "answer", stages: "[answer, reward]", maxOutputTokens: small.answerOutput},
	}
	if s.memory {
		pools = []poolSpec{{name: "scans", stages: "[vision, rule, answer, reward]", maxOutputTokens: small.answerOutput}}
	}
	for i := range pools {
		p := &pools[i]
		p.perWorker, p.minReplicas, p.maxReplicas, p.stabilizationSeconds = s.perWorker, s.minReplicas, s.maxReplicas, 30
	}
	return pools
}

// period is that of the load which rises and falls.
const period = 2 * time.Minute

// scaleScenarios are all scenarios, with so many waves of the load which rises and falls.
func scaleScenarios(waves int) []scaleScenario {
	const limit = 2_000_000.0
	fed := limit * defaultUtilization / 100 / 60 / small.tokens // scans a second
	evenly := func(scans float64, over time.Duration) func(time.Duration) float64 {
		return func(time.Duration) float64 { return scans / over.Seconds() }
	}
	// A call takes the provider half a minute here, so that all of them run at the same time however slow the API
	// server is: what is measured does not depend on how long a call takes.
	memory := func(name string, calls float64) scaleScenario {
		return scaleScenario{
			name: name, about: fmt.Sprintf("one worker and %.0f scans at a time; the provider takes five times as long", calls),
			tokensPerMinute: 100_000_000, memory: true, minReplicas: 1, maxReplicas: 1, perWorker: 5000, speed: 0.2,
			load: evenly(calls, 20*time.Second), last: 20 * time.Second,
		}
	}
	return []scaleScenario{
		{
			name: "burst/at-once", about: "1,000 scans at once, pools without workers",
			tokensPerMinute: int64(limit), maxReplicas: 10, perWorker: 50, load: evenly(1000, time.Second), last: time.Second, settle: time.Minute,
		},
		{
			name: "burst/5-seconds", about: "1,000 scans within five seconds, pools without workers",
			tokensPerMinute: int64(limit), maxReplicas: 10, perWorker: 50, load: evenly(1000, 5*time.Second), last: 5 * time.Second, settle: time.Minute,
		},
		{
			name: "sine", about: "10 % to 110 % of what 2 M tokens/min feed, in waves of two minutes",
			tokensPerMinute: int64(limit), minReplicas: 1, maxReplicas: 10, perWorker: 25,
			load: func(t time.Duration) float64 {
				return fed * (0.6 - 0.5*math.Cos(2*math.Pi*t.Seconds()/period.Seconds()))
			},
			last: time.Duration(waves) * period, settle: time.Minute,
		},
		{
			name: "cost", about: "1,000 scans within a minute, one worker for each half of a scan",
			tokensPerMinute: int64(limit), minReplicas: 1, maxReplicas: 1, perWorker: 1000, load: evenly(1000, time.Minute), last: time.Minute,
		},
		memory("memory/100", 100),
		memory("memory/1000", 1000),
	}
}
