// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package localkubelet

import (
	"cmp"
	"slices"
	"strings"
)

// expand replaces $(NAME) by the variable's value. As in the Kubernetes API,
// an unknown name stays as it is and $$(NAME) stands for a literal $(NAME).
func expand(s string, vars map[string]string) string {
	var out strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at == len(s)-1 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:at])
		s = s[at:]
		switch s[1] {
		case '$':
			out.WriteByte('$')
			s = s[2:]
		case '(':
			end := strings.IndexByte(s, ')')
			if end < 0 {
				out.WriteString(s)
				return out.String()
			}
			if value, ok := vars[s[2:end]]; ok {
				out.WriteString(value)
			} else {
				out.WriteString(s[:end+1])
			}
			s = s[end+1:]
		default:
			out.WriteByte('$')
			s = s[1:]
		}
	}
}

// mountPath maps a path inside a container to where it is on the host.
type mountPath struct {
	container, host string
	// exact maps the path alone and nothing below it: a directory that holds
	// mounts, and else whatever the host has there.
	exact bool
}

// rewritePaths replaces every container path in s by its host path, the longest
// first. A container path is one only as a whole: where it starts the string or
// follows a character that cannot belong to a path, and ends at a slash, such a
// character or the string's end. So "/data" is found in "--dir=/data/x" and
// not in "/database" nor in "/srv/data".
func rewritePaths(s string, mounts []mountPath) string {
	order := slices.Clone(mounts)
	slices.SortStableFunc(order, func(a, b mountPath) int {
		return cmp.Compare(len(b.container), len(a.container))
	})
	var out strings.Builder
	for i := 0; i < len(s); {
		if hit := mountAt(s, i, order); hit != nil {
			out.WriteString(hit.host)
			i += len(hit.container)
			continue
		}
		out.WriteByte(s[i])
		i++
	}
	return out.String()
}

func mountAt(s string, i int, mounts []mountPath) *mountPath {
	if i > 0 && pathByte(s[i-1]) {
		return nil
	}
	for k := range mounts {
		path := mounts[k].container
		if !strings.HasPrefix(s[i:], path) {
			continue
		}
		end := i + len(path)
		if end == len(s) || !pathByte(s[end]) || s[end] == '/' && !mounts[k].exact {
			return &mounts[k]
		}
	}
	return nil
}

// pathByte says whether the byte commonly continues a path. Separators of lists
// and options (= : , ; quotes, spaces) do not.
func pathByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c >= 0x80:
		return true
	default:
		return strings.IndexByte("/._-+@%~", c) >= 0
	}
}
