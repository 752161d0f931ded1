package worker

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// nonceBytes is how many random bytes tell the starts of one pod apart: 6 hexadecimal digits.
const nonceBytes = 3

// newIdentity names one registration of a worker: the pod's name and a random nonce. A container that restarts in
// the same pod, and a worker whose Lease was taken away, get another identity and thus none of the old one's
// assignments.
func newIdentity(pod string) string {
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails: it crashes the program instead
	return pod + "-" + hex.EncodeToString(nonce)
}

// checkPodName says whether identities made of this pod name are valid names for a Lease.
func checkPodName(pod string) error {
	longest := pod + "-" + strings.Repeat("0", 2*nonceBytes)
	if problems := validation.IsDNS1123Subdomain(longest); len(problems) > 0 {
		return fmt.Errorf("pod name %q cannot begin the name of a Lease: %s", pod, strings.Join(problems, "; "))
	}
	return nil
}
