// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxBody is the largest request body; images in data URLs make it large.
	maxBody = 50 << 20
	// maxClientRequestID is the longest X-Client-Request-Id.
	maxClientRequestID = 512
	apiVersion         = "2020-10-01"
)

// exchange is one request and its reply.
type exchange struct {
	server   *Server
	settings *settings
	counters *counters
	w        http.ResponseWriter
	r        *http.Request
	endpoint endpoint

	start     time.Time
	requestID string
	clientID  string // X-Client-Request-Id
	call      *call
	manner    *faultRule // how the reply is sent, nil for properly
	levels    *levels    // nil until admission
}

func (s *Server) newExchange(w http.ResponseWriter, r *http.Request, at endpoint) *exchange {
	x := &exchange{
		server: s, settings: s.current.Load(), counters: s.counters.Load(), w: w, r: r, endpoint: at,
		start: s.clock.Now(), requestID: newID("req_"),
	}
	h := w.Header()
	h["X-Request-Id"] = []string{x.requestID}
	h["Openai-Version"] = []string{apiVersion}
	return x
}

// newID makes a unique identifier.
func newID(prefix string) string {
	var raw [16]byte
	for i := 0; i < len(raw); i += 8 {
		n := rand.Uint64()
		for j := range 8 {
			raw[i+j] = byte(n >> (8 * j))
		}
	}
	return prefix + hex.EncodeToString(raw[:])
}

// provider wraps the endpoints that need a key.
func (s *Server) provider(at endpoint, handle func(x *exchange, key, organization string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := s.newExchange(w, r, at)
		x.counters.request(at)
		key, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		key = strings.TrimSpace(key)
		if !found || key == "" {
			x.fail(errNoKey())
			return
		}
		organization, ok := x.settings.organization(key)
		if !ok {
			x.fail(errWrongKey(key))
			return
		}
		x.clientID = r.Header.Get("X-Client-Request-Id")
		if !isASCII(x.clientID) || len(x.clientID) > maxClientRequestID {
			x.fail(invalid("X-Client-Request-Id", "invalid_value",
				"Invalid 'X-Client-Request-Id': expected at most %d ASCII characters.", maxClientRequestID))
			return
		}
		w.Header()["Openai-Organization"] = []string{organization}
		handle(x, key, organization)
	}
}

// isASCII reports whether a string is made of printable ASCII.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// bodies recycles the buffers that request bodies are read into.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// parse reads and parses the request body.
func (x *exchange) parse(key, organization string) (*call, *apiError) {
	buffer := bodies.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool holds nothing else
	defer func() {
		const keep = 1 << 20
		if buffer.Cap() <= keep {
			buffer.Reset()
			bodies.Put(buffer)
		}
	}()
	if _, err := buffer.ReadFrom(io.LimitReader(x.r.Body, maxBody+1)); err != nil {
		return &call{endpoint: x.endpoint}, errNotJSON()
	}
	if buffer.Len() > maxBody {
		return &call{endpoint: x.endpoint}, errBodyTooLarge(maxBody)
	}
	// Decoding copies every string out of the buffer.
	c, apiErr := parseCall(x.endpoint, buffer.Bytes(), x.settings)
	c.key, c.organization = key, organization
	return c, apiErr
}

// fail sends an error reply.
func (x *exchange) fail(e *apiError) {
	x.counters.failed(e)
	h := x.w.Header()
	if e.wait > 0 && !x.has(FaultHeadersMissing) {
		if !x.has(FaultRetryAfterMillisOnly) {
			h["Retry-After"] = []string{ceilSeconds(e.wait)}
		}
		h["Retry-After-Ms"] = []string{ceilMillis(e.wait)}
	}
	if e.status != http.StatusTooManyRequests || !x.has(FaultRetryAfterMillisOnly) {
		x.writeLevels()
	}
	x.write(e.status, "application/json", e.body())
}

// failBadGateway sends the page of a proxy that never reached the API.
func (x *exchange) failBadGateway() {
	x.counters.failed(&apiError{status: http.StatusBadGateway, counter: "502 bad_gateway"})
	clear(x.w.Header())
	const page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n" +
		"<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
	x.writeRaw(http.StatusBadGateway, "text/html", []byte(page))
}

// has reports whether the reply suffers a fault of manner.
func (x *exchange) has(kind FaultKind) bool { return x.manner.kind() == kind }

// writeLevels sets the limit headers, when there are any to set.
func (x *exchange) writeLevels() {
	if x.levels != nil && !x.has(FaultHeadersMissing) {
		x.levels.writeTo(x.w.Header())
	}
}

// answer sends a successful reply.
func (x *exchange) answer(document any) {
	x.writeLevels()
	body, err := json.Marshal(document)
	if err != nil {
		// The documents are structs of this package, of types that marshal.
		panic(err)
	}
	x.write(http.StatusOK, "application/json", body)
}

// write sends a reply with the headers that every reply of the API has.
func (x *exchange) write(status int, contentType string, body []byte) {
	x.w.Header()["Openai-Processing-Ms"] = []string{strconv.FormatInt(x.server.millisSince(x.start), 10)}
	x.writeRaw(status, contentType, body)
}

// writeRaw sends a reply as it is.
func (x *exchange) writeRaw(status int, contentType string, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.w.WriteHeader(status)
	if _, err := x.w.Write(body); err != nil { //nolint:gosec // JSON, or a fixed page
		x.server.logger.Debug("cannot send a reply", "error", err)
	}
}

// drop ends a call whose client has left, or whose server is shutting down: no
// answer and no refund. The connection is cut, for an empty reply would be a
// lie.
func (x *exchange) drop() {
	x.counters.disconnected.Add(1)
	x.abort()
}

// abort cuts the connection: a TCP reset where the connection is the
// request's own, a reset stream on HTTP/2. Where neither is possible it panics
// with http.ErrAbortHandler, which net/http turns into a closed connection.
func (x *exchange) abort() {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	raw := conn
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = wrapped.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		err = tcp.SetLinger(0)
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		x.server.logger.Debug("cannot reset a connection", "error", err)
	}
}
