package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// long tells whether faults are tried as often as before a release, or only as
// often as there is time for at every change: make test-faults.
var long = os.Getenv("MAPTRACE_LONG") == "1"

// times is n in a long run and brief otherwise.
func times(brief, n int) int {
	if long {
		return n
	}
	return brief
}

// TestKilledAtAnyMomentItLeavesNothingBehind kills each command that attaches, at
// moments that nobody has chosen. It is stopped first, so that what it had made by
// then is known.
func TestKilledAtAnyMomentItLeavesNothingBehind(t *testing.T) {
	needBPF(t)
	h := startHelper(t, "churn")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	attached := 0
	longest := time.Second
	for i := range times(12, 200) {
		command := [...]string{"trace", "grow", "lat"}[i%3]
		cmd := exec.Command(binary(t), command, "-p", h.pid())
		p := launch(t, cmd)
		time.Sleep(time.Duration(random.Int64N(int64(longest))))
		p.signal(syscall.SIGSTOP)
		eventually(t, "it is stopped", func() bool { return state(t, p.Process.Pid) == 'T' })
		ids := openIDs(t, p.Process.Pid)
		p.signal(syscall.SIGKILL)
		if r := p.result(); r.code != 128+exitCode(syscall.SIGKILL) {
			t.Errorf("%s: exit code %d: %s", command, r.code, r.stderr)
		}
		ids.checkGone(t)
		if len(ids.links) > 0 {
			attached++
			longest = time.Second
		} else {
			longest = min(longest*3/2, bound/4) // where the CPUs are busy, it takes longer
		}
		h.unharmed()
	}
	if attached == 0 {
		t.Error("it never came to attach anything")
	}
	t.Logf("%d times of %d something was attached", attached, times(12, 200))
}

// state is the letter of a process' state, 0 if there is none.
func state(t *testing.T, pid int) byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	if !ok {
		t.Fatalf("stat: %q", b)
	}
	return rest[0]
}

// TestAStormOfShortProcessesIsExact has hundreds of processes come and go, many at
// the same time.
func TestAStormOfShortProcessesIsExact(t *testing.T) {
	needBPF(t)
	n := times(300, 2000)
	o := parse(t, succeed(t, launchTrace(t, "storm", n).result()).out)
	if got := int(o.summary.Processes); got < n {
		t.Errorf("%d processes were seen, want at least %d", got, n)
	}
}

// TestAThousandThreadsAreExact has many threads map and unmap in one address space.
func TestAThousandThreadsAreExact(t *testing.T) {
	needBPF(t)
	parse(t, succeed(t, launchTrace(t, "threads", times(200, 1000)).result()).out)
}

// TestImageAfterImageIsExact has a process exec itself again and again.
func TestImageAfterImageIsExact(t *testing.T) {
	needBPF(t)
	parse(t, succeed(t, launchTrace(t, "images", times(60, 500)).result()).out)
}

