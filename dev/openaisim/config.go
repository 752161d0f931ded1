// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Config is everything that can be set, at start and while the server runs.
// The zero value of a field means its default.
type Config struct {
	// Seed makes latency, probabilities and generated text repeatable.
	Seed uint64 `json:"seed,omitempty"`
	// Speed divides every latency; 0 means 1. It does not speed up the refill
	// of the buckets.
	Speed float64 `json:"speed,omitempty"`

	// TokensPerMinute is the default token limit of an account, 1 to
	// 150,000,000; 0 means 2,000,000.
	TokensPerMinute int64 `json:"tokensPerMinute,omitempty"`
	// RequestsPerMinute is the default request limit of an account, 1 to
	// 150,000,000; 0 means 10,000.
	RequestsPerMinute int64 `json:"requestsPerMinute,omitempty"`
	// RequestsPerDay adds a daily request limit (up to 100,000,000), which the
	// x-ratelimit-*-requests headers then report; 0 is none.
	RequestsPerDay int64 `json:"requestsPerDay,omitempty"`
	// ProjectTokensPerMinute adds a project token limit with its own headers
	// (up to 150,000,000); 0 is none. An organization is one project here.
	ProjectTokensPerMinute int64 `json:"projectTokensPerMinute,omitempty"`
	// Limits override the four numbers above per key and model. All that match
	// apply, in order; a later number wins.
	Limits []Limit `json:"limits,omitempty"`

	// Groups are models that share one limit, by group name. A model in no
	// group has limits of its own.
	Groups map[string][]string `json:"groups,omitempty"`
	// Models adds models to the built-in ones.
	Models []Model `json:"models,omitempty"`

	// Keys describes known API keys.
	Keys []Key `json:"keys,omitempty"`
	// OnlyListedKeys refuses every key that Keys does not list. Otherwise any
	// key that starts with "sk-" is valid.
	OnlyListedKeys bool `json:"onlyListedKeys,omitempty"`

	// ChargeMode is how the prompt estimate and the output limit of a request
	// make its charge: ChargeSum (the default, what headers show) or ChargeMax
	// (what the guide says).
	ChargeMode ChargeMode `json:"chargeMode,omitempty"`
	// SpareRequestsOnReject lets a call that is turned away with a 429 keep
	// its request. By default it is spent.
	SpareRequestsOnReject bool `json:"spareRequestsOnReject,omitempty"`
	// ChargeTokensOnReject also takes the tokens (as far as they are there) of
	// a call that is rejected for lack of tokens.
	ChargeTokensOnReject bool `json:"chargeTokensOnReject,omitempty"`
	// Background are unseen clients that take a steady share of an account.
	Background []Background `json:"background,omitempty"`

	// VisionLatency is how long calls with an image take; the default is the
	// measured 4.5 to 6.2 s.
	VisionLatency Latency `json:"visionLatency,omitzero"`
	// AnswerLatency is how long calls without an image take; the default is
	// the measured 4.9 to 8.9 s.
	AnswerLatency Latency `json:"answerLatency,omitzero"`

	// Faults are the ways in which calls go wrong. A call suffers at most one
	// fault at admission, else at most one during generation, and one of
	// manner: each time the first rule of the list that fires.
	Faults []Fault `json:"faults,omitempty"`

	// Classes are what images without a "class" in their URL show, chosen by a
	// hash of the URL: levels separated by slashes. Absent means the Korean
	// household waste scheme.
	Classes []string `json:"classes"`
	// EmptyArrays is the probability in percent that a generated array of this
	// property name is empty, when the schema allows it. Absent means 70 for
	// "insufficiencies".
	EmptyArrays map[string]int64 `json:"emptyArrays"`
}

// ChargeMode says how a call's charge is made up.
type ChargeMode string

// The charge modes.
const (
	ChargeSum ChargeMode = "sum"
	ChargeMax ChargeMode = "max"
)

// Limit overrides limits for one key, one model, or both. Empty matches all;
// zero numbers keep what was set before.
type Limit struct {
	Key                    string `json:"key,omitempty"`
	Model                  string `json:"model,omitempty"`
	TokensPerMinute        int64  `json:"tokensPerMinute,omitempty"`
	RequestsPerMinute      int64  `json:"requestsPerMinute,omitempty"`
	RequestsPerDay         int64  `json:"requestsPerDay,omitempty"`
	ProjectTokensPerMinute int64  `json:"projectTokensPerMinute,omitempty"`
}

// Model adds a model that behaves like a built-in one.
type Model struct {
	Name string `json:"name"`
	// Like is the built-in model whose image formula and rules it follows.
	Like string `json:"like"`
}

// Key describes one API key.
type Key struct {
	Key string `json:"key"`
	// Organization owns the limits: keys of one organization share them, as a
	// rotated key shares those of its predecessor. Empty derives one from the
	// key.
	Organization string `json:"organization,omitempty"`
	// Revoked keys get a 401.
	Revoked bool `json:"revoked,omitempty"`
}

// Background is a second client that is visible only in the buckets:
// it takes Percent (0 to 100) of the token refill of the accounts it matches.
// Empty Key or Model matches all.
type Background struct {
	Key     string `json:"key,omitempty"`
	Model   string `json:"model,omitempty"`
	Percent int64  `json:"percent"`
}

const (
	defaultTokensPerMinute   = 2_000_000
	defaultRequestsPerMinute = 10_000
)

