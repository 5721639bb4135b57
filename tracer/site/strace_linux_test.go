//go:build amd64 || arm64

package site

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// at is a place in code: a file, and an offset in it.
type at struct {
	file   string
	offset uint64
}

func (a at) String() string { return fmt.Sprintf("%s+%#x", filepath.Base(a.file), a.offset) }

// told is a call as strace -k tells it.
type told struct {
	line  string
	op    string
	first uint64 // its first argument, 0 for NULL
	ret   int64
	stack []at
}

// straced is how strace is started, which writes a file for each thread, its
// number appended to the prefix. It skips where strace does not unwind stacks
// with libunwind: other libraries print other addresses.
func straced(t *testing.T, prefix string, argv ...string) []string {
	t.Helper()
	path, err := tool.Path("strace")
	if err != nil {
		bpftest.Skip(t, "%v", err)
	}
	text, err := exec.Command(path, "-V").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "stack-trace=libunwind") {
		bpftest.Skip(t, "this strace has no -k with libunwind:\n%s", text)
	}
	return append([]string{"strace", "-ff", "-k", "-e", "trace=mmap,brk,mremap,mprotect,munmap,madvise", "-o", prefix}, argv...)
}

// readStrace reads what strace wrote about one thread.
func readStrace(t *testing.T, path string) (calls []told) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if frame, ok := strings.CutPrefix(line, " > "); ok {
			// PATH(SYMBOL+0xN) [0xOFFSET]
			file, _, ok := strings.Cut(frame, "(")
			var offset uint64
			i := strings.LastIndex(frame, "[")
			if ok = ok && i > 0; ok {
				n, _ := fmt.Sscanf(frame[i:], "[0x%x]", &offset)
				ok = n == 1
			}
			if !ok || len(calls) == 0 {
				t.Fatalf("%s: %q is no frame of a call", path, line)
			}
			c := &calls[len(calls)-1]
			c.stack = append(c.stack, at{file, offset})
			continue
		}
		// OP(FIRST, …) = RET, maybe with a name of an error after it. Signals and
		// exits are told of otherwise, those with stacks too.
		op, args, ok := strings.Cut(line, "(")
		i := strings.LastIndex(line, " = ")
		if !ok || i < 0 || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "+++") {
			calls = append(calls, told{line: line})
			continue
		}
		first, _, _ := strings.Cut(args, ",")
		first, _, _ = strings.Cut(first, ")")
		ret, _, _ := strings.Cut(line[i+3:], " ")
		c := told{line: line, op: op}
		if first != "NULL" {
			if c.first, err = strconv.ParseUint(first, 0, 64); err != nil {
				t.Fatalf("%s: %q: %v", path, line, err)
			}
		}
		if c.ret, err = strconv.ParseInt(ret, 0, 64); err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		calls = append(calls, c)
	}
	return calls
}

// is tells whether it is the call that we were told of.
func (c *told) is(o *space.Call) bool {
	ops := map[string]space.Op{
		"mmap": space.OpMmap, "brk": space.OpBrk, "mremap": space.OpMremap, "mprotect": space.OpMprotect,
		"munmap": space.OpMunmap, "madvise": space.OpMadvise,
	}
	op, ok := ops[c.op]
	return ok && op == o.Op && c.ret == o.Ret && c.first == o.Args[0]
}

// growing tells whether a call must have a stack: whether it made memory larger.
// Of the others some have one.
func (c *told) growing(brk int64) bool {
	switch c.op {
	case "mmap":
		return c.ret >= 0
	case "brk":
		return c.first != 0 && c.ret > brk
	case "mprotect":
		return c.ret == 0 && strings.Contains(c.line, "PROT_WRITE")
	}
	return false
}

// offsets gives frames the form of strace: offsets in files instead of the
// addresses that these have for themselves.
type offsets map[string][]elf.ProgHeader

func (o offsets) of(t *testing.T, frames []Frame) []at {
	t.Helper()
	var out []at
	for _, f := range frames {
		if f.Module == nil {
			out = append(out, at{"no file", f.Addr})
			continue
		}
		progs, ok := o[f.Module.Path]
		if !ok {
			if file, err := elf.Open(f.Module.Path); err == nil {
				for _, p := range file.Progs {
					if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
						progs = append(progs, p.ProgHeader)
					}
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
			}
			o[f.Module.Path] = progs
		}
		a := at{f.Module.Path, f.Addr}
		for _, p := range progs {
			if f.Addr >= p.Vaddr && f.Addr < p.Vaddr+p.Memsz {
				a.offset += p.Off - p.Vaddr
				break
			}
		}
		out = append(out, a)
	}
	return out
}

