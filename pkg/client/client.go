package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// maxAnswerBytes bounds what is read of an answer; a scan's result stays under 10 kB.
const maxAnswerBytes = 1 << 20

// Client calls the API. It may be used by many goroutines at a time.
type Client struct {
	base  string
	http  *http.Client
	edit  []func(*http.Request)
	clock clock.WithTicker
}

// Option changes how a Client calls the API.
type Option func(*Client)

// WithHTTPClient sets the client that sends the requests. Its Timeout must be zero: it would end streams; bound
// calls by their context instead.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithUser makes calls for a user. The server takes that from a gateway and its other trusted peers only.
func WithUser(userID string) Option { return withHeader(scanapi.UserIDHeader, userID) }

// WithToken authenticates calls with a token, for a server that runs with --auth=tokenreview. It is called for each
// request, so that it may return a token that was renewed.
func WithToken(token func() string) Option {
	return func(c *Client) {
		c.edit = append(c.edit, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token()) })
	}
}

// WithClock sets the clock that waits between polls and reconnects. Default: the wall clock.
func WithClock(k clock.WithTicker) Option { return func(c *Client) { c.clock = k } }

func withHeader(name, value string) Option {
	return func(c *Client) {
		c.edit = append(c.edit, func(r *http.Request) { r.Header.Set(name, value) })
	}
}

// New returns a client of the API at a base URL, such as https://scan.example.com.
func New(baseURL string, options ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("base URL %q: must be an absolute http or https URL", baseURL)
	}
	c := &Client{base: strings.TrimRight(baseURL, "/"), http: &http.Client{}, clock: clock.RealClock{}}
	for _, o := range options {
		o(c)
	}
	return c, nil
}

// SubmitOption changes one submit.
type SubmitOption func(*http.Request)

// IdempotencyKey makes a submit safe to repeat: the same key with the same request returns the first one's answer.
// 1 to 256 visible ASCII characters, one key for each scan.
func IdempotencyKey(key string) SubmitOption {
	return func(r *http.Request) { r.Header.Set(scanapi.IdempotencyKeyHeader, key) }
}

// Submit asks for a scan. It returns when the scan is accepted.
func (c *Client) Submit(ctx context.Context, request scanapi.SubmitRequest, options ...SubmitOption) (*scanapi.SubmitResponse, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the submit: %w", err)
	}
	r, err := c.request(ctx, http.MethodPost, scanapi.SubmitPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for _, o := range options {
		o(r)
	}
	answer := &scanapi.SubmitResponse{}
	if _, err := c.call(r, map[int]any{http.StatusOK: answer}); err != nil {
		return nil, fmt.Errorf("submit a scan: %w", err)
	}
	return answer, nil
}

// Poll is the answer to one look at a scan: one of its fields is set.
type Poll struct {
	// Result is the finished scan, whether it succeeded or failed.
	Result *scanapi.Result
	// Processing is the scan that has not finished.
	Processing *scanapi.Processing
	// RetryAfter is when to look again, where the scan has not finished.
	RetryAfter time.Duration
}

// Result looks at a scan once.
func (c *Client) Result(ctx context.Context, jobID string) (*Poll, error) {
	r, err := c.request(ctx, http.MethodGet, scanapi.ResultPath(url.PathEscape(jobID)), http.NoBody)
	if err != nil {
		return nil, err
	}
	result, processing := &scanapi.Result{}, &scanapi.Processing{}
	answer, err := c.call(r, map[int]any{http.StatusOK: result, http.StatusAccepted: processing})
	if err != nil {
		return nil, fmt.Errorf("fetch the result of scan %s: %w", jobID, err)
	}
	if answer.StatusCode == http.StatusOK {
		return &Poll{Result: result}, nil
	}
	return &Poll{Processing: processing, RetryAfter: retryAfter(answer)}, nil
}

// Wait polls until a scan has finished, as often as the server asks. It rides out a server that is not available
// for a time; ctx bounds it.
func (c *Client) Wait(ctx context.Context, jobID string) (*scanapi.Result, error) {
	for {
		poll, err := c.Result(ctx, jobID)
		wait := defaultRetryAfter
		switch {
		case err == nil && poll.Result != nil:
			return poll.Result, nil
		case err == nil:
			wait = poll.RetryAfter
		case !isTemporary(err):
			return nil, err
		}
		if err := c.pause(ctx, wait); err != nil {
			return nil, fmt.Errorf("wait for scan %s: %w", jobID, err)
		}
	}
}

// Cancel deletes a scan.
func (c *Client) Cancel(ctx context.Context, jobID string) error {
	r, err := c.request(ctx, http.MethodDelete, scanapi.ScanPath(url.PathEscape(jobID)), http.NoBody)
	if err != nil {
		return err
	}
	if _, err := c.call(r, map[int]any{http.StatusNoContent: nil}); err != nil {
		return fmt.Errorf("cancel scan %s: %w", jobID, err)
	}
	return nil
}

// Categories lists the classes of waste that scans know.
func (c *Client) Categories(ctx context.Context) ([]scanapi.Category, error) {
	r, err := c.request(ctx, http.MethodGet, scanapi.CategoriesPath, http.NoBody)
	if err != nil {
		return nil, err
	}
	var categories []scanapi.Category
	if _, err := c.call(r, map[int]any{http.StatusOK: &categories}); err != nil {
		return nil, fmt.Errorf("list the categories: %w", err)
	}
	return categories, nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	for _, edit := range c.edit {
		edit(r)
	}
	return r, nil
}

// call sends a request and decodes the answer into the document of its status; nil takes none. Every other status
// is an error.
func (c *Client) call(r *http.Request, documents map[int]any) (*http.Response, error) {
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // read to the end, or not wanted any more
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	document, expected := documents[answer.StatusCode]
	switch {
	case !expected:
		return nil, problemOf(answer.StatusCode, body)
	case document == nil:
		return answer, nil
	}
	if err := json.Unmarshal(body, document); err != nil {
		return nil, fmt.Errorf("read the answer of HTTP status %d: %w", answer.StatusCode, err)
	}
	return answer, nil
}

// problemOf is the error of an answer. What is no problem document came from something in between.
func problemOf(status int, body []byte) *scanapi.Problem {
	p := &scanapi.Problem{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		return &scanapi.Problem{
			Status: status, Title: http.StatusText(status), Code: "HTTP_" + strconv.Itoa(status),
			Detail: "The answer is no problem document; it came from something between here and the server.",
		}
	}
	p.Status = status
	return p
}

// defaultRetryAfter is the time between two polls where the server names none.
const defaultRetryAfter = 2 * time.Second

func retryAfter(answer *http.Response) time.Duration {
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return defaultRetryAfter
	}
	return time.Duration(seconds) * time.Second
}

// isTemporary says whether the same request may succeed later.
func isTemporary(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if p, ok := errors.AsType[*scanapi.Problem](err); ok {
		return p.Status == http.StatusTooManyRequests || p.Status >= http.StatusInternalServerError
	}
	_, ok := errors.AsType[*url.Error](err) // the request got no answer
	return ok
}

// pause waits, or returns ctx's error where that ends first.
func (c *Client) pause(ctx context.Context, d time.Duration) error {
	timer := c.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
