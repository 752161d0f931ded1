// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/eco2-team/scan-operator/dev/load"
	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// sampleEvery is the share of polled scans whose events are fetched at the end, for the time the wait was over.
const sampleEvery = 10

// apiUsers are the pollers and the streams. They have one connection each, as browsers behind a gateway would have at
// most.
func apiUsers(o options, replicas *apiReplicas, seen *samples) *load.Users {
	transport := &http.Transport{
		DialContext: replicas.dialer(), MaxIdleConnsPerHost: o.pollers + o.streams, IdleConnTimeout: time.Minute,
	}
	return &load.Users{
		Count: o.pollers + o.streams, RampUp: o.warmup,
		APIURL: "http://scan.example.com", HTTP: &http.Client{Transport: transport},
		Name: "user-" + uuid.NewString()[:8],
		Tried: func(took time.Duration, err error) {
			if err != nil {
				seen.fail("submit", err)
				return
			}
			seen.add("submit", took)
		},
		Follow: func(ctx context.Context, api *client.Client, user, n int, job string) error {
			var err error
			if user < o.pollers {
				err = poll(ctx, api, seen, o.pollEvery, n%sampleEvery == 0, job)
			} else {
				err = stream(ctx, api, seen, job)
			}
			if err != nil && ctx.Err() == nil {
				seen.fail("follow", err) // and the next scan is submitted
			}
			return nil
		},
	}
}

// poll polls a scan to its end. With compare it looks up how far the first estimated wait was off.
func poll(ctx context.Context, api *client.Client, seen *samples, every time.Duration, compare bool, job string) error {
	var guess load.Prediction
	for load.Sleep(ctx, every) {
		begun := time.Now()
		answer, err := api.Result(ctx, job)
		if err != nil {
			if p, ok := errors.AsType[*scanapi.Problem](err); ok && p.Status == http.StatusNotFound || ctx.Err() != nil {
				return err
			}
			seen.fail("poll", err)
			continue
		}
		seen.add("poll", time.Since(begun))
		if p := answer.Processing; p != nil {
			if p.EstimatedWaitSeconds != nil && guess.At.IsZero() && p.CurrentStage == scanapi.EventQueued {
				guess = load.Prediction{At: time.Now(), Wait: time.Duration(*p.EstimatedWaitSeconds) * time.Second}
			}
			continue
		}
		seen.finish(answer.Result.Status)
		if compare && !guess.At.IsZero() {
			return compareWait(ctx, api, seen, job, guess)
		}
		return nil
	}
	return ctx.Err()
}

// compareWait finds out from its events when the scan's first stage began.
func compareWait(ctx context.Context, api *client.Client, seen *samples, job string, guess load.Prediction) error {
	for event, err := range api.Events(ctx, job) {
		switch {
		case err != nil:
			return err
		case event.Stage == scanapi.EventVision:
			seen.predict(guess, event.TS)
			return nil
		}
	}
	return nil
}

// stream follows a scan's stream to its end. The delivery of an event takes from its time, at which the status that
// makes it was written, to its arrival.
func stream(ctx context.Context, api *client.Client, seen *samples, job string) error {
	want := 0
	status := ""
	opened := time.Now()
	for event, err := range api.Events(ctx, job) {
		now := time.Now()
		if err != nil {
			return err
		}
		if event.Seq != want {
			seen.fail("stream", fmt.Errorf("event %d came instead of %d", event.Seq, want))
		}
		want = event.Seq + 1
		status = event.Status
		if event.TS.After(opened) { // what happened before is a replay
			seen.add("event", now.Sub(event.TS))
			if event.Stage == scanapi.EventDone {
				seen.add("done", now.Sub(event.TS))
			}
		}
	}
	if ctx.Err() == nil {
		seen.finish(status)
	}
	return nil
}
