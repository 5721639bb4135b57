package procmaps

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func self(t *testing.T) *Process {
	t.Helper()
	return openProcess(t, os.Getpid())
}

func openProcess(t *testing.T, pid int) *Process {
	t.Helper()
	p, err := Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// start runs a command that waits for its standard input to close.
func start(t *testing.T, name string, arg ...string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, arg...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot start %s: %v", name, err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill() // it may have ended, or been waited for, already
		_ = cmd.Wait()
	})
	return cmd, in
}

// stopped is start, with the process stopped so that its mappings stay as they are.
func stopped(t *testing.T, name string, arg ...string) *Process {
	t.Helper()
	cmd, _ := start(t, name, arg...)
	p := openProcess(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitForState(t, p, 'T')
	return p
}

// waitForState polls until the process is in the state; that it gets there is
// already decided.
func waitForState(t *testing.T, p *Process, state byte) {
	t.Helper()
	waitFor(t, p, "state "+string(state), func(st *Stat) bool { return st.State == state })
}

// waitForEnd waits until the process is a zombie, and no other thread of it is left
// to hold its address space.
func waitForEnd(t *testing.T, p *Process) {
	t.Helper()
	waitFor(t, p, "the end of all threads", (*Stat).Ended)
}

func waitFor(t *testing.T, p *Process, what string, is func(*Stat) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st, err := p.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if is(st) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("state is %c, with %d threads, after 10 s; want %s", st.State, st.NumThreads, what)
		}
	}
}

func unmap(tb testing.TB, mem []byte) {
	tb.Helper()
	if err := syscall.Munmap(mem); err != nil {
		tb.Error(err)
	}
}

func TestLiveMapsPrintAsTheKernelDoes(t *testing.T) {
	p := stopped(t, "cat")
	text, err := os.ReadFile(p.file("maps"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	var printed []byte
	for i := range rows {
		printed = append(rows[i].Append(printed), '\n')
	}
	if diff := cmp.Diff(string(printed), string(text)); diff != "" {
		t.Errorf("(-printed +kernel):\n%s", diff)
	}
	sm, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	if len(sm.Rows) != len(rows) {
		t.Fatalf("smaps has %d rows, maps %d", len(sm.Rows), len(rows))
	}
	for i := range rows {
		r := &sm.Rows[i]
		if r.Mapping != rows[i] {
			t.Errorf("smaps row %+v, maps row %+v", r.Mapping, rows[i])
		}
		if size, ok := r.KB("Size"); !ok || size != r.Len()/1024 {
			t.Errorf("%v: Size is %d, %v; the range has %d kB", r.Range, size, ok, r.Len()/1024)
		}
		if r.Flags.Has("rd") != (r.Mode&Read != 0) || r.Flags.Has("wr") != (r.Mode&Write != 0) {
			t.Errorf("%v: mode %v, but VmFlags %v", r.Range, r.Mode, r.Flags)
		}
	}
	ru, err := p.Rollup()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := ru.KB("Rss"); got != sm.SumKB("Rss") || got == 0 {
		t.Errorf("rollup says Rss %d kB, the rows' sum is %d", got, sm.SumKB("Rss"))
	}
}

func TestQueryEqualsMaps(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "two  spaces, a\nnewline and a \\012 ")
	page := os.Getpagesize()
	if err := os.WriteFile(odd, make([]byte, 2*page), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(odd)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := syscall.Mmap(int(f.Fd()), int64(page), page, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmap(t, file) })
	if err = os.Remove(odd); err != nil {
		t.Fatal(err)
	}
	shm, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_NONE, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmap(t, shm) })

	// A stopped process for all rows, and this one for the odd names.
	for name, p := range map[string]*Process{"a stopped process": stopped(t, "cat"), "the test itself": self(t)} {
		all, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		all = slices.DeleteFunc(all, func(m Mapping) bool { return m.Name == vsyscall })
		rows, err := p.query(".", Range{0, ^uint64(0)})
		if errors.Is(err, errNoQuery) {
			t.Skip("this kernel has no PROCMAP_QUERY (6.11+)")
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.PID() != os.Getpid() {
			if diff := cmp.Diff(rows, all); diff != "" {
				t.Errorf("%s (-query +maps):\n%s", name, diff)
			}
			mid := all[len(all)/2]
			got, err := p.Query(Range{mid.Start + 1, mid.Start + 2})
			if diff := cmp.Diff(got, []Mapping{mid}); diff != "" || err != nil {
				t.Errorf("the row of one address: error %v, (-got +want):\n%s", err, diff)
			}
			if got, err := p.Query(Range{0, 1}); len(got) != 0 || err != nil {
				t.Errorf("page 0 has %v, %v", got, err)
			}
			continue
		}
		for _, mem := range [][]byte{file, shm} {
			start := uint64(uintptr(unsafe.Pointer(&mem[0])))
			at := func(rows []Mapping) Mapping {
				i := slices.IndexFunc(rows, func(m Mapping) bool { return m.Contains(start) })
				if i < 0 {
					t.Fatalf("%s: no row at %#x", name, start)
				}
				return rows[i]
			}
			if diff := cmp.Diff(at(rows), at(all)); diff != "" {
				t.Errorf("%s (-query +maps):\n%s", name, diff)
			}
		}
	}
}

