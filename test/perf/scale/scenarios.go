package main

import (
	"math"
	"time"
)

// scenario is a load on pools.
type scenario struct {
	name, about string
	// tokensPerMinute is the limit of the one budget.
	tokensPerMinute int64
	// minReplicas and maxReplicas bound each of the two pools; perWorker is their concurrencyPerWorker.
	minReplicas, maxReplicas, perWorker int
	// load says how many scans a second are to be created t after the beginning.
	load func(t time.Duration) float64
	// last is how long the load lasts, settle how long the pools are watched after its end.
	last, settle time.Duration
}

const (
	// tokensPerScan is what both calls of a scan are charged with the pools of these scenarios.
	tokensPerScan = 1610.0
	// period is that of the load which swells and ebbs.
	period = 2 * time.Minute
)

func scenarios() []scenario {
	const limit = 2_000_000
	fed := limit * 0.95 / 60 / tokensPerScan // scans a second
	burst := func(over time.Duration) func(time.Duration) float64 {
		return func(time.Duration) float64 { return 1000 / over.Seconds() }
	}
	steady := func(calls float64) func(time.Duration) float64 {
		return func(time.Duration) float64 { return calls / 5.4 } // a photo takes 4.5 to 6.2 s
	}
	return []scenario{
		{
			name: "burst/at-once", about: "1,000 scans at once, pools without workers",
			tokensPerMinute: limit, maxReplicas: 10, perWorker: 50, load: burst(time.Second), last: time.Second, settle: time.Minute,
		},
		{
			name: "burst/5-seconds", about: "1,000 scans within five seconds, pools without workers",
			tokensPerMinute: limit, maxReplicas: 10, perWorker: 50, load: burst(5 * time.Second), last: 5 * time.Second, settle: time.Minute,
		},
		{
			name: "sine", about: "10 % to 110 % of what 2 M tokens/min feed, in waves of two minutes",
			tokensPerMinute: limit, minReplicas: 1, maxReplicas: 10, perWorker: 25,
			load: func(t time.Duration) float64 {
				return fed * (0.6 - 0.5*math.Cos(2*math.Pi*t.Seconds()/period.Seconds()))
			},
			last: 3 * period, settle: time.Minute,
		},
		{
			name: "memory/100", about: "one worker for each stage, some 100 photos at a time",
			tokensPerMinute: 100_000_000, minReplicas: 1, maxReplicas: 1, perWorker: 5000, load: steady(100), last: time.Minute,
		},
		{
			name: "memory/1000", about: "one worker for each stage, 2,000 scans within 20 s: about 1,000 calls at a time",
			tokensPerMinute: 100_000_000, minReplicas: 1, maxReplicas: 1, perWorker: 5000,
			load: func(time.Duration) float64 { return 100 }, last: 20 * time.Second,
		},
	}
}
