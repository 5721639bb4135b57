package procmaps

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/testdata/tool"
)

// testProgram is the environment variable that makes the test binary one of the
// programs of TestMain.
const testProgram = "PROCMAPS_TEST_PROGRAM"

// TestMain lets the test binary stand in for programs with threads.
func TestMain(m *testing.M) {
	run := map[string]func() error{"threads": manyThreads, "leaderless": leaderless}[os.Getenv(testProgram)]
	if run == nil {
		m.Run()
		return
	}
	if err := run(); err != nil {
		os.Exit(1) //nolint:forbidigo // this is a main function
	}
}

// The first goroutine is to stay on the thread that it begins on, the leader.
func init() {
	if os.Getenv(testProgram) == "leaderless" {
		runtime.LockOSThread()
	}
}

// manyThreads blocks four threads in the kernel, on goroutine stacks, says so,
// and waits for the input to end.
func manyThreads() error {
	for range 4 {
		go func() {
			runtime.LockOSThread()
			_ = syscall.Pause() // ends with the process
		}()
	}
	return readyUntilEOF()
}

// leaderless ends its leader, says so from another thread, and waits for the input
// to end.
func leaderless() error {
	p, err := Default().Process(os.Getpid())
	if err != nil {
		return err
	}
	go func() {
		status := 1
		for st, err := p.Stat(); err == nil; st, err = p.Stat() {
			if st.Dead() {
				if readyUntilEOF() == nil {
					status = 0
				}
				break
			}
			time.Sleep(time.Millisecond)
		}
		os.Exit(status) //nolint:forbidigo // nobody else is left to do it
	}()
	_, _, errno := syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	return errno // not reached
}

// readyUntilEOF says that the program is ready, and waits for its input to end.
func readyUntilEOF() error {
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// startOwn starts the test binary as one of the programs of TestMain.
func startOwn(t *testing.T, program string) *Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startReady(t, []string{testProgram + "=" + program}, exe)
}

// startReady runs a program that prints a line when it is ready and then waits
// for its input to end.
func startReady(t *testing.T, env []string, name string, arg ...string) *Process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, arg...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot start %s: %v", name, err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skipf("%s does not run here: it says %q, %v", name, line, err)
	}
	return openProcess(t, cmd.Process.Pid)
}

// blocked reads the threads until at least n of them have a stack pointer.
func blocked(t *testing.T, p *Process, n int) []Thread {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		threads, err := p.ThreadInfo()
		if err != nil {
			t.Fatal(err)
		}
		known := 0
		for _, th := range threads {
			if th.SP != 0 {
				known++
			}
		}
		if known >= n {
			return threads
		}
		if time.Now().After(deadline) {
			if _, err := os.ReadFile(p.file("syscall")); err != nil {
				t.Skipf("stack pointers may not be read: %v", err)
			}
			t.Fatalf("after 20 s %d of %d threads have a stack pointer, want %d", known, len(threads), n)
		}
	}
}

// halt stops the process, so that rows and threads belong together.
func halt(t *testing.T, p *Process) {
	t.Helper()
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitForState(t, p, 'T')
}

// summary counts the roles and adds their sizes.
func summary(rows []Mapping, purposes []Purpose) (count map[Role]int, kb map[Role]uint64, text string) {
	count, kb = map[Role]int{}, map[Role]uint64{}
	for i, p := range purposes {
		count[p.Role]++
		kb[p.Role] += rows[i].Len() / 1024
	}
	var b strings.Builder
	for r := RoleAnon; r <= RoleSpecial; r++ {
		if count[r] > 0 {
			fmt.Fprintf(&b, "  %-13v %4d rows %12d kB\n", r, count[r], kb[r])
		}
	}
	return count, kb, b.String()
}

// roleRows lists the ranges of a role.
func roleRows(rows []Mapping, purposes []Purpose, role Role) []Range {
	var ranges []Range
	for i, p := range purposes {
		if p.Role == role {
			ranges = append(ranges, rows[i].Range)
		}
	}
	return ranges
}

