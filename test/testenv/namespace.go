// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/dev/manifests"
)

// The accounts of the product's parts, as config/rbac names them.
const (
	AccountManager = "scan-manager"
	AccountAPI     = "scan-api"
	AccountWorker  = "scan-worker"
)

// NewNamespace creates a namespace for a test, with the product's accounts and roles in it, and returns its name. It
// stays until the control plane stops: no namespace controller runs there.
func (c *ControlPlane) NewNamespace(t *testing.T) string {
	t.Helper()
	admin, err := client.New(c.Config, client.Options{})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: nameFor(t) + "-"}}
	if err := admin.Create(t.Context(), ns); err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	if err := installRoles(t.Context(), admin, ns.Name); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// installRoles applies config/rbac with everything moved to a namespace. Objects of the cluster are shared by all
// namespaces; the bindings among them get names of their own.
func installRoles(ctx context.Context, admin client.Client, namespace string) error {
	objects, err := Manifests("config", "rbac", "*.yaml")
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GetKind() == "ClusterRoleBinding" {
			object.SetName(namespace + "-" + object.GetName())
		}
		if err := manifests.MoveTo(object, namespace); err != nil {
			return err
		}
		apply := client.ApplyConfigurationFromUnstructured(object)
		if err := admin.Apply(ctx, apply, client.FieldOwner("test"), client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// nameFor turns a test's name into the beginning of an object's name.
func nameFor(t *testing.T) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return '-'
	}, strings.TrimPrefix(t.Name(), "Test"))
	return strings.Trim(name[:min(len(name), 40)], "-")
}

// As returns the credentials of one of the product's accounts in a namespace: what it may do there is what config/rbac
// gives it.
func (c *ControlPlane) As(namespace, account string) *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return config
}

// Kubeconfig writes credentials to a file for programs that run on their own, and returns its path.
func Kubeconfig(t *testing.T, config *rest.Config) string {
	t.Helper()
	const name = "test"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{
		Server: config.Host, CertificateAuthorityData: config.CAData, TLSServerName: config.ServerName,
	}
	file.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData, ClientKeyData: config.KeyData,
		Impersonate: config.Impersonate.UserName, ImpersonateGroups: slices.Clone(config.Impersonate.Groups),
	}
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	file.CurrentContext = name
	content, err := clientcmd.Write(*file)
	if err != nil {
		t.Fatalf("write a kubeconfig: %v", err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatalf("write a kubeconfig: %v", err)
	}
	return path
}
