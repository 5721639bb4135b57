package render

import (
	"strings"
	"testing"

	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/stack"
)

// TestWhatGivesNamesToScriptsIsSaid has programs of several runtimes, with and without names.
func TestWhatGivesNamesToScriptsIsSaid(t *testing.T) {
	t.Parallel()
	inModule := func(module, name string) stack.Name { return stack.Name{Full: name, Short: name, Module: module} }
	for _, tt := range []struct {
		exe    string
		from   stack.Name
		frames []stack.Name
		want   string // in what is said, "" for no hint
	}{
		{"/usr/bin/python3.11", stack.Name{}, named("python3.11+0x62d080"), "Python 3.11 gives its functions no names (3.12"},
		{"/usr/bin/python3.11", inModule("python3.11", "python3.11+0x62d080"), nil, "Python 3.11"},
		{"/usr/bin/python3.11", inModule("python3.11", "PyList_New (python3.11)"), nil, "Python 3.11"},
		{"/usr/bin/python3.11", inModule("python3.11", "PyByteArray_Resize (bytearrayobject.c:233)"), nil, "Python 3.11"},
		{"/usr/bin/python3.13", stack.Name{}, nil, "started with python -X perf its functions have names; python -X tracemalloc"},
		{"/usr/bin/python3.13", stack.Name{}, named("leak_list (leak.py)", "PyEval (python3.13)"), "python -X tracemalloc tells which objects"},
		{"/usr/bin/python3.13", inModule("[jit]", "leak_list (leak.py)"), nil, ""},
		{"/usr/bin/python3.13", inModule("ext.so", "leak_new (ext.c:20)"), nil, ""},
		{"/usr/bin/python3.13", inModule("ext.cpython-313-x86_64-linux-gnu.so", "leak_new (ext.cpython-313-x86_64-linux-gnu.so)"), nil, ""},
		{"/usr/bin/node", inModule("node", "v8::base::OS::SetPermissions (node)"), nil, "--perf-basic-prof"},
		{"/usr/bin/node", stack.Name{}, named("remember (app.js:2)"), "a heap snapshot tells which objects there are, and what holds them: kill -USR1 4711 opens node's inspector"},
		{"/usr/lib/jvm/java-17/bin/java", inModule("libjvm.so", "Unsafe_AllocateMemory0 (libjvm.so)"), named("[jit]"), "jcmd 1 Compiler.perfmap"},
		{"/usr/lib/jvm/java-17/bin/java", stack.Name{}, named("Leak.keep ([jit])"), "jcmd 1 GC.class_histogram tells which objects"},
		{"/usr/bin/ruby3.3", stack.Name{}, nil, "--yjit-perf"},
		{"/usr/sbin/php-fpm8.2", stack.Name{}, nil, "opcache.jit_debug"},
		{"/usr/lib/erlang/erts-13/bin/beam.smp", stack.Name{}, nil, "+JPperf"},
		{"/usr/bin/dotnet", stack.Name{}, nil, "DOTNET_PerfMapEnabled=1"},
		{"/usr/sbin/nginx", stack.Name{}, nil, ""},
	} {
		g := watches()[0]
		f := g.Findings[0]
		g.Exe, g.NSPID, g.Findings = tt.exe, 1, nil
		f.From, f.Touched, f.Kept, f.Made = tt.from, nil, nil, []attribution.Stack{{Frames: tt.frames}}
		if got := g.hint(&f); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s, %q, %v: %q, want %q", tt.exe, tt.from.Full, tt.frames, got, tt.want)
		}
		// What was done is not advised.
		if g.PerfMap = true; strings.Contains(g.hint(&f), "perf") {
			t.Errorf("%s has a perf map: %q", tt.exe, g.hint(&f))
		}
	}
}

// TestNoSignalIsAdvisedThatEndsAProgram has a program that only has node in it, as a library.
func TestNoSignalIsAdvisedThatEndsAProgram(t *testing.T) {
	t.Parallel()
	g := watches()[0]
	f := g.Findings[0]
	f.From, f.Touched, f.Kept, f.Made = stack.Name{}, nil, nil, []attribution.Stack{{Frames: named("remember (app.js:2)")}}
	lib := attribution.Finding{}
	lib.Key = growth.Key{What: growth.File, Name: "/usr/lib/libnode.so.115"}
	g.Exe, g.Findings = "/usr/bin/editor", []attribution.Finding{lib}
	if got := g.hint(&f); !strings.Contains(got, "a heap snapshot tells") || strings.Contains(got, "kill") {
		t.Errorf("%q", got)
	}
}
