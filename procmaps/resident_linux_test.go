package procmaps

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/testdata/tool"
)

// rangesOf lists the mappings as ranges.
func rangesOf(rows []Mapping) []Range {
	ranges := make([]Range, len(rows))
	for i := range rows {
		ranges[i] = rows[i].Range
	}
	return ranges
}

// residency opens a Residency without pauses, or one that reads pagemap.
func residency(tb testing.TB, p *Process, scan bool) *Residency {
	tb.Helper()
	r, err := p.openResidency(".", scan)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	r.Pause, r.Files = 0, true
	return r
}

// zeroPages counts the bytes of the zero page in each range.
func zeroPages(t *testing.T, r *Residency, ranges []Range) []uint64 {
	t.Helper()
	sums := make([]uint64, len(ranges))
	for i, g := range ranges {
		for at := g.Start; at < g.End && at < kernelHalf; {
			found, end, err := r.walker.walk(Range{at, g.End}, 1<<20, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if f.categories&pageIsPfnZero != 0 {
					sums[i] += f.end - f.start
				}
			}
			at = end
		}
	}
	return sums
}

// checkAgainstSmaps wants Count to say of a process that stands still what smaps
// says, to the byte, whatever the size of the pieces.
func checkAgainstSmaps(t *testing.T, p *Process) {
	t.Helper()
	s, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]Mapping, len(s.Rows))
	want := make([]Resident, len(rows))
	for i := range s.Rows {
		row := &s.Rows[i]
		rows[i] = row.Mapping
		kb := func(key string) uint64 { v, _ := row.KB(key); return v * 1024 }
		want[i] = Resident{
			Bytes:     kb("Rss"),
			FileBytes: kb("Rss") - kb("Anonymous"),
			HugeBytes: kb("AnonHugePages") + kb("ShmemPmdMapped") + kb("FilePmdMapped"),
			SwapBytes: kb("Swap"),
		}
		if huge := kb("Private_Hugetlb") + kb("Shared_Hugetlb"); huge > 0 {
			// What belongs to a hugetlbfs is a file's as long as it is shared.
			want[i] = Resident{Bytes: huge, FileBytes: kb("Shared_Hugetlb"), HugeBytes: huge}
		}
	}
	ranges := rangesOf(rows)
	scan := residency(t, p, true)
	if !scan.Scans() {
		t.Log("this kernel has no PAGEMAP_SCAN (6.7+)")
	}
	hugeZero := make([]uint64, len(want))
	compare := func(what string, r *Residency, want []Resident) {
		t.Helper()
		got := make([]Resident, len(ranges))
		if err := r.Count(ranges, got); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for i := range got {
			if got[i].FileBytes == want[i].FileBytes+hugeZero[i] {
				got[i].FileBytes = want[i].FileBytes // pagemap may say so of the huge zero page
			}
			if got[i] != want[i] {
				t.Errorf("%s: %v %s: %+v, want %+v", what, rows[i].Range, rows[i].Name, got[i], want[i])
			}
		}
	}
	if scan.Scans() {
		for _, piece := range []uint64{defaultPiece, 1 << 20, scan.page} {
			scan.PieceBytes = piece
			compare(fmt.Sprintf("scanned in pieces of %d bytes", piece), scan, want)
		}
		zero := zeroPages(t, scan, ranges)
		for i := range want {
			want[i].Bytes += zero[i]
			want[i].HugeBytes = 0
			hugeZero[i] = zero[i] &^ (2<<20 - 1)
		}
		compare("read", residency(t, p, false), want)
	}
}

