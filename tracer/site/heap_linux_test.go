//go:build amd64 || arm64

package site

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// runThrowing runs an allocator whose operator new throws, and returns its symbols.
func runThrowing(t *testing.T) (path string, pid int, f *elf.File, syms []elf.Symbol) {
	t.Helper()
	path = compile(t, filepath.Join(t.TempDir(), "throwing"), "throwing.cc")
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if syms, err = f.Symbols(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if failed := cmd.Wait(); failed != nil {
			t.Error(failed)
		}
	})
	if line, failed := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, failed)
	}
	return path, cmd.Process.Pid, f, syms
}

// TestAStackBeginsAtAnInstructionThatReturns has a sample of one that has taken its frame off
// the stack already.
func TestAStackBeginsAtAnInstructionThatReturns(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("such instructions are not probed")
	}
	_, pid, _, syms := runThrowing(t)
	tree := treeOf(t, pid)
	s := New(Options{})
	defer s.Close()
	all := s.Allocators(pid, tree)
	if len(all) == 0 {
		t.Fatal("no allocator")
	}
	m := &all[0].Mapping
	module := s.modules.at(pid, m)
	bias, _ := module.sym.Bias(m.Start, m.Offset)
	i := slices.IndexFunc(syms, func(sym elf.Symbol) bool { return sym.Name == "main" })
	caller := syms[i].Value + bias + 1
	n := 0
	for _, p := range all[0].Points {
		if p.Function != heap.Leave {
			continue
		}
		n++
		const sp = 0x7ffd00000000
		sample := stack.Sample{Regs: stack.Registers{Arch: stack.AMD64, PC: m.Start + p.Offset - m.Offset, SP: sp}, Returned: true, Stack: make([]byte, 4096)}
		binary.LittleEndian.PutUint64(sample.Stack, caller)
		frames, _ := s.Frames(s.Site(pid, tree, &sample))
		if len(frames) < 2 || frames[1].Addr != caller-bias {
			t.Errorf("it returns at %#x to %+v, want to %#x", p.Offset, frames, caller-bias)
		}
	}
	if n == 0 {
		t.Error("no instruction that returns is probed")
	}
}

// TestReturnsOfFunctionsThatMayThrowAreNotProbed has an allocator whose operator new throws: an
// exception does not get past a return that is probed.
func TestReturnsOfFunctionsThatMayThrowAreNotProbed(t *testing.T) {
	t.Parallel()
	path, pid, f, syms := runThrowing(t)
	proc, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	rows, err := proc.Maps()
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	defer s.Close()
	var probed, left []string
	for i := range rows {
		if rows[i].Mode&procmaps.Exec == 0 || rows[i].Path() != path {
			continue
		}
		for _, p := range s.modules.at(pid, &rows[i]).allocator() {
			for _, sym := range syms {
				const furthest = 8 // a probe is not at the function's first instruction always
				for _, load := range f.Progs {
					at := sym.Value - load.Vaddr + load.Off
					if elf.ST_TYPE(sym.Info) == elf.STT_FUNC && load.Type == elf.PT_LOAD && sym.Value-load.Vaddr < load.Filesz && p.Offset-at < furthest {
						switch p.Function {
						case heap.ThrowingNew:
							probed = append(probed, "throwing "+sym.Name)
						case heap.Leave:
						default:
							probed = append(probed, sym.Name)
						}
					}
					if elf.ST_TYPE(sym.Info) == elf.STT_FUNC && p.Function == heap.Leave && p.Offset > at && p.Offset-at < sym.Size {
						left = append(left, sym.Name)
					}
				}
			}
		}
	}
	slices.Sort(probed)
	want, wantLeft := []string{"_ZdlPv", "_ZdlPvm", "_ZnwmRKSt9nothrow_t", "je_malloc", "mallocx"}, []string(nil)
	if runtime.GOARCH == "amd64" {
		want, wantLeft = append(want, "throwing _Znwm"), []string{"_Znwm"}
	}
	if d := cmp.Diff(want, slices.Compact(probed)); d != "" {
		t.Errorf("probed (-want +got):\n%s", d)
	}
	if d := cmp.Diff(wantLeft, slices.Compact(left)); d != "" {
		t.Errorf("seen to return (-want +got):\n%s", d)
	}
}

// TestWhatIsCalledOftenIsProbedFirst has an allocator with functions of many names.
func TestWhatIsCalledOftenIsProbedFirst(t *testing.T) {
	t.Parallel()
	_, pid, f, syms := runThrowing(t)
	s := New(Options{})
	defer s.Close()
	all := s.Allocators(pid, treeOf(t, pid))
	if len(all) == 0 {
		t.Fatal("no allocator")
	}
	of := func(at uint64) string {
		for _, load := range f.Progs {
			for _, sym := range syms {
				if load.Type == elf.PT_LOAD && at-load.Off < load.Filesz && at-load.Off+load.Vaddr-sym.Value < sym.Size {
					return sym.Name
				}
			}
		}
		return ""
	}
	rare := ""
	for _, p := range all[0].Points {
		switch name := of(p.Offset); {
		case !slices.Contains(often, name):
			rare = name
		case rare != "":
			t.Errorf("%s is probed after %s", name, rare)
		}
	}
	if rare == "" {
		t.Error("nothing is called seldom")
	}
}
