// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mountKey puts a key under a directory as the kubelet mounts a Secret: the file is a link through ..data into a
// directory of that version, and a new version swaps ..data.
func mountKey(tb testing.TB, dir, budget, version, key string) {
	tb.Helper()
	mount := filepath.Join(dir, budget)
	data := filepath.Join(mount, "..version_"+version)
	if err := os.MkdirAll(data, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, keyFile), []byte(key), 0o600); err != nil {
		tb.Fatal(err)
	}
	link := filepath.Join(mount, "..data_new")
	if err := os.Symlink("..version_"+version, link); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(mount, "..data")); err != nil {
		tb.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("..data", keyFile), filepath.Join(mount, keyFile)); err != nil && !os.IsExist(err) {
		tb.Fatal(err)
	}
}

func TestDirKeysUsesARotatedKeyForTheNextCall(t *testing.T) {
	dir := t.TempDir()
	keys := DirKeys(dir)
	mountKey(t, dir, "main", "1", "first\n")
	mountKey(t, dir, "other", "1", "other's")
	for budget, want := range map[string]string{"main": "first", "other": "other's"} {
		if got, err := keys.Key(budget); err != nil || got != want {
			t.Errorf("Key(%s) = %q, %v; want %q", budget, got, err, want)
		}
	}
	mountKey(t, dir, "main", "2", "second")
	if got, err := keys.Key("main"); err != nil || got != "second" {
		t.Errorf("after the rotation: %q, %v; want second", got, err)
	}
}

func TestDirKeysErrors(t *testing.T) {
	dir := t.TempDir()
	mountKey(t, dir, "empty", "1", " \n")
	if err := os.MkdirAll(filepath.Join(dir, "folder", keyFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), keyFile), []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ budget, want string }{
		"missing":   {"missing", `read the key of budget "missing": no key is mounted`},
		"empty":     {"empty", `read the key of budget "empty": the file is empty`},
		"a folder":  {"folder", `read the key of budget "folder": `},
		"no name":   {"", `read the key of budget "": not a valid name`},
		"outside":   {"..", `read the key of budget "..": not a valid name`},
		"a path":    {"../x", `read the key of budget "../x": not a valid name`},
		"zero byte": {"a\x00b", `read the key of budget "a\x00b": not a valid name`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			key, err := DirKeys(dir).Key(tc.budget)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("Key(%q) = %q, %v; want the error %s", tc.budget, key, err, tc.want)
			}
		})
	}
}

// BenchmarkDirKeys measures the cost of reading the file for each call, which makes rotation simple.
func BenchmarkDirKeys(b *testing.B) {
	dir := b.TempDir()
	mountKey(b, dir, "main", "1", testKey)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DirKeys(dir).Key("main"); err != nil {
			b.Fatal(err)
		}
	}
}