// checkStacks wants every thread whose stack pointer is known to be on a row that
// is its own stack, but for the leader, which is on the main stack.
func checkStacks(t *testing.T, p *Process, rows []Mapping, purposes []Purpose, threads []Thread) {
	t.Helper()
	in := inference{rows: rows}
	for _, th := range threads {
		if th.SP == 0 {
			continue
		}
		want := Purpose{Role: RoleThreadStack, Inferred: true, TID: th.TID, Detail: "holds the thread's stack pointer"}
		if th.TID == p.PID() {
			want = Purpose{Role: RoleStack}
		}
		i := in.rowAt(th.SP)
		if i < 0 {
			t.Errorf("thread %d: no row holds its stack pointer %#x", th.TID, th.SP)
		} else if !cmp.Equal(purposes[i], want) {
			t.Errorf("thread %d (%q) is on %v: %+v", th.TID, th.Comm, rows[i].Range, purposes[i])
		}
	}
}

func TestTheStacksAndArenasOfACProgram(t *testing.T) {
	const source = `
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static pthread_barrier_t ready;

static void *work(void *name)
{
	volatile char *p = malloc(1000);

	prctl(PR_SET_NAME, name);
	p[0] = 1;
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
}

int main(void)
{
	static char names[3][8] = { "one", "two", "three" };
	pthread_t t;

	pthread_barrier_init(&ready, NULL, 4);
	for (int i = 0; i < 3; i++)
		if (pthread_create(&t, NULL, work, names[i]))
			return 1;
	pthread_barrier_wait(&ready);
	puts("ready");
	fflush(stdout);
	getchar();
	return 0;
}
`
	dir := t.TempDir()
	file, program := filepath.Join(dir, "threads.c"), filepath.Join(dir, "threads")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	gcc := tool.Need(t, "gcc")
	out, err := exec.CommandContext(t.Context(), gcc, "-pthread", "-o", program, file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Whatever the machine's own tunables are, each thread gets an arena, unnamed.
	p := startReady(t, []string{"GLIBC_TUNABLES=glibc.malloc.arena_max=16", "MALLOC_ARENA_MAX=16"}, program)
	blocked(t, p, 4)
	halt(t, p)
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	threads := blocked(t, p, 4)
	var names []string
	for _, th := range threads[1:] {
		names = append(names, th.Comm)
	}
	if diff := cmp.Diff(names, []string{"one", "two", "three"}); diff != "" {
		t.Errorf("names of the threads (-got +want):\n%s", diff)
	}
	got := Infer(rows, threads, nil)
	count, _, text := summary(rows, got)
	t.Logf("with stack pointers:\n%s", text)
	if count[RoleArena] != 6 || count[RoleHeap] > 1 || count[RoleStack] != 1 {
		t.Errorf("want 3 arenas of two rows each, and one main stack:\n%s", annotate(rows, got))
	}
	if !glibcMapsGuards(rows) {
		in := inference{rows: rows}
		for _, th := range threads[1:] {
			if i := in.rowAt(th.SP); i < 0 || got[i].Role != RoleThreadStack {
				t.Errorf("thread %d at %#x is on no stack:\n%s", th.TID, th.SP, annotate(rows, got))
			}
		}
		return
	}
	checkStacks(t, p, rows, got, threads)
	if count[RoleThreadStack] != 3 || count[RoleGuard] != 3 {
		t.Errorf("want 3 thread stacks with guards:\n%s", annotate(rows, got))
	}
	blind := Infer(rows, nil, nil)
	for _, role := range []Role{RoleThreadStack, RoleGuard, RoleArena} {
		if diff := cmp.Diff(roleRows(rows, blind, role), roleRows(rows, got, role)); diff != "" {
			t.Errorf("%v without stack pointers (-got +want):\n%s", role, diff)
		}
	}
}

// Stacks as glibc 2.42 makes them: neighbours without a mapping between become one.
func TestStacksBetweenGuardPages(t *testing.T) {
	file, program := filepath.Join(t.TempDir(), "guards.c"), filepath.Join(t.TempDir(), "guards")
	if err := os.WriteFile(file, []byte(`
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
static void *wait_forever(void *x) { pause(); return x; }
int main(void)
{
	size_t n = 1 << 20, guard = 64 << 10;
	char *all = mmap(NULL, 6 * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	for (int i = 0; i < 5; i++) { /* what is below the first is no stack, and one is nobody's */
		char *s = all + n / 2 + i * n;
		pthread_attr_t a;
		pthread_t p;

		if (madvise(s, guard, 102 /* MADV_GUARD_INSTALL */)) {
			puts("no guard pages");
			return 0;
		}
		if (i == 2)
			continue;
		pthread_attr_init(&a);
		pthread_attr_setstack(&a, s + guard, n - guard);
		pthread_create(&p, &a, wait_forever, NULL);
	}
	puts("ready");
	fflush(stdout);
	getchar();
	return 0;
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool.Need(t, "gcc"), "-pthread", "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := startReady(t, nil, program)
	threads := blocked(t, p, 5)
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	in := inference{rows: rows}
	row := in.rowAt(threads[1].SP)
	if row < 0 {
		t.Fatalf("no row of thread %d", threads[1].TID)
	}
	if len(p.Guards(rows[row].Range)) == 0 {
		t.Skip("guard pages cannot be asked for here") // before 6.15
	}
	got := Infer(rows, threads, p.Guards)[row]
	var want []ThreadStack
	for i, tid := range []int{threads[1].TID, threads[2].TID, 0, threads[3].TID, threads[4].TID} {
		end := threads[1].SP&^(1<<16-1) + 1<<16 + uint64(i)<<20 // of the page that the first is in
		want = append(want, ThreadStack{Range{end - 1<<20 + 64<<10, end}, tid})
	}
	want[4].End = rows[row].End
	if diff := cmp.Diff(want, got.Stacks); diff != "" || got.Role != RoleThreadStack {
		t.Errorf("%v is %v (-want +got):\n%s", rows[row].Range, got.Role, diff)
	}
}

// glibcMapsGuards reports whether any small row without access is there, which
// in a plain C program can only be the guard of a stack. Since 2.42 glibc has
// guards without mappings where the kernel can (6.13+), and its stacks merge.
func glibcMapsGuards(rows []Mapping) bool {
	for i := range rows {
		if rows[i].Reserved() && rows[i].Len() <= guardMost {
			return true
		}
	}
	return false
}

func TestGoroutinesHaveNoThreadStacks(t *testing.T) {
	p := startOwn(t, "threads")
	blocked(t, p, 5)
	halt(t, p)
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	threads := blocked(t, p, 5)
	got := Infer(rows, threads, nil)
	count, kb, text := summary(rows, got)
	t.Logf("%d threads:\n%s", len(threads), text)
	in := inference{rows: rows, purposes: got}
	cgo := false
	for i := range rows {
		cgo = cgo || strings.Contains(rows[i].Name, "/libc.so.6") || strings.Contains(rows[i].Name, "/ld-")
	}
	if !cgo && (count[RoleThreadStack] != 0 || count[RoleArena] != 0) {
		t.Errorf("a Go program without C has no thread stacks and no malloc arenas:\n%s", annotate(rows, got))
	}
	for i, p := range got {
		if (p.Role == RoleThreadStack || p.Role == RoleArena) && in.goHeap(i) {
			t.Errorf("Go's heap at %v is %+v", rows[i].Range, p)
		}
	}
	// The heap's bitmaps and page summaries are reserved for all addresses.
	if kb[RoleReserved] < 500<<10 || kb[RoleAnon] > kb[RoleReserved]/2 {
		t.Errorf("reserved %d kB, anonymous %d kB; want Go's reservations apart from its memory", kb[RoleReserved], kb[RoleAnon])
	}
	// One thread alone in the heap is told from a stack by the heap's shape.
	for _, th := range threads {
		one := Infer(rows, []Thread{th}, nil)
		if i := in.rowAt(th.SP); i >= 0 && !cgo && one[i].Role != RoleAnon && one[i].Role != RoleStack {
			t.Errorf("with thread %d alone, %v is %+v", th.TID, rows[i].Range, one[i])
		}
	}
}

func TestTheStacksAndReservesOfJava(t *testing.T) {
	java := tool.Need(t, "java")
	source := filepath.Join(t.TempDir(), "Wait.java")
	if err := os.WriteFile(source, []byte(`
public class Wait {
	public static void main(String[] args) throws Exception {
		System.out.println("ready");
		System.in.read();
	}
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startReady(t, nil, java, "-Xms8m", "-Xmx64m", "-XX:+UseSerialGC", source)
	blocked(t, p, 8)
	halt(t, p)
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	threads := blocked(t, p, 8)
	got := Infer(rows, threads, nil)
	count, kb, text := summary(rows, got)
	t.Logf("%d threads:\n%s", len(threads), text)
	checkStacks(t, p, rows, got, threads)
	if count[RoleThreadStack] < 7 || count[RoleGuard] < 7 {
		t.Errorf("want 7 stacks with guards, and more:\n%s", annotate(rows, got))
	}
	// The class space and the code cache are reserved in whole, the heap too.
	if kb[RoleReserved] < 500<<10 {
		t.Errorf("reserved %d kB; want most of Java's 1 GiB of class space:\n%s", kb[RoleReserved], annotate(rows, got))
	}
	for i, p := range got {
		if p.Role == RoleArena && rows[i].Start < lowestMmap {
			t.Errorf("Java's heap at %v is %+v", rows[i].Range, p)
		}
	}

	// The sizes of a few stacks tell the others.
	for i := range threads {
		if i%3 != 0 {
			threads[i].SP = 0
		}
	}
	some := Infer(rows, threads, nil)
	for _, role := range []Role{RoleThreadStack, RoleGuard} {
		if diff := cmp.Diff(roleRows(rows, some, role), roleRows(rows, got, role)); diff != "" {
			t.Errorf("%v with a third of the stack pointers (-got +want):\n%s", role, diff)
		}
	}
}

func TestTheStacksOfNode(t *testing.T) {
	node := tool.Need(t, "node")
	p := startReady(t, nil, node, "-e", `console.log("ready"); process.stdin.resume()`)
	blocked(t, p, 5)
	halt(t, p)
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	threads := blocked(t, p, 5)
	got := Infer(rows, threads, nil)
	count, kb, text := summary(rows, got)
	t.Logf("%d threads:\n%s", len(threads), text)
	checkStacks(t, p, rows, got, threads)
	if count[RoleThreadStack] < 4 || kb[RoleReserved] < 64<<10 {
		t.Errorf("want 4 thread stacks and V8's reserve of code:\n%s", annotate(rows, got))
	}
}

func TestThreadInfoOfOthers(t *testing.T) {
	threads, err := self(t).ThreadInfo()
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) < 2 || threads[0].Comm == "" {
		t.Errorf("threads of this process: %+v", threads)
	}
	cmd, in := start(t, "cat")
	p := openProcess(t, cmd.Process.Pid)
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err := p.ThreadInfo(); err == nil {
		t.Errorf("ThreadInfo() of a process that has ended = %+v", got)
	}
}

func TestCommitOfLiveMappings(t *testing.T) {
	if mode, err := os.ReadFile("/proc/sys/vm/overcommit_memory"); err != nil || string(mode) == "2\n" {
		t.Skipf("vm.overcommit_memory is %q (%v): MAP_NORESERVE has no effect", mode, err)
	}
	const (
		none, rw       = syscall.PROT_NONE, syscall.PROT_READ | syscall.PROT_WRITE
		private        = syscall.MAP_PRIVATE | syscall.MAP_ANON
		shared         = syscall.MAP_SHARED | syscall.MAP_ANON
		noReserve, all = syscall.MAP_NORESERVE, 1 << 20
	)
	tests := []struct {
		what        string
		prot, flags int
		want        func(Commit) uint64
	}{
		{"no access", none, private, func(c Commit) uint64 { return c.ReservedKB }},
		{"no access and no reserve", none, private | noReserve, func(c Commit) uint64 { return c.ReservedKB }},
		{"writable", rw, private, func(c Commit) uint64 { return c.CommittedKB }},
		{"writable, no reserve", rw, private | noReserve, func(c Commit) uint64 { return c.NoReserveKB }},
		{"shared", rw, shared, func(c Commit) uint64 { return c.CommittedKB }},
		{"shared, no reserve", rw, shared | noReserve, func(c Commit) uint64 { return c.NoReserveKB }},
	}
	mems := make([][]byte, len(tests))
	for i, tt := range tests {
		mem, err := syscall.Mmap(-1, 0, all, tt.prot, tt.flags)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unmap(t, mem) })
		mems[i] = mem
	}
	s, err := self(t).Smaps()
	if err != nil {
		t.Fatal(err)
	}
	if s.Rows[0].Flags == (VmFlags{}) {
		t.Skip("this kernel shows no VmFlags")
	}
	for i, tt := range tests {
		start := uint64(uintptr(unsafe.Pointer(&mems[i][0])))
		found := false
		for r := range s.Rows {
			row := &s.Rows[r]
			if !row.Contains(start) {
				continue
			}
			found = true
			// A neighbour of the same kind may be in the same row.
			c := row.Commit()
			if tt.want(c) != row.Len()/1024 || c.ReservedKB+c.NoReserveKB+c.CommittedKB != row.Len()/1024 {
				t.Errorf("%s: %v with flags %v is %+v", tt.what, row.Range, row.Flags, c)
			}
		}
		if !found {
			t.Errorf("%s: no row at %#x", tt.what, start)
		}
	}
}
