// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package localkubelet runs the pods of one namespace as processes of the machine
// it runs on. It does the kubelet's work (volumes, credentials, processes,
// probes, restarts, graceful ends), and binds pods that have no node to itself.
// The pods come from Kubernetes' own controllers: see dev/controlplane.
//
// The containers are plain child processes of the node, taken from one
// directory that stands for every image's root. What differs from a cluster,
// and why:
//
//   - Processes share the host's file system. A container's mountPath is mapped
//     to a directory of the pod by rewriting it in the command line and in the
//     environment; a path that the program has built in is not redirected.
//   - Processes share the host's network. Each pod has a loopback address of its
//     own (127.1.x.y) as pod IP, so equal ports do not clash as long as programs
//     listen on their pod IP and not on every address.
//   - There is no Node object, and no scheduler that weighs requests, affinities
//     or taints.
//   - Pods get their API credentials as a kubeconfig named by KUBECONFIG, with
//     a token of their service account that is kept fresh; the in-cluster
//     files and variables are not there.
//   - Resource limits, security contexts, init containers, lifecycle postStart
//     hooks and gRPC probes are not supported. A pod that cannot be started
//     without one of them (init containers) says so in its status.
//   - Logs are files (Options.LogDir), because kubectl logs needs a kubelet's API.
package localkubelet
