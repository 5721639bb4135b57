package procmaps

import "iter"

// VmFlags is the set of two-letter codes on the VmFlags line of one mapping,
// such as "rd wr mr mw me ac". Codes this package does not know are members like
// the others. Two values are equal when their lines were. The zero value is the
// empty set, which is also what kernels before 3.8 give.
//
// It keeps the text instead of a bit mask because codes come and go with
// kernels and mean different bits on different architectures. A process has a
// few dozen different lines at most, and equal ones share one string.
type VmFlags struct{ text string }

// ParseVmFlags parses codes separated by single spaces; a final space is allowed.
func ParseVmFlags(s string) (VmFlags, bool) {
	if n := len(s); n > 0 && s[n-1] == ' ' {
		s = s[:n-1]
	}
	return VmFlags{s}, validVmFlags(s)
}

func validVmFlags(s string) bool {
	for i := range len(s) {
		if (i%3 == 2) != (s[i] == ' ') {
			return false
		}
	}
	return s == "" || len(s)%3 == 2
}

// Has reports whether code, two letters, is in the set.
func (f VmFlags) Has(code string) bool {
	if len(code) != 2 {
		return false
	}
	for i := 0; i+2 <= len(f.text); i += 3 {
		if f.text[i:i+2] == code {
			return true
		}
	}
	return false
}

// All yields the codes in the order of the kernel.
func (f VmFlags) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 0; i+2 <= len(f.text); i += 3 {
			if !yield(f.text[i : i+2]) {
				return
			}
		}
	}
}

// String returns the codes separated by spaces, as the kernel prints them but
// for its final space.
func (f VmFlags) String() string { return f.text }