// defaultClasses is the classification scheme images show by default.
var defaultClasses = []string{
	"재활용폐기물/종이", "재활용폐기물/종이팩", "재활용폐기물/무색페트병", "재활용폐기물/플라스틱류",
	"재활용폐기물/비닐류", "재활용폐기물/유리병", "재활용폐기물/금속류", "재활용폐기물/의류및원단",
	"재활용폐기물/전기전자제품", "재활용폐기물/전지", "재활용폐기물/조명제품", "재활용폐기물/발포합성수지",
	"음식물류폐기물", "일반종량제폐기물", "불연성종량제폐기물", "대형폐기물", "생활계유해폐기물", "공사장생활폐기물",
}

// withDefaults fills in the fields that were left out.
func (c Config) withDefaults() Config {
	c.Speed = cmp.Or(c.Speed, 1)
	c.TokensPerMinute = cmp.Or(c.TokensPerMinute, defaultTokensPerMinute)
	c.RequestsPerMinute = cmp.Or(c.RequestsPerMinute, defaultRequestsPerMinute)
	c.ChargeMode = cmp.Or(c.ChargeMode, ChargeSum)
	c.VisionLatency = cmp.Or(c.VisionLatency, Latency{MinMillis: 4500, MaxMillis: 6200, Distribution: LatencyLogNormal})
	c.AnswerLatency = cmp.Or(c.AnswerLatency, Latency{MinMillis: 4900, MaxMillis: 8900, Distribution: LatencyLogNormal})
	c.VisionLatency.Distribution = cmp.Or(c.VisionLatency.Distribution, LatencyLogNormal)
	c.AnswerLatency.Distribution = cmp.Or(c.AnswerLatency.Distribution, LatencyLogNormal)
	if c.Classes == nil {
		c.Classes = slices.Clone(defaultClasses)
	}
	if c.EmptyArrays == nil {
		c.EmptyArrays = map[string]int64{"insufficiencies": 70}
	}
	return c
}

// Validate reports every invalid setting, by its JSON name.
func (c Config) Validate() error {
	c = c.withDefaults()
	errs := []error{
		between("speed", c.Speed, 0.001, 1e12),
		between("tokensPerMinute", c.TokensPerMinute, 1, maxPerMinute),
		between("requestsPerMinute", c.RequestsPerMinute, 1, maxPerMinute),
		between("requestsPerDay", c.RequestsPerDay, 0, maxPerDay),
		between("projectTokensPerMinute", c.ProjectTokensPerMinute, 0, maxPerMinute),
		c.VisionLatency.validate("visionLatency"),
		c.AnswerLatency.validate("answerLatency"),
	}
	if c.ChargeMode != ChargeSum && c.ChargeMode != ChargeMax {
		errs = append(errs, fmt.Errorf("chargeMode: %q is neither %q nor %q", c.ChargeMode, ChargeSum, ChargeMax))
	}
	for i, l := range c.Limits {
		at := fmt.Sprintf("limits[%d].", i)
		errs = append(errs,
			between(at+"tokensPerMinute", l.TokensPerMinute, 0, maxPerMinute),
			between(at+"requestsPerMinute", l.RequestsPerMinute, 0, maxPerMinute),
			between(at+"requestsPerDay", l.RequestsPerDay, 0, maxPerDay),
			between(at+"projectTokensPerMinute", l.ProjectTokensPerMinute, 0, maxPerMinute))
	}
	for i, m := range c.Models {
		if m.Name == "" {
			errs = append(errs, fmt.Errorf("models[%d].name: is empty", i))
		}
		if catalog[m.Like] == nil {
			errs = append(errs, fmt.Errorf("models[%d].like: %q is not a built-in model", i, m.Like))
		}
	}
	for i, k := range c.Keys {
		if k.Key == "" {
			errs = append(errs, fmt.Errorf("keys[%d].key: is empty", i))
		}
	}
	for i, b := range c.Background {
		errs = append(errs, between(fmt.Sprintf("background[%d].percent", i), b.Percent, 0, 100))
	}
	for i, f := range c.Faults {
		errs = append(errs, f.validate(fmt.Sprintf("faults[%d]", i)))
	}
	for name, percent := range c.EmptyArrays {
		errs = append(errs, between("emptyArrays."+name, percent, 0, 100))
	}
	return errors.Join(errs...)
}

// between reports a number outside its range.
func between[T int64 | float64](name string, v, low, high T) error {
	if v < low || v > high || math.IsNaN(float64(v)) {
		return fmt.Errorf("%s: %v is not between %v and %v", name, v, low, high)
	}
	return nil
}

// DecodeConfig reads a JSON document onto a config: a top-level field that it
// names replaces that of base as a whole (null puts the default back), the
// others stay. Unknown fields are an error.
func DecodeConfig(document []byte, base Config) (Config, error) {
	fields := map[string]json.RawMessage{}
	current, err := json.Marshal(base)
	if err != nil {
		return Config{}, fmt.Errorf("write the current configuration: %w", err)
	}
	// The second document overlays the first in the same map.
	for _, layer := range [][]byte{current, document} {
		if err := json.Unmarshal(layer, &fields); err != nil {
			return Config{}, fmt.Errorf("read the configuration: %w", err)
		}
	}
	merged, err := json.Marshal(fields)
	if err != nil {
		return Config{}, fmt.Errorf("merge the configuration: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(merged))
	decoder.DisallowUnknownFields()
	var c Config
	if err := decoder.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("check the configuration: %w", err)
	}
	return c, nil
}

// clone copies a config so that a change to the copy's lists does not reach
// the original.
func (c Config) clone() Config {
	c.Limits = slices.Clone(c.Limits)
	c.Models = slices.Clone(c.Models)
	c.Keys = slices.Clone(c.Keys)
	c.Background = slices.Clone(c.Background)
	c.Faults = slices.Clone(c.Faults)
	c.Classes = slices.Clone(c.Classes)
	c.Groups = maps.Clone(c.Groups)
	c.EmptyArrays = maps.Clone(c.EmptyArrays)
	return c
}
