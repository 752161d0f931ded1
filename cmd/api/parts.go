// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/eco2-team/scan-operator/internal/pipeline/knowledge"
	"github.com/eco2-team/scan-operator/internal/queuestatus"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// runAll runs serve until ctx ends or one of them fails. The others run until serve has returned.
func runAll(ctx context.Context, serve func(context.Context) error, others ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// A server that drains still answers polls and streams, for which it needs the others.
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	results := make(chan error, len(others))
	for _, other := range others {
		go func() {
			err := other(lifetime)
			stop()
			results <- err
		}()
	}
	err := serve(ctx)
	end()
	for range others {
		err = errors.Join(err, <-results)
	}
	return err
}

// newTLS returns the configuration that serves the certificate, nil for plain HTTP, and what keeps it current.
func newTLS(o options) (*tls.Config, func(context.Context) error, error) {
	if o.tlsCertFile == "" {
		return nil, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil
	}
	watcher, err := certwatcher.New(o.tlsCertFile, o.tlsKeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read --tls-cert-file and --tls-key-file: %w", err)
	}
	return &tls.Config{GetCertificate: watcher.GetCertificate, MinVersion: tls.VersionTLS12}, watcher.Start, nil
}

// newQueue returns the client of the leader among --queue-urls. Without any URL, positions and waits are unknown.
func newQueue(o options, log logr.Logger) (*queuestatus.Client, error) {
	urls, err := queuestatus.ParseURLs(o.queueURLs)
	if err != nil {
		return nil, fmt.Errorf("--queue-urls: %w", err)
	}
	return queuestatus.NewClient(queuestatus.ClientOptions{
		Namespace: o.namespace, URLs: urls, MetricsRegistry: runtimemetrics.Registry, Log: log.WithName("queue"),
	})
}

// loadCategories lists the categories of waste of a knowledge pack.
func loadCategories(dir string) ([]scanapi.Category, error) {
	pack, err := knowledge.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	var categories []scanapi.Category
	for _, c := range pack.Categories() {
		categories = append(categories, scanapi.Category{
			ID: c.ID, Name: c.Name, DisplayName: c.DisplayName, Instructions: append([]string{}, c.Instructions...),
		})
	}
	return categories, nil
}
