package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
)

// whatGrows are the findings that grow, in the output of grow.
func whatGrows(t *testing.T, out string) (all []render.FindingObject) {
	t.Helper()
	for line := range strings.Lines(out) {
		var f render.FindingObject
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if f.Event == "finding" && (f.Verdict == "leaks" || f.Verdict == "grows" || f.Verdict == "retained") {
			all = append(all, f)
		}
	}
	return all
}

// addsUp wants the groups of each process to explain its growth by the kernel's own figures,
// to 2 % or what these may be wrong by.
func addsUp(t *testing.T, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var w render.WatchObject
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if w.Event != "watch" {
			continue
		}
		a := w.Account
		if a == nil {
			t.Errorf("process %d has no account", w.PID)
			continue
		}
		const slack, part = 1 << 20, 50
		off := max(a.Grown, a.Explained) - min(a.Grown, a.Explained)
		t.Logf("process %d grew by %d KiB, explained %d KiB", w.PID, a.Grown>>10, a.Explained>>10)
		if off > max(slack, a.Grown/part) {
			t.Errorf("process %d grew by %d bytes, and %d are explained", w.PID, a.Grown, a.Explained)
		}
	}
}

// startCase starts one of the programs of testdata/cases.
func startCase(t *testing.T, what string) *helper {
	t.Helper()
	path := bpftest.BuildC(t, "../../testdata/cases", "cases")
	return startHelperWith(t, "", func(cmd *exec.Cmd) { cmd.Path, cmd.Args = path, []string{path, what} })
}

// watchCase watches one of them, and wants it to live until then.
func watchCase(t *testing.T, what string) result {
	t.Helper()
	h := startCase(t, what)
	return watchStarted(t, h, "-p", h.pid())
}

// watchStarted watches what is asked for until a program is to end.
func watchStarted(t *testing.T, h *helper, target ...string) result {
	t.Helper()
	// Where both CPUs are busy, a look takes longer than the budget has room for.
	r := succeed(t, maptrace(t, append([]string{"grow", "--for", "12s", "--interval", "300ms", "--smaps-budget", "50", "-o", "json"}, target...)...))
	if err := h.in.Close(); err != nil {
		t.Fatal(err)
	}
	if lived := h.result(); lived.code != 0 {
		t.Errorf("the program: %+v", lived)
	}
	return r
}

// TestGrowthThatNoMappingShows watches programs whose memory grows, and whose mappings are as
// large and as resident as ever.
func TestGrowthThatNoMappingShows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what     string // the program's argument
		verdicts string // of what must be found, if so
		kind     string
		subject  string // of it, its beginning
		rate     float64
		blamed   string // of it; "" for nobody
		toucher  string // who is named first as touching it
	}{
		{what: "tables", verdicts: "grows", kind: "page tables", subject: "page tables, of [ anon ]", toucher: "sparse_set"},
		{what: "memfd", verdicts: "leaks, grows", kind: "held memory", subject: "unmapped memory of memfd frame-*", rate: 2.5, blamed: "send_frame"},
		{what: "written", verdicts: "leaks, grows", kind: "held memory", subject: "unmapped memory of memfd frame-*", rate: 2.5, blamed: "new_memfd"},
		{what: "cache", verdicts: "leaks, grows", kind: "held memory", subject: "unmapped memory of memfd frame-*", rate: 2.5, blamed: "cache_page"},
		{what: "rings", verdicts: "leaks, grows", kind: "held memory", subject: "io_uring, not mapped (", rate: 2, blamed: "open_ring"},
		{what: "window", verdicts: "leaks, grows", kind: "held memory", subject: "unmapped memory of memfd frame-0", rate: 2.5},
		{what: "sysv", verdicts: "leaks, grows", kind: "held memory", subject: "System V segments, not attached", rate: 2.5, blamed: "post"},
		{what: "log", verdicts: "leaks, grows", kind: "held memory", subject: "/dev/shm/maptrace-case-", rate: 2.5},
		{what: "update", verdicts: "grows", kind: "copied pages", subject: "pages copied after a fork, of [ anon ]", rate: 1.6, toucher: "update"},
		{what: "serve", verdicts: "grows", kind: "copied pages", subject: "pages copied after a fork, of [ anon ]", rate: 1.6, toucher: "update"},
		{what: "private", verdicts: "grows", kind: "written file pages", subject: "written pages of private files, of maptrace-case-", rate: 1.6, toucher: "patch"},
		{what: "freed", verdicts: "grows", kind: "anon", subject: "[ anon ] ", rate: 2.5},
		{what: "reaped"},
		{what: "collapse", verdicts: "grows", kind: "anon", subject: "[ anon ] at ", rate: 20},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			needBPF(t)
			needRoot(t)
			r := watchCase(t, c.what)
			addsUp(t, r.out)
			all := whatGrows(t, r.out)
			at := slices.IndexFunc(all, func(f render.FindingObject) bool { return f.Kind == c.kind })
			if at < 0 && c.kind != "" {
				t.Errorf("%s is not found to grow", c.kind)
			}
			for i := range all {
				f := &all[i]
				t.Log(f.Sentence)
				switch {
				case i != at:
					t.Error("that does not grow")
					continue
				case !strings.Contains(c.verdicts, f.Verdict), !strings.HasPrefix(string(f.Subject), c.subject):
					t.Errorf("%s of %q, want %s of %q", f.Verdict, f.Subject, c.verdicts, c.subject)
				case r.named() && ((c.blamed == "") != (f.Blamed == "") || !strings.HasPrefix(f.Blamed, c.blamed)):
					t.Errorf("%q is blamed, want %q", f.Blamed, c.blamed)
				}
				if r.named() && c.toucher != "" && (len(f.Touched) == 0 || len(f.Touched[0].Frames) == 0 || !strings.HasPrefix(f.Touched[0].Frames[0], c.toucher)) {
					t.Errorf("touched by %+v, want %s", f.Touched, c.toucher)
				}
				// A program that is not given the CPU is slower, never faster.
				const mib = 1 << 20
				if got := f.Slope / mib; c.rate > 0 && (got < c.rate/3 || got > 1.2*c.rate) {
					t.Errorf("%.1f MiB/s, want %.1f", got, c.rate)
				}
			}
		})
	}
}

