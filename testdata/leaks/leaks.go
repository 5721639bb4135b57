// Package leaks has programs that leak in a known place, beside innocents that
// do not: what a tool that names the code behind growing memory is to be tried
// with. It builds them from sources that it carries.
//
// Every program leaks at the rate it is given from when it prints "ready", and
// exits after the seconds it is given. What else it does with memory (warms up,
// churns, keeps a cache of fixed size, collects garbage) is at rest, or goes up
// and down, after a second or two.
package leaks

import (
	_ "embed" // for the sources
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/maptrace/maptrace/testdata/tool"
)

var (
	//go:embed leaks.c
	sourceC string
	//go:embed leaks.cc
	sourceCC string
	//go:embed leaks.rs
	sourceRust string
	//go:embed libleak.c
	sourceLib string
	//go:embed pyleak.py
	sourcePython string
	//go:embed nodeleak.js
	sourceNode string
	//go:embed JavaLeak.java
	sourceJava string
	//go:embed server.c
	sourceServerC string
	//go:embed server.cc
	sourceServerCC string
)

// Kind says what memory a program leaks.
type Kind string

// The kinds.
const (
	Heap    Kind = "heap"    // [heap], grown by brk
	Arena   Kind = "arena"   // glibc's malloc in a thread, grown by mprotect
	Anon    Kind = "anon"    // private anonymous mappings
	File    Kind = "file"    // mappings of a file
	Shm     Kind = "shm"     // memfd and System V segments
	Stacks  Kind = "stacks"  // of threads
	Pages   Kind = "pages"   // of a mapping that is there from the start: nothing more is mapped
	Runtime Kind = "runtime" // the heap of a language's runtime
	Nothing Kind = ""        // innocents alone
)

// Case is a program and what a tool must find out about it.
type Case struct {
	Name string
	// Needs are the commands without which it can be neither built nor run.
	Needs []string
	// Build writes and builds the program in dir, once for all cases that share
	// it, and returns the command without what Args appends.
	Build func(tb testing.TB, dir string) []string
	// Culprit are names of functions of which any is right, the best first.
	// They are those of symbol tables, demangled and without parameters. The
	// names of functions in scripts show only where the interpreter writes a
	// map of its code; native functions that stand for them follow.
	Culprit []string
	// What is leaked.
	What Kind
	// Shared says that innocents get memory from the same heap and give it back:
	// neither who makes the heap larger, nor who is the first to touch it, need be who
	// keeps the memory. It takes some time to tell.
	Shared bool
	// Hidden says that the culprit has no name: it is code of an interpreter that was
	// stripped. What can be told is that it is none of the innocents.
	Hidden bool
	// Innocents are functions that map memory too and must not be blamed.
	Innocents []string
	// Prints says that before "ready" comes a line "culprit NAME OFFSET": where
	// the function begins, in hex, from the start of the module. That is how a
	// stripped program's culprit is known.
	Prints, Stripped bool
}

// Cases returns all programs, each name once.
func Cases() []Case {
	return slices.Concat(casesInC(), casesInCC(), casesInRust(), casesInGo(), scripts(), casesInJava())
}

// Servers returns programs in whose one heap the innocents allocate a hundred times as much
// as the culprit keeps, and give it back: what makes the heap larger, and what is touched
// first in it, is mostly theirs. A tool must name the culprit, or nobody.
func Servers() []Case {
	c := source{"server.c", sourceServerC, "server-c", []string{"gcc", "-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"}, "-s"}
	inC := []string{"render", "release_pages", "parse", "cache_put", "xmalloc", "pool_alloc"}
	cc := source{"server.cc", sourceServerCC, "server-cc", []string{"g++", "-std=c++17", "-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"}, "-s"}
	inCC := []string{"exchange::parse", "exchange::quote", "exchange::recent"}
	cases := slices.Concat(
		c.cases("server in c", "logins", "login", Heap, inC)[:1],
		c.cases("server in c", "fifth", "new_session", Heap, inC)[:1],
		cc.cases("server in c++", "orders", "exchange::Book::add", Heap, inCC)[:1],
		[]Case{GoServer("sessions")},
	)
	for i := range cases {
		cases[i].Shared = true
	}
	return cases
}

