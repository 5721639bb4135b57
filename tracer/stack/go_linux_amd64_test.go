package stack

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// waits is set in the child of the test below.
const waits = "STACK_TEST_WAITS"

func TestMain(m *testing.M) {
	if os.Getenv(waits) != "" {
		outer(3)
	}
	os.Exit(m.Run()) //nolint:forbidigo // this is main
}

//go:noinline
func outer(n int) int { return middle(n) + 1 }

//go:noinline
func middle(n int) int {
	if n > 0 {
		return middle(n-1) + 1
	}
	return inner() + 1
}

// inner waits in a system call, on the stack of its goroutine.
//
//go:noinline
func inner() int {
	runtime.LockOSThread()
	fmt.Println(syscall.Gettid()) //nolint:forbidigo // the parent reads it
	_, _, _ = syscall.Syscall(syscall.SYS_PAUSE, 0, 0, 0)
	return 1
}

func TestARealGoStackIsUnwoundByItsFramePointers(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), waits+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	tid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/task/%d/", cmd.Process.Pid, tid)
	for {
		var call []byte
		if call, err = os.ReadFile(proc + "syscall"); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(call), strconv.Itoa(syscall.SYS_PAUSE)+" ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err = syscall.PtraceAttach(tid); err != nil {
		t.Skipf("cannot trace a child: %v", err)
	}
	if _, err = syscall.Wait4(tid, nil, syscall.WALL, nil); err != nil {
		t.Fatal(err)
	}
	var regs syscall.PtraceRegs
	if err = syscall.PtraceGetRegs(tid, &regs); err != nil {
		t.Fatal(err)
	}
	s := Sample{Regs: Registers{Arch: AMD64, PC: regs.Rip, SP: regs.Rsp}, Stack: make([]byte, 1<<10), Cut: true}
	s.Regs.R[amd64FP] = regs.Rbp
	mem, err := os.Open(proc + "mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.ReadAt(s.Stack, int64(regs.Rsp)); err != nil {
		t.Fatal(err)
	}
	var u Unwinder
	frames, end := u.Unwind(&s, func(uint64) (Code, bool) {
		return Code{Rule: RuleFramePointer}, true
	}, nil)
	// The child is this program, and at the same addresses.
	var names []string
	for _, f := range frames {
		pc := f.PC
		if f.Call {
			pc--
		}
		name := "-"
		if fn := runtime.FuncForPC(uintptr(pc)); fn != nil {
			name = fn.Name()
		}
		names = append(names, name[strings.LastIndex(name, "/")+1:])
	}
	i := slices.Index(names, "stack.inner")
	if i < 0 || end != EndRoot {
		t.Fatalf("the walk ends with %v behind %v", end, names)
	}
	want := []string{"stack.inner", "stack.middle", "stack.middle", "stack.middle", "stack.middle", "stack.outer", "stack.TestMain", "main.main", "runtime.main", "runtime.goexit"}
	if diff := cmp.Diff(want, names[i:]); diff != "" {
		t.Errorf("functions differ (-want +got):\n%s", diff)
	}
	t.Log(names[:i])
}
