package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// retryEvery is the time between two tries of what got no answer, or one that says to try again.
const retryEvery = 500 * time.Millisecond

// sampleEvery is the share of polled scans whose events are fetched at the end, for the time the wait was over.
const sampleEvery = 10

// crowd is the clients and what they have seen.
type crowd struct {
	opts  options
	world *world
	http  *http.Client
	seen  *samples
	run   string // makes keys unique
}

func newCrowd(o options, w *world, seen *samples) *crowd {
	// One connection per client, as browsers behind a gateway would have at most.
	transport := &http.Transport{DialContext: w.dialer(), MaxIdleConnsPerHost: o.pollers + o.streams, IdleConnTimeout: time.Minute}
	return &crowd{opts: o, world: w, http: &http.Client{Transport: transport}, seen: seen, run: uuid.NewString()}
}

// start starts all clients, spread over the warm-up. They end with ctx.
func (c *crowd) start(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	n := c.opts.pollers + c.opts.streams
	for i := range n {
		follow := c.poll
		if i >= c.opts.pollers {
			follow = c.stream
		}
		wg.Go(func() {
			if !sleep(ctx, c.opts.warmup*time.Duration(i)/time.Duration(n)) {
				return
			}
			c.loop(ctx, i, follow)
		})
	}
	return &wg
}

// loop submits and follows scans, one after the other.
func (c *crowd) loop(ctx context.Context, i int, follow func(ctx context.Context, api *client.Client, n int, job string) error) {
	api, err := client.New("http://scan.example.com", client.WithHTTPClient(c.http), client.WithUser(fmt.Sprint("user-", i)))
	if err != nil {
		c.seen.fail("client", err)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s-%d-%d", c.run, i, n)
		job, ok := c.submit(ctx, api, key, fmt.Sprintf("https://images.example.org/%d-%d.jpg", i, n))
		if !ok {
			return
		}
		if err := follow(ctx, api, n, job); err != nil && ctx.Err() == nil {
			c.seen.fail("follow", err)
		}
	}
}

// submit submits until it is accepted; a submit that got no answer is repeated with the same key.
func (c *crowd) submit(ctx context.Context, api *client.Client, key, image string) (job string, ok bool) {
	for {
		begin := time.Now()
		answer, err := api.Submit(ctx, scanapi.SubmitRequest{ImageURL: image, UserInput: "이거 어떻게 버려요?"}, client.IdempotencyKey(key))
		if err == nil {
			c.seen.add("submit", time.Since(begin))
			return answer.JobID, true
		}
		if ctx.Err() != nil {
			return "", false
		}
		c.seen.fail("submit", err)
		if !sleep(ctx, retryEvery) {
			return "", false
		}
	}
}

// poll polls a scan to its end.
func (c *crowd) poll(ctx context.Context, api *client.Client, n int, job string) error {
	var guess prediction
	for sleep(ctx, c.opts.pollEvery) {
		begin := time.Now()
		poll, err := api.Result(ctx, job)
		if err != nil {
			if p, ok := errors.AsType[*scanapi.Problem](err); ok && p.Status == http.StatusNotFound || ctx.Err() != nil {
				return err
			}
			c.seen.fail("poll", err)
			continue
		}
		c.seen.add("poll", time.Since(begin))
		if poll.Processing != nil {
			if seconds := poll.Processing.EstimatedWaitSeconds; seconds != nil && guess.at.IsZero() && poll.Processing.CurrentStage == scanapi.EventQueued {
				guess = prediction{at: time.Now(), wait: time.Duration(*seconds) * time.Second}
			}
			continue
		}
		c.seen.finish(poll.Result.Status)
		if n%sampleEvery == 0 && !guess.at.IsZero() {
			return c.compare(ctx, api, job, guess)
		}
		return nil
	}
	return nil
}

// compare finds out when the scan's first stage began, from its events, and how far the estimate was off.
func (c *crowd) compare(ctx context.Context, api *client.Client, job string, guess prediction) error {
	for event, err := range api.Events(ctx, job) {
		switch {
		case err != nil:
			return err
		case event.Stage == scanapi.EventVision:
			c.seen.predict(guess, event.TS)
			return nil
		}
	}
	return nil
}

// stream follows a scan's stream to its end. An event's delivery takes from its time, at which the status that makes
// it was written, to its arrival.
func (c *crowd) stream(ctx context.Context, api *client.Client, _ int, job string) error {
	want := 0
	status := ""
	opened := time.Now()
	for event, err := range api.Events(ctx, job) {
		now := time.Now()
		if err != nil {
			return err
		}
		if event.Seq != want {
			c.seen.fail("stream", fmt.Errorf("event %d came instead of %d", event.Seq, want))
		}
		want = event.Seq + 1
		status = event.Status
		if event.TS.After(opened) { // what happened before is a replay
			c.seen.add("event", now.Sub(event.TS))
			if event.Stage == scanapi.EventDone {
				c.seen.add("done", now.Sub(event.TS))
			}
		}
	}
	if ctx.Err() == nil {
		c.seen.finish(status)
	}
	return nil
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
