package history

import (
	"slices"
)

// Shrink returns a short history that still fails, of one that does: it leaves out halves, quarters
// and so on down to single steps, and then what differs in the world, until nothing more can go.
func Shrink(h History, fails func(History) bool) History {
	for again := true; again; {
		again = false
		for size := max(len(h.Steps)/2, 1); size > 0; size /= 2 {
			for i := 0; i+size <= len(h.Steps); {
				less := History{h.With, slices.Delete(slices.Clone(h.Steps), i, i+size)}
				if fails(less) {
					h, again = less, true
				} else {
					i += size
				}
			}
		}
		for _, word := range h.With {
			with := slices.DeleteFunc(slices.Clone(h.With), func(s string) bool { return s == word })
			if less := (History{with, h.Steps}); fails(less) {
				h, again = less, true
			}
		}
		for i, s := range h.Steps {
			for _, simpler := range simplify(s) {
				less := History{h.With, slices.Clone(h.Steps)}
				less.Steps[i] = simpler
				if fails(less) {
					h, again = less, true
					break
				}
			}
		}
	}
	return h
}

// simplify returns steps that say less than s.
func simplify(s Step) []Step {
	v, _ := verb(s.Verb)
	var out []Step
	for len(s.Args) > v.Least {
		s = Step{s.Verb, s.Args[:len(s.Args)-1]}
		out = append(out, s)
	}
	if s.Verb == "sleep" && s.arg(0) != "1s" {
		out = append(out, step("sleep", "1s"))
	}
	return out
}
