// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localstack

import (
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes a kubeconfig that stands alone: the certificates are
// in it. Its default namespace is the stack's.
func writeKubeconfig(path, server, caFile, namespace string, user keyPair) error {
	var ca, cert, key []byte
	for file, data := range map[string]*[]byte{caFile: &ca, user.cert: &cert, user.key: &key} {
		var err error
		if *data, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("write the kubeconfig %s: %w", path, err)
		}
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["local"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos["local"] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: "local", Namespace: namespace}
	config.CurrentContext = "local"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write the kubeconfig %s: %w", path, err)
	}
	return nil
}
