package symbol

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// reads is a budget of so many bytes for each process.
func reads(bytes int64) *quota.Run {
	all := quota.Limits{Bytes: 1 << 50, Time: 1000 * time.Hour}
	return quota.New(quota.Limits{Bytes: bytes, Time: time.Hour}, all)
}

func TestAPerfMapWithoutEndIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		bytes int64
		err   error
		want  string
	}{
		{"at the expense of a rich process", 1 << 40, ErrTooLarge, "what is no function in it is too large"},
		{"at the expense of a poor one", 1 << 19, quota.ErrSpent, "the budget is used up: 512.0 KiB for process 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pid, path := sleeper(t)
			write(t, path, "1000 10 first\n", os.O_TRUNC)
			if err := os.Truncate(path, 1<<43); err != nil {
				t.Fatal(err)
			}
			p := anyPerfFile(pid, reads(tt.bytes).Of("process", 1))
			defer p.Close()
			if name, _, _, ok := p.Lookup(0x1008); !ok || name != "first" {
				t.Errorf("Lookup = %q, %v", name, ok)
			}
			if err, want := p.Err(), fmt.Sprintf("read perf map of process %d: %s", pid, tt.want); !errors.Is(err, tt.err) || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}

// Each time that the file is written anew all of it is read again.
func TestAPerfMapThatIsWrittenAgainAndAgainIsReadWithinTheBudget(t *testing.T) {
	t.Parallel()
	pid, path := sleeper(t)
	text := strings.Repeat("1000 10 name\n", 1<<13)
	account := reads(10*int64(len(text))).Of("process", pid)
	p := anyPerfFile(pid, account)
	defer p.Close()
	read := 0
	for range 30 {
		write(t, path, "", os.O_TRUNC)
		write(t, path, text, os.O_TRUNC)
		if err := refresh(p); err == nil {
			read++
		} else if !errors.Is(err, quota.ErrSpent) {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	// In the seconds that it may take, little comes back.
	if read < 10 || read > 11 {
		t.Errorf("it was read %d times, want 10", read)
	}
}

func TestADebugFileIsNotAddedUpThatNobodyPaysFor(t *testing.T) {
	t.Parallel()
	prog, debug := split(t, ".", "-Wl,--build-id=none")
	all := nm(t, debug)
	if err := os.Truncate(debug, 1<<30); err != nil { // of zeros: the sum is another
		t.Fatal(err)
	}
	m := open(t, prog)
	m.opts.Account = reads(1<<30).Of("process", 1)
	for _, s := range all {
		if fn, ok := m.Function(s.start); ok && fn.From == FromDebug {
			t.Errorf("Function(%s) = %+v", s.name, fn)
		}
	}
	if err := m.Spent(); err == nil || err.Error() != "the budget is used up: 1.0 GiB for process 1" {
		t.Errorf("Spent: %v", err)
	}
	// Nothing of it was read: the rest is there for other files.
	if !m.opts.Account.Ample() {
		t.Error("less than half is left")
	}
}

func TestWhatIsDecompressedAgainAndAgainIsPaidForEachTime(t *testing.T) {
	t.Parallel()
	var progs []string
	var pids []int
	var at []uint64
	for i := range 2 {
		prog := compile(t, "calls.c", "-O2", "-g", "-gz", "-no-pie", fmt.Sprintf("-Wl,--defsym=unique=%d", i))
		all := nm(t, prog)
		outer := all[slices.IndexFunc(all, func(s nmSymbol) bool { return s.name == "outer" })]
		progs, pids, at = append(progs, prog), append(pids, start(t, prog, "wait")), append(at, outer.start)
	}
	alone := open(t, progs[0])
	alone.Lines(at[0], nil)
	held := alone.bytes.Load()
	const times = 20
	// There is room for one of them, so each drops what the other has.
	c := newCache(t, CacheOptions{MaxBytes: held * 3 / 2, Reads: reads(times * held), noDebugFiles: true})
	var modules []*Module
	for i, pid := range pids {
		m, err := c.Module(pid, codeOf(t, pid, filepath.Base(progs[i])))
		if err != nil {
			t.Fatal(err)
		}
		modules = append(modules, m)
	}
	named := func(m *Module, addr uint64) bool {
		l := m.Lines(addr, nil)
		return len(l) > 0 && l[0].Line > 0
	}
	loaded, spent := 0, -1
	for spent < 0 && loaded <= times {
		loaded++
		for i, m := range modules {
			if !named(m, at[i]) {
				spent = i
			}
		}
	}
	if spent < 0 {
		t.Fatalf("they were loaded %d times, and paid for at most %d times", loaded, times)
	}
	if err, want := modules[spent].Spent(), fmt.Sprintf(" for process %d", pids[spent]); !errors.Is(err, quota.ErrSpent) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("Spent: %v, want %s", err, want)
	}
	for range 3 * times {
		if named(modules[spent], at[spent]) || !named(modules[1-spent], at[1-spent]) {
			t.Fatal("what nobody pays for is read, or drops what is in use")
		}
	}

	// Another process that runs the program pays for it.
	pid := start(t, progs[spent], "wait")
	m, err := c.Module(pid, codeOf(t, pid, filepath.Base(progs[spent])))
	if err != nil {
		t.Fatal(err)
	}
	if m != modules[spent] || m.Spent() != nil || !named(m, at[spent]) {
		t.Errorf("Module = %p: %v; want %p", m, m.Spent(), modules[spent])
	}
}

func TestRoomIsMadeBeforeSomethingLargeIsDecompressed(t *testing.T) {
	t.Parallel()
	c := newCache(t, CacheOptions{MaxBytes: 1 << 20, noDebugFiles: true})
	var modules []*Module
	for i := range 3 {
		prog := compile(t, "calls.c", "-O2", "-no-pie", fmt.Sprintf("-Wl,--defsym=unique=%d", i))
		pid := start(t, prog, "wait")
		m, err := c.Module(pid, codeOf(t, pid, filepath.Base(prog)))
		if err != nil {
			t.Fatal(err)
		}
		m.Function(nm(t, prog)[0].start)
		modules = append(modules, m)
	}
	held := func() (all []bool) {
		for _, m := range modules {
			all = append(all, m.bytes.Load() > 0)
		}
		return all
	}
	expect := func(when string, bytes int64, want ...bool) {
		t.Helper()
		modules[2].mu.Lock()
		c.expect(modules[2], bytes)
		modules[2].mu.Unlock()
		if diff := cmp.Diff(want, held()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	expect("with room for it", 1<<10, true, true, true)
	// Who has a lock may wait for one of ours.
	c.mu.Lock()
	expect("while the cache is in use", 1<<20, true, true, true)
	c.mu.Unlock()
	modules[0].mu.Lock()
	expect("while the oldest is in use", 1<<20, true, true, true)
	modules[0].mu.Unlock()
	expect("without room for another", 1<<20-modules[1].bytes.Load()-modules[2].bytes.Load(), false, true, true)
	expect("without room for any", 1<<20, false, false, true)
}

// Nothing is read in these loops: debug information was decompressed before.
func TestTimeThatIsSpentInMemoryIsPaidFor(t *testing.T) {
	t.Parallel()
	prog := compile(t, "shapes.cc", "-O2", "-g", "-gz")
	all := nm(t, prog)
	m := open(t, prog)
	for _, a := range addresses(all, 1, 100) {
		m.Lines(a, nil)
	}
	if err := m.Spent(); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	d := m.lines.value
	clear(d.cache)
	m.mu.Unlock()
	m.opts.Account = quota.New(quota.Limits{Bytes: 1 << 40, Time: time.Nanosecond}, quota.Limits{Bytes: 1 << 50, Time: time.Hour}).Of("process", 1)
	for _, a := range addresses(all, 1, 1000) {
		m.Lines(a, nil)
	}
	if err := m.Spent(); err == nil || err.Error() != "the budget is used up: 1ns of CPU time for process 1" {
		t.Errorf("Spent: %v", err)
	}
}
