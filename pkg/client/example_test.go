// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eco2-team/scan-operator/pkg/client"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// A scan from submit to result. The key is made once for each photo and used for every retry.
func ExampleClient_Submit() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := client.New("https://scan.example.com", client.WithUser("user-1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := c.Submit(ctx, scanapi.SubmitRequest{
		ImageURL: "https://images.example.com/bottle.jpg", UserInput: "이거 어떻게 버려요?",
	}, client.IdempotencyKey("0190a1b2-photo-7"))
	if problem, ok := errors.AsType[*scanapi.Problem](err); ok && problem.Code == scanapi.CodeOverloaded {
		fmt.Println("later:", problem.Detail)
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := c.Wait(ctx, job.JobID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.PipelineResult.FinalAnswer.UserAnswer)
}

// Each stage is reported as it happens; after a broken connection the stream resumes after the last event.
func ExampleClient_Events() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := client.New("https://scan.example.com", client.WithUser("user-1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for event, err := range c.Events(ctx, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%3d%% %s %s\n", event.Progress, event.Stage, event.Status)
	}
}
