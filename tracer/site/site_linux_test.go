//go:build amd64 || arm64

package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// compile makes a program or a library of a file in testdata, without frame
// pointers and without debug information.
func compile(t *testing.T, out, source string, flags ...string) string {
	t.Helper()
	compiler := "gcc"
	if strings.HasSuffix(source, ".cc") {
		compiler = "g++"
	}
	if _, err := tool.Path(compiler); err != nil {
		bpftest.Skip(t, "%v", err)
	}
	args := append([]string{"-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Wno-unused-result"}, flags...)
	args = append(args, filepath.Join("testdata", source), "-o", out)
	if text, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", compiler, args, err, text)
	}
	return out
}

// program is testdata/sites.c, compiled into a directory of the test's own.
func program(t *testing.T) string {
	t.Helper()
	return compile(t, filepath.Join(t.TempDir(), "sites"), "sites.c")
}

// made is a call that made memory larger.
type made struct {
	pid   int
	call  space.Call
	pages uint64
	site  uint32
}

// watched is a program that was traced to its end.
type watched struct {
	t     *testing.T
	sites *Sites
	calls []made
	out   bytes.Buffer
}

// watch runs a program under the tracer, from its first instruction on. before is
// called while it stands there; it may be nil.
func watch(t *testing.T, opts Options, before func(), argv ...string) *watched {
	t.Helper()
	return watchStacks(t, opts, bpf.StackOptions{}, 30*time.Second, before, argv...)
}

// watchStacks is watch where stacks are to be of some size, or there is more to wait for.
func watchStacks(t *testing.T, opts Options, stacks bpf.StackOptions, most time.Duration, before func(), argv ...string) *watched {
	t.Helper()
	w := &watched{t: t, sites: New(opts)}
	t.Cleanup(func() {
		if err := w.sites.Close(); err != nil {
			t.Error(err)
		}
	})
	live, err := tracer.OpenLive(tracer.LiveOptions{Stacks: &stacks})
	if err != nil {
		bpftest.SkipIfRefused(t, err)
		t.Fatalf("%+v", err)
	}
	defer func() {
		if e := live.Close(); e != nil {
			t.Error(e)
		}
	}()
	c, err := tracer.StartCommand(argv, nil, &w.out, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := live.Trace(c.PID())
	if err != nil {
		t.Fatal(err)
	}
	topts := tracer.Options{Sites: w.sites, PageSize: uint64(os.Getpagesize()), OnChange: w.change}
	info := live.Info()
	topts.Gate, topts.MovesMany = info.Gate, info.MovesMany
	tr := tracer.New(live, live, topts)
	if err := tr.Add(tasks, true); err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before()
	}
	if err := c.Continue(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), most)
	defer stop()
	if err := tr.Run(ctx, live.Detach); err != nil {
		t.Fatal(err)
	}
	if status, err := c.Wait(); err != nil || status != 0 {
		t.Fatalf("%v ended with status %d, %v", argv, status, err)
	}
	return w
}

func (w *watched) change(c *tracer.Change) {
	if c.Kind == tracer.KindCall && c.Site != 0 {
		w.calls = append(w.calls, made{
			pid: c.TGID, call: *c.Call, site: c.Site,
			pages: c.Effect.Range.Len() / uint64(os.Getpagesize()),
		})
	}
}

// of returns the sites of the mmaps of a number of pages, in order.
func (w *watched) of(pages uint64) (sites []uint32) {
	w.t.Helper()
	for _, c := range w.calls {
		if c.call.Op == space.OpMmap && c.pages == pages {
			sites = append(sites, c.site)
		}
	}
	if len(sites) == 0 {
		w.t.Fatalf("no mmap of %d pages among %+v", pages, w.calls)
	}
	return sites
}

// chain is the functions of a site's stack, innermost first, and how it ends.
func (w *watched) chain(site uint32) ([]string, stack.End) {
	lines, end := w.sites.Stack(site)
	var names []string
	for _, l := range lines {
		names = append(names, l.Function)
	}
	return names, end
}

