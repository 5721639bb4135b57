//go:build amd64 || arm64

package site

import (
	"bufio"
	"debug/elf"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/heap"
)

// TestReturnsOfFunctionsThatMayThrowAreNotProbed has an allocator whose operator new throws: an
// exception does not get past a return that is probed.
func TestReturnsOfFunctionsThatMayThrowAreNotProbed(t *testing.T) {
	t.Parallel()
	path := compile(t, filepath.Join(t.TempDir(), "throwing"), "throwing.cc")
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
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
	defer func() {
		_ = in.Close()
		if failed := cmd.Wait(); failed != nil {
			t.Error(failed)
		}
	}()
	if line, failed := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, failed)
	}
	proc, err := procmaps.Default().Process(cmd.Process.Pid)
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
		for _, p := range s.modules.at(cmd.Process.Pid, &rows[i]).allocator() {
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
