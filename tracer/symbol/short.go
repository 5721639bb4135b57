package symbol

import (
	"bytes"
	"strings"
)

// Short is a function's name as people read it. Of C++ and Rust, which are known by the
// linkage name, the arguments of templates and generics, and what is left of parameter
// lists, are away; in the <T as Trait> of Rust types and traits go without their paths.
// Of Go (golang) the import path is away but for the package. Other names stay as they
// are. The result is never empty unless the name is, and never longer.
//
// Dots that would not make it shorter take the place of nothing: Box<int> stays. What is short
// stays as it is: of names whose brackets do not match, more may go each time; if that takes
// very often they stay whole.
func Short(name, linkage string, golang bool) string {
	const often = 8
	got := name
	for range often {
		shorter := short(got, linkage, golang)
		if len(shorter) == len(got) {
			return shorter
		}
		got = shorter
	}
	return name
}

func short(name, linkage string, golang bool) string {
	switch {
	case ofRust(linkage):
		f := folder{s: name}
		f.rust(false)
		return f.out.String()
	case strings.HasPrefix(linkage, "_Z"):
		f := folder{s: name}
		f.cplusplus()
		return f.out.String()
	case golang:
		return shortGo(name)
	}
	return name
}

// dots stand for what is left out. They are ASCII, for terminals that have no more.
const dots = "..."

// folder makes a name shorter.
type folder struct {
	s      string // the name
	i      int    // what is before is done
	out    strings.Builder
	braces int // that are open
}

// last is the last character that was written, 0 if there is none.
func (f *folder) last() byte {
	if s := f.out.String(); s != "" {
		return s[len(s)-1]
	}
	return 0
}

// copy writes the next n bytes of the name.
func (f *folder) copy(n int) {
	f.out.WriteString(f.s[f.i : f.i+n])
	f.i += n
}

// fold writes what is in brackets of n bytes, or dots for it; of 0 bytes, if nothing closes
// them: the name was too long, and was cut.
func (f *folder) fold(n int) {
	inside, end := f.s[f.i+1:], ""
	if n > 0 {
		inside, end = f.s[f.i+1:f.i+n-1], ">"
	} else {
		n = len(f.s) - f.i
	}
	if len(inside) > len(dots) {
		inside = dots
	}
	f.out.WriteString("<" + inside + end)
	f.i += n
}

// cplusplus writes a name of C++.
func (f *folder) cplusplus() {
	for f.i < len(f.s) {
		rest := f.s[f.i:]
		switch c := rest[0]; {
		case c == 'o' && !identifies(f.last()):
			f.copy(max(1, operator(rest)))
			continue
		case c == '<':
			f.fold(closing(rest, true))
			continue
		case c == '(' && f.braces == 0 && (identifies(f.last()) || strings.IndexByte(">}]", f.last()) >= 0):
			if n := parameters(rest); n > 0 {
				f.i += n
				continue
			}
		case c == '{':
			f.braces++
		case c == '}':
			f.braces = max(0, f.braces-1)
		}
		f.copy(1)
	}
}

// parameters is how long a parameter list is, with the qualifiers of the function that
// follow; 0 if there is none, or it is none.
func parameters(s string) int {
	n := closing(s, true)
	if n == 0 {
		return 0
	}
	for more := true; more; {
		more = false
		for _, q := range []string{" const", " volatile", " &&", " &"} {
			if strings.HasPrefix(s[n:], q) && (len(s) == n+len(q) || !identifies(s[n+len(q)])) {
				n, more = n+len(q), true
			}
		}
	}
	if n < len(s) && strings.IndexByte(":[@ (", s[n]) < 0 {
		return 0
	}
	return n
}

