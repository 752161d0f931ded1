package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const (
	// submitTimeout bounds one request of a submit.
	submitTimeout = 10 * time.Second
	// refusedPause is how long a user waits after a submit that failed.
	refusedPause = 500 * time.Millisecond
)

// Users are a closed loop: each of Count users submits a scan by HTTP, waits for its end, and submits the next.
type Users struct {
	// Count is the number of users, and so of unfinished scans.
	Count int
	// APIURL is the base URL of the HTTP API.
	APIURL string
	// Name tells these users' scans from those of others.
	Name     string
	Recorder *Recorder
}

// Run submits until ctx ends, and returns when no request is under way any more. Scans may still be unfinished then.
//
// A submit whose answer was lost is repeated under the same idempotency key, so that what was accepted is known.
func (u *Users) Run(ctx context.Context) error {
	users := make([]*client.Client, u.Count)
	for i := range users {
		c, err := client.New(u.APIURL, client.WithUser(fmt.Sprintf("%s-%d", u.Name, i)))
		if err != nil {
			return err
		}
		users[i] = c
	}
	var all sync.WaitGroup
	for i, c := range users {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name, ok := u.submit(ctx, c, fmt.Sprintf("%s-%d-%d", u.Name, i, n))
				if !ok || u.Recorder.AwaitEnd(ctx, name) != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return nil
}

// submit asks for a scan until it is accepted or ctx ends.
func (u *Users) submit(ctx context.Context, c *client.Client, key string) (name string, accepted bool) {
	request := scanapi.SubmitRequest{
		ImageURL: "https://images.example.org/" + key + ".jpg", UserInput: "이거 어떻게 버려요?",
	}
	for {
		// Not ended by ctx: a request that is cut off might have been carried out.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTimeout)
		answer, err := c.Submit(attempt, request, client.IdempotencyKey(key))
		cancel()
		if err == nil {
			u.Recorder.Accepted(answer.JobID)
			return answer.JobID, true
		}
		pause := time.NewTimer(refusedPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return "", false
		}
	}
}