// TestWhatIsSwappedOutGrows watches a program that is never larger than it was.
func TestWhatIsSwappedOutGrows(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	swapFile(t)
	r := watchCase(t, "pageout")
	addsUp(t, r.out)
	all := whatGrows(t, r.out)
	if len(all) == 0 {
		t.Fatal("nothing is found to grow")
	}
	f := all[0]
	t.Log(f.Sentence)
	if f.Kind != "anon" || f.Swapped < uint64(f.Growth/2) || r.named() && !strings.HasPrefix(f.Blamed, "remember ") {
		t.Errorf("%s by %q, of %.0f bytes, %d swapped out", f.Kind, f.Blamed, f.Growth, f.Swapped)
	}
}

// TestGrowthOfThreadsAndImages watches programs whose threads and images come and go.
func TestGrowthOfThreadsAndImages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, kind, measure, blamed string
	}{
		{"threads", "anon", "writable", "start_thread "},
		{"leader", "anon", "resident", "keep "},
		{"again", "anon", "resident", "keep "},
		{"hugetlb", "anon", "resident", "fill_page "},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			needBPF(t)
			needRoot(t)
			if c.what == "hugetlb" {
				reserveHugePages(t, 100)
			}
			r := watchCase(t, c.what)
			addsUp(t, r.out)
			all := whatGrows(t, r.out)
			if len(all) == 0 {
				t.Fatal("nothing is found to grow")
			}
			for i := range all {
				f := &all[i]
				t.Log(f.Sentence)
				if c.what == "threads" && f.Kind == "page tables" {
					continue // a stack is large, and hardly used
				}
				if f.Kind != c.kind || f.Measure != c.measure || r.named() && !strings.HasPrefix(f.Blamed, c.blamed) {
					t.Errorf("%s of %s by %q", f.Measure, f.Kind, f.Blamed)
				}
			}
		})
	}
}

// reserveHugePages has the kernel keep so many more huge pages while the test runs, where it can.
func reserveHugePages(t *testing.T, more int) {
	t.Helper()
	const name = "/proc/sys/vm/nr_hugepages"
	read := func() (n int) {
		text, err := os.ReadFile(name)
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if err != nil {
			t.Skip(err)
		}
		return n
	}
	before := read()
	set := func(n int) error { return os.WriteFile(name, []byte(strconv.Itoa(n)), 0o600) }
	t.Cleanup(func() {
		if err := set(before); err != nil {
			t.Error(err)
		}
	})
	if err := set(before + more); err != nil || read() < before+more {
		t.Skipf("there are no %d huge pages: %v", more, err)
	}
}

// swapFile has the kernel swap to a file while the test runs, where this machine lets us.
func swapFile(t *testing.T) {
	t.Helper()
	const bytes = 128 << 20
	name := filepath.Join(t.TempDir(), "swap")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err = errors.Join(unix.Fallocate(int(file.Fd()), 0, 0, bytes), file.Close()); err != nil {
		t.Skipf("no room for swap: %v", err)
	}
	if out, e := exec.Command("mkswap", name).CombinedOutput(); e != nil {
		t.Skipf("mkswap: %v: %s", e, out)
	}
	if out, e := exec.Command("swapon", name).CombinedOutput(); e != nil {
		t.Skipf("swapon: %v: %s", e, out)
	}
	t.Cleanup(func() {
		if out, e := exec.Command("swapoff", name).CombinedOutput(); e != nil {
			t.Errorf("swapoff: %v: %s", e, out)
		}
	})
}

// TestChildrenThatPileUp watches programs none of whose processes grows.
func TestChildrenThatPileUp(t *testing.T) {
	t.Parallel()
	for what, from := range map[string]string{"crowd": "spawn ", "workers": "start_worker "} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			needBPF(t)
			needRoot(t)
			childrenPileUp(t, what, from)
		})
	}
}

