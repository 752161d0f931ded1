// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/clip"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// KeySource provides keys. It is called once for each call and must be safe for concurrent use.
type KeySource interface {
	// Key returns the key of a budget.
	Key(budget string) (string, error)
}

// EndpointSource provides endpoints. It is called once for each call and must be safe for concurrent use.
type EndpointSource interface {
	// Endpoint returns the base URL of a budget's provider, up to and including the version, e.g.
	// https://api.openai.com/v1.
	Endpoint(budget string) (string, error)
}

// EndpointFunc is a function that implements EndpointSource.
type EndpointFunc func(budget string) (string, error)

// Endpoint implements EndpointSource.
func (f EndpointFunc) Endpoint(budget string) (string, error) { return f(budget) }

// Options configure a Client.
type Options struct {
	// Keys and Endpoints are required.
	Keys      KeySource
	Endpoints EndpointSource
	// HTTPClient sends the requests. Default: NewHTTPClient(DefaultConcurrency). It should have no Timeout: the
	// context of a call has its deadline.
	HTTPClient *http.Client
	// Clock is the source of the time of observations. Default: the wall clock.
	Clock clock.PassiveClock
	// Log receives one line at level 1 for each failed call, without texts, keys or organizations. Default: none.
	Log logr.Logger
}

// Client sends calls. It is safe for concurrent use.
type Client struct {
	keys      KeySource
	endpoints EndpointSource
	clock     clock.PassiveClock
	log       logr.Logger
	responses responses.ResponseService
	chat      openai.ChatCompletionService
}

var _ stages.Completer = (*Client)(nil)

// New returns a Client.
func New(o Options) *Client {
	if o.HTTPClient == nil {
		o.HTTPClient = NewHTTPClient(DefaultConcurrency)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	// openai.NewClient is not used: it would read keys, addresses and headers from the environment. A call must use
	// those of its budget only.
	common := []option.RequestOption{option.WithHTTPClient(o.HTTPClient), option.WithMaxRetries(0)}
	return &Client{
		keys: o.Keys, endpoints: o.Endpoints, clock: o.Clock, log: o.Log,
		responses: responses.NewResponseService(common...),
		chat:      openai.NewChatCompletionService(common...),
	}
}

// Complete implements stages.Completer. Its errors are or wrap a *pipeline.Failure, with one exception: if the context
// ended, the error wraps its cause, which the caller classifies.
func (c *Client) Complete(ctx context.Context, call stages.Call) (stages.Reply, error) {
	key, base, failure := c.route(call)
	if failure != nil {
		return stages.Reply{}, failure
	}
	sentAt := c.clock.Now()
	raw, resp, sent, err := c.send(ctx, call, base, key)
	if resp == nil {
		return stages.Reply{}, c.incomplete(ctx, call, err, sent, key)
	}
	reply := stages.Reply{RateLimit: parseRateLimit(resp.Header, sentAt)}
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		failure = statusFailure(resp, c.clock.Now(), key)
	case err != nil:
		return reply, c.incomplete(ctx, call, err, true, key)
	case call.API == stages.Responses:
		reply.Text, reply.Usage, failure = readResponse(raw, key)
	default:
		reply.Text, reply.Usage, failure = readChat(raw, key)
	}
	if failure != nil {
		c.logFailure(call, failure, resp)
		return reply, failure
	}
	return reply, nil
}

// send sends the request. The response is nil if none arrived; sent reports whether a part of the request left the
// worker. The body is read here and parsed later, so that a lost connection is not taken for malformed output.
func (c *Client) send(ctx context.Context, call stages.Call, base, key string) (raw []byte, resp *http.Response, sent bool, err error) {
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	options := []option.RequestOption{
		option.WithBaseURL(base), option.WithAPIKey(key), option.WithResponseInto(&resp), option.WithResponseBodyInto(&raw),
	}
	if call.RequestID != "" {
		options = append(options, option.WithHeader("X-Client-Request-Id", call.RequestID))
	}
	if call.API == stages.Responses {
		_, err = c.responses.New(ctx, responsesParams(call), options...)
	} else {
		_, err = c.chat.New(ctx, chatParams(call), options...)
	}
	return raw, resp, wrote.Load(), err
}

// incomplete returns the error of a call without a complete response. If a deadline passes before the call was sent, for
// example because the network drops packets, it is the failure of the network and not of the provider.
func (c *Client) incomplete(ctx context.Context, call stages.Call, err error, sent bool, key string) error {
	if cause := context.Cause(ctx); cause != nil && (sent || !errors.Is(cause, context.DeadlineExceeded)) {
		return fmt.Errorf("send the call: %w", cause)
	}
	failure := transportFailure(err, sent, key)
	c.logFailure(call, failure, nil)
	return failure
}

// route returns the key and the base URL for a call.
func (c *Client) route(call stages.Call) (key, base string, failure *pipeline.Failure) {
	if call.API != stages.Responses && call.API != stages.ChatCompletions {
		return "", "", &pipeline.Failure{
			Class: v1alpha1.FailureInternal, Message: fmt.Sprintf("unknown API %q; this is a fault of the worker, please report it", call.API),
		}
	}
	if call.MaxOutputTokens < 1 {
		return "", "", &pipeline.Failure{
			Class:   v1alpha1.FailureInternal,
			Message: "the assignment has no output limit, which is needed to size the call; set stageDefaults.maxOutputTokens of the pool",
		}
	}
	base, err := c.endpoints.Endpoint(call.Budget)
	if err == nil {
		var u *url.URL
		if u, err = url.Parse(base); err == nil && (u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			err = fmt.Errorf("%q is not an absolute http or https URL", base)
		}
	}
	if err != nil {
		return "", "", &pipeline.Failure{
			Class:   v1alpha1.FailureInternal,
			Message: compose("the budget "+call.Budget+" has no usable endpoint", scrub(err.Error(), ""), "check spec.endpoint of the TokenBudget"),
		}
	}
	key, err = c.keys.Key(call.Budget)
	if err == nil && !isHeaderValue(key) {
		err = errors.New("the key has characters that are not allowed in a header")
	}
	if errors.Is(err, ErrKeyMissing) {
		return "", "", &pipeline.Failure{
			Class: v1alpha1.FailureKeyMissing,
			Message: compose("this worker has no key for the budget "+call.Budget+" yet", "",
				"another worker takes the scan; if it lasts, check that the pool names the budget and that its Secret exists"),
		}
	}
	if err != nil {
		return "", "", &pipeline.Failure{
			Class: v1alpha1.FailureUnauthorized,
			Message: compose("the budget "+call.Budget+" has no usable key", scrub(err.Error(), key),
				"check the Secret that spec.secretRef of the TokenBudget names"),
		}
	}
	return key, base, nil
}

// isHeaderValue reports whether a key is printable ASCII without spaces. The keys of all providers are.
func isHeaderValue(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
}

// logFailure logs what identifies the call at the provider, such as the provider's request id, and no text.
func (c *Client) logFailure(call stages.Call, failure *pipeline.Failure, resp *http.Response) {
	status, requestID := 0, ""
	if resp != nil {
		status, requestID = resp.StatusCode, clip.Bytes(resp.Header.Get("X-Request-Id"), 128)
	}
	c.log.V(1).Info("call failed", "api", call.API, "budget", call.Budget, "model", call.Model, "class", failure.Class,
		"code", failure.Code, "status", status, "assignment", call.RequestID, "providerRequestID", requestID)
}
