package render

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/stack"
)

// hint says what gives names to the functions of a program that a runtime runs, if they have
// none, and what tells of its objects; "" if the machine's own code is to blame.
func (g *Growth) hint(f *attribution.Finding) string {
	runtime, version := g.Runtime()
	if runtime == stack.Native || !f.What.Private() || f.Blamed().Full != "" && !f.Blamed().OfRuntime() {
		return ""
	}
	objects, names := "", !scripted(f)
	switch runtime {
	case stack.CPython:
		objects = "python -X tracemalloc tells which objects there are, and who made them"
	case stack.Node:
		objects = "a heap snapshot tells which objects there are, and what holds them"
		if of, _ := stack.RuntimeOf(path.Base(g.Exe)); of == stack.Node { // the signal ends what only has it in it
			objects += fmt.Sprintf(": kill -USR1 %d opens node's inspector on 127.0.0.1:9229", g.PID)
		}
	case stack.JVM:
		objects = fmt.Sprintf("jcmd %d GC.class_histogram tells which objects there are", cmp.Or(g.NSPID, g.PID))
	}
	if !names || g.PerfMap {
		return objects
	}
	switch runtime {
	case stack.CPython:
		const least = 12
		switch minor, err := strconv.Atoi(strings.TrimPrefix(version, "3.")); {
		case err != nil:
			return "started with python -X perf (3.12 and later) its functions have names; " + objects
		case minor < least:
			return "Python " + version + " gives its functions no names (3.12 and later do, with -X perf); " + objects
		}
		return "started with python -X perf its functions have names; " + objects
	case stack.Node:
		return objects + "; started with --perf-basic-prof its functions have names"
	case stack.JVM:
		return fmt.Sprintf("%s; jcmd %d Compiler.perfmap gives the methods names that are compiled by then (JDK 17 and later)", objects, cmp.Or(g.NSPID, g.PID))
	case stack.Ruby:
		return "Ruby gives its functions names if it is started with --yjit --yjit-perf (3.3 and later)"
	case stack.PHP:
		return "PHP gives its functions names with its JIT on and opcache.jit_debug=16"
	case stack.BEAM:
		return "Erlang and Elixir give their functions names if the VM is started with +JPperf true (OTP 24 and later)"
	case stack.DotNET:
		return ".NET gives its methods names if DOTNET_PerfMapEnabled=1 is in its environment when it starts"
	}
	return ""
}

// place is what stands behind a function's name: its source line, or its file.
func place(name string) string {
	if i := strings.LastIndex(name, " ("); i >= 0 {
		return strings.TrimSuffix(name[i+len(" ("):], ")")
	}
	module, _, _ := strings.Cut(name, "+0x")
	return module
}

// scripted tells whether any function behind a finding is one of a script.
func scripted(f *attribution.Finding) bool {
	is := func(n stack.Name) bool {
		at, _, _ := strings.Cut(place(n.Full), ":")
		switch path.Ext(at) {
		case ".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".php":
			return true
		}
		return at == stack.JIT && n.Full != stack.JIT // it has its name from the runtime
	}
	some := func(all []attribution.Stack) bool {
		return slices.ContainsFunc(all, func(s attribution.Stack) bool { return is(s.By) || slices.ContainsFunc(s.Frames, is) })
	}
	return some(f.Made) || some(f.Touched) || some(f.Kept) || some(f.Split) ||
		slices.ContainsFunc(f.Keepers, func(k attribution.HeapKeeper) bool { return slices.ContainsFunc(k.Frames, is) })
}