func childrenPileUp(t *testing.T, what, from string) {
	t.Helper()
	r := watchCase(t, what)
	all := whatGrows(t, r.out)
	if len(all) != 1 {
		t.Fatalf("%d findings that grow, want one: %+v", len(all), all)
	}
	f := all[0]
	t.Log(f.Sentence)
	const least = 4 << 20 // of 2 MiB every 300 ms
	if f.Kind != "processes" || f.Name != "cases" || f.Blamed != "" && !strings.HasPrefix(f.Blamed, from) || f.Growth < least {
		t.Errorf("%s %q by %q, of %.0f bytes", f.Kind, f.Name, f.Blamed, f.Growth)
	}
}

// TestWhoSplitsMappingsAndWhoIsRefusedMemory watches programs whose calls make none.
func TestWhoSplitsMappingsAndWhoIsRefusedMemory(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"split", "reserve", "refused"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			needBPF(t)
			needRoot(t)
			r := watchCase(t, what)
			all := whatGrows(t, r.out)
			switch what {
			case "reserve":
				if len(all) != 1 || all[0].Measure != "reserved" || all[0].Verdict != "leaks" || r.named() && !strings.HasPrefix(all[0].Blamed, "reserve ") || !strings.Contains(all[0].Limit, "the address space in ") {
					t.Errorf("found to grow: %+v", all)
				}
				return
			case "split":
				if len(all) != 1 || all[0].Measure != "mappings" || r.named() && !strings.HasPrefix(all[0].SplitBy, "register_buffer ") || !strings.Contains(all[0].Limit, "vm.max_map_count in ") {
					t.Errorf("found to grow: %+v", all)
				}
				return
			}
			var watch render.WatchObject
			first, _, _ := strings.Cut(r.out, "\n")
			if err := json.Unmarshal([]byte(first), &watch); err != nil || len(watch.Refused) != 1 || len(all) > 0 {
				t.Fatalf("%v: %s, found to grow: %+v", err, first, all)
			}
			f := &watch.Refused[0]
			t.Log(f.Sentence)
			const few, mib = 10, 1 << 20 // there is time for eight times as many
			if f.Call != "mmap" || f.Bytes != mib || f.Calls < few || r.named() && !strings.HasPrefix(f.By, "open_segment ") ||
				len(f.Limits) != 1 || f.Limits[0].Name != "RLIMIT_AS" || f.Limits[0].Max != 64*mib {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestGrowthOfACgroup watches a cgroup whose processes are as large as ever.
func TestGrowthOfACgroup(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	dir := memoryCgroup(t)
	h := startCase(t, "cached")
	h.move(dir)
	r := watchStarted(t, h, "--cgroup", dir)
	var group render.GroupObject
	first, _, _ := strings.Cut(r.out, "\n")
	if err := json.Unmarshal([]byte(first), &group); err != nil || group.Event != "group" || group.First == nil || group.Last == nil {
		t.Fatalf("%v: %s", err, first)
	}
	// What it is charged for is told by its kinds. The kernel charges some pages late.
	l := group.Last
	const slack = 2 << 20
	if parts := l.Anon + l.File + l.Shmem + l.Kernel + l.Sock; parts > l.Used+slack || l.Used > parts+slack {
		t.Errorf("the parts are %d, of %d bytes", parts, l.Used)
	}
	// The file is deleted and open. cachestat(2) came with 6.5.
	if name := "maptrace-case-"; len(group.Files) > 0 && (!strings.Contains(string(group.Files[0].Path), name) || group.Files[0].Grown < 4<<20) ||
		len(group.Files) == 0 && kernelHas(unix.SYS_CACHESTAT) {
		t.Errorf("more in the page cache is of %+v, want one called %s…", group.Files, name)
	}
	found := make(map[string]string)
	for _, f := range whatGrows(t, r.out) {
		t.Log(f.Sentence)
		found[f.Kind] = f.Verdict
	}
	if found["page cache"] != "grows" || l.File < group.First.File+4<<20 {
		t.Errorf("found to grow: %v, page cache from %d to %d bytes", found, group.First.File, l.File)
	}
	for kind := range found {
		if kind != "page cache" && kind != "kernel memory" { // of which v1 tells no more
			t.Errorf("%s is found to grow", kind)
		}
	}
}

// kernelHas tells whether the kernel has a system call.
func kernelHas(nr uintptr) bool {
	_, _, errno := unix.Syscall(nr, ^uintptr(0), 0, 0)
	return errno != unix.ENOSYS
}

// memoryCgroup makes a cgroup with the memory controller, where this machine lets us.
func memoryCgroup(t *testing.T) string {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		dir := filepath.Join(mount, fmt.Sprintf("maptrace-case-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			eventually(t, "the cgroup is empty", func() bool { return !errors.Is(os.Remove(dir), unix.EBUSY) })
		})
		if _, err := os.Stat(filepath.Join(dir, "memory.stat")); err == nil {
			return dir
		}
	}
	t.Skip("no cgroup with the memory controller can be made here")
	return ""
}
