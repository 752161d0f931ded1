// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuestatus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// dialTimeout and requestTimeout bound one try of one address: a node that is gone does not respond at all.
	dialTimeout    = time.Second
	requestTimeout = 3 * time.Second
	// maxResponseBytes bounds a response; one for 1000 scans has some 300 kB.
	maxResponseBytes = 4 << 20
)

// Resolver finds the addresses of a host. It is a part of net.Resolver.
type Resolver interface {
	LookupHost(ctx context.Context, host string) (addresses []string, err error)
}

// ParseURLs parses the base URLs of the managers' queue servers, separated by commas.
func ParseURLs(list string) ([]*url.URL, error) {
	var urls []*url.URL
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		u, err := url.Parse(item)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("%q is not a base URL such as http://scan-manager-queue:8082", item)
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// leader sends requests to the leader among the managers. The others refuse the connection, so it is found by trying;
// the one that responded last is tried first. It is used by one goroutine.
type leader struct {
	urls     []*url.URL
	resolver Resolver
	http     *http.Client
	// current is the host:port that responded last; nil where none did.
	current atomic.Pointer[string]
}

func newLeader(urls []*url.URL, resolver Resolver) *leader {
	l := &leader{urls: urls, resolver: resolver}
	l.http = &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
			MaxIdleConns:    4,
			IdleConnTimeout: time.Minute,
		},
		// A response must come from the address that was requested.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return l
}

// send sends the request to the manager that responded last, then to all others until one responds. The error lists
// every try.
func (l *leader) send(ctx context.Context, namespace string, request Request) (*Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	var errs []error
	tried := ""
	if last := l.current.Load(); last != nil {
		response, err := l.sendTo(ctx, *last, namespace, body)
		if err == nil {
			return response, nil
		}
		tried = *last
		errs = append(errs, err)
		l.current.Store(nil)
	}
	for _, u := range l.urls {
		port := u.Port()
		if port == "" {
			port = "80"
		}
		// Resolved each time: pods come and go.
		addresses, err := l.resolver.LookupHost(ctx, u.Hostname())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, address := range addresses {
			hostPort := net.JoinHostPort(address, port)
			if hostPort == tried {
				continue
			}
			response, err := l.sendTo(ctx, hostPort, namespace, body)
			if err == nil {
				l.current.Store(&hostPort)
				return response, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, fmt.Errorf("no manager responded: %w", errors.Join(errs...))
}

func (l *leader) sendTo(ctx context.Context, hostPort, namespace string, body []byte) (*Response, error) {
	where := url.URL{Scheme: "http", Host: hostPort, Path: Path(namespace)}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, where.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	got, err := l.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = got.Body.Close() }() // read to the end, or given up
	if got.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s responded %s", where.String(), got.Status)
	}
	response := &Response{}
	if err := json.NewDecoder(io.LimitReader(got.Body, maxResponseBytes)).Decode(response); err != nil {
		return nil, fmt.Errorf("decode the response of %s: %w", where.String(), err)
	}
	return response, nil
}