// GoServer returns a server in Go that keeps a profile of its heap, with a leak (sessions) or
// without (none).
func GoServer(mode string) Case {
	c := Case{
		Name: "server in go", Needs: []string{"go"}, Shared: true,
		Innocents: []string{"main.render", "main.cachePut", "encoding/json."},
		Build: func(tb testing.TB, dir string) []string {
			tb.Helper()
			bin := filepath.Join(dir, "goserver")
			once(tb, bin, "go", "build", "-trimpath", "-o", bin, "github.com/maptrace/maptrace/testdata/leaks/goserver")
			return []string{bin, mode}
		},
	}
	if mode == "sessions" {
		c.Culprit, c.What = []string{"main.login"}, Runtime
	}
	return c
}

func casesInC() []Case {
	var cases []Case
	for _, c := range []struct {
		mode, culprit string
		what          Kind
	}{
		{"brk", "leak_brk", Heap},
		{"bigmalloc", "leak_bigmalloc", Anon},
		{"realloc", "leak_realloc", Anon},
		{"mmap", "leak_mmap", Anon},
		{"arena", "leak_arena", Arena},
		{"file", "leak_file", File},
		{"memfd", "leak_memfd", Shm},
		{"touch", "touch_slowly", Pages},
		{"shm", "leak_shm", Shm},
		{"threads", "leak_threads", Stacks},
		{"none", "", Nothing},
	} {
		s := source{"leaks.c", sourceC, "leaks-c", []string{"gcc", "-O2", "-fomit-frame-pointer", "-pthread", "-Wall", "-Wextra", "-Werror"}, "-s"}
		innocents := []string{"warm_up", "churn", "cache_put", "gc_allocate", "gc_collect"}
		cases = append(cases, s.cases("c", c.mode, c.culprit, c.what, innocents)...)
	}
	return cases
}

func casesInCC() []Case {
	s := source{"leaks.cc", sourceCC, "leaks-cc", []string{"g++", "-std=c++17", "-O2", "-fomit-frame-pointer", "-pthread", "-Wall", "-Wextra", "-Werror"}, "-s"}
	innocents := []string{"shop::churn", "shop::fill_and_clear", "shop::cache_put"}
	return append(s.cases("c++", "map", "shop::Sessions::leak_map", Anon, innocents),
		s.cases("c++", "new", "shop::leak_new", Anon, innocents)...)
}

func casesInRust() []Case {
	s := source{"leaks.rs", sourceRust, "leaks-rs", []string{"rustc", "--edition", "2021", "-C", "opt-level=2", "-D", "warnings"}, "-Cstrip=symbols"}
	innocents := []string{"leaks::churn", "leaks::queue_push"}
	cases := s.cases("rust", "boxes", "leaks::leak_boxes", Anon, innocents)
	for _, c := range s.cases("rust", "vec", "leaks::leak_vec", Heap, innocents) {
		c.Shared = true
		cases = append(cases, c)
	}
	return cases
}

func casesInGo() []Case {
	var cases []Case
	for _, mode := range []struct {
		name, culprit string
		what          Kind
	}{
		{"mmap", "main.leakMmap", Anon},
		{"heap", "main.leakHeap", Runtime},
	} {
		for _, stripped := range []bool{false, true} {
			c := Case{
				Name: "go " + mode.name, Needs: []string{"go"}, Stripped: stripped,
				Culprit: []string{mode.culprit}, What: mode.what, Shared: mode.what == Runtime,
				Innocents: []string{"main.churn", "main.cachePut"},
			}
			name, flags := "goleak", ""
			if stripped { // Go's own table of functions stays
				c.Name, name, flags = c.Name+" stripped", "goleak-stripped", "-s -w"
			}
			c.Build = func(tb testing.TB, dir string) []string {
				tb.Helper()
				bin := filepath.Join(dir, name)
				once(tb, bin, "go", "build", "-trimpath", "-ldflags="+flags, "-o", bin, "github.com/maptrace/maptrace/testdata/leaks/goleak")
				return []string{bin, mode.name}
			}
			cases = append(cases, c)
		}
	}
	return cases
}

