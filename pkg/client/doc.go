// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package client calls the HTTP API of the scan operator.
//
// A scan from submit to result:
//
//	c, err := client.New("https://scan.example.com", client.WithUser("user-1"))
//	...
//	job, err := c.Submit(ctx, scanapi.SubmitRequest{ImageURL: url}, client.IdempotencyKey(key))
//	...
//	result, err := c.Wait(ctx, job.JobID)
//
// Events yields an event for each stage. Errors of the API are *scanapi.Problem; find them with errors.As and decide by
// their Code. Requests that the server rejected with Retry-After are not retried, except by Wait and Events, which retry
// until their context ends.
package client
