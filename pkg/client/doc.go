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
// Events tells of each stage on the way. Errors of the API are *scanapi.Problem; find them with errors.As and
// decide by their Code. Requests that the server turned away with Retry-After are not repeated here, except that
// Wait and Events go on for as long as their context allows.
package client