// residentSource is a program that has pages of every kind, of which a forked
// child has changed some.
const residentSource = `
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

static size_t ps;
static volatile char sum;

static char *map(size_t pages, int prot, int flags, int fd)
{
	char *p = mmap(NULL, pages * ps, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static void write_pages(char *p, size_t from, size_t to, size_t step)
{
	for (size_t i = from; i < to; i += step)
		p[i * ps] = 1;
}

static void read_pages(char *p, size_t from, size_t to, size_t step)
{
	for (size_t i = from; i < to; i += step)
		sum += p[i * ps];
}

static char *huge(void)
{
	size_t len = 2 << 20;
	char *p = map(4 * len / ps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *at = (char *)(((size_t)p + len - 1) / len * len);

	madvise(at, 3 * len, MADV_HUGEPAGE);
	return at;
}

int main(void)
{
	int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	int fd = memfd_create("resident", 0);
	char name[] = "/tmp/resident-XXXXXX";
	int disk = mkstemp(name);

	ps = sysconf(_SC_PAGESIZE);
	if (fd < 0 || disk < 0 || unlink(name) || ftruncate(fd, 400 * ps) || ftruncate(disk, 400 * ps))
		return 1;
	char *some = map(3000, rw, anon, -1);
	write_pages(some, 0, 3000, 1);
	madvise(some + 100 * ps, 1000 * ps, MADV_DONTNEED);
	char *sieve = map(3000, rw, anon, -1);
	write_pages(sieve, 0, 3000, 2);
	char *zeroes = map(300, rw, anon, -1);
	read_pages(zeroes, 0, 200, 1);
	write_pages(zeroes, 50, 100, 1);
	char *shared = map(400, rw, MAP_SHARED, fd);
	write_pages(shared, 0, 150, 1);
	char *copy = map(400, rw, MAP_PRIVATE, fd);
	read_pages(copy, 0, 100, 1);
	write_pages(copy, 20, 40, 1);
	char *file = map(400, rw, MAP_PRIVATE, disk);
	read_pages(file, 0, 64, 1);
	write_pages(file, 300, 310, 1);
	char *noname = map(100, rw, MAP_SHARED | MAP_ANONYMOUS, -1);
	write_pages(noname, 10, 30, 1);
	char *shut = map(50, rw, anon, -1);
	write_pages(shut, 0, 25, 1);
	mprotect(shut, 50 * ps, PROT_NONE);
	map(1 << 20, PROT_NONE, anon | MAP_NORESERVE, -1);
	char *wide = map(1 << 18, rw, anon | MAP_NORESERVE, -1);
	madvise(wide, (1 << 18) * ps, MADV_NOHUGEPAGE);
	write_pages(wide, 0, 1 << 18, 5003);
	char *big = huge();
	write_pages(big, 0, 1, 1);
	big[(2 << 20) + 5] = 1;
	madvise(big + (3 << 20), 1 << 19, MADV_DONTNEED);
	char *bigzero = huge();
	read_pages(bigzero, 0, 1, 1);
	char *tlb = mmap(NULL, 4 << 20, rw, anon | MAP_HUGETLB, -1, 0);
	if (tlb != MAP_FAILED)
		tlb[0] = 1;
	char *guarded = map(100, rw, anon, -1);
	write_pages(guarded, 0, 100, 1);
	madvise(guarded, 10 * ps, 102 /* MADV_GUARD_INSTALL, 6.13+ */);

	pid_t child = fork();
	if (child < 0)
		return 1;
	if (!child) {
		write_pages(some, 0, 50, 1);
		madvise(sieve, 500 * ps, MADV_DONTNEED);
		munmap(shared, 10 * ps);
		write_pages(big, 0, 1, 1);
	} else {
		printf("%d\n", child);
		fflush(stdout);
	}
	if (child)
		getchar();
	else
		pause(); /* until it is killed */
	return 0;
}
`

func TestResidentMemoryIsWhatSmapsSays(t *testing.T) {
	for _, tt := range []struct {
		name string
		argv []string
	}{
		{"a shell", []string{"sh", "-c", "echo ready; read line"}},
		{"python3", []string{"python3", "-c", "import sys, json, decimal; print('ready', flush=True); sys.stdin.read()"}},
		{"node", []string{"node", "-e", "console.log('ready'); process.stdin.resume()"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startReady(t, nil, tool.Need(t, tt.argv[0]), tt.argv[1:]...)
			halt(t, p)
			checkAgainstSmaps(t, p)
		})
	}
}

func TestPagesOfEveryKindAndAfterAFork(t *testing.T) {
	gcc := tool.Need(t, "gcc")
	dir := t.TempDir()
	file, program := filepath.Join(dir, "resident.c"), filepath.Join(dir, "resident")
	if err := os.WriteFile(file, []byte(residentSource), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, e := exec.CommandContext(t.Context(), gcc, "-O1", "-o", program, file).CombinedOutput(); e != nil {
		t.Fatalf("%v\n%s", e, msg)
	}
	cmd := exec.CommandContext(t.Context(), program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if e := cmd.Wait(); e != nil {
			t.Error(e)
		}
	}()
	var child int
	if _, err := fmt.Fscan(bufio.NewReader(out), &child); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if e := syscall.Kill(child, syscall.SIGKILL); e != nil {
			t.Error(e)
		}
	}()
	c := openProcess(t, child)
	waitForState(t, c, 'S')
	p := openProcess(t, cmd.Process.Pid)
	waitForState(t, p, 'S')
	for name, p := range map[string]*Process{"the parent": p, "the child": c} {
		t.Run(name, func(t *testing.T) { checkAgainstSmaps(t, p) })
	}
}

