// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
)

func parse(t *testing.T, args ...string) options {
	t.Helper()
	var o options
	fs := flag.NewFlagSet("api", flag.ContinueOnError)
	o.bind(fs, func(string) string { return "" })
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOptions(t *testing.T) {
	tests := map[string]struct {
		args    []string
		wantErr []string // flags that the error names; none: valid
	}{
		"defaults":        {},
		"no limits":       {args: []string{"--max-estimated-wait=0", "--max-unfinished=0", "--max-unfinished-per-user=0", "--drain-delay=0"}},
		"TLS":             {args: []string{"--tls-cert-file=c", "--tls-key-file=k"}},
		"half of TLS":     {args: []string{"--tls-cert-file=c"}, wantErr: []string{"--tls-key-file"}},
		"unknown auth":    {args: []string{"--auth=none"}, wantErr: []string{`--auth="none"`}},
		"token reviews":   {args: []string{"--auth=tokenreview"}},
		"negative":        {args: []string{"--max-unfinished=-1", "--max-estimated-wait=-1s"}, wantErr: []string{"--max-unfinished=-1", "--max-estimated-wait=-1s"}},
		"no keepalive":    {args: []string{"--stream-keepalive=0"}, wantErr: []string{"--stream-keepalive=0s"}},
		"proxies of none": {args: []string{"--trusted-proxies=10.0.0.0/8,x"}, wantErr: []string{"--trusted-proxies", `x`}},
		"queue URLs":      {args: []string{"--queue-urls=http://a:8082,http://b:8082"}},
		"no queue URL":    {args: []string{"--queue-urls=a:8082"}, wantErr: []string{"--queue-urls", `"a:8082"`}},
		"streams of none": {args: []string{"--max-streams=-5", "--max-streams-per-user=0"}, wantErr: []string{"--max-streams=-5", "--max-streams-per-user=0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := parse(t, tt.args...)
			err := o.validate()
			if (err == nil) != (len(tt.wantErr) == 0) {
				t.Fatalf("validate() = %v, want %q", err, tt.wantErr)
			}
			for _, want := range tt.wantErr {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("validate() = %v, want it to name %s", err, want)
				}
			}
		})
	}
}

func TestDefaultTrustedProxiesAreWhatTheFlagSays(t *testing.T) {
	got, err := auth.ParseTrustedProxies(parse(t).trustedProxies)
	if err != nil || len(got) != len(auth.DefaultTrustedProxies()) {
		t.Errorf("the flag's default gives %v, %v", got, err)
	}
}

func TestOrigins(t *testing.T) {
	o := parse(t, "--allowed-origins= https://a.example.com, ,http://localhost:3000")
	if got := strings.Join(o.origins(), " "); got != "https://a.example.com http://localhost:3000" {
		t.Errorf("origins() = %q", got)
	}
}

func TestCategoriesOfThePack(t *testing.T) {
	categories, err := loadCategories("")
	if err != nil || len(categories) == 0 {
		t.Fatalf("loadCategories() = %v, %v", categories, err)
	}
	for _, c := range categories {
		if c.ID == 0 || c.Name == "" || c.DisplayName == "" || len(c.Instructions) == 0 {
			t.Errorf("incomplete category %+v", c)
		}
	}
	if _, err := loadCategories(t.TempDir()); err == nil {
		t.Error("an empty directory passes for a knowledge pack")
	}
}

// The watch outlives the request to stop until the server has drained, and a watch that fails stops the server.
func TestRunAll(t *testing.T) {
	broken := errors.New("broken")
	untilDone := func(ctx context.Context) error { <-ctx.Done(); return nil }
	tests := map[string]struct {
		serve, other func(ctx context.Context) error
		wantErr      error
	}{
		"stopped": {
			serve: func(context.Context) error { return nil }, other: untilDone,
		},
		"the server fails": {
			serve: func(context.Context) error { return broken }, other: untilDone, wantErr: broken,
		},
		"the watch fails": {
			serve: untilDone, other: func(context.Context) error { return broken }, wantErr: broken,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := runAll(t.Context(), tt.serve, tt.other); !errors.Is(err, tt.wantErr) {
				t.Errorf("runAll() = %v, want %v", err, tt.wantErr)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	watching := make(chan context.Context, 1)
	err := runAll(ctx, func(context.Context) error {
		if watch := <-watching; watch.Err() != nil {
			t.Error("the watch was stopped before the server had drained")
		}
		return nil
	}, func(ctx context.Context) error { watching <- ctx; <-ctx.Done(); return nil })
	if err != nil {
		t.Errorf("runAll() = %v", err)
	}
}
