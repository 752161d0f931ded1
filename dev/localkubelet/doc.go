// Package localkubelet plays a one-node cluster for Deployments on the machine it
// runs on: the Deployment controller's part (pods, rolling updates, scale-down
// order, status), the kubelet's (volumes, credentials, processes, probes,
// restarts, graceful ends), and the garbage collector's (Deployments and Leases
// whose owners are gone).
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
//   - There is no ReplicaSet between a Deployment and its pods, so there are no
//     older revisions to go back to, and a paused Deployment scales with its
//     current template.
//   - Pods get their API credentials as a kubeconfig named by KUBECONFIG, with
//     a token of their service account that is kept fresh; the in-cluster
//     files and variables are not there.
//   - Resource limits, security contexts, init containers, lifecycle postStart
//     hooks and gRPC probes are not supported. A pod that cannot be started
//     without one of them (init containers) says so in its status.
//   - Logs are files (Options.LogDir), because kubectl logs asks a kubelet.
package localkubelet
