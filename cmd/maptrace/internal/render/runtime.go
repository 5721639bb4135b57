package render

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/stack"
)

// hint says what gives names to the functions of a program that a runtime runs; "" if they
// have some, or the machine's own code is to blame.
func (g *Growth) hint(f *attribution.Finding) string {
	runtime, version := g.Runtime()
	if runtime == attribution.Native || scripted(f) || f.Blamed().Full != "" && !ofRuntime(f.Blamed().Full) {
		return ""
	}
	switch runtime {
	case attribution.CPython:
		if minor, err := strconv.Atoi(strings.TrimPrefix(version, "3.")); err == nil && minor < 12 {
			return "Python " + version + " gives its functions no names: 3.12 and later do, started with -X perf; until then see python -X tracemalloc"
		}
		return "Python gives its functions names if it is started with -X perf, or with PYTHONPERFSUPPORT=1 in its environment (3.12 and later)"
	case attribution.Node:
		return "node gives its functions names if it is started with --perf-basic-prof (NODE_OPTIONS)"
	case attribution.JVM:
		return "Java's methods have names after: jcmd " + strconv.Itoa(cmp.Or(g.NSPID, g.PID)) + " Compiler.perfmap (JDK 17 and later; once they are compiled)"
	case attribution.Ruby:
		return "Ruby gives its functions names if it is started with --yjit --yjit-perf (3.3 and later)"
	case attribution.PHP:
		return "PHP gives its functions names with its JIT on and opcache.jit_debug=16"
	case attribution.BEAM:
		return "Erlang and Elixir give their functions names if the VM is started with +JPperf true (OTP 24 and later)"
	case attribution.DotNET:
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

// ofRuntime tells whether a function is the runtime's own.
func ofRuntime(name string) bool {
	r, _ := attribution.RuntimeOf(place(name))
	return r != attribution.Native || place(name) == jitted
}

// jitted is where code is that no file holds. A function there that has a name has it from
// the runtime.
const jitted = "[jit]"

// scripted tells whether any function behind a finding is one of a script.
func scripted(f *attribution.Finding) bool {
	is := func(n stack.Name) bool {
		at, _, _ := strings.Cut(place(n.Full), ":")
		switch path.Ext(at) {
		case ".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".php":
			return true
		}
		return at == jitted && n.Full != jitted
	}
	some := func(all []attribution.Stack) bool {
		return slices.ContainsFunc(all, func(s attribution.Stack) bool { return is(s.By) || slices.ContainsFunc(s.Frames, is) })
	}
	return some(f.Made) || some(f.Touched) || some(f.Kept) || some(f.Split) ||
		slices.ContainsFunc(f.Keepers, func(k attribution.HeapKeeper) bool { return slices.ContainsFunc(k.Frames, is) })
}
