package queueapi

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
	// dialTimeout and askTimeout bound one try of one address: a node that has gone answers nothing at all.
	dialTimeout = time.Second
	askTimeout  = 3 * time.Second
	// maxAnswerBytes bounds an answer; one about 1000 scans has some 300 kB.
	maxAnswerBytes = 4 << 20
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
			return nil, fmt.Errorf("%q is no base URL such as http://scan-manager-queue:8082", item)
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// leader asks the leader among the managers. The others refuse the connection, so that it is found by trying; the
// one that answered last is tried first. It is used by one goroutine.
type leader struct {
	urls     []*url.URL
	resolver Resolver
	http     *http.Client
	// current is the host:port that answered last; empty where none did.
	current atomic.Pointer[string]
}

func newLeader(urls []*url.URL, resolver Resolver) *leader {
	l := &leader{urls: urls, resolver: resolver}
	l.http = &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
			MaxIdleConns:    4,
			IdleConnTimeout: time.Minute,
		},
		// An answer comes from the address that was asked, or it is none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return l
}

// ask puts the question to the manager that answered last, then to all others until one answers. The error tells of
// each try.
func (l *leader) ask(ctx context.Context, namespace string, q Question) (*Answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode the question: %w", err)
	}
	var errs []error
	tried := ""
	if last := l.current.Load(); last != nil {
		answer, err := l.askOne(ctx, *last, namespace, body)
		if err == nil {
			return answer, nil
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
		// Asked anew each time: pods come and go.
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
			answer, err := l.askOne(ctx, hostPort, namespace, body)
			if err == nil {
				l.current.Store(&hostPort)
				return answer, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, fmt.Errorf("no manager answers: %w", errors.Join(errs...))
}

func (l *leader) askOne(ctx context.Context, hostPort, namespace string, body []byte) (*Answer, error) {
	where := url.URL{Scheme: "http", Host: hostPort, Path: "/v1/namespaces/" + namespace + "/standings"}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, where.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := l.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to the end, or given up
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", where.String(), response.Status)
	}
	answer := &Answer{}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswerBytes)).Decode(answer); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", where.String(), err)
	}
	return answer, nil
}
