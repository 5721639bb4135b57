//go:build linux && (amd64 || arm64)

package sample

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
)

// mallocsOf samples a process, and has what its malloc holds read.
func mallocsOf(t *testing.T, pid int) (s *Sampler, one *target, told *[]event.Malloc, effort *event.Effort) {
	t.Helper()
	const id = 7
	tree := treeOf(t, pid)
	told, effort = new([]event.Malloc), new(event.Effort)
	s = New(new(quietKernel), Options{
		FS: procmaps.Default(), Interval: time.Second, Budget: 1, Faults: true, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree },
		Emit: func(r *event.Record) {
			switch b := r.Body.(type) {
			case event.Malloc:
				*told = append(*told, b)
			case event.Effort:
				*effort = b
			}
		},
	})
	t.Cleanup(s.Close)
	s.Change(&tracer.Change{Kind: tracer.KindBegin, Space: id, Process: &tracer.Process{PID: pid}})
	one = s.spaces[id]
	s.mallocTouched(one)
	return s, one, told, effort
}

// idle calls Idle until something is so.
func idle(t *testing.T, s *Sampler, until func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !until(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was waited for in vain")
		}
		s.Idle()
	}
}

func TestWhatMallocHoldsIsReadAgainAndAtTheEnd(t *testing.T) {
	t.Parallel()
	s, one, told, effort := mallocsOf(t, idler(t))
	idle(t, s, func() bool { return len(*told) == 2 })
	if one.malloc.due < one.malloc.began+2*uint64(leastMallocGap) {
		t.Errorf("it is read again after %v", time.Duration(one.malloc.due-one.malloc.began))
	}
	s.Finish()
	if len(*told) != 3 || effort.Readings != 3 || effort.ReadingNs == 0 {
		t.Fatalf("it was told %d times, and read %d times in %d ns", len(*told), effort.Readings, effort.ReadingNs)
	}
	for _, m := range *told {
		if !m.Complete || len(m.Arenas) != 1 || !m.Arenas[0].Main || m.Arenas[0].InUse == 0 || m.Arenas[0].Resident == 0 || m.Arenas[0].State == 0 {
			t.Errorf("of cat it says %+v", m)
		}
	}
}

func TestWhatIsReadOfAProcessThatHasEndedIsNotTold(t *testing.T) {
	t.Parallel()
	s, one, told, _ := mallocsOf(t, idler(t))
	s.Idle()
	m := one.malloc
	if !m.busy {
		t.Fatal("it is not read")
	}
	s.Change(&tracer.Change{Kind: tracer.KindExit, Space: one.space, TGID: one.pid})
	idle(t, s, func() bool { return !m.busy })
	if len(*told) != 0 || s.mallocs != 0 || m.mem != nil || m.residency != nil {
		t.Errorf("told %v; %d are read, by %v and %v", *told, s.mallocs, m.mem, m.residency)
	}
}

// A program without glibc is given up, and holds nothing of us.
func TestAnotherAllocatorIsNotLookedForForEver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, source := filepath.Join(dir, "reader"), filepath.Join(dir, "reader.go")
	if err := os.WriteFile(source, []byte("package main\nimport \"os\"\nfunc main() { os.Stdin.Read(make([]byte, 1)) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), bin)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it was there; how it ends is of no interest
	})
	s, one, told, _ := mallocsOf(t, cmd.Process.Pid)
	idle(t, s, func() bool { return one.malloc.over })
	s.Finish()
	if len(*told) != 0 || s.mallocs != 0 || one.malloc.mem != nil || one.malloc.residency != nil {
		t.Errorf("told %v; %d are read, by %v and %v", *told, s.mallocs, one.malloc.mem, one.malloc.residency)
	}
	s.Change(&tracer.Change{Kind: tracer.KindExit, Space: one.space, TGID: one.pid})
	if s.mallocs != 0 {
		t.Errorf("after its end %d are read", s.mallocs)
	}
}

func TestReadingsKeepWithinTheirBudget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at, spent time.Duration // since the first
		want      time.Duration // from at
	}{
		{0, time.Millisecond, time.Second},
		{4 * time.Second, 10 * time.Millisecond, time.Second},
		{40 * time.Second, 20 * time.Millisecond, 5 * time.Second},
		{time.Hour, time.Second, 10 * time.Second},
		{time.Second, mallocFree + 2*time.Millisecond, time.Second},
		{time.Second, mallocFree + 20*time.Millisecond, 9 * time.Second},
		{time.Minute, mallocFree + time.Second, 440 * time.Second},
	} {
		m := &mallocWatch{began: 5e9, spent: tt.spent}
		if got := time.Duration(m.next(5e9+uint64(tt.at)) - 5e9 - uint64(tt.at)); got != tt.want {
			t.Errorf("after %v, of which %v were used, it is read in %v, want %v", tt.at, tt.spent, got, tt.want)
		}
	}
}
