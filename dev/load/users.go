// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const (
	// submitTimeout bounds one request of a submit.
	submitTimeout = 10 * time.Second
	// retryPause is how long a user waits after a submit that failed.
	retryPause = 500 * time.Millisecond
)

// Users are a closed loop through the HTTP API: each user submits a scan, follows it to its end, and submits the next.
// Count, APIURL, Name, and one of Recorder and Follow must be set.
type Users struct {
	// Count is the number of users, and so of unfinished scans.
	Count int
	// APIURL is the base URL of the HTTP API.
	APIURL string
	// Name is the prefix of the users' names and of their scans' idempotency keys.
	Name string
	// Recorder is notified of accepted scans, and by default awaits their ends.
	Recorder *Recorder

	// RampUp is the time over which the users start.
	RampUp time.Duration
	// HTTP sends the requests; default http.DefaultClient.
	HTTP *http.Client
	// Follow returns when the n-th scan of a user has ended; by default the Recorder waits for it.
	Follow func(ctx context.Context, api *client.Client, user, n int, job string) error
	// Tried receives the duration and the error of each request of a submit. Default: none.
	Tried func(took time.Duration, err error)
}

// Run submits until ctx ends, and returns when no request is under way any more. Scans may still be unfinished then.
func (u *Users) Run(ctx context.Context) error {
	users := make([]*client.Client, u.Count)
	for i := range users {
		options := []client.Option{client.WithUser(fmt.Sprintf("%s-%d", u.Name, i))}
		if u.HTTP != nil {
			options = append(options, client.WithHTTPClient(u.HTTP))
		}
		c, err := client.New(u.APIURL, options...)
		if err != nil {
			return err
		}
		users[i] = c
	}
	loop := &Loop{
		Clients: u.Count, RampUp: u.RampUp,
		Submit: func(ctx context.Context, i, n int) (string, error) {
			return u.submit(ctx, users[i], fmt.Sprintf("%s-%d-%d", u.Name, i, n))
		},
		Follow: func(ctx context.Context, i, n int, job string) error {
			if u.Follow != nil {
				return u.Follow(ctx, users[i], i, n, job)
			}
			return u.Recorder.AwaitEnd(ctx, job)
		},
	}
	return loop.Run(ctx)
}

// submit submits a scan until it is accepted or ctx ends. A submit whose answer was lost is repeated under the same
// idempotency key, so that it is accepted once.
func (u *Users) submit(ctx context.Context, c *client.Client, key string) (name string, err error) {
	request := scanapi.SubmitRequest{
		ImageURL: "https://images.example.org/" + key + ".jpg", UserInput: userInput,
	}
	for {
		// Not ended by ctx: a request that is cut off might have been carried out.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTimeout)
		begun := time.Now()
		answer, err := c.Submit(attempt, request, client.IdempotencyKey(key))
		cancel()
		if u.Tried != nil {
			u.Tried(time.Since(begun), err)
		}
		if err == nil {
			if u.Recorder != nil {
				u.Recorder.Accepted(answer.JobID)
			}
			return answer.JobID, nil
		}
		if !Sleep(ctx, retryPause) {
			return "", ctx.Err()
		}
	}
}
