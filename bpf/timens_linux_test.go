//go:build amd64 || arm64

package bpf_test

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
)

func TestTheTimeOfARecordIsBetweenThoseOfOurClock(t *testing.T) {
	h := open(t, bpf.Options{})
	defer h.Close()
	if _, err := h.Trace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	// The call is looked for by its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := bpf.Now()
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	after := bpf.Now()
	defer func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	}()
	var ev bpf.Event
	for {
		if err := h.Next(&ev); err != nil {
			t.Fatalf("the call was not reported: %v", err)
		}
		if ev.Op == bpf.OpMmap && int(ev.TID) == unix.Gettid() && ev.Args[1] == uint64(len(mem)) && ev.Args[2] == unix.PROT_NONE {
			break
		}
	}
	if ev.Time < before || ev.Time > after {
		t.Errorf("the call was at %d, between %d and %d", ev.Time, before, after)
	}
}

func TestTheClockIsThatOfTheKernelInATimeNamespace(t *testing.T) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &up); err != nil {
		t.Fatal(err)
	}
	for _, ahead := range []int64{100000, -up.Sec / 2} {
		cmd := exec.Command("unshare", "-T", "--fork", "--monotonic", strconv.FormatInt(ahead, 10))
		if out, err := exec.Command(cmd.Path, append(cmd.Args[1:], "true")...).CombinedOutput(); err != nil {
			t.Skipf("no time namespace can be made here: %v: %s", err, out)
		}
		cmd.Args = append(cmd.Args, os.Args[0], "-test.v", "-test.run=^TestTheTimeOfARecordIsBetweenThoseOfOurClock$")
		mustPass(t, cmd)
	}
}

// mustPass runs a test in another process. What is skipped there is skipped here.
func mustPass(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	if regexp.MustCompile(`(?m)^--- PASS: `).Match(out) {
		return
	}
	why := regexp.MustCompile(`(?m)^    \w+\.go:\d+: (.*)\n--- SKIP: `).FindSubmatch(out)
	if why == nil {
		t.Fatalf("%v has run no test\n%s", cmd.Args, out)
	}
	t.Skipf("%s", why[1])
}

// childrenApart is set where the children of this process are to be in another time
// namespace than it is.
const childrenApart = "MAPTRACE_TEST_CHILDREN_APART"

var errApart error

// The main thread is the one that /proc/self tells of, and runs what is in init.
func init() {
	if os.Getenv(childrenApart) != "" {
		errApart = unix.Unshare(unix.CLONE_NEWTIME)
	}
}

func TestAnotherTimeNamespaceForChildrenIsRefused(t *testing.T) {
	if os.Getenv(childrenApart) == "" {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), childrenApart+"=1")
		mustPass(t, cmd)
		return
	}
	if errApart != nil {
		t.Skipf("no time namespace can be made here: %v", errApart)
	}
	h, err := bpf.Open(bpf.Options{})
	if err == nil {
		err = h.Close()
	}
	if !errors.Is(err, bpf.ErrForeignClock) {
		t.Errorf("got %v, want %v", err, bpf.ErrForeignClock)
	}
}
