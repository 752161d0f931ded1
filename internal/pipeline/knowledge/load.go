// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// The files of a pack.
const (
	fileTaxonomy = "taxonomy.yaml"
	fileRules    = "rules.yaml"
	fileRewards  = "rewards.yaml"
	fileTexts    = "texts.yaml"
	fileVision   = "vision.txt"
	fileAnswer   = "answer.txt"
)

var files = []string{fileAnswer, fileRewards, fileRules, fileTaxonomy, fileTexts, fileVision}

const (
	// maxFileBytes bounds a file; a ConfigMap holds no more anyway.
	maxFileBytes = 1 << 20
	// maxPrompt bounds a prompt, in characters. Every call pays for it.
	maxPrompt = 8000
	// versionDigits is the length of Pack.Version.
	versionDigits = 12
)

//go:embed default
var embedded embed.FS

// Default is the embedded pack: the Korean household waste scheme. It is loaded once.
var Default = sync.OnceValue(func() *Pack {
	folder, err := fs.Sub(embedded, "default")
	if err == nil {
		var pack *Pack
		if pack, err = Load(folder); err == nil {
			return pack
		}
	}
	// The pack is part of the program and a test loads it: this is a fault of the build.
	panic("the embedded knowledge pack is broken:\n" + err.Error())
})

// LoadDir loads the pack of a directory, or the built-in one where dir is empty. Manager and workers both start with
// it: they must have the same pack, for the one prices the calls that the others send.
func LoadDir(dir string) (*Pack, error) {
	if dir == "" {
		return Default(), nil
	}
	pack, err := Load(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("load the knowledge pack from %s:\n%w", dir, err)
	}
	return pack, nil
}

// Load reads and validates a pack, for example that of os.DirFS("/etc/scan/knowledge"). Its error joins a
// *Problem for each fault found, in order of file and line.
func Load(folder fs.FS) (*Pack, error) {
	found := &problems{}
	contents := readFiles(folder, found)
	pack := &Pack{Version: version(contents)}
	if root, ok := root(contents, fileTaxonomy, found); ok {
		pack.readTaxonomy(root)
	}
	if root, ok := root(contents, fileRules, found); ok {
		pack.readRules(root)
	}
	if root, ok := root(contents, fileRewards, found); ok {
		pack.readRewards(root)
	}
	if root, ok := root(contents, fileTexts, found); ok {
		pack.readTexts(root)
	}
	pack.VisionPrompt = readPrompt(contents, fileVision, found)
	pack.AnswerPrompt = readPrompt(contents, fileAnswer, found)
	if err := found.err(); err != nil {
		return nil, err
	}
	pack.schema = visionSchema(pack.Majors, pack.Unclassifiable, pack.SituationTags)
	return pack, nil
}

// readFiles reads the pack's files and reports those that are missing, and those that look like a misspelled one.
func readFiles(folder fs.FS, found *problems) map[string][]byte {
	contents := make(map[string][]byte, len(files))
	for _, name := range files {
		data, err := fs.ReadFile(folder, name)
		switch {
		case err != nil:
			found.add(Problem{
				File: name, What: fmt.Sprintf("cannot be read: %v", err),
				Fix: "a pack needs all of " + strings.Join(files, ", ") + "; copy the missing ones from the default pack",
			})
		case len(data) > maxFileBytes:
			found.add(Problem{File: name, What: fmt.Sprintf("has %d bytes, more than %d", len(data), maxFileBytes), Fix: "shorten it"})
		case !utf8.Valid(data):
			line := 1 + bytes.Count(validPrefix(data), []byte("\n"))
			found.add(Problem{File: name, Line: line, What: "is not UTF-8", Fix: "save the file as UTF-8"})
		default:
			contents[name] = data
		}
	}
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return contents // reading the files has reported it
	}
	for _, entry := range entries {
		name := entry.Name()
		extension := path.Ext(name)
		if strings.HasPrefix(name, ".") || slices.Contains(files, name) || !slices.Contains([]string{".yaml", ".yml", ".txt"}, extension) {
			continue
		}
		found.add(Problem{File: name, What: "is no file of a pack", Fix: "rename it to one of " + strings.Join(files, ", ") + ", or remove it"})
	}
	return contents
}

// validPrefix is the part of data before the first byte that is not UTF-8.
func validPrefix(data []byte) []byte {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return data[:i]
		}
		i += size
	}
	return data
}

// root is the top node of a YAML file. It is false if the file could not be read.
func root(contents map[string][]byte, name string, found *problems) (node, bool) {
	data, ok := contents[name]
	if !ok {
		return node{}, false
	}
	return parseYAML(name, data, found)
}

// readPrompt reads a prompt file.
func readPrompt(contents map[string][]byte, name string, found *problems) string {
	data, ok := contents[name]
	if !ok {
		return ""
	}
	prompt := strings.TrimSpace(string(data))
	switch length := utf8.RuneCountInString(prompt); {
	case length == 0:
		found.add(Problem{File: name, Line: 1, What: "the prompt is empty", Fix: "write instructions for the model, or copy those of the default pack"})
	case length > maxPrompt:
		found.add(Problem{
			File: name, Line: 1, What: fmt.Sprintf("the prompt has %d characters, more than %d", length, maxPrompt),
			Fix: "shorten it; every call pays for it",
		})
	}
	return prompt
}

// version identifies contents.
func version(contents map[string][]byte) string {
	h := sha256.New()
	for _, name := range files {
		fmt.Fprintf(h, "%s %d\n", name, len(contents[name]))
		h.Write(contents[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:versionDigits]
}
