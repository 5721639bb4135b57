package malloc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// remote is the memory of a process.
type remote int

func (pid remote) ReadAt(p []byte, addr uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	return unix.ProcessVMReadv(int(pid), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
}

// counts are what malloc counts itself: mallinfo2, and what blocks the program holds.
type counts struct {
	arena, ordblks, smblks, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost uint64
	bytes, blocks                                                                uint64
}

// program is testdata/heaps.c in the middle of what it does.
type program struct {
	pid  int
	in   io.Writer
	out  *bufio.Reader
	proc *procmaps.Process
}

func build(tb testing.TB, flags ...string) string {
	tb.Helper()
	bin := filepath.Join(tb.TempDir(), "heaps")
	args := append([]string{"-O1", "-pthread", "-o", bin, filepath.Join("testdata", "heaps.c")}, flags...)
	if msg, err := exec.CommandContext(tb.Context(), tool.Need(tb, "gcc"), args...).CombinedOutput(); err != nil {
		tb.Fatalf("gcc: %v\n%s", err, msg)
	}
	return bin
}

func start(tb testing.TB, env []string, bin string, ways ...string) *program {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), bin, ways...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p := &program{pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	if p.proc, err = procmaps.Default().Process(p.pid); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			tb.Error(err)
		}
		_ = cmd.Wait() // it was killed
		if err := p.proc.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// counts waits for what the program counts.
func (p *program) counts(tb testing.TB) (c counts) {
	tb.Helper()
	if _, err := fmt.Fscanln(p.out, &c.arena, &c.ordblks, &c.smblks, &c.hblks, &c.hblkhd, &c.fsmblks, &c.uordblks, &c.fordblks, &c.keepcost, &c.bytes, &c.blocks); err != nil {
		tb.Fatal(err)
	}
	return c
}

func (p *program) goOn(tb testing.TB) {
	tb.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		tb.Fatal(err)
	}
}

