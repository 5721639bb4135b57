package site

import (
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/tracer/stack"
)

// scripted is code of a script, by the name that an interpreter or a JIT compiler gave
// it in its perf map.
type scripted struct {
	function string
	file     string
	line     int  // 0 if it is not told
	internal bool // a part of the interpreter that is a script itself
}

// script reads such a name: those of CPython (Python/perf_trampoline.c) are
// "py::FUNCTION:FILE", those of V8 (LogEventListener::CodeTag) "KIND:TIER FUNCTION
// FILE:LINE:COLUMN", the tier a sign that changes when the code is compiled anew.
func script(name string) (s scripted, ok bool) {
	if python, is := strings.CutPrefix(name, "py::"); is {
		s.function, s.file, ok = strings.Cut(python, ":")
		s.internal = strings.HasPrefix(s.file, "<")
		return s, ok
	}
	kind, rest, ok := strings.Cut(name, ":")
	switch kind {
	case "JS", "LazyCompile", "Function", "Script", "Eval":
	default:
		return s, false
	}
	if !ok {
		return s, false
	}
	s.function, rest, ok = strings.Cut(strings.TrimLeft(rest, "~^*+"), " ")
	at := strings.LastIndexByte(rest, ':') // before the column
	if !ok || at < 0 {
		return s, false
	}
	rest = rest[:at]
	if at = strings.LastIndexByte(rest, ':'); at < 0 {
		return s, false
	}
	line, err := strconv.Atoi(rest[at+1:])
	if err != nil || line < 0 {
		return s, false
	}
	s.file, s.line = rest[:at], line
	s.internal = strings.HasPrefix(s.file, "node:")
	if s.function == "" {
		s.function = "(anonymous)"
	}
	return s, true
}

// scriptOf tells whether a frame is code of a script.
func (f *Frame) scriptOf() (scripted, bool) {
	if f.Module != nil || f.name == "" {
		return scripted{}, false
	}
	return script(f.name)
}

// below tells whether the first of some frames is an interpreter's, and what it runs is
// a script's, which is to be blamed rather than it.
func below(frames []Frame) bool {
	f := &frames[0]
	if s, ok := f.scriptOf(); f.Module != nil && !stack.Interprets(f.module()) || ok && !s.internal {
		return false
	}
	for i := range frames {
		if s, ok := frames[i].scriptOf(); ok && !s.internal {
			return true
		}
	}
	return false
}
