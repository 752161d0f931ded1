// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
	"github.com/eco2-team/scan-operator/dev/openaisim"
	"github.com/eco2-team/scan-operator/internal/pipeline"
)

// The names that all worlds have in common.
const (
	budgetName = "default"
	visionPool = "vision"
	answerPool = "answer"
	secretName = "provider-key"
	secretKey  = "api-key"
	firstKey   = "sk-first"
	modelName  = "gpt-5.1"
)

// world is a namespace with one budget at a simulated provider and two pools: one for vision and rule, one for answer
// and reward. Nothing runs in it yet.
type world struct {
	t         *testing.T
	namespace string
	admin     client.WithWatch
	provider  *provider
	// keysDir has the keys as the workers' pods mount them.
	keysDir string
	logs    *logs
}

// settings are what a test may change of its world.
type settings struct {
	provider openaisim.Config
	budget   v1alpha1.TokenBudgetSpec
	pools    map[string]*v1alpha1.WorkerPoolSpec
	noSecret bool
}

func newWorld(t *testing.T, change func(*settings)) *world {
	t.Helper()
	s := settings{
		budget: v1alpha1.TokenBudgetSpec{
			SecretRef:       v1alpha1.SecretKeyReference{Name: secretName, Key: secretKey},
			Models:          []string{modelName, "gpt-5-mini"},
			TokensPerMinute: 2_000_000, RequestsPerMinute: 10_000,
		},
		pools: map[string]*v1alpha1.WorkerPoolSpec{
			visionPool: {Stages: []v1alpha1.StageName{v1alpha1.StageVision, v1alpha1.StageRule}},
			answerPool: {Stages: []v1alpha1.StageName{v1alpha1.StageAnswer, v1alpha1.StageReward}},
		},
	}
	for _, pool := range s.pools {
		pool.Budgets = []v1alpha1.BudgetReference{{Name: budgetName}}
		pool.MaxReplicas = 4
	}
	if change != nil {
		change(&s)
	}
	w := &world{
		t: t, namespace: controlPlane.NewNamespace(t), admin: adminClient(t), provider: newProvider(t, s.provider),
		keysDir: t.TempDir(), logs: newLogs(t),
	}
	s.budget.Endpoint = w.provider.url
	if !s.noSecret {
		w.setKey(firstKey)
	}
	create(t, w.admin, &v1alpha1.TokenBudget{ObjectMeta: named(w.namespace, budgetName), Spec: s.budget})
	for name, spec := range s.pools {
		create(t, w.admin, &v1alpha1.WorkerPool{ObjectMeta: named(w.namespace, name), Spec: *spec})
	}
	return w
}

// start runs a manager and one worker in each pool.
func (w *world) start() {
	w.t.Helper()
	w.startManager(managerOptions{})
	w.startWorker(visionPool, v1alpha1.StageVision, v1alpha1.StageRule)
	w.startWorker(answerPool, v1alpha1.StageAnswer, v1alpha1.StageReward)
}

// setKey puts a key into the Secret, and where the workers see it.
func (w *world) setKey(key string) {
	w.t.Helper()
	w.mountKey(key)
	w.storeKey(key)
}

