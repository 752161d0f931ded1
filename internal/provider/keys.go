// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyFile is the name of the file that has the key of a budget.
const keyFile = "key"

// ErrKeyMissing is the error of a KeySource that has no key for a budget yet. The worker cannot use the budget now; other
// workers may be able to.
var ErrKeyMissing = errors.New("no key is mounted")

// DirKeys reads keys from a directory with one directory per budget: <dir>/<budget>/key. The budgets' Secrets are
// mounted there. It reads the file for each call, so that the next call uses a rotated key. A read takes tens of
// microseconds and a call takes seconds.
type DirKeys string

// Key implements KeySource.
func (d DirKeys) Key(budget string) (string, error) {
	if budget == "" || budget == "." || budget == ".." || strings.ContainsAny(budget, `/\`+"\x00") {
		return "", fmt.Errorf("read the key of budget %q: not a valid name", budget)
	}
	data, err := os.ReadFile(filepath.Join(string(d), budget, keyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the key of budget %q: %w", budget, ErrKeyMissing)
	case err != nil:
		return "", fmt.Errorf("read the key of budget %q: %w", budget, err)
	}
	key := string(bytes.TrimSpace(data))
	if key == "" {
		return "", fmt.Errorf("read the key of budget %q: the file is empty", budget)
	}
	return key, nil
}
