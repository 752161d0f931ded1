// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is one file of a projected volume.
type file struct {
	data []byte
	mode fs.FileMode
}

const (
	dataLink    = "..data"
	newDataLink = "..data_new"
)

// writeAtomically makes dir show exactly these files, keyed by relative path,
// the way a kubelet does it: the files are in a directory of their own, ..data
// is a symbolic link to it, and every visible name is a link through ..data. An
// update replaces that one link, so a reader sees all of the old files or all
// of the new ones, and a watcher sees the familiar rename of ..data.
//
// It reports whether anything changed; if not, nothing is touched.
func writeAtomically(dir string, files map[string]file) (changed bool, err error) {
	for path := range files {
		if !filepath.IsLocal(path) || strings.HasPrefix(path, "..") {
			return false, fmt.Errorf("volume path %q: want a relative path that stays in the volume", path)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	previous, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if previous != "" && same(filepath.Join(dir, previous), files) {
		return false, nil
	}

	// Two dots at the front: programs that list the directory skip such names.
	next, err := os.MkdirTemp(dir, "..v")
	if err != nil {
		return false, err
	}
	shown := false
	defer func() {
		if !shown {
			_ = os.RemoveAll(next) // the first error is the one to report
		}
	}()
	for path, f := range files {
		if err := writeFile(filepath.Join(next, path), f); err != nil {
			return false, err
		}
	}

	link := filepath.Join(dir, newDataLink)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Symlink(filepath.Base(next), link); err != nil {
		return false, err
	}
	if err := os.Rename(link, filepath.Join(dir, dataLink)); err != nil {
		return false, err
	}
	shown = true
	if err := linkNames(dir, files); err != nil {
		return false, err
	}
	if previous != "" {
		return true, os.RemoveAll(filepath.Join(dir, previous))
	}
	return true, nil
}

func writeFile(path string, f file) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.data, 0o600); err != nil {
		return err
	}
	return os.Chmod(path, f.mode) // unlike creating the file, not narrowed by the umask
}

// linkNames makes the first part of every path visible through ..data, and
// removes the links of files that are gone.
func linkNames(dir string, files map[string]file) error {
	wanted := map[string]bool{}
	for path := range files {
		first, _, _ := strings.Cut(filepath.ToSlash(path), "/")
		wanted[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, ".."):
		case wanted[name]:
			delete(wanted, name)
		default:
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name := range wanted {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

var errDifferent = errors.New("different")

// same says whether the directory holds these files and no others.
func same(dir string, files map[string]file) bool {
	found := 0
	tree := os.DirFS(dir)
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		want, ok := files[filepath.FromSlash(path)]
		if !ok {
			return errDifferent
		}
		data, err := fs.ReadFile(tree, path)
		if err != nil || !bytes.Equal(data, want.data) {
			return errDifferent
		}
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != want.mode {
			return errDifferent
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}
