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
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/internal/pipeline/stages"
)

// KeySource knows the keys. It is asked once for each call and must be safe for concurrent use.
type KeySource interface {
	// Key is the key of a budget.
	Key(budget string) (string, error)
}

// EndpointSource knows where calls go. It is asked once for each call and must be safe for concurrent use.
type EndpointSource interface {
	// Endpoint is the base URL of a budget's provider, up to and including the version, e.g.
	// https://api.openai.com/v1.
	Endpoint(budget string) (string, error)
}

// EndpointFunc makes a function an EndpointSource.
type EndpointFunc func(budget string) (string, error)

// Endpoint implements EndpointSource.
func (f EndpointFunc) Endpoint(budget string) (string, error) { return f(budget) }

// Options are what a Client is made of.
type Options struct {
	// Keys and Endpoints are required.
	Keys      KeySource
	Endpoints EndpointSource
	// HTTPClient sends the requests. Default: NewHTTPClient(DefaultConcurrency). It should have no Timeout: a
	// call's context carries its deadline.
	HTTPClient *http.Client
	// Clock stamps observations. Default: the wall clock.
	Clock clock.PassiveClock
	// Log gets one line at level 1 for each failed call, without texts, keys or organizations. Default: none.
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
	// The services are built without openai.NewClient, which would read keys, addresses and headers from the
	// environment. What a call may use is its budget's alone.
	common := []option.RequestOption{option.WithHTTPClient(o.HTTPClient), option.WithMaxRetries(0)}
	return &Client{
		keys: o.Keys, endpoints: o.Endpoints, clock: o.Clock, log: o.Log,
		responses: responses.NewResponseService(common...),
		chat:      openai.NewChatCompletionService(common...),
	}
}

// Complete implements pipeline.Completer. Its errors are or wrap a *pipeline.Failure, except that a call that broke
// off because its context ended returns the context's cause, which is for the caller to classify.
func (c *Client) Complete(ctx context.Context, call stages.Call) (stages.Reply, error) {
	key, base, failure := c.route(call)
	if failure != nil {
		return stages.Reply{}, failure
	}
	sentAt := c.clock.Now()
	raw, resp, sent, err := c.send(ctx, call, base, key)
	if resp == nil {
		return stages.Reply{}, c.broken(ctx, call, err, sent, key)
	}
	reply := stages.Reply{RateLimit: parseRateLimit(resp.Header, sentAt)}
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		failure = statusFailure(resp, c.clock.Now(), key)
	case err != nil:
		return reply, c.broken(ctx, call, err, true, key)
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

// send makes the request. The response is nil if none came; sent reports whether a part of the request left the worker.
// Reading the body is separate from parsing it, so that a cut connection is not taken for malformed output.
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

// broken is the error of a call without a complete response. A deadline that passes before the call was sent, as with a
// network that drops packets, is the network's failure and not the provider's.
func (c *Client) broken(ctx context.Context, call stages.Call, err error, sent bool, key string) error {
	if cause := context.Cause(ctx); cause != nil && (sent || !errors.Is(cause, context.DeadlineExceeded)) {
		return fmt.Errorf("the call was given up: %w", cause)
	}
	failure := transportFailure(err, sent, key)
	c.logFailure(call, failure, nil)
	return failure
}

// route finds a call's key and address.
func (c *Client) route(call stages.Call) (key, base string, failure *pipeline.Failure) {
	if call.API != stages.Responses && call.API != stages.ChatCompletions {
		return "", "", &pipeline.Failure{
			Class: v1alpha1.FailureInternal, Message: fmt.Sprintf("there is no API %q; this is a fault of the worker, please report it", call.API),
		}
	}
	if call.MaxOutputTokens < 1 {
		return "", "", &pipeline.Failure{
			Class:   v1alpha1.FailureInternal,
			Message: "the assignment has no output limit, without which a call's price is unknown; set stageDefaults.maxOutputTokens of the pool",
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
		err = errors.New("the key holds characters that cannot be sent")
	}
	if errors.Is(err, ErrKeyMissing) {
		return "", "", &pipeline.Failure{
			Class: v1alpha1.FailureKeyMissing,
			Message: compose("this worker has no key of the budget "+call.Budget+" yet", "",
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

// isHeaderValue says whether a key is printable ASCII without spaces, as every provider's keys are.
func isHeaderValue(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
}

// logFailure writes what helps to find the call at the provider: its own request id, and no text of anybody's.
func (c *Client) logFailure(call stages.Call, failure *pipeline.Failure, resp *http.Response) {
	status, requestID := 0, ""
	if resp != nil {
		status, requestID = resp.StatusCode, clip(resp.Header.Get("X-Request-Id"), 128)
	}
	c.log.V(1).Info("call failed", "api", call.API, "budget", call.Budget, "model", call.Model, "class", failure.Class,
		"code", failure.Code, "status", status, "assignment", call.RequestID, "providerRequestID", requestID)
}