// mustBlame checks which function a site blames.
func (w *watched) mustBlame(site uint32, want string) {
	w.t.Helper()
	l, ok := w.sites.Blamed(site)
	if !ok || l.Function != want {
		names, end := w.chain(site)
		w.t.Errorf("site %d blames %+v, want %s; its stack is %q, %v", site, l, want, names, end)
	}
}

// mustPass checks that a stack leads through functions, next to each other, and
// reaches the root.
func (w *watched) mustPass(site uint32, want ...string) {
	w.t.Helper()
	names, end := w.chain(site)
	i := slices.Index(names, want[0])
	if i < 0 || len(names) < i+len(want) || !slices.Equal(names[i:i+len(want)], want) || end != stack.EndRoot {
		w.t.Errorf("the stack is %q, %v; want %q in it, to the root", names, end, want)
	}
}

func TestStacksOfAProgramWithoutFramePointersAreWhole(t *testing.T) {
	w := watch(t, Options{}, nil, program(t))
	first, second, once, inMalloc := w.of(1011)[0], w.of(1013)[0], w.of(1017)[0], w.of(1301)[0]
	w.mustPass(first, "leak_twice", "middle", "outer", "main")
	w.mustPass(second, "leak_twice", "middle", "outer", "main")
	w.mustPass(once, "leak_once", "middle", "outer", "main")
	w.mustPass(inMalloc, "leak_malloc", "middle", "main")
	w.mustBlame(first, "leak_twice")
	w.mustBlame(once, "leak_once")
	w.mustBlame(inMalloc, "leak_malloc")
	if first == second {
		t.Error("two calls in one function are one site")
	}
	if w.sites.Group(first) != w.sites.Group(second) {
		t.Error("two calls in one function are two groups")
	}
	groups := []uint32{w.sites.Group(first), w.sites.Group(once), w.sites.Group(inMalloc)}
	slices.Sort(groups)
	if len(slices.Compact(groups)) != 3 {
		t.Errorf("three functions have groups %v", groups)
	}
	if l, _ := w.sites.Blamed(first); l.Module != "sites" || l.Unnamed || l.Linkage != "leak_twice" || l.Name().Full != "leak_twice (sites)" {
		t.Errorf("it is blamed as %+v", l)
	}
	st := w.sites.Stats()
	if st.Sites == 0 || st.Stacks < uint64(st.Sites) || st.Evicted != 0 || st.Ends[stack.EndRoot] != st.Stacks {
		t.Errorf("not all stacks are whole: %+v", st)
	}
}

func TestAStrippedProgramIsNamedByWhereItsFunctionsBegin(t *testing.T) {
	path := program(t)
	start := symbolOf(t, path, "leak_twice")
	if text, err := exec.Command("strip", path).CombinedOutput(); err != nil {
		bpftest.Skip(t, "strip: %v\n%s", err, text)
	}
	w := watch(t, Options{}, nil, path)
	first, second := w.of(1011)[0], w.of(1013)[0]
	l, ok := w.sites.Blamed(first)
	if want := fmt.Sprintf("sites+%#x", start); !ok || !l.Unnamed || l.Function != want || l.Name().Full != want {
		t.Errorf("blamed %+v, want %s", l, want)
	}
	if w.sites.Group(first) != w.sites.Group(second) || w.sites.Group(first) == w.sites.Group(w.of(1017)[0]) {
		t.Error("groups are not functions")
	}
	if _, end := w.chain(first); end != stack.EndRoot {
		t.Errorf("the stack ends with %v", end)
	}
}

func TestAFileWithADecompressionBombForSymbolsIsReported(t *testing.T) {
	path := program(t)
	bomb := filepath.Join(t.TempDir(), "bomb")
	for _, argv := range [][]string{
		{"truncate", "-s", "100M", bomb},
		{"xz", "-0", bomb},
		{"strip", path},
		{"objcopy", "--add-section", ".gnu_debugdata=" + bomb + ".xz", path},
	} {
		name, err := tool.Path(argv[0])
		if err != nil {
			bpftest.Skip(t, "%v", err)
		}
		if text, err := exec.Command(name, argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, text)
		}
	}
	w := watch(t, Options{}, nil, path)
	if l, ok := w.sites.Blamed(w.of(1011)[0]); !ok || !l.Unnamed {
		t.Errorf("blamed %+v", l)
	}
	st := w.sites.Stats()
	if want := path + ": .gnu_debugdata: too large"; st.Refused != 1 || st.RefusedErr == nil || st.RefusedErr.Error() != want {
		t.Errorf("%d files are refused, %v; want one, %s", st.Refused, st.RefusedErr, want)
	}
}

