// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

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

// maxResponseBytes bounds what is read of a response; a scan's result stays under 10 kB.
const maxResponseBytes = 1 << 20

// Client calls the API. It is safe for concurrent use.
type Client struct {
	base  string
	http  *http.Client
	edit  []func(*http.Request)
	clock clock.WithTicker
}

// Option configures a Client.
type Option func(*Client)

// WithHTTPClient sets the client that sends the requests. Its Timeout must be zero: it would end streams; bound
// calls by their context instead.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithUser makes calls for a user. The server accepts that only from the addresses in its --trusted-proxies.
func WithUser(userID string) Option { return withHeader(scanapi.UserIDHeader, userID) }

// WithToken authenticates calls with a token, for a server with --auth=tokenreview. The function is called for each
// request, so that it can return a renewed token.
func WithToken(token func() string) Option {
	return func(c *Client) {
		c.edit = append(c.edit, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token()) })
	}
}

// WithClock sets the clock for the waits between polls and reconnects. Default: the wall clock.
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

// SubmitOption configures one submit.
type SubmitOption func(*http.Request)

// IdempotencyKey makes a submit safe to retry: the same key with the same request returns the first scan. A key has 1 to
// 256 visible ASCII characters. Use one key per scan.
func IdempotencyKey(key string) SubmitOption {
	return func(r *http.Request) { r.Header.Set(scanapi.IdempotencyKeyHeader, key) }
}

// Submit submits a scan. It returns when the scan is accepted.
func (c *Client) Submit(ctx context.Context, request scanapi.SubmitRequest, options ...SubmitOption) (*scanapi.SubmitResponse, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	r, err := c.request(ctx, http.MethodPost, scanapi.SubmitPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for _, o := range options {
		o(r)
	}
	response := &scanapi.SubmitResponse{}
	if _, err := c.call(r, map[int]any{http.StatusOK: response}); err != nil {
		return nil, fmt.Errorf("submit a scan: %w", err)
	}
	return response, nil
}

// Poll is the state of a scan: either Result or Processing is set.
type Poll struct {
	// Result is the finished scan, whether it succeeded or failed.
	Result *scanapi.Result
	// Processing is the scan that has not finished.
	Processing *scanapi.Processing
	// RetryAfter is the delay before the next poll, with Processing.
	RetryAfter time.Duration
}

// Result polls a scan once.
func (c *Client) Result(ctx context.Context, jobID string) (*Poll, error) {
	r, err := c.request(ctx, http.MethodGet, scanapi.ResultPath(url.PathEscape(jobID)), http.NoBody)
	if err != nil {
		return nil, err
	}
	result, processing := &scanapi.Result{}, &scanapi.Processing{}
	response, err := c.call(r, map[int]any{http.StatusOK: result, http.StatusAccepted: processing})
	if err != nil {
		return nil, fmt.Errorf("fetch the result of scan %s: %w", jobID, err)
	}
	if response.StatusCode == http.StatusOK {
		return &Poll{Result: result}, nil
	}
	return &Poll{Processing: processing, RetryAfter: retryAfter(response)}, nil
}

// Wait polls until a scan has finished, at the interval that the server sets. It retries while the server is not
// available; ctx bounds it.
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

// Categories lists the classes of waste.
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

// call sends a request and decodes the response into the document of its status; nil decodes nothing. A status without
// an entry is an error.
func (c *Client) call(r *http.Request, documents map[int]any) (*http.Response, error) {
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to the end, or given up
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponseBytes))
	if err != nil {
		return nil, fmt.Errorf("read the response: %w", err)
	}
	document, expected := documents[response.StatusCode]
	switch {
	case !expected:
		return nil, problemOf(response.StatusCode, body)
	case document == nil:
		return response, nil
	}
	if err := json.Unmarshal(body, document); err != nil {
		return nil, fmt.Errorf("decode the response of HTTP status %d: %w", response.StatusCode, err)
	}
	return response, nil
}

// problemOf is the error of a response. One that is not a problem document comes from a proxy in between.
func problemOf(status int, body []byte) *scanapi.Problem {
	p := &scanapi.Problem{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		return &scanapi.Problem{
			Status: status, Title: http.StatusText(status), Code: "HTTP_" + strconv.Itoa(status),
			Detail: "The response is not a problem document: it is from a proxy between the client and the server.",
		}
	}
	p.Status = status
	return p
}

// defaultRetryAfter is the time between two polls if the server sets none.
const defaultRetryAfter = 2 * time.Second

func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
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
	_, ok := errors.AsType[*url.Error](err) // the request got no response
	return ok
}

// pause waits, or returns ctx's error if ctx ends first.
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