// differs says in words how a stack differs from strace's; "" if it does not.
func differs(ours []at, end stack.End, theirs []at) string {
	switch n := min(len(ours), len(theirs)); {
	case !slices.Equal(ours[:n], theirs[:n]):
		i := 0
		for ours[i] == theirs[i] {
			i++
		}
		return fmt.Sprintf("frame %d is not the same", i)
	case len(ours) < n || len(ours) < len(theirs):
		return fmt.Sprintf("ours is shorter and says: %v", end)
	case len(ours) > len(theirs):
		return "strace's is shorter"
	}
	return ""
}

// TestStacksAgreeWithStrace has strace -k unwind the stacks of a program that
// is traced here at the same time: the same stacks, read in two ways.
func TestStacksAgreeWithStrace(t *testing.T) {
	for _, c := range []struct {
		name  string
		argv  func(t *testing.T) []string
		bytes int // of each stack
	}{
		{"C", func(t *testing.T) []string {
			t.Helper()
			return []string{compile(t, filepath.Join(t.TempDir(), "chains"), "chains.c", "-pthread")}
		}, 0},
		{"C++", func(t *testing.T) []string {
			t.Helper()
			return []string{compile(t, filepath.Join(t.TempDir(), "chains"), "chains.cc", "-pthread", "-std=c++17")}
		}, 0},
		{"Python", func(t *testing.T) []string {
			t.Helper()
			// python3 in PATH may be a script that looks for the right one.
			out, err := exec.Command(tool.Need(t, "python3"), "-c", "import sys; print(sys.executable)").Output()
			if err != nil {
				t.Fatal(err)
			}
			return []string{strings.TrimSpace(string(out)), "-c", "import json, logging, decimal; l = [list(range(i)) for i in range(500)]"}
		}, bpf.MaxStackBytes}, // imports within imports: more than the default holds
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "strace")
			argv := straced(t, prefix, c.argv(t)...)
			w := watchStacks(t, Options{}, bpf.StackOptions{Bytes: c.bytes}, 2*time.Minute, nil, argv...)
			w.agree(prefix)
		})
	}
}

// agree compares all stacks of the program with those in strace's files.
func (w *watched) agree(prefix string) {
	w.t.Helper()
	files, err := filepath.Glob(prefix + ".*")
	if err != nil || len(files) == 0 {
		w.t.Fatalf("strace wrote no files: %v", err)
	}
	paths := make(offsets)
	compared, same, frames := 0, 0, 0
	distinct := make(map[uint32]bool)
	why, example := make(map[string]int), make(map[string]string)
	for _, file := range files {
		tid, err := strconv.Atoi(strings.TrimPrefix(file, prefix+"."))
		if err != nil {
			w.t.Fatal(err)
		}
		var ours []made
		for _, c := range w.calls {
			if int(c.call.TID) == tid {
				ours = append(ours, c)
			}
		}
		var brk int64
		for _, their := range readStrace(w.t, file) {
			mine := len(ours) > 0 && their.is(&ours[0].call)
			switch {
			case !mine && their.growing(brk):
				w.t.Fatalf("thread %d: no stack of %q; the next is of %+v", tid, their.line, ours[:min(1, len(ours))])
			case mine:
				chain, end := w.sites.Frames(ours[0].site)
				compared++
				frames += len(their.stack)
				distinct[ours[0].site] = true
				got := paths.of(w.t, chain)
				if d := differs(got, end, their.stack); d == "" {
					same++
				} else if why[d]++; why[d] == 1 {
					example[d] = fmt.Sprintf("%s\n  ours:     %v\n  strace's: %v", their.line, got, their.stack)
				}
				ours = ours[1:]
			}
			if their.op == "brk" {
				brk = their.ret
			}
		}
		if len(ours) > 0 {
			w.t.Errorf("thread %d: strace has not %d of the calls: %+v", tid, len(ours), ours[0])
		}
	}
	for d, n := range why {
		w.t.Logf("%d times %s, as in %s", n, d, example[d])
	}
	w.t.Logf("%d of %d stacks (%.2f %%) are strace's, %d different ones, of %d frames in the mean",
		same, compared, 100*float64(same)/float64(max(compared, 1)), len(distinct), frames/max(compared, 1))
	if compared < 100 || len(distinct) < 50 {
		w.t.Error("too few to say anything")
	}
	if same*100 < compared*99 {
		w.t.Error("want 99 % of them")
	}
}