func TestQueryWithoutTheIoctlReadsMaps(t *testing.T) {
	root, err := NewFS("testdata/proc")
	if err != nil {
		t.Fatal(err)
	}
	p, err := root.Process(101)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	all, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Query(Range{all[1].Start, all[2].Start + 1})
	if diff := cmp.Diff(got, all[1:3]); diff != "" || err != nil {
		t.Errorf("error %v, (-got +want):\n%s", err, diff)
	}
	got, err = p.Query(Range{all[len(all)-1].Start, ^uint64(0)})
	if err != nil || len(got) != 0 {
		t.Errorf("the last row, %v, came back as %v, %v", all[len(all)-1], got, err)
	}
}

func TestShmDeviceIsThatOfMemfds(t *testing.T) {
	dev, err := ShmDevice()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmap(t, mem) })
	rows, err := self(t).Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rows {
		if m.Name == "/dev/zero (deleted)" {
			if m.Dev != dev || dev.Major != 0 || dev.Minor == 0 {
				t.Errorf("device %v, the mapping shows %v", dev, m.Dev)
			}
			return
		}
	}
	t.Error("found no shared anonymous mapping in this process")
}

func TestAProcessThatEndedIsGone(t *testing.T) {
	cmd, in := start(t, "cat")
	p := openProcess(t, cmd.Process.Pid)
	if _, err := p.Maps(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	reads := map[string]func() error{
		"Maps":    func() error { _, err := p.Maps(); return err },
		"Smaps":   func() error { _, err := p.Smaps(); return err },
		"Rollup":  func() error { _, err := p.Rollup(); return err },
		"Query":   func() error { _, err := p.Query(Range{0, 1 << 47}); return err },
		"Stat":    func() error { _, err := p.Stat(); return err },
		"Status":  func() error { _, err := p.Status(); return err },
		"Cmdline": func() error { _, err := p.Cmdline(); return err },
		"Comm":    func() error { _, err := p.Comm(); return err },
		"Cgroup":  func() error { _, err := p.Cgroup(); return err },
		"Exe":     func() error { _, err := p.Exe(); return err },
		"Threads": func() error { _, err := p.Threads(); return err },
		"open":    func() error { _, err := Default().Process(cmd.Process.Pid); return err },
	}
	for name, read := range reads {
		if err := read(); !errors.Is(err, ErrGone) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, want %v", name, err, ErrGone)
		}
	}
}

