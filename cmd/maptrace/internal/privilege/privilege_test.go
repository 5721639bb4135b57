package privilege

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/testdata/tool"
)

// childEnv makes the test binary give up what it can, and print what is left.
const childEnv = "MAPTRACE_TEST_PRIVILEGE"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // the main of the child
		}
		os.Exit(0) //nolint:forbidigo // the main of the child
	}
	os.Exit(m.Run()) //nolint:forbidigo // TestMain is the main of a test
}

// child has threads of every kind, and tells the state of each before and after.
func child() error {
	started, hold := make(chan bool), make(chan bool)
	for range 3 {
		go func() {
			runtime.LockOSThread()
			started <- true
			<-hold
		}()
		<-started
	}
	err := Keep(Of(unix.CAP_SYS_PTRACE, unix.CAP_KILL))
	if errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("unsupported") //nolint:forbidigo // the output of the child
		return nil
	}
	if err != nil {
		return err
	}
	// One more, and a program, which must not get back what was given up.
	go func() {
		runtime.LockOSThread()
		started <- true
		<-hold
	}()
	<-started
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, name := range tasks {
		var text []byte
		if text, err = os.ReadFile(name); err != nil {
			return err
		}
		var s State
		if s, err = Parse(string(text)); err != nil {
			return err
		}
		fmt.Printf("%+v\n", s) //nolint:forbidigo // the output of the child
	}
	out, err := exec.Command("cat", "/proc/self/status").Output()
	if err != nil {
		return err
	}
	s, err := Parse(string(out))
	fmt.Printf("program %s %v\n", s.Effective|s.Permitted|s.Inheritable|s.Ambient, s.NoNewPrivs) //nolint:forbidigo // the output of the child
	return err
}

func TestEveryThreadGivesUpWhatIsNotKept(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root has something to give up")
	}
	now, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		attr *syscall.SysProcAttr
		want State
		file bool // whether others may execute it
	}{
		{"root", nil, State{
			Effective: now.Permitted & Of(unix.CAP_SYS_PTRACE, unix.CAP_KILL),
			Permitted: now.Permitted & Of(unix.CAP_SYS_PTRACE, unix.CAP_KILL), NoNewPrivs: true,
		}, false},
		{"another user with ambient capabilities", &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
			AmbientCaps: []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_BPF},
		}, State{
			Effective: Of(unix.CAP_SYS_PTRACE), Permitted: Of(unix.CAP_SYS_PTRACE), Bounding: now.Bounding, NoNewPrivs: true,
		}, true},
		{"another user with none", &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: 65534, Gid: 65534},
		}, State{Bounding: now.Bounding, NoNewPrivs: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := self
			if tt.file {
				path = publicCopy(t, self)
			}
			cmd := exec.Command(path)
			cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", append(os.Environ(), childEnv+"=1"), tt.attr
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			if string(out) == "unsupported\n" {
				if !cgo {
					t.Error("it says that it cannot be done, in a program without cgo")
				}
				return
			}
			threads := 0
			for line := range strings.Lines(string(out)) {
				line = strings.TrimSuffix(line, "\n")
				if what, ok := strings.CutPrefix(line, "program "); ok {
					if what != "none true" {
						t.Errorf("a program that it starts has %s", what)
					}
					continue
				}
				threads++
				if diff := cmp.Diff(line, fmt.Sprintf("%+v", tt.want)); diff != "" {
					t.Errorf("a thread (-got +want):\n%s", diff)
				}
			}
			if threads < 5 {
				t.Errorf("only %d threads were looked at:\n%s", threads, out)
			}
		})
	}
}

// publicCopy copies a program to where everybody may execute it.
func publicCopy(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755), tool.WriteProgram(to, b)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestSetsHaveNames(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]Set{
		"none": 0, "cap_chown": 1, "cap_perfmon,cap_bpf,cap_checkpoint_restore": Of(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_CHECKPOINT_RESTORE),
		"cap_sys_ptrace,63": Of(unix.CAP_SYS_PTRACE, 63),
	} {
		if got := s.String(); got != want {
			t.Errorf("%#x is called %q, want %q", uint64(s), got, want)
		}
	}
	if len(names) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names for %d capabilities", len(names), unix.CAP_LAST_CAP+1)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const text = "Name:\tx\nCapInh:\t0000000000000001\nCapPrm:\t0000000000000003\nCapEff:\t0000000000000002\n" +
		"CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	got, err := Parse(text)
	want := State{Effective: 2, Permitted: 3, Inheritable: 1, Bounding: 0x1ffffffffff, NoNewPrivs: true}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "CapInh:\t1\n", strings.Replace(text, "CapEff:\t0", "CapEff:\tx", 1)} {
		if s, err := Parse(bad); err == nil {
			t.Errorf("%q gives %+v", bad, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("CapInh:\t0\nCapPrm:\t3\nCapEff:\t2\nCapBnd:\t1ff\nCapAmb:\t0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Parse(text); err != nil && s != (State{}) {
			t.Errorf("an error and a state: %+v, %v", s, err)
		}
	})
}
