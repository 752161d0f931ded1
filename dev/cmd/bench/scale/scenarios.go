package main

import (
	"fmt"
	"math"
	"time"
)

// scenario is a load on pools.
type scenario struct {
	name, about string
	// tokensPerMinute is the limit of the one budget.
	tokensPerMinute int64
	// memory follows what workers need. One pool, "scans", runs all stages then, instead of two, "vision" and "answer".
	memory bool
	// minReplicas and maxReplicas bound each pool; perWorker is its concurrencyPerWorker.
	minReplicas, maxReplicas, perWorker int
	// speed divides the provider's latencies; 0 leaves them as they were measured.
	speed float64
	// load says how many scans a second are to be created t after the beginning.
	load func(t time.Duration) float64
	// last is how long the load lasts, settle how long the pools are watched after its end.
	last, settle time.Duration
}

// pools names the scenario's pools.
func (s scenario) pools() []string {
	if s.memory {
		return []string{"scans"}
	}
	return []string{"vision", "answer"}
}

const (
	// tokensPerScan is what both calls of a scan are charged with the pools of these scenarios.
	tokensPerScan = 1610.0
	// period is that of the load which swells and ebbs.
	period = 2 * time.Minute
)

// scenarios are all there are, with so many waves of the load that swells and ebbs.
func scenarios(waves int) []scenario {
	const limit = 2_000_000
	fed := limit * 0.95 / 60 / tokensPerScan // scans a second
	evenly := func(scans float64, over time.Duration) func(time.Duration) float64 {
		return func(time.Duration) float64 { return scans / over.Seconds() }
	}
	// A call takes the provider half a minute here, so that all of them run at the same time however slow the API
	// server is: what is measured does not depend on how long a call takes.
	memory := func(name string, calls float64) scenario {
		return scenario{
			name: name, about: fmt.Sprintf("one worker and %.0f scans at a time; the provider takes five times as long", calls),
			tokensPerMinute: 100_000_000, memory: true, minReplicas: 1, maxReplicas: 1, perWorker: 5000, speed: 0.2,
			load: evenly(calls, 20*time.Second), last: 20 * time.Second,
		}
	}
	return []scenario{
		{
			name: "burst/at-once", about: "1,000 scans at once, pools without workers",
			tokensPerMinute: limit, maxReplicas: 10, perWorker: 50, load: evenly(1000, time.Second), last: time.Second, settle: time.Minute,
		},
		{
			name: "burst/5-seconds", about: "1,000 scans within five seconds, pools without workers",
			tokensPerMinute: limit, maxReplicas: 10, perWorker: 50, load: evenly(1000, 5*time.Second), last: 5 * time.Second, settle: time.Minute,
		},
		{
			name: "sine", about: "10 % to 110 % of what 2 M tokens/min feed, in waves of two minutes",
			tokensPerMinute: limit, minReplicas: 1, maxReplicas: 10, perWorker: 25,
			load: func(t time.Duration) float64 {
				return fed * (0.6 - 0.5*math.Cos(2*math.Pi*t.Seconds()/period.Seconds()))
			},
			last: time.Duration(waves) * period, settle: time.Minute,
		},
		{
			name: "cost", about: "1,000 scans within a minute, one worker for each half of a scan",
			tokensPerMinute: limit, minReplicas: 1, maxReplicas: 1, perWorker: 1000, load: evenly(1000, time.Minute), last: time.Minute,
		},
		memory("memory/100", 100),
		memory("memory/1000", 1000),
	}
}
