// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"time"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

const (
	// blockedFirst is the time to the first probe call of a blocked model. It doubles with each that fails, up to
	// blockedLast.
	blockedFirst = 5 * time.Second
	blockedLast  = time.Minute
)

// BlockedModels holds the models of one budget whose calls are blocked: the calls of several scans met a 403 or
// something in front of the provider, and none worked in between. Other models go on. The zero value holds nothing.
//
// It is not safe for concurrent use.
type BlockedModels struct {
	models map[string]*blockedModel
}

type blockedModel struct {
	evidence evidence
	active   bool
	interval time.Duration
	next     time.Time
	probe    string // id of the probe call under way
}

// Gate reports whether a call of the model may be sent, and whether it is a probe. If not, until is the time of the next
// probe; zero while one is under way.
func (b *BlockedModels) Gate(model string, now time.Time) (ok, probe bool, until time.Time) {
	m := b.models[model]
	switch {
	case m == nil || !m.active:
		return true, false, time.Time{}
	case m.probe != "":
		return false, false, time.Time{}
	default:
		return !now.Before(m.next), true, m.next
	}
}

// Sent notes that a call was sent; it is the probe if the model is blocked.
func (b *BlockedModels) Sent(model, id string) {
	if m := b.models[model]; m != nil && m.active && m.probe == "" {
		m.probe = id
	}
}

// Canceled notes that a call was not sent after all.
func (b *BlockedModels) Canceled(model, id string) {
	if m := b.models[model]; m != nil && m.probe == id {
		m.probe = ""
	}
}

// Settled processes the end of a call.
func (b *BlockedModels) Settled(model, id string, r Result, now time.Time) {
	m := b.models[model]
	switch r.Class {
	case v1alpha1.FailureBlocked:
		if m == nil {
			m = &blockedModel{}
			if b.models == nil {
				b.models = map[string]*blockedModel{}
			}
			b.models[model] = m
		}
		r.OnlyWorker = true // the evidence is that of scans: nothing on a worker blocks one model
		switch complete := m.evidence.add(r); {
		case m.active && m.probe == id:
			m.interval = min(2*m.interval, blockedLast)
			m.probe, m.next = "", now.Add(m.interval)
		case !m.active && complete:
			m.active, m.interval, m.next = true, blockedFirst, now.Add(blockedFirst)
		}
	case "", v1alpha1.FailureRefused, v1alpha1.FailureInvalidOutput, v1alpha1.FailureNotClassifiable:
		delete(b.models, model) // the model answered
	default:
		if m != nil && m.probe == id { // nothing is known of the model
			m.probe, m.next = "", now.Add(m.interval)
		}
	}
}

// Only forgets the models that the budget no longer lists.
func (b *BlockedModels) Only(listed map[string]struct{}) {
	for model := range b.models {
		if _, ok := listed[model]; !ok {
			delete(b.models, model)
		}
	}
}
