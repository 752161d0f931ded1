// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// serveCall answers the two endpoints that generate.
func (s *Server) serveCall(x *exchange, key, organization string) {
	c, apiErr := x.parse(key, organization)
	x.call = c
	if apiErr != nil {
		x.failInvalid(apiErr)
		return
	}
	a := s.account(x.settings, organization, c.modelName)
	x.manner = x.fire(x.settings.ofManner)
	obstacle := x.fire(x.settings.atAdmission)
	if e := obstacle.refusal(c); e != nil {
		x.turnAway(a, obstacle.kind(), e)
		return
	}
	charge := c.charge(x.settings.config.ChargeMode)
	d := a.admit(s.clock, x.settings, charge, obstacle.kind())
	x.levels = &d.levels
	if d.verdict != admitted {
		x.fail(errRejected(d, c.modelName, organization))
		return
	}
	defer s.enter(x.counters)()
	x.counters.admit(c, charge, x.clientID)
	x.generate(a, x.fire(x.settings.inGeneration))
}

// fire picks the fault rule that hits this call, and counts it.
func (x *exchange) fire(rules []*faultRule) *faultRule {
	rule := firstFault(rules, x.call, x.server.clock.Now())
	if rule != nil {
		x.counters.faults.add(string(rule.Kind))
	}
	return rule
}

// failInvalid replies to a request that cannot be served. Once its model is
// known it counts as a request.
func (x *exchange) failInvalid(e *apiError) {
	if x.call.model == nil {
		x.fail(e)
		return
	}
	x.turnAway(x.server.account(x.settings, x.call.organization, x.call.modelName), "", e)
}

// turnAway charges one request and sends an error, or the 429 of the request
// bucket when that has run out.
func (x *exchange) turnAway(a *account, kind FaultKind, e *apiError) {
	if !x.spendRequest(a) {
		return
	}
	if kind == FaultBadGateway {
		x.failBadGateway()
		return
	}
	x.fail(e)
}

// spendRequest charges one request, or replies with a 429 and reports false.
func (x *exchange) spendRequest(a *account) bool {
	d := a.takeRequest(x.server.clock, x.settings)
	x.levels = &d.levels
	if d.verdict != admitted {
		x.fail(errRejected(d, x.call.modelName, x.call.organization))
		return false
	}
	return true
}

// refusal is the reply of a fault that turns a call away, nil for the other
// kinds and for no fault.
func (r *faultRule) refusal(c *call) *apiError {
	var e *apiError
	switch kind := r.kind(); kind {
	case FaultInsufficientQuota, FaultCreditBalance, FaultOrganizationSpend, FaultProjectSpend, FaultOrganizationUsage:
		e = errQuota(kind)
	case FaultFlexUnavailable:
		e = errFlexUnavailable()
	case FaultOverloaded:
		e = errOverloaded()
	case FaultSlowDown:
		e = errSlowDown()
	case FaultBadGateway:
		e = &apiError{status: http.StatusBadGateway}
	case FaultInvalidImage:
		e = errImageDownload(c.images[0].url)
	default:
		return nil
	}
	e.wait = r.retryAfter()
	return e
}

// kind is the rule's fault, empty for no rule.
func (r *faultRule) kind() FaultKind {
	if r == nil {
		return ""
	}
	return r.Kind
}

// retryAfter is the rule's own Retry-After.
func (r *faultRule) retryAfter() time.Duration {
	return time.Duration(r.RetryAfterMillis) * time.Millisecond
}

// generate waits as long as a model takes, and replies. From here on the call is
// charged, whether it succeeds or not.
func (x *exchange) generate(a *account, outcome *faultRule) {
	ctx, clk, kind := x.r.Context(), x.server.clock, outcome.kind()
	cached := a.cache.lookup(x.call, clk.Now())
	latency := x.latency()
	if kind == FaultHang {
		<-ctx.Done()
		x.drop()
		return
	}
	if x.has(FaultSlowFirstByte) && !pause(ctx, clk, time.Duration(x.manner.DelayMillis)*time.Millisecond) {
		x.drop()
		return
	}
	if !pause(ctx, clk, latency) {
		x.drop()
		return
	}
	switch kind {
	case FaultServerError:
		e := errInternal(x.requestID)
		e.wait = outcome.retryAfter()
		x.fail(e)
	case FaultReset:
		x.counters.failed(&apiError{counter: "connection_reset"})
		x.abort()
	case FaultFailed:
		code := cmp.Or(outcome.Code, typeServerError)
		x.counters.failed(&apiError{counter: "200 failed " + code})
		x.answer(failedResponse(x.call, clk.Now(), code))
	default:
		x.deliver(newAnswer(x.call, &x.settings.config, kind, cached))
	}
}

// deliver sends a complete answer.
func (x *exchange) deliver(a *answer) {
	now := x.server.clock.Now()
	x.counters.complete(a, x.clientID)
	if x.call.endpoint == endpointChat {
		x.answer(chatCompletion(x.call, a, now))
		return
	}
	x.answer(response(x.call, a, now))
}

// latency draws how long this call takes.
func (x *exchange) latency() time.Duration {
	config := &x.settings.config
	rng := rand.New(rand.NewPCG(config.Seed, x.server.sequence.Add(1)))
	if x.call.stage() == StageVision {
		return config.VisionLatency.draw(rng, config.Speed)
	}
	return config.AnswerLatency.draw(rng, config.Speed)
}

// serveInputTokens counts the tokens of a request without sending it.
func (s *Server) serveInputTokens(x *exchange, key, organization string) {
	c, apiErr := x.parse(key, organization)
	x.call = c
	if apiErr != nil {
		x.failInvalid(apiErr)
		return
	}
	if !x.spendRequest(s.account(x.settings, organization, c.modelName)) {
		return
	}
	x.answer(struct {
		Object      string `json:"object"`
		InputTokens int64  `json:"input_tokens"`
	}{"response.input_tokens", c.inputTokens})
}

// modelDocument describes a model.
type modelDocument struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func describeModel(name string) modelDocument {
	const created = 1_715_367_049 // the provider gives each model a date; one will do
	return modelDocument{ID: name, Object: "model", Created: created, OwnedBy: "system"}
}

// serveModels lists the models.
func (s *Server) serveModels(x *exchange, _, _ string) {
	list := struct {
		Object string          `json:"object"`
		Data   []modelDocument `json:"data"`
	}{Object: "list"}
	for name := range x.settings.models {
		list.Data = append(list.Data, describeModel(name))
	}
	slices.SortFunc(list.Data, func(a, b modelDocument) int { return cmp.Compare(a.ID, b.ID) })
	x.answer(list)
}

// serveModel describes one model.
func (s *Server) serveModel(x *exchange, _, _ string) {
	name := x.r.PathValue("model")
	if x.settings.model(name) == nil {
		x.fail(errUnknownModel(name))
		return
	}
	x.answer(describeModel(name))
}
