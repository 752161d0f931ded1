// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaultFileMode is what secrets, config maps and projected volumes use when
// the volume names none. The API server fills in 0644; this is for the rest.
const defaultFileMode = 0o644

// tokenSource issues tokens for projected serviceAccountToken volumes.
type tokenSource interface {
	token(audience string, seconds int64) (string, error)
}

// writeVolumes brings the pod's volumes under dir up to date: one directory per
// volume. It is called when the pod starts and whenever something it refers to
// may have changed.
func writeVolumes(dir string, pod *corev1.Pod, from sources, tokens tokenSource) error {
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		target := filepath.Join(dir, volume.Name)
		if volume.EmptyDir != nil {
			if err := os.MkdirAll(target, 0o700); err != nil {
				return fmt.Errorf("volume %s: %w", volume.Name, err)
			}
			continue
		}
		files, err := volumeFiles(pod, volume, from, tokens)
		if err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
		if _, err := writeAtomically(target, files); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

func volumeFiles(pod *corev1.Pod, volume *corev1.Volume, from sources, tokens tokenSource) (map[string]file, error) {
	files := map[string]file{}
	switch {
	case volume.Secret != nil:
		v := volume.Secret
		return files, addSecret(files, v.SecretName, v.Items, v.Optional, mode(v.DefaultMode), from)
	case volume.ConfigMap != nil:
		v := volume.ConfigMap
		return files, addConfigMap(files, v.Name, v.Items, v.Optional, mode(v.DefaultMode), from)
	case volume.DownwardAPI != nil:
		v := volume.DownwardAPI
		return files, addDownward(files, pod, v.Items, mode(v.DefaultMode))
	case volume.Projected != nil:
		return files, addProjected(files, pod, volume.Projected, from, tokens)
	default:
		return nil, errors.New("the local node supports secret, configMap, downwardAPI, projected and emptyDir volumes only")
	}
}

func addProjected(files map[string]file, pod *corev1.Pod, v *corev1.ProjectedVolumeSource, from sources, tokens tokenSource) error {
	perm := mode(v.DefaultMode)
	for i := range v.Sources {
		source := &v.Sources[i]
		var err error
		switch {
		case source.Secret != nil:
			err = addSecret(files, source.Secret.Name, source.Secret.Items, source.Secret.Optional, perm, from)
		case source.ConfigMap != nil:
			err = addConfigMap(files, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional, perm, from)
		case source.DownwardAPI != nil:
			err = addDownward(files, pod, source.DownwardAPI.Items, perm)
		case source.ServiceAccountToken != nil:
			seconds := int64(3600)
			if source.ServiceAccountToken.ExpirationSeconds != nil {
				seconds = *source.ServiceAccountToken.ExpirationSeconds
			}
			var token string
			token, err = tokens.token(source.ServiceAccountToken.Audience, seconds)
			files[source.ServiceAccountToken.Path] = file{data: []byte(token), mode: 0o600}
		default:
			err = fmt.Errorf("the local node does not support this kind of projection: %s", source.String())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func addSecret(files map[string]file, name string, items []corev1.KeyToPath, optional *bool, perm fs.FileMode, from sources) error {
	secret := from.secret(name)
	if secret == nil {
		if isTrue(optional) {
			return nil
		}
		return &missingError{kind: "Secret", name: name}
	}
	return addKeys(files, "Secret", name, secret.Data, items, optional, perm)
}

func addConfigMap(files map[string]file, name string, items []corev1.KeyToPath, optional *bool, perm fs.FileMode, from sources) error {
	cm := from.configMap(name)
	if cm == nil {
		if isTrue(optional) {
			return nil
		}
		return &missingError{kind: "ConfigMap", name: name}
	}
	data := map[string][]byte{}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, cm.BinaryData)
	return addKeys(files, "ConfigMap", name, data, items, optional, perm)
}

// addKeys adds the listed keys, or all of them when none is listed.
func addKeys(files map[string]file, kind, name string, data map[string][]byte, items []corev1.KeyToPath, optional *bool, perm fs.FileMode) error {
	if len(items) == 0 {
		for k, v := range data {
			files[k] = file{data: v, mode: perm}
		}
		return nil
	}
	for i := range items {
		value, ok := data[items[i].Key]
		if !ok {
			if isTrue(optional) {
				continue
			}
			return &missingError{kind: kind, name: name, key: items[i].Key}
		}
		m := perm
		if items[i].Mode != nil {
			m = mode(items[i].Mode)
		}
		files[filepath.FromSlash(items[i].Path)] = file{data: value, mode: m}
	}
	return nil
}

func addDownward(files map[string]file, pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, perm fs.FileMode) error {
	for i := range items {
		item := &items[i]
		m := perm
		if item.Mode != nil {
			m = mode(item.Mode)
		}
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = podField(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = resourceOf(pod, item.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		files[filepath.FromSlash(item.Path)] = file{data: []byte(value), mode: m}
	}
	return nil
}

func resourceOf(pod *corev1.Pod, ref *corev1.ResourceFieldSelector) (string, error) {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == ref.ContainerName {
			return containerResource(&pod.Spec.Containers[i], ref)
		}
	}
	return "", fmt.Errorf("no container %q to take %s of", ref.ContainerName, ref.Resource)
}

func mode(m *int32) fs.FileMode {
	if m == nil {
		return defaultFileMode
	}
	return fs.FileMode(*m).Perm()
}

// mountPaths maps what the container sees to where it is: its mount paths to
// the pod's volumes, and the directories that hold mount paths (but not those
// at the top, such as /etc) to their images under root, see linkMounts.
func mountPaths(volumes, root string, c *corev1.Container) []mountPath {
	var out []mountPath
	for i := range c.VolumeMounts {
		path := filepath.Clean(c.VolumeMounts[i].MountPath)
		out = append(out, mountPath{container: path, host: mountTarget(volumes, &c.VolumeMounts[i])})
		if nested(path, c) {
			continue
		}
		for holder := filepath.Dir(path); strings.Count(holder, "/") >= 2; holder = filepath.Dir(holder) {
			out = append(out, mountPath{container: holder, host: filepath.Join(root, holder), exact: true})
		}
	}
	return out
}

// linkMounts builds under root the directories that hold the container's mount
// paths, with a symbolic link for each mount, so that a program can be given
// such a directory and find the mounts in it.
func linkMounts(volumes, root string, c *corev1.Container) error {
	for i := range c.VolumeMounts {
		path := filepath.Clean(c.VolumeMounts[i].MountPath)
		if nested(path, c) {
			continue
		}
		link, target := filepath.Join(root, path), mountTarget(volumes, &c.VolumeMounts[i])
		if old, err := os.Readlink(link); err == nil && old == target {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
		if err := os.Symlink(target, link); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	return nil
}

func mountTarget(volumes string, m *corev1.VolumeMount) string {
	return filepath.Join(volumes, m.Name, filepath.FromSlash(m.SubPath))
}

// nested says whether the path lies in another one of the container's mounts.
func nested(path string, c *corev1.Container) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return strings.HasPrefix(path, filepath.Clean(m.MountPath)+"/")
	})
}