// mountKey puts a key where the workers see it, as the kubelet does some time after the Secret has changed.
func (w *world) mountKey(key string) {
	w.t.Helper()
	dir := filepath.Join(w.keysDir, budgetName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// storeKey puts a key into the Secret.
func (w *world) storeKey(key string) {
	w.t.Helper()
	secret := &corev1.Secret{ObjectMeta: named(w.namespace, secretName)}
	_, err := controllerutil.CreateOrUpdate(w.t.Context(), w.admin, secret, func() error {
		secret.Data = map[string][]byte{secretKey: []byte(key)}
		return nil
	})
	if err != nil {
		w.t.Fatalf("store the key: %v", err)
	}
}

// submit creates a scan.
func (w *world) submit(name string, change func(*v1alpha1.ScanRequestSpec)) *v1alpha1.ScanRequest {
	w.t.Helper()
	scan := &v1alpha1.ScanRequest{
		ObjectMeta: named(w.namespace, name),
		Spec:       v1alpha1.ScanRequestSpec{ImageURL: imageURL + "?class=재활용폐기물/무색페트병&name=" + name, UserID: "kim"},
	}
	if change != nil {
		change(&scan.Spec)
	}
	return create(w.t, w.admin, scan)
}

// observeScans sees what happens to all scans of the world from now on.
func (w *world) observeScans() *observer[*v1alpha1.ScanRequest] {
	w.t.Helper()
	return newObserver[*v1alpha1.ScanRequest](w.t, w.admin, &v1alpha1.ScanRequestList{}, client.InNamespace(w.namespace))
}

// awaitScan waits until a scan is as wanted.
func (w *world) awaitScan(name, what string, done func(*v1alpha1.ScanRequest) bool) *v1alpha1.ScanRequest {
	w.t.Helper()
	return await(w.t, w.admin, &v1alpha1.ScanRequestList{}, w.namespace, name, what, done)
}

// awaitFinished waits until a scan is terminal.
func (w *world) awaitFinished(name string) *v1alpha1.ScanRequest {
	w.t.Helper()
	return w.awaitScan(name, "the end", finished)
}

// awaitSucceeded waits until a scan is terminal, which must be for the good.
func (w *world) awaitSucceeded(name string) *v1alpha1.ScanRequest {
	w.t.Helper()
	scan := w.awaitFinished(name)
	if scan.Status.Phase != v1alpha1.ScanSucceeded {
		w.t.Fatalf("the scan did not succeed:\n%s", text(scan))
	}
	return scan
}

// awaitWaiting waits until a scan says that it waits for a reason, and returns what it says.
func (w *world) awaitWaiting(name, reason string) *metav1.Condition {
	w.t.Helper()
	scan := w.awaitScan(name, "reason "+reason, func(s *v1alpha1.ScanRequest) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAdmitted)
		return c != nil && c.Status == metav1.ConditionFalse && c.Reason == reason
	})
	if finished(scan) {
		w.t.Fatalf("the scan ended instead of waiting:\n%s", text(scan))
	}
	return meta.FindStatusCondition(scan.Status.Conditions, v1alpha1.ConditionAdmitted)
}

// awaitBudget waits until a condition of the budget has a status and a reason, and returns it.
func (w *world) awaitBudget(kind string, status metav1.ConditionStatus, reason string) *metav1.Condition {
	w.t.Helper()
	budget := await(w.t, w.admin, &v1alpha1.TokenBudgetList{}, w.namespace, budgetName, kind+"="+string(status)+", "+reason,
		func(b *v1alpha1.TokenBudget) bool {
			c := meta.FindStatusCondition(b.Status.Conditions, kind)
			return c != nil && c.Status == status && c.Reason == reason
		})
	return meta.FindStatusCondition(budget.Status.Conditions, kind)
}

// finishedCondition is how a scan ended.
func finishedCondition(t *testing.T, scan *v1alpha1.ScanRequest) *metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(scan.Status.Conditions, v1alpha1.ConditionFinished)
	if c == nil || c.Status != metav1.ConditionTrue {
		t.Fatalf("the scan is not finished:\n%s", text(scan))
	}
	return c
}

// stage is the record of a stage, which must be there.
func stage(t *testing.T, scan *v1alpha1.ScanRequest, name v1alpha1.StageName) *v1alpha1.StageStatus {
	t.Helper()
	s := pipeline.Stage(&scan.Status, name)
	if s == nil {
		t.Fatalf("stage %s has no record:\n%s", name, text(scan))
	}
	return s
}

func finished(s *v1alpha1.ScanRequest) bool { return pipeline.IsFinished(&s.Status) }

// developer returns the credentials of a user with the role that config/rbac has for people.
func (w *world) developer() *rest.Config {
	w.t.Helper()
	const user = "developer"
	create(w.t, w.admin, &rbacv1.RoleBinding{
		ObjectMeta: named(w.namespace, user),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "scan-operator-editor-role"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	})
	config := rest.CopyConfig(controlPlane.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	return config
}