func TestFilesThatNobodyPaysForAreReported(t *testing.T) {
	path := program(t)
	all := quota.Limits{Bytes: 1 << 40, Time: time.Hour}
	w := watch(t, Options{reads: quota.New(quota.Limits{Bytes: 40, Time: time.Hour}, all)}, nil, path)
	// Nothing is guessed of code that was not read.
	if frames, end := w.sites.Stack(w.of(1011)[0]); len(frames) != 1 || !frames[0].Unnamed || end == stack.EndRoot {
		t.Errorf("%+v, %v", frames, end)
	}
	st := w.sites.Stats()
	if st.Unpaid == 0 || !errors.Is(st.UnpaidErr, quota.ErrSpent) || !strings.Contains(st.UnpaidErr.Error(), "the budget is used up: 40 B for process ") {
		t.Errorf("%d files, %v", st.Unpaid, st.UnpaidErr)
	}
	if st.Denied > 0 || st.Refused > 0 {
		t.Errorf("%d files are denied, %d refused", st.Denied, st.Refused)
	}
	want := []string{fmt.Sprintf("names and lines are missing where they would cost too much (files: %d): %v", st.Unpaid, st.UnpaidErr)}
	if diff := cmp.Diff(want, st.NamesMissing()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFileThatDidNotAnswerIsNotGuessedAboutAndAskedAgain(t *testing.T) {
	t.Parallel()
	self, err := procmaps.Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	rows, err := self.Maps()
	if err != nil {
		t.Fatal(err)
	}
	row := &rows[slices.IndexFunc(rows, func(m procmaps.Mapping) bool { return m.Inode != 0 && m.Mode&procmaps.Exec != 0 })]
	for _, tt := range []struct {
		err   error
		rule  stack.Rule
		again bool
	}{
		{&os.PathError{Op: "open", Path: "/x", Err: await.ErrStalled}, stack.RuleNone, true},
		{&os.PathError{Op: "open", Path: "/x", Err: os.ErrNotExist}, stack.RuleNone, false},
		{fmt.Errorf("read ELF header: %w", symbol.ErrNotELF), stack.RuleFramePointer, false},
	} {
		s := New(Options{})
		m := s.modules.add("/x", nil, tt.err)
		m.tried = os.Getpid()
		if got := m.rule(s, row.Start, row.Start); got != tt.rule {
			t.Errorf("%v: it is walked by %v, want %v", tt.err, got, tt.rule)
		}
		s.modules.files[fileKey{dev: row.Dev, inode: row.Inode}] = m
		if found := s.modules.at(os.Getpid(), row); (found.sym != nil) != tt.again {
			t.Errorf("%v: asked again: %v, want %v", tt.err, found.sym != nil, tt.again)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAfterTheEndOfTheRunNoFilesAreRead(t *testing.T) {
	path := program(t)
	all := quota.Limits{Bytes: 1 << 40, Time: time.Hour}
	reads := quota.New(all, all)
	reads.End(0) // nothing is left, however fast this is
	w := watch(t, Options{reads: reads}, nil, path)
	if frames, _ := w.sites.Stack(w.of(1011)[0]); len(frames) != 1 || !frames[0].Unnamed {
		t.Errorf("%+v", frames)
	}
	if err := w.sites.Stats().UnpaidErr; err == nil || !strings.HasSuffix(err.Error(), "after the end of the run") {
		t.Errorf("%v", err)
	}
}

func TestTheEndOfTheRunIsThatOfItsCalls(t *testing.T) {
	t.Parallel()
	calls := await.New()
	all := quota.Limits{Bytes: 1 << 40, Time: time.Hour}
	reads := quota.New(all, all)
	s := New(Options{Calls: calls, reads: reads})
	defer s.Close()
	op := reads.Of("process", 1).Start()
	defer op.End()
	for range 1000 {
		if err := op.Take(1 << 12); err != nil {
			t.Fatalf("before the end: %v", err)
		}
	}
	calls.End()
	for op.Take(1<<12) == nil { // until the bytes are used up, if there is no end
	}
	if err := op.Take(0); err == nil || !strings.HasSuffix(err.Error(), "after the end of the run") {
		t.Errorf("after the end: %v", err)
	}
}

// symbolOf is where a function of a program begins, by nm.
func symbolOf(t *testing.T, path, name string) uint64 {
	t.Helper()
	text, err := exec.Command("nm", path).Output()
	if err != nil {
		bpftest.Skip(t, "nm: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == name {
			addr, err := strconv.ParseUint(f[0], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return addr
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}

func TestEqualStacksOfTwoProcessesAreOneSite(t *testing.T) {
	w := watch(t, Options{}, nil, program(t), "fork")
	var pids []int
	for _, c := range w.calls {
		if c.pages == 1017 {
			pids = append(pids, c.pid)
		}
	}
	sites := w.of(1017)
	if len(sites) != 2 || sites[0] != sites[1] || pids[0] == pids[1] {
		t.Errorf("processes %v have sites %v", pids, sites)
	}
}

func TestContainersAndNewAreNotBlamed(t *testing.T) {
	path := compile(t, filepath.Join(t.TempDir(), "containers"), "containers.cc")
	w := watch(t, Options{}, nil, path)
	seen := make(map[string]bool)
	for _, c := range w.calls {
		names, _ := w.chain(c.site)
		if slices.Contains(names, "main") {
			l, _ := w.sites.Blamed(c.site)
			seen[l.Function] = true
		}
	}
	if d := cmp.Diff(map[string]bool{"core::fill": true, "core::Arena::grow": true}, seen); d != "" {
		t.Errorf("blamed (-want +got):\n%s", d)
	}
}

func TestStacksAreWholeHoweverLittleOfTheirFilesMayBeLoaded(t *testing.T) {
	w := watch(t, Options{MaxFileBytes: 1}, nil, program(t))
	if st := w.sites.Stats(); st.Stacks == 0 || st.Ends[stack.EndRoot] != st.Stacks {
		t.Errorf("%+v", st)
	}
	if tabled := len(w.sites.modules.tabled); tabled > 1 {
		t.Errorf("the tables of %d files are loaded", tabled)
	}
	named := false
	for _, c := range w.calls {
		l, ok := w.sites.Blamed(c.site)
		named = named || ok && !l.Unnamed
	}
	if !named {
		t.Error("nothing has a name")
	}
}

func TestARealProgramHasItsLastStackWhateverTheBudgetIs(t *testing.T) {
	w := watch(t, Options{MaxBytes: 1}, nil, program(t))
	st := w.sites.Stats()
	if st.Evicted == 0 || st.Evicted >= uint64(st.Sites) {
		t.Fatalf("%+v", st)
	}
	last := w.calls[len(w.calls)-1].site
	if frames, _ := w.sites.Frames(last); len(frames) == 0 {
		t.Errorf("site %d, the newest, has no frames", last)
	}
}

func TestSitesThatWereNeverGivenAreNothing(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for _, id := range []uint32{0, 2, 1 << 30} {
		lines, _ := s.Stack(id)
		if _, ok := s.Blamed(id); ok || len(lines) != 0 || s.Group(id) != id || s.Pool(id) != "" {
			t.Errorf("site %d is something", id)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAGoProgramIsNamed(t *testing.T) {
	dir := t.TempDir()
	source := `package main

import (
	"syscall"
	"time"
)

//go:noinline
func leakInGo() {
	_, err := syscall.Mmap(-1, 0, 1019*syscall.Getpagesize(), syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		panic(err)
	}
}

var kept [][]byte

//go:noinline
func keepInGo() {
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
}

func main() {
	leakInGo()
	keepInGo()
	time.Sleep(300 * time.Millisecond)
}
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"", "-s -w"} {
		t.Run("flags "+flags, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "goprogram")
			cmd := exec.Command("go", "build", "-ldflags="+flags, "-o", path, "main.go")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			w := watch(t, Options{}, nil, path)
			site := w.of(1019)[0]
			w.mustBlame(site, "main.leakInGo")
			w.mustPass(site, "main.leakInGo", "main.main", "runtime.main")
			if pool := w.sites.Pool(site); pool != "" {
				t.Errorf("what it maps for itself is of the %s", pool)
			}
			pooled := false
			for _, c := range w.calls {
				l, _ := w.sites.Blamed(c.site)
				pooled = pooled || l.Function == "main.keepInGo" && w.sites.Pool(c.site) == "Go heap"
			}
			if !pooled {
				t.Error("nothing was made for the heap by who fills it")
			}
		})
	}
}

func TestCodeOfAJITCompilerIsNamedByItsMap(t *testing.T) {
	for _, mode := range []string{"jit", "jit-shared"} {
		t.Run(mode, func(t *testing.T) {
			w := watch(t, Options{}, nil, program(t), mode)
			w.mustPass(w.of(1017)[0], "leak_once", "compiled", "main")
		})
	}
}

func TestAFileThatIsReplacedWhileMappedKeepsItsNames(t *testing.T) {
	path := program(t)
	replace := func() {
		other := compile(t, path+".new", "containers.cc")
		if err := os.Rename(other, path); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, Options{}, replace, path)
	w.mustPass(w.of(1017)[0], "leak_once", "middle", "outer", "main")
}

// library compiles one whose function has a name and maps pages.
func library(t *testing.T, dir, file, function string, pages int) string {
	t.Helper()
	return compile(t, filepath.Join(dir, file), "library.c",
		"-shared", "-fPIC", "-DNAME="+function, "-DPAGES="+strconv.Itoa(pages))
}

func TestADeletedLibraryIsNamed(t *testing.T) {
	path := program(t)
	lib := library(t, filepath.Dir(path), "libgone.so", "in_deleted", 1023)
	w := watch(t, Options{}, nil, path, "libraries", lib)
	site := w.of(1023)[0]
	w.mustBlame(site, "in_deleted")
	if l, _ := w.sites.Blamed(site); l.Module != "libgone.so" {
		t.Errorf("its module is %q", l.Module)
	}
}

func TestALibraryAtTheAddressOfAnotherIsNotMistakenForIt(t *testing.T) {
	path := program(t)
	dir := filepath.Dir(path)
	w := watch(t, Options{}, nil, path, "libraries",
		library(t, dir, "libone.so", "in_first", 1023), library(t, dir, "libtwo.so", "in_second", 1029))
	at := strings.Fields(w.out.String())
	if len(at) != 2 || at[0] != at[1] {
		t.Skipf("the libraries were at different addresses: %v", at)
	}
	w.mustPass(w.of(1023)[0], "in_first", "leak_library")
	w.mustPass(w.of(1029)[0], "in_second", "leak_library")
}

// unshare returns how to run something in new namespaces, or skips.
func unshare(t *testing.T, args ...string) []string {
	t.Helper()
	argv := append([]string{tool.Need(t, "unshare")}, args...)
	if text, err := exec.Command(argv[0], append(argv[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("%v: %v\n%s", argv, err, text)
	}
	return argv
}

func TestAFileThatOnlyTheProcessSeesIsRead(t *testing.T) {
	path := program(t)
	argv := append(unshare(t, "-m"), "sh", "-c", `mount -t tmpfs none "$1" && cp "$2" "$1/hidden" && exec "$1/hidden"`,
		"sh", t.TempDir(), path)
	w := watch(t, Options{}, nil, argv...)
	site := w.of(1017)[0]
	w.mustPass(site, "leak_once", "middle", "outer", "main")
	if l, _ := w.sites.Blamed(site); l.Module != "hidden" {
		t.Errorf("its module is %q", l.Module)
	}
}

func TestProcessesOfAnotherPIDNamespaceAreNamed(t *testing.T) {
	argv := append(unshare(t, "--fork", "--pid"), program(t), "jit")
	w := watch(t, Options{}, nil, argv...)
	w.mustPass(w.of(1017)[0], "leak_once", "compiled", "main")
}

// self is a row of this process' maps: the test binary's code.
func self(t *testing.T) procmaps.Mapping {
	t.Helper()
	p, err := procmaps.Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rows {
		if m.Name == exe && m.Mode&procmaps.Exec != 0 {
			return m
		}
	}
	t.Fatalf("no code of %s", exe)
	return procmaps.Mapping{}
}

// ended is the number of a process that is no more.
func ended(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestAFileThatOneProcessDidNotShowIsReadInTheNext(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	row := self(t)
	row.Name = "/nowhere/at/all"
	gone := ended(t)
	m := s.modules.at(gone, &row)
	if m.Err == nil {
		t.Fatal("a file without a path was read in a process that has ended")
	}
	if again := s.modules.at(gone, &row); again != m {
		t.Error("it was tried twice in the same process")
	}
	if m = s.modules.at(os.Getpid(), &row); m.Err != nil {
		t.Errorf("in a process that shows it: %v", m.Err)
	}
	if again := s.modules.at(gone, &row); again != m || again.sym == nil {
		t.Error("what is known was forgotten")
	}
}

func TestStacksStopAtCodeThatNobodyHasSeen(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	row := self(t)
	row.Name = "/nowhere/at/all"
	if rule := s.modules.at(ended(t), &row).code(s, row.Start, 0).Rule; rule != stack.RuleNone {
		t.Errorf("of a file that cannot be opened the rule is %v", rule)
	}
	// What is there and is no ELF file may be of a compiler with a format of its own.
	name := filepath.Join(t.TempDir(), "program.exe")
	if err := os.WriteFile(name, []byte("MZ"), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	other := procmaps.Mapping{
		Range: procmaps.Range{Start: 0x10000, End: 0x11000}, Mode: procmaps.Exec, Name: name, Inode: st.Ino,
		Dev: procmaps.Device{Major: unix.Major(st.Dev), Minor: unix.Minor(st.Dev)},
	}
	if rule := s.modules.at(os.Getpid(), &other).code(s, other.Start, 0).Rule; rule != stack.RuleFramePointer {
		t.Errorf("of a file of another format the rule is %v", rule)
	}
}

func TestAFileOfAProcessThatHasEndedIsFoundByItsPath(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	row := self(t)
	if m := s.modules.at(ended(t), &row); m.Err != nil {
		t.Error(m.Err)
	}
}

func TestManyProcessesWithCompilersAreBounded(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	for pid := range 10 * maxJITs {
		s.jit(1<<26 + pid).Lookup(1)
		if len(s.jits) > maxJITs {
			t.Fatalf("%d maps are open", len(s.jits))
		}
	}
}

func TestUnnamedLinesSayWhereTheyAre(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		line Line
		want string
	}{
		{"a source line", Line{Module: "server", Function: "leak", File: "/src/a/server.c", Line: 88}, "leak (server.c:88)"},
		{"a symbol", Line{Module: "libc.so.6", Function: "free"}, "free (libc.so.6)"},
		{"neither", Line{Module: "server", Function: "server+0x1234", Unnamed: true}, "server+0x1234"},
	} {
		if got := c.line.Name(); got.Full != c.want || got.Short != c.want || got.Module != c.line.Module {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

var addressed = regexp.MustCompile(`^x\+0x[0-9a-f]+$`)

func TestFramesOfAFileThatCannotBeReadAreAddresses(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	m := &Module{Path: "/tmp/x", number: 1, Err: io.EOF}
	s.frames = []Frame{{Module: m, Addr: 0x1234, Call: true}, {Module: m, Addr: 0x5678}}
	id := s.intern(stack.EndNoFDE)
	lines, end := s.Stack(id)
	if len(lines) != 2 || end != stack.EndNoFDE {
		t.Fatalf("%+v, %v", lines, end)
	}
	for _, l := range lines {
		if !l.Unnamed || l.Module != "x" || !addressed.MatchString(l.Function) {
			t.Errorf("%+v", l)
		}
	}
	if l, ok := s.Blamed(id); !ok || l != lines[0] {
		t.Errorf("blamed %+v", l)
	}
}
