// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eco2-team/scan-operator/dev/openaisim"
)

// launch serves on a free port until the returned function is called, which returns the result of serve.
func launch(t *testing.T, o *options) (address string, stop func() error) {
	t.Helper()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, o, slog.New(slog.DiscardHandler)) }()
	return listener.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

// call requests the models and returns the protocol and the status.
func call(t *testing.T, client *http.Client, url string) (protocol string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer sk-test")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.Proto, response.StatusCode
}

// testCertificate writes a certificate for 127.0.0.1 and its key.
func testCertificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	roots = x509.NewCertPool()
	roots.AddCert(web.Certificate())
	certificate := web.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, roots
}

func TestProtocols(t *testing.T) {
	certFile, keyFile, roots := testCertificate(t)
	for _, tc := range []struct {
		name     string
		scheme   string
		enable   func(*http.Protocols)
		want     string
		wantCode int
	}{
		{"HTTP/1.1", "http", func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1", 200},
		{"cleartext HTTP/2", "http", func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "HTTP/2.0", 200},
		{"HTTP/2 over TLS", "https", func(p *http.Protocols) { p.SetHTTP2(true) }, "HTTP/2.0", 200},
		{"HTTP/1.1 over TLS", "https", func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := &options{grace: time.Minute}
			if tc.scheme == "https" {
				o.tlsCert, o.tlsKey = certFile, keyFile
			}
			address, stop := launch(t, o)
			transport := &http.Transport{
				Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			}
			tc.enable(transport.Protocols)
			protocol, status := call(t, &http.Client{Transport: transport}, tc.scheme+"://"+address)
			if protocol != tc.want || status != tc.wantCode {
				t.Errorf("got %s %d, want %s %d", protocol, status, tc.want, tc.wantCode)
			}
			transport.CloseIdleConnections()
			if err := stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
}

// A call that never ends does not keep the process alive.
func TestShutdownEndsHangingCalls(t *testing.T) {
	for _, kind := range []openaisim.FaultKind{openaisim.FaultHang, openaisim.FaultSlowFirstByte} {
		t.Run(string(kind), func(t *testing.T) {
			address, stop := launch(t, &options{config: openaisim.Config{
				Faults: []openaisim.Fault{{Kind: kind, DelayMillis: 3_600_000}},
			}})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/chat/completions",
				strings.NewReader(`{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer sk-test")
			failed := make(chan error, 1)
			go func() {
				response, err := http.DefaultClient.Do(request)
				if err == nil {
					err = response.Body.Close()
				}
				failed <- err
			}()
			for !inFlight(t, address) {
				continue
			}
			if err := stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			if err := <-failed; err == nil {
				t.Error("the hanging call was answered")
			}
		})
	}
}

// inFlight reports whether a call is in flight.
func inFlight(t *testing.T, address string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/sim/stats", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(raw), `"inFlight": 1`)
}

func TestAddressInUse(t *testing.T) {
	address, stop := launch(t, &options{grace: time.Minute})
	err := run(t.Context(), &options{bindAddress: address}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "choose another address with --bind-address") {
		t.Errorf("error %v, want one that says what to do", err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
