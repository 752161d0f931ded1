// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scanstatus stores what happened to a scan. All code that changes the status of a ScanRequest does so through
// its Writer.
//
// # Several writers, one fold
//
// The scheduler, the workers and the controllers all write to the status of the same scan: an assignment, an outcome,
// the end of a deadline. They do not share a lock and do not divide the fields between them. Each hands an event to a
// Writer, which folds it into the newest status it has (pipeline.Fold) and patches the difference. Because one function
// computes every status, the writers cannot disagree about what a status means; because the patch is conditional, they
// cannot overwrite each other.
//
// # Why optimistic
//
// A patch carries the resource version it was folded from. The API server rejects it when the scan has changed since,
// and the Writer reads the scan and folds again. A lock would cost two more writes per event and would have to expire
// when its holder dies. A scan is hardly ever written by two parties at once, so a conflict is rare and its price, one
// read, is small.
//
// The resource version alone is not enough: after a conflict the Writer folds again, and a worker that was presumed
// dead would then overwrite the result of its successor. So events of an assignment carry the assignment's id as a
// fencing token, and Fold drops them with pipeline.ErrFenced once that assignment is no longer current.
//
// # Errors
//
// There is one table, in errors.go. Errors that no repetition can change are final: the scan is gone, or the API server
// rejects the status. Everything else is repeated with growing delays. What differs between writers is the Policy. The
// outcome of a call cost tokens, so a worker never gives it up. An assignment costs nothing to decide again and is out
// of date soon, so the manager gives it up.
//
// # Lost answers
//
// A request whose answer did not arrive may have been carried out. The Writer never assumes either: it reads the scan
// and compares it with what it wrote. It does so after conflicts as well, since client-go repeats some requests by
// itself and then reports a conflict with its own first attempt.
package scanstatus