// TestTargetsThatAreKilledAmidstItAll kills a traced process and its children in
// the midst of mapping, forking and executing.
func TestTargetsThatAreKilledAmidstItAll(t *testing.T) {
	needBPF(t)
	for i := range times(3, 60) {
		name := [...]string{"storm", "images", "threads"}[i%3]
		ready := filepath.Join(t.TempDir(), "ready")
		p := launchTrace(t, name, 1<<30, "--ready-file", ready)
		victim := 0
		eventually(t, "the command runs, traced", func() bool {
			if _, err := os.Stat(ready); err != nil {
				return false
			}
			victim = childOf(t, p.Process.Pid, p.Args[len(p.Args)-2])
			return victim != 0
		})
		time.Sleep(time.Duration(rand.Int64N(int64(300 * time.Millisecond))))
		if err := unix.Kill(victim, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r := p.result()
		if r.code != 128+exitCode(syscall.SIGKILL) {
			t.Errorf("%s: exit code %d: %s", name, r.code, r.stderr)
		}
		// What a process did last may be gone with it, and is said to be then.
		s := decode(t, r.out).summary
		if s.Lost+s.Missed+s.Violations+s.Drift+s.Untracked != 0 {
			t.Errorf("%s: the picture is wrong: %+v", name, s)
		}
	}
}

// TestAStoppedReaderLosesNothingSilently stops maptrace while the target goes on.
func TestAStoppedReaderLosesNothingSilently(t *testing.T) {
	needBPF(t)
	h := startHelper(t, "flood")
	p := tracing(t, "-p", h.pid(), "--ring", "64K", "--summary-only", "--verify", "-o", "json")
	h.tell("go")
	p.signal(syscall.SIGSTOP)
	h.hear("done")
	p.signal(syscall.SIGCONT)
	h.tell("go")
	h.hear("done")
	p.signal(syscall.SIGINT)
	s := decode(t, succeed(t, p.result()).out).summary
	if s.Lost == 0 {
		t.Errorf("a ring of 64 KiB held %d calls", 2*floodCalls)
	}
	if s.Drift != 0 {
		t.Errorf("the tree is wrong: %+v", s)
	}
	if got := int(s.Lost + s.Calls); got < 4*floodCalls {
		t.Errorf("%d calls were seen or counted as lost, want %d", got, 4*floodCalls)
	}
	h.unharmed()
}

// TestStarvedItLosesNothingSilently gives the CPUs to others.
func TestStarvedItLosesNothingSilently(t *testing.T) {
	needBPF(t)
	for range 2 * runtime.NumCPU() {
		launch(t, exec.Command("sh", "-c", "while :; do :; done"))
	}
	h := startHelper(t, "flood")
	p := tracing(t, "-p", h.pid(), "--ring", "1M", "--summary-only", "--verify", "-o", "json")
	if err := unix.Setpriority(unix.PRIO_PROCESS, p.Process.Pid, 19); err != nil {
		t.Fatal(err)
	}
	for range times(2, 20) {
		h.tell("go")
		h.hear("done")
	}
	p.signal(syscall.SIGINT)
	s := decode(t, succeed(t, p.result()).out).summary
	if s.Drift != 0 {
		t.Errorf("the tree is wrong: %+v", s)
	}
	if got, want := int(s.Lost+s.Calls), 2*floodCalls*times(2, 20); got < want {
		t.Errorf("%d calls were seen or counted as lost, want %d", got, want)
	}
	h.unharmed()
}

// TestWhatCannotBeWrittenIsToldByAllCommands tries each way out of each command.
func TestWhatCannotBeWrittenIsToldByAllCommands(t *testing.T) {
	t.Parallel()
	needBPF(t)
	for _, args := range [][]string{
		{"grow", "--to", "/dev/full", "--"},
		{"grow", "-o", "json", "--to", "/dev/full", "--"},
		{"grow", "--pprof", "/dev/full", "--"},
		{"grow", "--folded", "/dev/full", "--interval", "50ms", "--for", "300ms", "--"},
		{"lat", "--to", "/dev/full", "--"},
		{"trace", "-o", "json", "--to", "/dev/full", "--"},
	} {
		t.Run(strings.Join(args[:len(args)-1], " "), func(t *testing.T) {
			r := maptrace(t, append(args, "sleep", "0.6")...)
			if r.code != exitError {
				t.Errorf("exit code %d, want %d", r.code, exitError)
			}
			checkOneLine(t, r.stderr, "no space left on device")
		})
	}
	for _, command := range []string{"grow", "lat"} {
		t.Run(command+" to a pipe that nobody reads", func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(binary(t), command, "--", "sh", "-c", "sleep 0.1; exec true")
			cmd.Stdout = w
			p := launch(t, cmd)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := p.result(); got.code == exitOK || strings.Contains(got.stderr, "panic") {
				t.Errorf("exit code %d: %s", got.code, got.stderr)
			}
		})
	}
}

// launchTrace traces one of helpers, from its first instruction, comparing the
// tree with /proc all the time.
func launchTrace(t *testing.T, helper string, n int, flags ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := slices.Concat([]string{"trace", "--summary-only", "--verify", "-o", "json"}, flags, []string{"--", self, strconv.Itoa(n)})
	cmd := exec.Command(binary(t), args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+helper)
	return launch(t, cmd)
}

// childOf is the child of a process that runs a program, 0 if there is none yet.
func childOf(t *testing.T, pid int, program string) int {
	t.Helper()
	below, err := tracer.Descendants(procmaps.Default(), []int{pid})
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range below {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", child)); err == nil && exe == program {
			return child
		}
	}
	return 0
}

// floodCalls is how many pairs of mmap and munmap the flood helper makes.
const floodCalls = 20_000

// floodHelper maps and unmaps as fast as it can, when told.
func floodHelper([]string) error {
	return serve(func() error { return mapAndUnmap(floodCalls) })
}

func mapAndUnmap(n int) error {
	for range n {
		b, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		if err = unix.Munmap(b); err != nil {
			return err
		}
	}
	return nil
}

// stormHelper runs n processes, some at a time.
func stormHelper(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	errs := make(chan error, 1)
	room := make(chan struct{}, 16)
	for i := 0; i < n && len(errs) == 0; i++ {
		room <- struct{}{}
		go func() {
			if failed := exec.Command("/bin/true").Run(); failed != nil {
				select {
				case errs <- failed:
				default: // one is enough
				}
			}
			<-room
		}()
	}
	for range cap(room) {
		room <- struct{}{}
	}
	select {
	case err = <-errs:
	default:
	}
	return err
}

// threadsHelper has n threads at the same time, or 1,000 that do not end soon.
func threadsHelper(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	pairs := max(20, n-1000)
	n = min(n, 1000)
	var all, ready sync.WaitGroup
	errs := make(chan error, n)
	ready.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread()
			ready.Done()
			ready.Wait()
			errs <- mapAndUnmap(pairs)
		})
	}
	all.Wait()
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// imagesHelper executes itself n times over, each time with other mappings.
func imagesHelper(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil || n == 0 {
		return err
	}
	if err := mapAndUnmap(3); err != nil {
		return err
	}
	if _, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", []string{"images", strconv.Itoa(n - 1)}, os.Environ())
}
