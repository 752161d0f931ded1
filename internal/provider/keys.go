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

// keyFile is the name of the file with a budget's key.
const keyFile = "key"

// ErrKeyMissing is the error of a KeySource that has no key of a budget yet. The worker is not ready for the budget; the
// budget itself may be in order.
var ErrKeyMissing = errors.New("the key is missing")

// DirKeys reads keys from a directory with one directory per budget: <dir>/<budget>/key, as the budgets' Secrets
// are mounted. The file is read for each call, so that a rotated key is used by the next one without watching:
// that costs some tens of microseconds where a call takes seconds.
type DirKeys string

// Key implements KeySource.
func (d DirKeys) Key(budget string) (string, error) {
	if budget == "" || budget == "." || budget == ".." || strings.ContainsAny(budget, `/\`+"\x00") {
		return "", fmt.Errorf("%q cannot be the name of a budget", budget)
	}
	data, err := os.ReadFile(filepath.Join(string(d), budget, keyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("no key is mounted for the budget %q: %w", budget, ErrKeyMissing)
	case err != nil:
		return "", fmt.Errorf("reading the key of the budget %q: %w", budget, err)
	}
	key := string(bytes.TrimSpace(data))
	if key == "" {
		return "", fmt.Errorf("the key of the budget %q is empty", budget)
	}
	return key, nil
}
