// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"
)

// tokenScenario is one configuration of the stack and one load on it. The simulated provider has the same rules in
// all of them, with different limits and different things going on.
type tokenScenario struct {
	name            string
	budgets         int
	tokensPerMinute int64
	// utilization is the budgets' targetUtilizationPercent.
	utilization int
	users       string
	// size is what a scan requests.
	size scanSize
	// backlog is the number of scans to keep unfinished; 0 means enough to keep the budgets busy.
	backlog  int
	warmup   time.Duration
	duration time.Duration
	// sim is a document for /sim/config, set before the load begins.
	sim string
	// midway is a document for /sim/config, set a quarter into the measurement.
	midway string
}

func (s tokenScenario) title() (name, about string) {
	return s.name, fmt.Sprintf("%d × %d tokens/min, target %d %%, %s", s.budgets, s.tokensPerMinute, s.utilization, s.users)
}

func (s tokenScenario) budgetSpecs() []budgetSpec {
	var specs []budgetSpec
	for i := range s.budgets {
		specs = append(specs, budgetSpec{fmt.Sprintf("account-%d", i+1), s.tokensPerMinute, s.utilization})
	}
	return specs
}

// scanSize is how many tokens each call of a scan may answer with, which is most of its charge, and the charge of both
// calls together.
type scanSize struct {
	visionOutput, answerOutput int
	tokens                     float64
}

var (
	// small is as in config/samples.
	small = scanSize{300, 800, 1610}
	// large is what the replaced system's scans cost: with 4 M tokens a minute it could have done 806 scans.
	large = scanSize{1200, 3250, 4960}
)

// tokenScenarios are the measurements this project is judged by.
func tokenScenarios() []tokenScenario {
	usual := tokenScenario{
		budgets: 1, tokensPerMinute: 2_000_000, utilization: 100, users: "one:1", size: small,
		warmup: time.Minute, duration: time.Minute,
	}
	scenario := func(name string, change func(s *tokenScenario)) tokenScenario {
		s := usual
		s.name = name
		change(&s)
		return s
	}
	var all []tokenScenario
	for _, budgets := range []int{1, 2, 3} {
		for _, limit := range []int64{500_000, 2_000_000, 4_000_000} {
			name := fmt.Sprintf("steady/%d-budgets/%dk", budgets, limit/1000)
			steady := func(s *tokenScenario) { s.budgets, s.tokensPerMinute = budgets, limit }
			all = append(all, scenario(name, steady), scenario(name+"/large", func(s *tokenScenario) {
				steady(s)
				s.size = large
			}))
		}
	}
	return append(all,
		scenario("burst/first-minute", func(s *tokenScenario) { s.backlog, s.warmup = 3000, 0 }),
		scenario("foreign/30-percent", func(s *tokenScenario) {
			s.duration, s.sim = 2*time.Minute, `{"background":[{"percent":30}]}`
		}),
		scenario("headers-missing", func(s *tokenScenario) { s.sim = `{"faults":[{"kind":"headers_missing"}]}` }),
		scenario("quota/out-for-2-minutes", func(s *tokenScenario) {
			s.warmup, s.duration = 30*time.Second, 4*time.Minute
			s.midway = `{"faults":[{"kind":"insufficient_quota","durationSeconds":120}]}`
		}),
		scenario("tenants/10-1-1", func(s *tokenScenario) { s.users, s.duration = "big:10,small:1,tiny:1", 2*time.Minute }),
		scenario("default-utilization/2000k", func(s *tokenScenario) { s.utilization = defaultUtilization }),
	)
}