func scripts() []Case {
	innocents := []string{"churn", "cache_put"}
	return []Case{
		{
			Name: "python extension", Needs: []string{"python3", "gcc"}, Culprit: []string{"leak_native"}, What: Anon, Innocents: innocents,
			Build: func(tb testing.TB, dir string) []string {
				tb.Helper()
				lib := filepath.Join(dir, "libleak.so")
				once(tb, lib, "gcc", "-O2", "-fomit-frame-pointer", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-o", lib,
					write(tb, dir, "libleak.c", sourceLib))
				return []string{"python3", write(tb, dir, "pyleak.py", sourcePython), "native:" + lib}
			},
		},
		{
			Name: "python list", Needs: []string{"python3"}, What: Runtime, Shared: true, Hidden: true,
			Innocents: append(innocents, "PyObject_Str", "PyUnicode_New"), // what churn calls
			Culprit:   []string{"leak_list", "bytes_concat", "PyBytes_FromStringAndSize"},
			Build: func(tb testing.TB, dir string) []string {
				tb.Helper()
				return []string{"python3", write(tb, dir, "pyleak.py", sourcePython), "list"}
			},
		},
		{
			Name: "node buffers", Needs: []string{"node"}, What: Anon, Innocents: []string{"churn", "cachePut"},
			Culprit: []string{"leakBuffers"},
			Build: func(tb testing.TB, dir string) []string {
				tb.Helper()
				return []string{"node", "--perf-basic-prof", write(tb, dir, "nodeleak.js", sourceNode)}
			},
		},
	}
}

func casesInJava() []Case {
	var cases []Case
	for _, mode := range []struct {
		name, culprit, native string
		what                  Kind
	}{
		{"direct", "JavaLeak.leakDirect", "Unsafe_AllocateMemory0", Anon},
		{"threads", "JavaLeak.leakThreads", "JVM_StartThread", Stacks},
	} {
		cases = append(cases, Case{
			Name: "java " + mode.name, Needs: []string{"javac", "java"}, What: mode.what,
			Culprit: []string{mode.culprit, mode.native}, Innocents: []string{"JavaLeak.churn", "JavaLeak.cachePut"},
			Build: func(tb testing.TB, dir string) []string {
				tb.Helper()
				once(tb, filepath.Join(dir, "JavaLeak.class"), "javac", "-d", dir, write(tb, dir, "JavaLeak.java", sourceJava))
				return []string{"java", "-Xms16m", "-Xmx32m", "-XX:MaxDirectMemorySize=2g", "-XX:+UseSerialGC", "-cp", dir, "JavaLeak", mode.name}
			},
		})
	}
	return cases
}

// source is a file that a compiler makes a program of.
type source struct {
	file, text string
	bin        string
	compiler   []string
	strip      string // the flag that leaves out the names
}

// cases are a mode of the program with names and without.
func (s source) cases(language, mode, culprit string, what Kind, innocents []string) []Case {
	var cases []Case
	for _, stripped := range []bool{false, true} {
		c := Case{
			Name: language + " " + mode, Needs: s.compiler[:1], What: what, Innocents: innocents,
			Prints: true, Stripped: stripped,
		}
		if culprit != "" {
			c.Culprit = []string{culprit}
		}
		name, argv := s.bin, s.compiler
		if stripped {
			c.Name, name, argv = c.Name+" stripped", name+"-stripped", slices.Concat(argv, []string{s.strip})
		}
		c.Build = func(tb testing.TB, dir string) []string {
			tb.Helper()
			bin := filepath.Join(dir, name)
			once(tb, bin, slices.Concat(argv, []string{"-o", bin, write(tb, dir, s.file, s.text)})...)
			return []string{bin, mode}
		}
		cases = append(cases, c)
	}
	return cases
}

// Missing tells which command that the program needs is not there, or does not run.
func (c *Case) Missing() error {
	for _, name := range c.Needs {
		if _, err := tool.Path(name); err != nil {
			return err
		}
	}
	return nil
}

// write puts a source into dir and returns its path.
func write(tb testing.TB, dir, name, text string) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// once runs a command unless what it makes is there.
func once(tb testing.TB, made string, argv ...string) {
	tb.Helper()
	if err := tool.Make(tb.Context(), made, argv...); err != nil {
		tb.Fatal(err)
	}
}
