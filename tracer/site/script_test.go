package site

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamesOfScripts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		want scripted
		ok   bool
	}{
		{"py::leak_list:/srv/app/leak.py", scripted{"leak_list", "/srv/app/leak.py", 0, false}, true},
		{"py::Cache.put.<locals>.<lambda>:a.py", scripted{"Cache.put.<locals>.<lambda>", "a.py", 0, false}, true},
		{"py::_find_and_load:<frozen importlib._bootstrap>", scripted{"_find_and_load", "<frozen importlib._bootstrap>", 0, true}, true},
		{"JS:^leakBuffers /srv/my app/leak.js:14:21", scripted{"leakBuffers", "/srv/my app/leak.js", 14, false}, true},
		{"LazyCompile:*get file:///a.mjs:3:1", scripted{"get", "file:///a.mjs", 3, false}, true},
		{"JS:~ /a.js:38:27", scripted{"(anonymous)", "/a.js", 38, false}, true},
		{"JS:^alloc node:buffer:391:30", scripted{"alloc", "node:buffer", 391, true}, true},
		{name: "py::"},
		{name: "py::nothing"},
		{name: "JS"},
		{name: "JS:"},
		{name: "JS:f"},
		{name: "JS:f /a.js"},
		{name: "JS:f /a.js:1"},
		{name: "JS:f /a.js:x:1"},
		{name: "JS:f /a.js:-1:1"},
		{name: "JSON:f /a.js:1:1"},
		{name: "Builtin:ArrayPush"},
		{name: "RegExp:^a b:1:2"},
		{name: "LFoo;::bar"},
		{name: ""},
	} {
		got, ok := script(tt.name)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: %s", tt.name, cmp.Diff(tt.want, got, cmp.AllowUnexported(scripted{})))
		}
	}
}

// TestScriptsAreBlamedRatherThanTheirInterpreters has stacks as node and python have.
func TestScriptsAreBlamedRatherThanTheirInterpreters(t *testing.T) {
	t.Parallel()
	module := func(path string) *Module { return &Module{Path: path} }
	libc, node, python, addon := module("/lib/libc.so.6"), module("/usr/bin/node"), module("/usr/bin/python3.12"), module("/srv/addon.so")
	code := func(name string) Frame { return Frame{name: name} }
	for _, tt := range []struct {
		name   string
		frames []Frame
		want   int
	}{
		{"a script", []Frame{{Module: libc}, {Module: node}, code("JS:^alloc node:buffer:1:1"), code("JS:^leak /a.js:1:1"), code("JS:^main /a.js:9:1")}, 3},
		{"a script in python", []Frame{{Module: python}, code("py::leak:/a.py"), {Module: python}, code("py::main:/a.py")}, 1},
		{"an addon", []Frame{{Module: libc}, {Module: addon}, {Module: node}, code("JS:^leak /a.js:1:1")}, 1},
		{"the interpreter for itself", []Frame{{Module: libc}, {Module: node}, code("JS:^alloc node:buffer:1:1"), {Module: node}}, 1},
		{"other code", []Frame{code("stub"), {Module: addon}}, 0},
	} {
		s := New(Options{})
		if got, _ := s.blame(tt.frames); got != tt.want {
			t.Errorf("%s: frame %d is blamed, want %d", tt.name, got, tt.want)
		}
	}
}

func FuzzScript(f *testing.F) {
	for _, name := range []string{"py::f:a.py", "JS:^f /a.js:1:2", "Eval: x:1:1", "JS:*f node:fs:3:4"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if s, ok := script(name); ok && (len(s.function)+len(s.file) > len(name)+len("(anonymous)") || s.line < 0) {
			t.Errorf("%q: %+v", name, s)
		}
	})
}
