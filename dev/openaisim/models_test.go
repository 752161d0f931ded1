// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestImageTokens compares with the published table, which the product's prices are tested against, too.
func TestImageTokens(t *testing.T) {
	file, err := os.Open(filepath.Join("..", "..", "internal", "pipeline", "pricing", "testdata", "image_tokens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	table := csv.NewReader(file)
	table.Comment = '#'
	rows, err := table.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	priced := map[string]bool{}
	for _, row := range rows[1:] { // after the header
		w, errW := strconv.ParseInt(row[2], 10, 64)
		h, errH := strconv.ParseInt(row[3], 10, 64)
		want, errWant := strconv.ParseInt(row[4], 10, 64)
		if err := errors.Join(errW, errH, errWant); err != nil {
			t.Fatalf("row %q: %v", row, err)
		}
		m := catalog[row[0]]
		if m == nil {
			t.Errorf("the catalog has no %s", row[0])
			continue
		}
		priced[row[0]] = true
		if got := m.image(w, h, row[1]); got != want {
			t.Errorf("%dx%d %s %s: %d tokens, want %d", w, h, row[0], row[1], got, want)
		}
	}
	for name := range catalog {
		if !priced[name] {
			t.Errorf("the table has no price of %s", name)
		}
	}
}

// TestImageTokensBounded checks that every size costs at least one token.
func TestImageTokensBounded(t *testing.T) {
	for name, m := range catalog {
		for _, detail := range []string{detailLow, detailHigh, detailAuto, detailOriginal} {
			for _, size := range [][2]int64{{1, 1}, {1, maxSide}, {maxSide, 1}, {maxSide, maxSide}, {33, 31}} {
				if got := m.image(size[0], size[1], detail); got < 1 {
					t.Errorf("%s %s %v: %d tokens, want at least one", name, detail, size, got)
				}
			}
		}
	}
}
