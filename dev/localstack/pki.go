// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is how long certificates are good. State that is kept is
// given new ones at each start.
const certificateLife = 365 * 24 * time.Hour

// authority is the certificate authority of one run: it signs the servers'
// certificates and the identities of the components.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	now  time.Time
}

// keyPair names the files of a certificate and its key.
type keyPair struct{ cert, key string }

// newAuthority makes an authority whose files are in dir.
func newAuthority(dir string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "local-ca"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the CA's certificate: %w", err)
	}
	a := &authority{dir: dir, cert: cert, key: key, now: now}
	if err := os.WriteFile(a.caFile(), encodeCert(der), 0o600); err != nil {
		return nil, fmt.Errorf("write the CA's certificate: %w", err)
	}
	return a, nil
}

// caFile has the authority's certificate, in PEM.
func (a *authority) caFile() string { return filepath.Join(a.dir, "ca.crt") }

// server makes a certificate for 127.0.0.1 and localhost, good for both ends of
// a connection: etcd's members are each other's clients.
func (a *authority) server(name string, hosts ...net.IP) (keyPair, error) {
	return a.issue(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, hosts...),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// client makes a certificate that the API server takes for this user in these
// groups.
func (a *authority) client(name, user string, groups ...string) (keyPair, error) {
	return a.issue(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) issue(name string, template *x509.Certificate) (keyPair, error) {
	pair := keyPair{cert: filepath.Join(a.dir, name+".crt"), key: filepath.Join(a.dir, name+".key")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the key of %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, fmt.Errorf("make a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = a.now.Add(-time.Minute), a.now.Add(certificateLife)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	if err := os.WriteFile(pair.cert, encodeCert(der), 0o600); err != nil {
		return keyPair{}, fmt.Errorf("write the certificate of %s: %w", name, err)
	}
	return pair, writeKey(pair.key, key)
}

// serviceAccountKey is the key that signs service account tokens. It is kept
// with the state: tokens in it stay good.
func serviceAccountKey(dir string) (keyPair, error) {
	pair := keyPair{cert: filepath.Join(dir, "service-account.pub"), key: filepath.Join(dir, "service-account.key")}
	if _, err := os.Stat(pair.key); err == nil {
		return pair, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return keyPair{}, fmt.Errorf("look for the service account key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the service account key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return keyPair{}, fmt.Errorf("encode the service account key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(pair.cert, block, 0o600); err != nil {
		return keyPair{}, fmt.Errorf("write the service account key: %w", err)
	}
	return pair, writeKey(pair.key, key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		return fmt.Errorf("write a key: %w", err)
	}
	return nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
