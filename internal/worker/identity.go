// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// nonceBytes is the number of random bytes in an identity, which become 6 hexadecimal digits.
const nonceBytes = 3

// newIdentity returns the name of a registration: the pod's name and a random nonce. A container that restarts in the
// same pod, or a worker that lost its Lease, gets a new identity and so none of the assignments of the old one.
func newIdentity(pod string) string {
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails: it crashes the program instead
	return pod + "-" + hex.EncodeToString(nonce)
}

// checkPodName returns an error if identities made from this pod name are not valid names of a Lease.
func checkPodName(pod string) error {
	longest := pod + "-" + strings.Repeat("0", 2*nonceBytes)
	if problems := validation.IsDNS1123Subdomain(longest); len(problems) > 0 {
		return fmt.Errorf("pod name %q: cannot start the name of a Lease: %s", pod, strings.Join(problems, "; "))
	}
	return nil
}
