// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// Options are what a Server is made of. The zero value is a server with the
// default settings on the wall clock, which logs nothing.
type Options struct {
	Config Config
	Clock  clock.Clock
	Logger *slog.Logger
}

// Server is the simulated provider. It has no goroutines of its own: refills
// and background clients are computed when a bucket is looked at.
type Server struct {
	clock  clock.Clock
	logger *slog.Logger

	// configuring serializes changes; readers take the pointer.
	configuring sync.Mutex
	current     atomic.Pointer[settings]

	accounts sync.Map // accountKey → *account
	counters atomic.Pointer[counters]
	inFlight atomic.Int64
	sequence atomic.Uint64
}

// New returns a server. It panics when the configuration is invalid: check one
// that comes from a user with [Config.Validate] first.
func New(o Options) *Server {
	if err := o.Config.Validate(); err != nil {
		panic(fmt.Errorf("openaisim: %w", err))
	}
	s := &Server{clock: o.Clock, logger: o.Logger}
	if s.clock == nil {
		s.clock = clock.RealClock{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.current.Store(newSettings(o.Config.clone(), 1, s.clock.Now()))
	s.counters.Store(newCounters())
	return s
}

// Handler serves the provider's API below /v1/ and the controls below /sim.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, routes := range map[string]map[string]http.HandlerFunc{
		string(endpointResponses):           {http.MethodPost: s.provider(endpointResponses, s.serveCall)},
		string(endpointChat):                {http.MethodPost: s.provider(endpointChat, s.serveCall)},
		string(endpointInputTokens):         {http.MethodPost: s.provider(endpointInputTokens, s.serveInputTokens)},
		string(endpointModels):              {http.MethodGet: s.provider(endpointModels, s.serveModels)},
		string(endpointModels) + "/{model}": {http.MethodGet: s.provider(endpointModels, s.serveModel)},
		"/sim":                              {http.MethodGet: s.serveIndex},
		"/sim/stats":                        {http.MethodGet: s.serveStats},
		"/sim/reset":                        {http.MethodPost: s.serveReset},
		"/sim/config":                       {http.MethodGet: s.serveConfig, http.MethodPut: s.servePutConfig, http.MethodPatch: s.servePatchConfig},
		"/sim/consume":                      {http.MethodPost: s.serveConsume},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if handle, ok := routes[r.Method]; ok {
				handle(w, r)
				return
			}
			s.newExchange(w, r, "").fail(errMethod(r.Method, r.URL.Path))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.newExchange(w, r, "").fail(errUnknownURL(r.Method, r.URL.Path))
	})
	return mux
}

// Config returns the current settings. Fault rules have what is left of their
// count and duration; expired rules are omitted.
func (s *Server) Config() Config { return s.current.Load().liveConfig(s.clock.Now()) }

// Configure changes the settings while the server runs; change is given the
// result of [Server.Config]. Limits apply to the next call of every account,
// with the tokens in use still in use. Invalid settings change nothing.
func (s *Server) Configure(change func(*Config)) error {
	return s.update(func(c Config) (Config, error) {
		change(&c)
		return c, nil
	})
}

// update replaces the settings by a function of the ones in force.
func (s *Server) update(change func(Config) (Config, error)) error {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	now := s.clock.Now()
	before := s.current.Load()
	next, err := change(before.liveConfig(now))
	if err != nil {
		return err
	}
	if err := next.Validate(); err != nil {
		return fmt.Errorf("change the settings: %w", err)
	}
	s.current.Store(newSettings(next.clone(), before.generation+1, now))
	s.logger.Info("settings changed", "generation", before.generation+1, "tokensPerMinute", next.TokensPerMinute,
		"requestsPerMinute", next.RequestsPerMinute, "faults", len(next.Faults))
	return nil
}

// Reset clears everything that happened: counters, payments, prompt caches,
// and what was taken from the buckets. Settings stay.
func (s *Server) Reset() {
	s.accounts.Clear()
	fresh := newCounters()
	fresh.maxInFlight.Store(s.inFlight.Load())
	s.counters.Store(fresh)
	s.logger.Info("counters and buckets reset")
}

// errUnknownAccount is what Consume returns for a key or a model that the
// server would refuse.
var errUnknownAccount = errors.New("no such account")

// Consume takes tokens and requests out of the account of a key and a model,
// as an unseen second client would. It returns how much of it was there.
func (s *Server) Consume(key, modelName string, tokens, requests int64) (gotTokens, gotRequests int64, err error) {
	set := s.current.Load()
	organization, ok := set.organization(key)
	if !ok {
		return 0, 0, fmt.Errorf("%w: key %s is not valid", errUnknownAccount, maskKey(key))
	}
	if set.model(modelName) == nil {
		return 0, 0, fmt.Errorf("%w: there is no model %q", errUnknownAccount, modelName)
	}
	if tokens < 0 || requests < 0 {
		return 0, 0, fmt.Errorf("consume %d tokens and %d requests: neither may be negative", tokens, requests)
	}
	a := s.account(set, organization, modelName)
	gotTokens, gotRequests = a.consume(s.clock, set, tokens, requests)
	return gotTokens, gotRequests, nil
}

// account finds or opens the account of an organization and a model.
func (s *Server) account(set *settings, organization, modelName string) *account {
	group := set.group(modelName)
	if group == modelName {
		group = set.group(snapshotSuffix.ReplaceAllString(modelName, ""))
	}
	key := accountKey{organization, group}
	if a, ok := s.accounts.Load(key); ok {
		return a.(*account) //nolint:forcetypeassert // the map holds nothing else
	}
	opened := newAccount(key, set.limitsFor(key), set.generation, s.clock.Now())
	a, _ := s.accounts.LoadOrStore(key, opened)
	return a.(*account) //nolint:forcetypeassert // the map holds nothing else
}

// Stats returns the counters and the bucket levels.
func (s *Server) Stats() Stats {
	set := s.current.Load()
	stats := s.counters.Load().stats()
	stats.InFlight = s.inFlight.Load()
	s.accounts.Range(func(_, v any) bool {
		a := v.(*account) //nolint:forcetypeassert // the map holds nothing else
		l, charged := a.snapshot(s.clock, set)
		stats.Accounts = append(stats.Accounts, AccountStats{
			Organization: a.key.organization, Group: a.key.group, TokensCharged: charged,
			TokenLimit: l.tokens.limit, TokensRemaining: l.tokens.remaining,
			RequestLimit: l.requests.limit, RequestsRemaining: l.requests.remaining,
		})
		return true
	})
	slices.SortFunc(stats.Accounts, func(x, y AccountStats) int {
		return cmp.Or(strings.Compare(x.Organization, y.Organization), strings.Compare(x.Group, y.Group))
	})
	return stats
}

// enter counts a call that is being worked on; the returned function counts it
// out.
func (s *Server) enter(c *counters) (leave func()) {
	n := s.inFlight.Add(1)
	for {
		highest := c.maxInFlight.Load()
		if n <= highest || c.maxInFlight.CompareAndSwap(highest, n) {
			break
		}
	}
	return func() { s.inFlight.Add(-1) }
}

// millisSince is the time since an instant, in whole milliseconds.
func (s *Server) millisSince(start time.Time) int64 { return s.clock.Since(start).Milliseconds() }