// rust writes a name of Rust; with inner set, a type or a trait, without its path.
func (f *folder) rust(inner bool) {
	for f.i < len(f.s) {
		rest := f.s[f.i:]
		switch {
		case strings.HasPrefix(rest, "->"):
			f.copy(2)
			continue
		case rest[0] == '<':
			n := closing(rest, false)
			switch {
			case f.takesArguments():
				f.fold(n)
				continue
			case n == 0:
				f.copy(len(rest))
				continue
			}
			content := folder{s: rest[1 : n-1]}
			if f.i == 0 && !inner && strings.HasPrefix(rest[n:], "::") && isPath(content.s) {
				content.rust(false)
				f.out.WriteString(content.out.String())
			} else {
				content.rust(true)
				f.out.WriteString("<" + content.out.String() + ">")
			}
			f.i += n
			continue
		case inner && identifies(rest[0]) && !identifies(f.last()):
			n := identifier(rest)
			if after, ok := strings.CutPrefix(rest[n:], "::"); !ok || identifier(after) == 0 {
				f.copy(n)
			} else {
				f.i += n + len("::")
			}
			continue
		}
		f.copy(1)
	}
}

// takesArguments tells whether a bracket that comes now opens the arguments of what is
// before it, and not a type.
func (f *folder) takesArguments() bool {
	done := f.s[:f.i]
	if strings.HasSuffix(done, "::") {
		return !strings.HasPrefix(f.s[f.i:], "<impl ")
	}
	return done != "" && identifies(done[len(done)-1])
}

// isPath tells whether a type of Rust has a name, and is no slice, reference or the like.
func isPath(s string) bool {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '<' && i > 0:
			n := closing(s[i:], false)
			if n == 0 {
				return false
			}
			i += n - 1
		case s[i] != ':' && !identifies(s[i]):
			return false
		}
	}
	return s != ""
}

// shortGo takes the import path away: what is before the package, which, where that is
// the number of a version, is two elements.
func shortGo(name string) string {
	if strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "type..") {
		return name // what the compiler makes for a type: its path is in the middle
	}
	path, arguments := name, ""
	if i := strings.IndexByte(name, '['); i >= 0 { // Map[string,github.com/acme/shop.Order].Get
		path, arguments = name[:i], name[i:]
		if end := strings.LastIndexByte(arguments, ']'); end > len(dots)+1 {
			arguments = "[" + dots + arguments[end:]
		}
	}
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 && slash+1 < len(path) {
		if version(path[slash+1:]) {
			slash = strings.LastIndexByte(path[:slash], '/')
		}
		path = path[slash+1:]
	}
	return strings.ReplaceAll(path, "%2e", ".") + arguments // as in gopkg.in/yaml%2ev3
}

// version tells whether the last element of an import path, with what follows, is the
// number of a major version.
func version(s string) bool {
	number, _, _ := strings.Cut(s, ".")
	number, ok := strings.CutPrefix(number, "v")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// identifies tells whether a byte is of an identifier.
func identifies(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// identifier is how long the identifier is that a string begins with.
func identifier(s string) (n int) {
	for n < len(s) && identifies(s[n]) {
		n++
	}
	return n
}

// The operators that have brackets in them, the longer before what they begin with.
var bracketed = []string{"<=>", "<<=", ">>=", "->*", "<<", "<=", ">>", ">=", "->", "()", "<", ">"}

// operator is how long the name of an operator is that a string begins with: 0 if it does
// not, and the word alone where there are no brackets in it.
func operator(s string) int {
	const word = "operator"
	if identifier(s) != len(word) || !strings.HasPrefix(s, word) {
		return 0
	}
	for _, o := range bracketed {
		if strings.HasPrefix(s[len(word):], o) {
			return len(word) + len(o)
		}
	}
	return len(word)
}

// closing is how much of a string that begins with a bracket it takes to close it; 0 if
// nothing does. Less and greater are no brackets where they are of an operator, if there
// may be any, or in an expression, which is in parentheses.
func closing(s string, operators bool) int {
	const opening, closers = "<({[", ">)}]"
	var open []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if operators && c == 'o' && (i == 0 || !identifies(s[i-1])) {
			i += max(0, operator(s[i:])-1)
			continue
		}
		if strings.IndexByte(opening, c) >= 0 {
			open = append(open, c)
			continue
		}
		kind := strings.IndexByte(closers, c)
		if kind < 0 || c == '>' && (s[i-1] == '-' || open[len(open)-1] != '<') {
			continue
		}
		at := bytes.LastIndexByte(open, opening[kind])
		if at < 0 {
			continue
		}
		if open = open[:at]; at == 0 {
			return i + 1
		}
	}
	return 0
}
