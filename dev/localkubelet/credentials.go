// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes the kubeconfig of a pod into dir and returns its path.
// The token is a file of its own that clients read again every minute, so it
// can be renewed under a running program.
func writeKubeconfig(dir string, server *rest.Config, namespace, token string) (string, error) {
	tokenFile := filepath.Join(dir, "token")
	if err := replaceFile(tokenFile, []byte(token)); err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["local"] = &clientcmdapi.Cluster{
		Server:                   server.Host,
		CertificateAuthorityData: server.CAData,
	}
	config.AuthInfos["pod"] = &clientcmdapi.AuthInfo{TokenFile: tokenFile}
	config.Contexts["pod"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: "pod", Namespace: namespace}
	config.CurrentContext = "pod"
	data, err := clientcmd.Write(*config)
	if err != nil {
		return "", fmt.Errorf("encode the kubeconfig: %w", err)
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := replaceFile(path, data); err != nil {
		return "", fmt.Errorf("write the kubeconfig: %w", err)
	}
	return path, nil
}

// replaceFile writes the file atomically: a reader never sees half of it. It does
// not touch a file that has this content already.
func replaceFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