func TestAZombieHasNoMappings(t *testing.T) {
	cmd, in := start(t, "cat")
	p := openProcess(t, cmd.Process.Pid)
	in.Close() // and nobody waits for it yet
	waitForEnd(t, p)
	if rows, err := p.Maps(); rows != nil || err != nil {
		t.Errorf("Maps() = %v, %v; want nothing", rows, err)
	}
	if s, err := p.Smaps(); err != nil || len(s.Rows) != 0 {
		t.Errorf("Smaps() = %v, %v; want nothing", s, err)
	}
	if r, err := p.Rollup(); r != nil || err != nil {
		t.Errorf("Rollup() = %v, %v; want nothing", r, err)
	}
	if rows, err := p.Query(Range{0, 1 << 47}); rows != nil || err != nil {
		t.Errorf("Query() = %v, %v; want nothing", rows, err)
	}
	if st, err := p.Stat(); err != nil || !st.Ended() || st.KernelThread() {
		t.Errorf("Stat() = %+v, %v; want a process that has ended", st, err)
	}
}

func TestAnAddressSpaceThatEndsHalfWayIsNoShortList(t *testing.T) {
	cmd, _ := start(t, "cat")
	p := openProcess(t, cmd.Process.Pid)
	calls := 0
	found, err := p.memory("maps", func(r io.Reader, _ string) (int, error) {
		calls++
		buf := make([]byte, 200) // the kernel has more for us
		n, err := io.ReadFull(r, buf)
		if calls > 1 {
			if n != 0 {
				t.Errorf("read %q of a zombie", buf[:n])
			}
			return n, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		waitForEnd(t, p)
		rest, err := io.ReadAll(r)
		if err != nil {
			return 0, err
		}
		return bytes.Count(append(buf, rest...), []byte("\n")), nil
	})
	if found || err != nil || calls == 0 {
		t.Errorf("found = %v, error = %v after %d calls; want a process without mappings", found, err, calls)
	}
}

func TestThreadsThatOutliveTheLeader(t *testing.T) {
	p := startOwn(t, "leaderless")
	if st, err := p.Stat(); err != nil || !st.Dead() || st.Ended() {
		t.Fatalf("Stat() = %+v, %v; want a leader that has ended alone", st, err)
	}
	if text, err := os.ReadFile(p.file("maps")); len(text) != 0 {
		t.Errorf("the leader's maps has %d bytes, %v; want none", len(text), err)
	}
	want, err := self(t).Exe()
	if err != nil {
		t.Fatal(err)
	}
	if exe, e := p.Exe(); e != nil || exe != want {
		t.Errorf("Exe() = %q, %v; want %q", exe, e, want)
	}
	groups, err := self(t).Cgroup()
	if err != nil {
		t.Fatal(err)
	}
	if got, e := p.Cgroup(); e != nil || !cmp.Equal(got, groups) {
		t.Errorf("Cgroup() = %v, error %v; (-want +got):\n%s", got, e, cmp.Diff(groups, got))
	}
	st, err := p.Status()
	if err != nil || !st.HasMemory || st.VmRSSKB == 0 || st.State != 'Z' || st.Pid != p.PID() || st.Tgid != p.PID() {
		t.Errorf("Status() = %+v, %v; want the leader, with the memory of its threads", st, err)
	}
	rows, err := p.Maps()
	if err != nil || len(rows) == 0 {
		t.Errorf("Maps() found %d rows, error %v", len(rows), err)
	}
	s, err := p.Smaps()
	if err != nil || len(s.Rows) != len(rows) {
		t.Errorf("Smaps() found %d rows, Maps() %d, error %v", len(s.Rows), len(rows), err)
	}
	if q, err := p.Query(Range{rows[0].Start, rows[0].End}); err != nil || !slices.Equal(q, rows[:1]) {
		t.Errorf("Query() = %v, %v; want %v", q, err, rows[:1])
	}
}

func TestKernelThread(t *testing.T) {
	p, err := Default().Process(2)
	if errors.Is(err, ErrGone) {
		t.Skip("kthreadd is not in this pid namespace")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !st.KernelThread() {
		t.Skipf("process 2 is %q, not kthreadd", st.Comm)
	}
	if rows, err := p.Maps(); len(rows) != 0 || err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Maps() = %v, %v", rows, err)
	}
	if err := p.CheckMaps(); err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("CheckMaps() = %v", err)
	}
	if _, err := p.Exe(); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Exe() error = %v, want %v", err, fs.ErrNotExist)
	}
	if s, err := p.Status(); err != nil || s.HasMemory {
		t.Errorf("Status() = %+v, %v; want no memory", s, err)
	}
}

