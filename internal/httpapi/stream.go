// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package httpapi

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/internal/httpapi/auth"
	"github.com/eco2-team/scan-operator/internal/pipeline"
	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

const (
	// retryBase and retrySpread are the delay after which a client reconnects. It is spread, so that the clients of a
	// replica that stops do not all reconnect at once.
	retryBase   = time.Second
	retrySpread = 2 * time.Second
)

// streamByQuery streams the events of the scan in the query, the older form.
func (s *Server) streamByQuery(w http.ResponseWriter, r *http.Request, caller auth.Caller) error {
	jobID := r.URL.Query().Get("job_id")
	if jobID == "" {
		return invalid(scanapi.CodeJobIDRequired, scanapi.FieldError{Field: "job_id", Rule: "required", Detail: "is required"})
	}
	return s.stream(w, r, caller, jobID)
}

// streamByPath streams the events of the scan in the path.
func (s *Server) streamByPath(w http.ResponseWriter, r *http.Request, caller auth.Caller) error {
	return s.stream(w, r, caller, r.PathValue("id"))
}

// stream sends a scan's events up to the last one. It runs in the handler's goroutine alone.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, caller auth.Caller, jobID string) error {
	if s.isEnding() {
		return notReady("This server is stopping. Try again.")
	}
	// The mailbox is opened before the scan is looked up, so that no change in between is missed.
	mail, limit := s.hub.subscribe(jobID, caller.UserID)
	if limit != withinLimits {
		return s.tooManyStreams(limit)
	}
	defer s.hub.leave(mail)
	scan, err := s.ownScan(r.Context(), jobID, caller, scanapi.CodeScanNotFound)
	if err != nil {
		return err
	}
	next := nextEvent(r)
	if pipeline.IsFinished(&scan.Status) && next >= len(Events(scan)) {
		// EventSource reconnects when a stream ends, even after the last event. 204 stops it.
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	out, err := s.openStream(w, jobID)
	if err != nil {
		return err
	}
	defer out.close()
	s.follow(r, out, scan, mail, next)
	return nil
}

// tooManyStreams is the problem of a stream beyond a limit. The user can close streams of their own: 429. Another
// replica may have room for more: 503.
func (s *Server) tooManyStreams(limit limitReached) *problemError {
	p := &problemError{code: scanapi.CodeTooManyStreams, retryAfter: retryBase + retrySpread}
	if limit == userLimit {
		p.status = http.StatusTooManyRequests
		p.detail = fmt.Sprintf("You have %d open streams on this server, the limit for one user. Close one, or poll the result instead.", s.hub.perUser)
		s.metrics.rejected.WithLabelValues("user_streams").Inc()
		return p
	}
	p.status = http.StatusServiceUnavailable
	p.detail = "This server has reached its limit of open streams. Poll the result instead, or try again."
	s.metrics.rejected.WithLabelValues("streams").Inc()
	return p
}

// nextEvent is the index of the first event to send: the one after the last that the client has seen. An id of another
// form, for example of the system that served the client before, replays the stream.
func nextEvent(r *http.Request) int {
	seen, err := strconv.Atoi(r.Header.Get(scanapi.LastEventIDHeader))
	if err != nil || seen < 0 {
		return 0
	}
	return seen + 1
}

// follow sends events as the scan progresses. It returns when the stream has ended, for whatever reason.
func (s *Server) follow(r *http.Request, out *eventWriter, scan *v1alpha1.ScanRequest, mail *mailbox, next int) {
	keepalive := s.clock.NewTimer(s.keepalive)
	defer keepalive.Stop()
	deleted, waited := false, false
	for {
		events := Events(scan)
		for ; next < len(events); next++ {
			if !out.send(events[next]) {
				return
			}
			if events[next].Last() && waited {
				s.metrics.delivery.Observe(s.clock.Since(events[next].TS).Seconds())
			}
		}
		if pipeline.IsFinished(&scan.Status) {
			return
		}
		if deleted {
			out.send(canceled(scan.Name, s.clock.Now(), events))
			return
		}
		waited = true
		select {
		case <-mail.ready:
			scan, deleted = mail.take()
		case <-keepalive.C():
			if !out.comment("keepalive") {
				return
			}
			deleted = s.isDeleted(r.Context(), scan.Name)
		case <-r.Context().Done():
			return
		case <-s.ending:
			out.comment("the server is stopping; reconnect")
			return
		}
		keepalive.Reset(s.keepalive)
	}
}

// isDeleted says whether a scan was deleted without an event: the watch delivers none for a scan that was created and
// deleted while the watch was broken. The API server is read only for a scan that the watch has not delivered.
func (s *Server) isDeleted(ctx context.Context, name string) bool {
	if _, err := s.scans.Get(ctx, name); !apierrors.IsNotFound(err) {
		return false
	}
	_, err := s.readThrough(ctx, name)
	return apierrors.IsNotFound(err)
}

// eventWriter writes server-sent events, each with its own deadline.
type eventWriter struct {
	server  *Server
	w       http.ResponseWriter
	control *http.ResponseController
}

// openStream sends the headers of a stream. They keep proxies from buffering and compressing it.
func (s *Server) openStream(w http.ResponseWriter, jobID string) (*eventWriter, error) {
	out := &eventWriter{server: s, w: w, control: http.NewResponseController(w)}
	// The server's read timeout is meant for requests: on a stream it would end the connection.
	if err := out.control.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("clear the read timeout: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(jobID)) // never fails
	retry := retryBase + time.Duration(hash.Sum32()%uint32(retrySpread/time.Millisecond))*time.Millisecond
	out.write("retry: " + strconv.FormatInt(retry.Milliseconds(), 10) + "\n\n")
	return out, nil
}

// send writes an event and returns false if the client has left or is too slow.
func (o *eventWriter) send(e Event) bool {
	data, err := e.encode()
	if err != nil {
		o.server.log.Error(err, "cannot encode an event", "scan", e.JobID)
		return false
	}
	if !o.write("id: " + strconv.Itoa(e.Seq) + "\nevent: " + e.Stage + "\ndata: " + string(data) + "\n\n") {
		return false
	}
	o.server.metrics.events.WithLabelValues(e.Stage).Inc()
	return true
}

// comment writes a line that clients ignore.
func (o *eventWriter) comment(text string) bool {
	return o.write(": " + text + "\n\n")
}

// write sends a piece of the stream and flushes it. A client that does not read it in time is disconnected; it resumes
// after the last event it has seen.
func (o *eventWriter) write(text string) bool {
	// A socket's deadline is in wall-clock time.
	if err := o.control.SetWriteDeadline(time.Now().Add(o.server.writeTimeout)); err != nil {
		return false
	}
	if _, err := o.w.Write([]byte(text)); err != nil { //nolint:gosec // G705: an event stream is not HTML, and nosniff is set
		return false
	}
	if err := o.control.Flush(); err != nil {
		return false
	}
	// HTTP/2 resets a stream whose deadline passes, even if nothing is being written.
	return o.control.SetWriteDeadline(time.Time{}) == nil
}

// close bounds what the server writes to end the stream.
func (o *eventWriter) close() {
	_ = o.control.SetWriteDeadline(time.Now().Add(o.server.writeTimeout)) // fails only if the client has left
}
