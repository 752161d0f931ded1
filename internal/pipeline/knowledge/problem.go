// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
)

// Problem is one fault of a knowledge pack. Load returns all of them, joined, one per line:
// "rules.yaml:12: …what is wrong…; fix: …what to do…".
type Problem struct {
	// File is the file's name within the pack.
	File string
	// Line is the line in the file, from 1; zero for a problem of the whole file.
	Line int
	// What describes the problem, Fix the remedy.
	What, Fix string
}

// Error implements error.
func (p *Problem) Error() string {
	at := p.File
	if p.Line > 0 {
		at += ":" + strconv.Itoa(p.Line)
	}
	return at + ": " + p.What + "; fix: " + p.Fix
}

// problems collects what is wrong with a pack.
type problems struct{ list []*Problem }

func (p *problems) add(problem Problem) { p.list = append(p.list, &problem) }

// err is all problems, by file and line, or nil.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	errs := make([]error, len(p.list))
	for i, problem := range p.list {
		errs[i] = problem
	}
	return errors.Join(errs...)
}
