// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/hex"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"
)

// settings is one generation of the configuration, prepared for the request
// path. It does not change once it is published.
type settings struct {
	generation int64
	config     Config
	models     map[string]*model
	groupOf    map[string]string
	keys       map[string]Key
	// The fault rules, by when they take effect.
	atAdmission, inGeneration, ofManner []*faultRule
}

// newSettings prepares a valid config.
func newSettings(c Config, generation int64, now time.Time) *settings {
	c = c.withDefaults()
	s := &settings{
		generation: generation,
		config:     c,
		models:     maps.Clone(catalog),
		groupOf:    map[string]string{},
		keys:       make(map[string]Key, len(c.Keys)),
	}
	for _, m := range c.Models {
		added := *catalog[m.Like]
		added.name = m.Name
		s.models[m.Name] = &added
	}
	for _, group := range slices.Sorted(maps.Keys(c.Groups)) {
		for _, member := range c.Groups[group] {
			s.groupOf[member] = group
		}
	}
	for _, k := range c.Keys {
		if k.Organization == "" {
			k.Organization = deriveOrganization(k.Key)
		}
		s.keys[k.Key] = k
	}
	for i, f := range c.Faults {
		rule := newFaultRule(f, c.Seed+uint64(i), now)
		switch {
		case slices.Contains(admissionFaults, f.Kind):
			s.atAdmission = append(s.atAdmission, rule)
		case slices.Contains(generationFaults, f.Kind):
			s.inGeneration = append(s.inGeneration, rule)
		default:
			s.ofManner = append(s.ofManner, rule)
		}
	}
	return s
}

// deriveOrganization gives an unlisted key an organization of its own.
func deriveOrganization(key string) string {
	h := fnv.New128a()
	h.Write([]byte(key))
	return "org-" + hex.EncodeToString(h.Sum(nil))[:24]
}

// organization returns who owns a key, and whether the key is valid.
func (s *settings) organization(key string) (string, bool) {
	if known, ok := s.keys[key]; ok {
		return known.Organization, !known.Revoked
	}
	const prefix = "sk-"
	if s.config.OnlyListedKeys || len(key) <= len(prefix) || !strings.HasPrefix(key, prefix) {
		return "", false
	}
	return deriveOrganization(key), true
}

// model finds a model by its name or by the name of a dated snapshot.
func (s *settings) model(name string) *model {
	if m := s.models[name]; m != nil {
		return m
	}
	return s.models[snapshotSuffix.ReplaceAllString(name, "")]
}

// group is the name under which a model's limits are kept.
func (s *settings) group(modelName string) string {
	if group, ok := s.groupOf[modelName]; ok {
		return group
	}
	return modelName
}

// limitsFor computes the limits of one account.
func (s *settings) limitsFor(key accountKey) limits {
	l := limits{
		tokens:        s.config.TokensPerMinute,
		requests:      s.config.RequestsPerMinute,
		perDay:        s.config.RequestsPerDay,
		projectTokens: s.config.ProjectTokensPerMinute,
	}
	for _, o := range s.config.Limits {
		if !s.matches(key, o.Key, o.Model) {
			continue
		}
		override(&l.tokens, o.TokensPerMinute)
		override(&l.requests, o.RequestsPerMinute)
		override(&l.perDay, o.RequestsPerDay)
		override(&l.projectTokens, o.ProjectTokensPerMinute)
	}
	for _, b := range s.config.Background {
		if s.matches(key, b.Key, b.Model) {
			l.background = min(100, l.background+b.Percent)
		}
	}
	return l
}

// override replaces a limit unless the new one is 0.
func override(limit *int64, with int64) {
	if with != 0 {
		*limit = with
	}
}

// matches reports whether a key and a model (either may be empty for all)
// belong to an account.
func (s *settings) matches(account accountKey, key, modelName string) bool {
	if key != "" {
		organization := deriveOrganization(key)
		if known, ok := s.keys[key]; ok {
			organization = known.Organization
		}
		if organization != account.organization {
			return false
		}
	}
	return modelName == "" || modelName == account.group || s.group(modelName) == account.group
}

// liveConfig is what the settings say, with fault rules as they stand now.
// Spent rules are gone.
func (s *settings) liveConfig(now time.Time) Config {
	c := s.config.clone()
	c.Faults = nil
	for _, rule := range slices.Concat(s.atAdmission, s.inGeneration, s.ofManner) {
		if left, ok := rule.left(now); ok {
			c.Faults = append(c.Faults, left)
		}
	}
	return c
}
