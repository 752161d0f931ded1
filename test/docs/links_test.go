// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// resolve splits a link of a document into the file it leads to and the fragment. Links to other sites lead nowhere.
func resolve(from, link string) (file, fragment string) {
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return "", ""
	}
	file, fragment, _ = strings.Cut(link, "#")
	if file == "" {
		return from, fragment
	}
	return path.Join(path.Dir(from), file), fragment
}

func TestLinksLeadSomewhere(t *testing.T) {
	docs := documents(t)
	checked := 0
	for from, d := range docs {
		for _, link := range d.links {
			file, fragment := resolve(from, link)
			if file == "" {
				continue
			}
			checked++
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file))); err != nil {
				t.Errorf("%s links to %s: %v", from, link, err)
				continue
			}
			if fragment == "" {
				continue
			}
			if target := docs[file]; target == nil || !target.anchors[fragment] {
				t.Errorf("%s links to %s: %s has no heading with the anchor %q", from, link, file, fragment)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were found: the parser misses some", checked)
	}
}

// A page that cannot be reached from the README might as well not exist.
func TestPagesCanBeReachedFromTheReadme(t *testing.T) {
	docs := documents(t)
	reached := map[string]bool{}
	var follow func(file string)
	follow = func(file string) {
		if reached[file] {
			return
		}
		reached[file] = true
		if d := docs[file]; d != nil {
			for _, link := range d.links {
				if to, _ := resolve(file, link); to != "" {
					follow(to)
				}
			}
		}
	}
	follow("README.md")
	walk(t, func(file string) {
		if strings.HasPrefix(file, "docs/") && !reached[file] {
			t.Errorf("no path of links leads from README.md to %s", file)
		}
	})
}

func TestPicturesAreWellFormed(t *testing.T) {
	pictures := 0
	walk(t, func(file string) {
		if !strings.HasPrefix(file, "docs/") || !strings.HasSuffix(file, ".svg") {
			return
		}
		text := read(t, file)
		pictures++
		for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
				break
			}
		}
		for _, want := range []string{"<title ", "<desc ", "viewBox"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q: readers who cannot see the picture need its words", file, want)
			}
		}
	})
	if pictures == 0 {
		t.Error("docs/ has no pictures")
	}
}
