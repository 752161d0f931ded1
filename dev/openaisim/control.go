// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxControlBody bounds the bodies of the control endpoints.
const maxControlBody = 1 << 20

// serveIndex lists the control endpoints.
func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	s.reply(w, map[string]string{
		"GET /sim/stats":    "counters and bucket levels",
		"POST /sim/reset":   "zero the counters, refill every bucket, forget prompt caches",
		"GET /sim/config":   "the settings in force; fault rules show what is left of them",
		"PUT /sim/config":   "replace all settings; absent fields take their defaults",
		"PATCH /sim/config": "replace the top-level fields in the body, keep the others; null puts a default back",
		"POST /sim/consume": `{"key","model","tokens","requests"}: take this much out of an account, as an unseen second client`,
	})
}

func (s *Server) serveStats(w http.ResponseWriter, _ *http.Request) {
	s.reply(w, s.Stats())
}

func (s *Server) serveReset(w http.ResponseWriter, _ *http.Request) {
	s.Reset()
	s.reply(w, s.Stats())
}

func (s *Server) serveConfig(w http.ResponseWriter, _ *http.Request) {
	s.reply(w, s.Config())
}

func (s *Server) servePutConfig(w http.ResponseWriter, r *http.Request) {
	s.serveUpdate(w, r, func(document []byte, _ Config) (Config, error) { return DecodeConfig(document, Config{}) })
}

func (s *Server) servePatchConfig(w http.ResponseWriter, r *http.Request) {
	s.serveUpdate(w, r, DecodeConfig)
}

// serveUpdate changes the settings by a document and replies with the result.
func (s *Server) serveUpdate(w http.ResponseWriter, r *http.Request, decode func([]byte, Config) (Config, error)) {
	document, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		s.refuse(w, fmt.Errorf("read the request: %w", err))
		return
	}
	err = s.update(func(current Config) (Config, error) { return decode(document, current) })
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.reply(w, s.Config())
}

// consumption is the body of POST /sim/consume and of its reply.
type consumption struct {
	Key      string `json:"key,omitempty"`
	Model    string `json:"model,omitempty"`
	Tokens   int64  `json:"tokens"`
	Requests int64  `json:"requests"`
}

func (s *Server) serveConsume(w http.ResponseWriter, r *http.Request) {
	var want consumption
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&want); err != nil {
		s.refuse(w, fmt.Errorf("read the request: %w", err))
		return
	}
	tokens, requests, err := s.Consume(want.Key, want.Model, want.Tokens, want.Requests)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.reply(w, consumption{Tokens: tokens, Requests: requests})
}

// refuse replies to an invalid control request.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	e := &apiError{status: http.StatusBadRequest, kind: typeInvalidRequest, code: "invalid_setting", message: err.Error()}
	if errors.Is(err, errUnknownAccount) {
		e.status, e.code = http.StatusNotFound, "account_not_found"
	}
	s.send(w, e.status, e.body())
}

// reply sends a JSON document.
func (s *Server) reply(w http.ResponseWriter, document any) {
	body, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		// The documents are structs of this package, of types that marshal.
		panic(err)
	}
	s.send(w, http.StatusOK, append(body, '\n'))
}

// send writes a reply of a control endpoint.
func (s *Server) send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		s.logger.Debug("sending a reply", "error", err)
	}
}
