// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/eco2-team/scan-operator/dev/localkubelet/process"
)

// networkVariables are what a program may need to reach others. Pods inherit
// nothing else from this process's environment.
var networkVariables = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
}

// launcher turns a container into the process that stands for it.
type launcher struct {
	rootFS  string // what stands for every image's root directory
	podDir  string // the pod's own directory
	volumes string // where the pod's volumes are
	root    string // where the container's mounts are linked as it sees them
	logFile string
	from    sources
	// kubeconfig is what KUBECONFIG names in the container's environment.
	kubeconfig string
}

// spec resolves the container's command line, environment and working
// directory as they are now. It fails while something referred to is missing.
func (l *launcher) spec(pod *corev1.Pod, c *corev1.Container) (process.Spec, error) {
	if len(c.Command) == 0 {
		return process.Spec{}, errors.New("the container has no command, and the local node has no image to take one from: set command in the pod template")
	}
	vars, err := environment(pod, c, l.from)
	if err != nil {
		return process.Spec{}, err
	}
	mounts := mountPaths(l.volumes, l.root, c)
	if err := linkMounts(l.volumes, l.root, c); err != nil {
		return process.Spec{}, err
	}
	for name, value := range vars {
		vars[name] = rewritePaths(value, mounts)
	}
	// What a kubelet or an image would provide; the template's own takes precedence.
	provided := map[string]string{
		"PATH":       os.Getenv("PATH"),
		"HOME":       l.podDir,
		"TMPDIR":     filepath.Join(l.podDir, "tmp"),
		"HOSTNAME":   pod.Name,
		"KUBECONFIG": l.kubeconfig,
	}
	for _, name := range networkVariables {
		if value, set := os.LookupEnv(name); set {
			provided[name] = value
		}
	}
	for name, value := range provided {
		if _, set := vars[name]; !set {
			vars[name] = value
		}
	}

	line := slices.Concat(c.Command, c.Args)
	for i := range line {
		line[i] = rewritePaths(expand(line[i], vars), mounts)
	}
	path, err := findProgram(l.rootFS, line[0])
	if err != nil {
		return process.Spec{}, err
	}
	dir := l.podDir
	if c.WorkingDir != "" {
		if mapped := rewritePaths(c.WorkingDir, mounts); mapped != c.WorkingDir {
			dir = mapped
		}
	}
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return process.Spec{Path: path, Args: line[1:], Env: env, Dir: dir, LogFile: l.logFile}, nil
}

// findProgram finds a container's program: in the directory that stands for the
// image, at its path or by its name alone, and else on the host, as an image
// has a shell at the usual place too.
func findProgram(rootFS, name string) (string, error) {
	for _, candidate := range []string{filepath.Join(rootFS, name), filepath.Join(rootFS, filepath.Base(name))} {
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() {
			return filepath.Abs(candidate)
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no program %s in %s nor on this machine (build it with make build): %w", name, rootFS, err)
	}
	return path, nil
}
