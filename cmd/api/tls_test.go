// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCertificate writes a self-signed certificate for localhost and its key, and returns the certificate.
func writeCertificate(t *testing.T, o options, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		o.tlsCertFile: {Type: "CERTIFICATE", Bytes: der}, o.tlsKeyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		// Replaced as a whole, as a mounted Secret is.
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// A certificate that is renewed is served to new connections without a restart; open ones stay.
func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	o := options{tlsCertFile: filepath.Join(dir, "tls.crt"), tlsKeyFile: filepath.Join(dir, "tls.key")}
	first := writeCertificate(t, o, 1)
	config, watch, err := newTLS(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- watch(ctx) }()

	tcp, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := tls.NewListener(tcp, config)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		var open []net.Conn
		for {
			c, err := listener.Accept()
			if err != nil {
				for _, c := range open {
					_ = c.Close()
				}
				return
			}
			open = append(open, c)
			if _, err := c.Write([]byte("x")); err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(first)
	served := func() int64 {
		dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}}
		c, err := dialer.DialContext(t.Context(), "tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := served(); got != 1 {
		t.Errorf("certificate %d is served, want 1", got)
	}
	roots.AddCert(writeCertificate(t, o, 2))
	for served() != 2 {
		if t.Context().Err() != nil {
			t.Fatal("the new certificate is never served")
		}
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	<-accepted
	cancel()
	if err := <-watched; err != nil {
		t.Errorf("watch: %v", err)
	}
}

func TestTLSNeedsItsFiles(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := newTLS(options{tlsCertFile: filepath.Join(dir, "none"), tlsKeyFile: filepath.Join(dir, "none")}); err == nil {
		t.Error("files that are not there pass for a certificate")
	}
	config, watch, err := newTLS(options{})
	if config != nil || err != nil {
		t.Fatalf("newTLS() without files = %v, %v; want plain HTTP", config, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := watch(ctx); err != nil {
		t.Errorf("watch: %v", err)
	}
}