func (p *program) heap(tb testing.TB, o Options) *Heap {
	tb.Helper()
	rows, err := p.proc.Maps()
	if err != nil {
		tb.Fatal(err)
	}
	h, err := Read(remote(p.pid), rows, o)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// counting are options with which resident pages are counted.
func (p *program) counting(tb testing.TB) Options {
	tb.Helper()
	r, err := p.proc.OpenResidency()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	r.Pause = 0
	return Options{Count: r.Count}
}

// as are the same figures as malloc's own.
func (h *Heap) as() counts {
	sum := h.Total()
	c := counts{
		arena: sum.System, ordblks: sum.Bins.Blocks + uint64(len(h.Arenas)), smblks: sum.Fast.Blocks, hblks: h.Mapped.Blocks, hblkhd: h.Mapped.Bytes,
		fsmblks: sum.Fast.Bytes, uordblks: sum.InUse.Bytes + sum.Tcache.Bytes + sum.Overhead, fordblks: sum.Bins.Bytes + sum.Fast.Bytes + sum.Top,
	}
	if len(h.Arenas) == 0 || !h.Arenas[0].Main {
		c.ordblks++ // the main arena counts though it was never used
	} else {
		c.keepcost = h.Arenas[0].Top
	}
	return c
}

func TestTheFiguresAreMallocsOwn(t *testing.T) {
	bin := build(t)
	for _, tt := range []struct {
		name string
		env  []string
		ways []string
		some func(h *Heap, sum Arena) bool // what the case is there for
	}{
		{"hardly anything", nil, []string{"one"}, func(h *Heap, _ Arena) bool { return len(h.Arenas) == 1 }},
		{"blocks of many sizes", nil, []string{"mixed"}, func(_ *Heap, s Arena) bool { return s.Bins.Blocks > 1000 && s.Tcache.Blocks > 0 }},
		{"fast bins", nil, []string{"fast"}, func(_ *Heap, s Arena) bool { return s.Fast.Blocks+s.Bins.Blocks > 30_000 }},
		{"a full cache of the thread", nil, []string{"cached"}, func(_ *Heap, s Arena) bool { return s.Tcache == Amount{7 * 64 * 536, 7 * 64} }},
		{"no caches of threads", []string{"GLIBC_TUNABLES=glibc.malloc.tcache_count=0"}, []string{"mixed"}, func(_ *Heap, s Arena) bool { return s.Tcache.Blocks == 0 }},
		{"large caches of threads", []string{"GLIBC_TUNABLES=glibc.malloc.tcache_count=1000"}, []string{"mixed"}, func(_ *Heap, s Arena) bool { return s.Tcache.Blocks > 10_000 }},
		{"holes", nil, []string{"holes"}, func(_ *Heap, s Arena) bool { return s.Bins.Blocks > 1000 }},
		{"what malloc_trim leaves", nil, []string{"mixed", "trim"}, nil},
		{"mappings of their own", nil, []string{"mapped"}, func(h *Heap, _ Arena) bool { return h.Mapped.Blocks > 1 }},
		{"aligned blocks", nil, []string{"aligned"}, nil},
		{"31 threads", nil, []string{"threads"}, nil},
		{"31 threads, 2 arenas", []string{"GLIBC_TUNABLES=glibc.malloc.arena_max=2"}, []string{"threads"}, func(h *Heap, _ Arena) bool { return len(h.Arenas) == 2 && h.Caches >= 31 }},
		{"31 arenas", []string{"GLIBC_TUNABLES=glibc.malloc.arena_max=100"}, []string{"threads"}, func(h *Heap, _ Arena) bool { return len(h.Arenas) == 32 }},
		{"an arena of several heaps", nil, []string{"large-arena"}, func(h *Heap, s Arena) bool { return s.Heaps > len(h.Arenas)+1 }},
		{"a break that somebody else moved", nil, []string{"foreign-brk"}, func(_ *Heap, s Arena) bool { return s.Overhead >= 12345*16 }},
		{"a break that cannot grow", nil, []string{"no-brk"}, func(_ *Heap, s Arena) bool { return s.Heaps > 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, tt.env, bin, tt.ways...)
			want := p.counts(t)
			for range tt.ways[1:] {
				p.goOn(t)
				want = p.counts(t)
			}
			h := p.heap(t, p.counting(t))
			sum := h.Total()
			if !h.Complete {
				t.Errorf("not complete: %s", h.Why)
			}
			got := h.as()
			got.bytes, got.blocks = want.bytes, want.blocks
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(counts{})); diff != "" {
				t.Errorf("malloc's own (-) and what was found (+):\n%s", diff)
			}
			if sum.Walked != sum.System || sum.Skipped != 0 || sum.Estimated {
				t.Errorf("%+v", sum)
			}
			// Beside the program's blocks there are libc's: of each thread its cache and its
			// vector of thread-local storage.
			others, bytes := sum.InUse.Blocks-want.blocks, sum.InUse.Bytes-want.bytes
			if others > 5+3*31 || bytes > 8<<10+31*(2<<10) {
				t.Errorf("in use %+v, and the program holds %d blocks, %d bytes", sum.InUse, want.blocks, want.bytes)
			}
			if tt.some != nil && !tt.some(h, sum) {
				t.Errorf("not what was to be tried: %+v, %d caches", sum, h.Caches)
			}
		})
	}
}

// resident is what of a process is in memory.
func (p *program) resident(tb testing.TB) uint64 {
	tb.Helper()
	rows, err := p.proc.Maps()
	if err != nil {
		tb.Fatal(err)
	}
	var ranges []procmaps.Range
	for _, m := range rows {
		ranges = append(ranges, m.Range)
	}
	out := make([]procmaps.Resident, len(ranges))
	if err := p.counting(tb).Count(ranges, out); err != nil {
		tb.Fatal(err)
	}
	var sum procmaps.Resident
	for _, r := range out {
		sum.Add(r)
	}
	return sum.Bytes
}

