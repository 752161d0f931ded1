// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// minTokenSeconds is the shortest life the API server gives a token.
const minTokenSeconds = 600

// podTokens issues tokens bound to one pod and its service account, and keeps
// each until 80 % of its life is over, as a kubelet does.
type podTokens struct {
	client kubernetes.Interface
	clock  clock.Clock
	pod    *corev1.Pod

	mu     sync.Mutex
	issued map[string]issuedToken // by audience; "" is the API server's own
}

type issuedToken struct {
	value string
	renew time.Time
}

// serviceAccount is the pod's account; the API's default is "default".
func serviceAccount(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName == "" {
		return "default"
	}
	return pod.Spec.ServiceAccountName
}

// get is a token for the audience that is good for at least a fifth of seconds.
func (t *podTokens) get(ctx context.Context, audience string, seconds int64) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	if token, ok := t.issued[audience]; ok && now.Before(token.renew) {
		return token.value, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(max(seconds, minTokenSeconds)),
	}}
	if t.pod.Spec.ServiceAccountName != "" { // else the API server sees another account than ours
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: t.pod.Name, UID: t.pod.UID,
		}
	}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	name := serviceAccount(t.pod)
	answer, err := t.client.CoreV1().ServiceAccounts(t.pod.Namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("get a token for ServiceAccount %q: %w", name, err)
	}
	life := answer.Status.ExpirationTimestamp.Sub(now)
	if t.issued == nil {
		t.issued = map[string]issuedToken{}
	}
	t.issued[audience] = issuedToken{value: answer.Status.Token, renew: now.Add(life * 4 / 5)}
	return answer.Status.Token, nil
}

// renewIn is when the first of the tokens must be renewed; 0 without tokens.
func (t *podTokens) renewIn() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first time.Time
	for _, token := range t.issued {
		if first.IsZero() || token.renew.Before(first) {
			first = token.renew
		}
	}
	if first.IsZero() {
		return 0
	}
	return max(time.Second, first.Sub(t.clock.Now()))
}