func TestResidentMemoryFollowsWhatTheProcessDoes(t *testing.T) {
	page := os.Getpagesize()
	const pages = 2000
	mem, err := syscall.Mmap(-1, 0, pages*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(t, mem)
	const noHugePage = 15 // MADV_NOHUGEPAGE
	if err := syscall.Madvise(mem, noHugePage); err != nil && !errors.Is(err, syscall.EINVAL) {
		t.Fatal(err)
	}
	for i := range pages {
		mem[i*page] = 1
	}
	if err := syscall.Madvise(mem[500*page:600*page], syscall.MADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	for i := 550; i < 600; i++ { // the zero page
		sum += mem[i*page]
	}
	if sum != 0 {
		t.Error("memory given back is not zero")
	}
	base := uint64(uintptr(unsafe.Pointer(&mem[0])))
	at := func(i int) uint64 { return base + uint64(i*page) }
	ranges := []Range{{at(0), at(1)}, {at(1), at(499)}, {at(499), at(551)}, {at(551), at(700)}, {at(1000), at(pages)}}
	// There are kernels on which reads get pages of their own.
	zero := zeroPages(t, residency(t, self(t), true), []Range{{base, base + pages*uint64(page)}})[0] > 0
	scanned := []int{1, 498, 1, 100, 1000}
	if !zero {
		t.Log("reads of untouched memory do not get the zero page here")
		scanned = []int{1, 498, 2, 149, 1000}
	}
	for _, tt := range []struct {
		name string
		scan bool
		want []int
	}{
		{"scanned", true, scanned},
		{"read, with zero pages", false, []int{1, 498, 2, 149, 1000}},
	} {
		r := residency(t, self(t), tt.scan)
		if r.Scans() != tt.scan {
			t.Logf("this kernel has no PAGEMAP_SCAN (6.7+)")
			continue
		}
		got := make([]Resident, len(ranges))
		if err := r.Count(ranges, got); err != nil {
			t.Fatal(err)
		}
		for i, n := range tt.want {
			if diff := cmp.Diff(got[i], Resident{Bytes: uint64(n * page)}); diff != "" {
				t.Errorf("%s: range %d (-got +want):\n%s", tt.name, i, diff)
			}
		}
	}
}

func TestAHoleOfManyGiBIsPassedOver(t *testing.T) {
	r := residency(t, self(t), true)
	if !r.Scans() {
		t.Skip("this kernel has no PAGEMAP_SCAN (6.7+)")
	}
	const size = 1 << 40
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(t, mem)
	last := mem[size-os.Getpagesize():]
	if err := syscall.Mprotect(last, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	last[0] = 1
	base := uint64(uintptr(unsafe.Pointer(&mem[0])))
	out := make([]Resident, 1)
	if err := r.Count([]Range{{base, base + size}}, out); err != nil {
		t.Fatal(err)
	}
	if want := (Resident{Bytes: r.page}); out[0] != want {
		t.Errorf("found %+v, want %+v", out[0], want)
	}
	// A piece without pages makes the next one longer.
	if c := r.Cost(); c.Calls > 2*size/(defaultPiece*sparse) || c.SpanBytes != size {
		t.Errorf("cost %+v", c)
	}
}

func TestCountingTellsAnAddressSpaceThatEnded(t *testing.T) {
	for _, scan := range []bool{true, false} {
		name := map[bool]string{true: "scanned", false: "read"}[scan]
		t.Run(name+", a process that exits", func(t *testing.T) {
			cmd, in := start(t, "cat")
			p := openProcess(t, cmd.Process.Pid)
			rows, err := p.Maps()
			if err != nil {
				t.Fatal(err)
			}
			r, out := residency(t, p, scan), make([]Resident, len(rows))
			if err := r.Count(rangesOf(rows), out); err != nil {
				t.Fatal(err)
			}
			in.Close()
			waitForEnd(t, p)
			if err := r.Count(rangesOf(rows), out); !errors.Is(err, ErrNoMemory) {
				t.Errorf("of a zombie: error %v", err)
			}
			if _, err := p.OpenResidency(); !errors.Is(err, ErrNoMemory) {
				t.Errorf("opening a zombie: error %v", err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.OpenResidency(); !errors.Is(err, ErrGone) {
				t.Errorf("opening nothing: error %v", err)
			}
		})
		t.Run(name+", a process that executes another program", func(t *testing.T) {
			cmd, in := start(t, "sh", "-c", "read line && exec cat")
			p := openProcess(t, cmd.Process.Pid)
			rows, err := p.Maps()
			if err != nil {
				t.Fatal(err)
			}
			r, out := residency(t, p, scan), make([]Resident, len(rows))
			if err = r.Count(rangesOf(rows), out); err != nil {
				t.Fatal(err)
			}
			before, err := p.Exe()
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.WriteString(in, "go\n"); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if exe, e := p.Exe(); e != nil || time.Now().After(deadline) {
					t.Fatalf("the program is %q, %v", exe, e)
				} else if exe != before {
					break
				}
			}
			if err = r.Count(rangesOf(rows), out); !errors.Is(err, ErrNoMemory) {
				t.Errorf("error %v, want %v", err, ErrNoMemory)
			}
			again, err := p.OpenResidency()
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if rows, err = p.Maps(); err != nil {
				t.Fatal(err)
			}
			if err := again.Count(rangesOf(rows), make([]Resident, len(rows))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResidencyOfThreadsThatOutliveTheLeader(t *testing.T) {
	p := startOwn(t, "leaderless")
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.OpenResidency()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Files = true
	out := make([]Resident, len(rows))
	if err := r.Count(rangesOf(rows), out); err != nil {
		t.Fatal(err)
	}
	var sum Resident
	for _, o := range out {
		sum.Add(o)
	}
	if sum.Bytes < 1<<20 || sum.FileBytes == 0 {
		t.Errorf("the program has %+v", sum)
	}
}

func TestCountDoesNotAllocate(t *testing.T) {
	p := stopped(t, "cat")
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	ranges, out := rangesOf(rows), make([]Resident, len(rows))
	for _, scan := range []bool{true, false} {
		r := residency(t, p, scan)
		if n := testing.AllocsPerRun(10, func() {
			if err := r.Count(ranges, out); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("scan %v: %v allocations", scan, n)
		}
	}
}

func TestPausesAreForWorkAndNotForCalls(t *testing.T) {
	const size = 64 << 20
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(t, mem)
	base := uint64(uintptr(unsafe.Pointer(&mem[0])))
	ranges, out := []Range{{base, base + size}}, make([]Resident, 1)
	r := residency(t, self(t), true)
	r.Pause, r.PieceBytes = time.Millisecond, 1<<20
	if err := r.Count(ranges, out); err != nil {
		t.Fatal(err)
	}
	c := r.Cost()
	if out[0].Bytes != size || c.FoundBytes != size || c.Busy < c.Longest || c.Calls < size/(1<<20) {
		t.Errorf("found %+v at the cost of %+v", out[0], c)
	}
	// Each pause stands for that much work, or that and one call.
	if n := c.Busy / (busyBeforePause + c.Longest); n < 1 || c.Paused < n*r.Pause {
		t.Errorf("paused %v with %v busy, want %d pauses of %v at least", c.Paused, c.Busy, n, r.Pause)
	}
	r = residency(t, self(t), true)
	if err := r.Count(ranges, out); err != nil {
		t.Fatal(err)
	}
	if c := r.Cost(); c.Paused != 0 {
		t.Errorf("paused %v though it should not", c.Paused)
	}
}

// BenchmarkResidency counts 1,000 mappings with 1 GiB resident.
func BenchmarkResidency(b *testing.B) {
	const n, each = 1000, 1 << 20
	var maps [][]byte
	for i := range n { // read-only and writable in turn, so that none merge
		mem, err := syscall.Mmap(-1, 0, each, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
		if err != nil {
			b.Fatal(err)
		}
		if i%2 == 0 {
			if err := syscall.Mprotect(mem, syscall.PROT_READ); err != nil {
				b.Fatal(err)
			}
		}
		maps = append(maps, mem)
	}
	p, err := Default().Process(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		b.Fatal(err)
	}
	ranges, out := rangesOf(rows), make([]Resident, len(rows))
	for _, method := range []string{"scan", "scan with files", "read"} {
		b.Run(method, func(b *testing.B) {
			r := residency(b, p, method != "read")
			r.Files = method == "scan with files"
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Count(ranges, out); err != nil {
					b.Fatal(err)
				}
			}
			c := r.Cost()
			b.ReportMetric(float64(c.Busy.Nanoseconds())/float64(c.FoundBytes)*float64(r.page), "ns/page")
			b.ReportMetric(float64(c.Calls)/float64(b.N), "calls/op")
		})
	}
	b.Run("smaps", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Smaps(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, mem := range maps {
		unmap(b, mem)
	}
}