func TestWhatMallocTrimGivesBackIsForeseen(t *testing.T) {
	bin := build(t)
	for _, way := range []string{"mixed", "holes", "fast", "threads", "large-arena"} {
		t.Run(way, func(t *testing.T) {
			p := start(t, nil, bin, way, "trim")
			p.counts(t)
			h := p.heap(t, p.counting(t))
			before := p.resident(t)
			p.goOn(t)
			p.counts(t)
			got, want := before-p.resident(t), h.Total().ResidentTrim
			const own = 16 << 10 // pages that trimming itself touches
			if got > want+own || want > got+own {
				t.Errorf("%d bytes were foreseen, and %d given back", want, got)
			}
			if after := p.heap(t, p.counting(t)).Total(); after.ResidentTrim > own {
				t.Errorf("%d more bytes", after.ResidentTrim)
			}
		})
	}
}

// A heap that changes all the time is read, and what changed too fast is said.
func TestAHeapThatChangesAllTheTime(t *testing.T) {
	p := start(t, nil, build(t), "churn")
	p.counts(t)
	var inUse, blocks, n uint64
	for range 20 {
		h := p.heap(t, p.counting(t))
		if h.Complete != (h.Why == "") {
			t.Errorf("complete %v, %q", h.Complete, h.Why)
		}
		sum := h.Total()
		if sum.sum() != sum.Walked || sum.Walked > sum.System+sum.System/4 {
			t.Errorf("%+v", sum)
		}
		n++
		inUse += sum.InUse.Bytes
		blocks += sum.InUse.Blocks
	}
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	still := p.heap(t, Options{}).Total()
	near := func(what string, got, want uint64) {
		if got < want-want/4 || got > want+want/4 {
			t.Errorf("%s: %d on the average while it ran, %d now that it is stopped", what, got, want)
		}
	}
	near("bytes in use", inUse/n, still.InUse.Bytes)
	near("blocks in use", blocks/n, still.InUse.Blocks)
}

func TestFastBinsThatAreTooLongToFollow(t *testing.T) {
	p := start(t, nil, build(t), "fastest")
	want := p.counts(t)
	if want.smblks == 0 {
		t.Skip("this glibc has no fast bins")
	}
	h := p.heap(t, Options{})
	sum := h.Total()
	if !sum.Estimated || sum.Fast != (Amount{want.fsmblks, want.smblks}) || sum.InUse.Blocks > want.blocks+10 {
		t.Errorf("%+v; malloc's own %+v", sum, want)
	}
}

func TestAProgramThatIsLinkedStatically(t *testing.T) {
	p := start(t, nil, build(t, "-static"), "mixed")
	want := p.counts(t)
	got := p.heap(t, Options{}).as()
	got.bytes, got.blocks = want.bytes, want.blocks
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(counts{})); diff != "" {
		t.Errorf("malloc's own (-) and what was found (+):\n%s", diff)
	}
}

func TestPrograms(t *testing.T) {
	for _, tt := range []struct {
		name string
		argv []string
	}{
		{"python3", []string{"-c", "import json, sys\nx = [json.loads('{\"a\": [1, 2, 3]}') for i in range(20000)]\ny = [str(i) * 300 for i in range(5000)]\ndel y[::2]\nprint('0 ' * 11, flush=True)\nsys.stdin.read()"}},
		{"perl", []string{"-e", "@x = map {$_ x 30} 1 .. 10000; $| = 1; print '0 ' x 11, qq(\\n); <STDIN>"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, nil, tool.Need(t, tt.name), tt.argv...)
			p.counts(t)
			h := p.heap(t, p.counting(t))
			if sum := h.Total(); !h.Complete || sum.Walked != sum.System || sum.Skipped > 0 || sum.InUse.Blocks < 1000 {
				t.Errorf("%+v", h)
			}
		})
	}
}