func TestSelf(t *testing.T) {
	p := self(t)
	st, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	comm, err := p.Comm()
	if err != nil || comm != st.Comm || comm != status.Name {
		t.Errorf("comm %q (%v), stat %q, status %q", comm, err, st.Comm, status.Name)
	}
	if st.PID != os.Getpid() || status.Tgid != os.Getpid() || status.PPid != os.Getppid() || st.PPID != os.Getppid() {
		t.Errorf("pid and parent: stat %d, %d, status %d, %d; want %d, %d",
			st.PID, st.PPID, status.Tgid, status.PPid, os.Getpid(), os.Getppid())
	}
	if st.StartStack == 0 || st.VSizeBytes == 0 || status.VmSizeKB == 0 || !status.HasMemory {
		t.Errorf("sizes are missing: %+v, %+v", st, status)
	}
	cmdline, err := p.Cmdline()
	if want := strings.Join(os.Args, "\x00") + "\x00"; err != nil || string(cmdline) != want {
		t.Errorf("Cmdline() = %q, %v; want %q", cmdline, err, want)
	}
	exe, err := p.Exe()
	if want, _ := os.Executable(); err != nil || exe != want {
		t.Errorf("Exe() = %q, %v; want %q", exe, err, want)
	}
	if groups, err := p.Cgroup(); err != nil || len(groups) == 0 {
		t.Errorf("Cgroup() = %v, %v", groups, err)
	}
	if tids, err := p.Threads(); err != nil || !slices.Contains(tids, os.Getpid()) || len(tids) < 2 {
		t.Errorf("Threads() = %v, %v", tids, err)
	}
	if pids, err := Default().Pids(); err != nil || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("Pids() = %v, %v", pids, err)
	}
}

func TestFilesThatMayNotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "7", "maps"), nil, 0); err != nil {
		t.Fatal(err)
	}
	root, err := NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := root.Process(7)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// Root may read everything, so read as somebody else. That goes for one
	// thread, which ends with its goroutine as nothing unlocks it.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if os.Getuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				done <- err
				return
			}
		}
		_, err := p.Maps()
		done <- err
		done <- p.CheckMaps()
	}()
	for _, what := range []string{"Maps", "CheckMaps"} {
		if err := <-done; !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrGone) {
			t.Errorf("%s() error = %v, want %v", what, err, fs.ErrPermission)
		}
	}
}

func BenchmarkMaps(b *testing.B) {
	var maps [][]byte
	for i := range 10_000 { // read-only and writable in turn, so that none merge
		mem, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|i%2*syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			b.Fatal(err)
		}
		maps = append(maps, mem)
	}
	p, err := Default().Process(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	run := func(name string, read func() (int, error)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				if rows, err = read(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
		})
	}
	run("maps", func() (int, error) { rows, err := p.Maps(); return len(rows), err })
	run("query", func() (int, error) { rows, err := p.Query(Range{0, ^uint64(0)}); return len(rows), err })
	run("smaps", func() (int, error) {
		s, err := p.Smaps()
		if err != nil {
			return 0, err
		}
		return len(s.Rows), nil
	})
	run("kernel alone", func() (int, error) {
		data, err := os.ReadFile("/proc/self/maps")
		return bytes.Count(data, []byte("\n")), err
	})
	for _, mem := range maps {
		unmap(b, mem)
	}
}
