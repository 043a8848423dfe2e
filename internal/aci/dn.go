package aci

import (
	"errors"
	"fmt"
	"strings"
)

// DN is a distinguished name: relative names (RNs) joined by slashes, such as
// "uni/tn-prod/out-wan/instP-web/extsubnet-[10.1.2.3/32]". Slashes inside brackets belong
// to their RN. The zero value names nothing.
type DN string

// ParseDN checks that s is well formed: no empty RN, brackets balanced. It does not know
// which RNs exist. The returned DN is s, unchanged.
func ParseDN(s string) (DN, error) {
	if s == "" {
		return "", errors.New("empty DN")
	}
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth < 0 {
				return "", fmt.Errorf("DN %q: ']' without '[' at %d", s, i)
			}
		case '/':
			if depth > 0 {
				continue
			}
			if i == start {
				return "", fmt.Errorf("DN %q: empty RN at %d", s, i)
			}
			start = i + 1
		}
	}
	if depth != 0 {
		return "", fmt.Errorf("DN %q: '[' without ']'", s)
	}
	if start == len(s) {
		return "", fmt.Errorf("DN %q: empty RN at the end", s)
	}
	return DN(s), nil
}

// cut returns the index of the slash before the last RN, or -1.
func (d DN) cut() int {
	depth := 0
	for i := len(d) - 1; i >= 0; i-- {
		switch d[i] {
		case ']':
			depth++
		case '[':
			depth--
		case '/':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// Parent is the DN without its last RN; "" for a single RN.
func (d DN) Parent() DN {
	if i := d.cut(); i >= 0 {
		return d[:i]
	}
	return ""
}

// RN is the last relative name of d.
func (d DN) RN() string { return string(d[d.cut()+1:]) }

// RNs splits d into its relative names, outermost first.
func (d DN) RNs() []string {
	var rns []string
	depth, start := 0, 0
	for i := 0; i < len(d); i++ {
		switch d[i] {
		case '[':
			depth++
		case ']':
			depth--
		case '/':
			if depth == 0 {
				rns = append(rns, string(d[start:i]))
				start = i + 1
			}
		}
	}
	return append(rns, string(d[start:]))
}

// Child is the DN of the object with relative name rn below d.
func (d DN) Child(rn string) DN {
	if d == "" {
		return DN(rn)
	}
	return d + DN("/"+rn)
}

// Within reports whether d is root or lies below it.
func (d DN) Within(root DN) bool {
	return d == root || (len(d) > len(root) && strings.HasPrefix(string(d), string(root)) && d[len(root)] == '/')
}
