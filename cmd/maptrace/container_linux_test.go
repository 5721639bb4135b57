package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/testdata/leaks"
	"github.com/maptrace/maptrace/testdata/tool"
)

// unshared returns how to run something in new namespaces, or skips.
func unshared(t *testing.T, args ...string) []string {
	t.Helper()
	argv := append([]string{tool.Need(t, "unshare")}, args...)
	if text, err := exec.Command(argv[0], append(argv[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("%v: %v\n%s", argv, err, text)
	}
	return argv
}

// jsonLines are the lines of -o json, after what else is printed before them.
func jsonLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, o)
	}
	return all
}

func TestTracingInsideOfAPIDNamespace(t *testing.T) {
	t.Parallel()
	needBPF(t)
	inside := unshared(t, "--pid", "--fork", "--mount-proc")
	twice := append(inside, inside...)
	for _, argv := range [][]string{inside, twice} {
		t.Run(fmt.Sprintf("%d deep", len(argv)/len(inside)), func(t *testing.T) {
			t.Parallel()
			// The command and its children say what they are called; one of them is
			// called yet otherwise by itself.
			script := `echo command $$; sh -c 'echo child $$; true'; unshare --pid --fork sh -c 'sleep 0.5; exec true'`
			cmd := append(argv, binary(t), "trace", "--verify", "--stack", "-o", "json", "--", "sh", "-c", script)
			r := succeed(t, launch(t, exec.Command(cmd[0], cmd[1:]...)).result())
			names := map[string]float64{}
			for _, line := range strings.Split(r.out, "\n")[:2] {
				who, number, _ := strings.Cut(line, " ")
				n, err := strconv.Atoi(number)
				if err != nil {
					t.Fatal(err)
				}
				names[who] = float64(n)
			}
			calls, execs := map[float64]int{}, 0
			var last map[string]any
			for _, o := range jsonLines(t, r.out) {
				pid, _ := o["pid"].(float64)
				switch o["event"] {
				case "mmap":
					calls[pid]++
					if pid == 0 || o["tid"] != o["pid"] {
						t.Errorf("a call of %v/%v", o["pid"], o["tid"])
					}
				case "exec":
					execs++
				}
				last = o
			}
			if calls[names["command"]] < 2 || calls[names["child"]] < 2 {
				t.Errorf("mmap calls by process: %v, want some of %v", calls, names)
			}
			if last["event"] != "summary" || last["forks"] != 4.0 || last["exits"] != 5.0 || execs != 5 {
				t.Errorf("%d execs, and at the end %v", execs, last)
			}
			if last["drift"] != 0.0 || last["lost"] != 0.0 || last["picture"] != "exact" {
				t.Errorf("the picture: %v", last)
			}
		})
	}
}

func TestAProcessOfAnotherContainerWithTheSameNumberIsNotTraced(t *testing.T) {
	t.Parallel()
	needBPF(t)
	inside := unshared(t, "--pid", "--fork", "--mount-proc", "--kill-child")
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.WriteFile(loop, []byte("sleep 0.01; exec sh "+loop), 0o644); err != nil {
		t.Fatal(err)
	}
	// Process 2 of this one gets a new image a hundred times a second.
	argv := append(inside, "sh", "-c", "sh "+loop+" & wait")
	launch(t, exec.Command(argv[0], argv[1:]...))
	// Process 2 of this one does so once.
	ready := filepath.Join(t.TempDir(), "ready")
	argv = append(inside, "sh", "-c", `sh -c 'until [ -e "$0" ]; do sleep 0.1; done; exec sleep 1' "$0" & exec "$@"`,
		ready, binary(t), "trace", "-p", "2", "--ready-file", ready, "--verify", "-o", "json")
	r := succeed(t, launch(t, exec.Command(argv[0], argv[1:]...)).result())
	all := jsonLines(t, r.out)
	execs := 0
	for _, o := range all {
		if o["event"] == "exec" && o["pid"] == 2.0 {
			execs++
		}
	}
	if last := all[len(all)-1]; execs != 1 || last["drift"] != 0.0 || last["audits"] == 0.0 {
		t.Errorf("%d new images of process 2, want 1; at the end %v", execs, last)
	}
}

func TestGrowthInsideOfAPIDNamespace(t *testing.T) {
	t.Parallel()
	needBPF(t)
	argv := append(unshared(t, "--pid", "--fork", "--mount-proc"), binary(t), "demo")
	checkCulprit(t, succeed(t, launch(t, exec.Command(argv[0], argv[1:]...)).result()))
}

func TestTheDoctorSaysWhoseProcessesAreSeen(t *testing.T) {
	t.Parallel()
	needBPF(t)
	argv := append(unshared(t, "--pid", "--fork", "--mount-proc"), binary(t), "doctor")
	r := succeed(t, launch(t, exec.Command(argv[0], argv[1:]...)).result())
	if !strings.Contains(r.out, "\npid namespace a container's: only its own processes") {
		t.Errorf("the doctor says:\n%s", r.out)
	}
}

// newCgroup makes a cgroup, where this machine lets us. Its path is as
// /proc/PID/cgroup has it.
func newCgroup(t *testing.T, name string) (dir, path string) {
	t.Helper()
	needRoot(t)
	const mount = "/sys/fs/cgroup"
	path = fmt.Sprintf("/maptrace-test-%d", os.Getpid())
	for _, hierarchy := range []string{"", "unified", "pids", "memory"} {
		if _, err := os.Stat(filepath.Join(mount, hierarchy, "cgroup.procs")); err != nil {
			continue
		}
		parent := filepath.Join(mount, hierarchy, path)
		dir = filepath.Join(parent, name)
		if os.MkdirAll(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			// It is busy until the last process in it was reaped.
			eventually(t, "the cgroup is empty", func() bool { return !errors.Is(os.Remove(dir), unix.EBUSY) })
			_ = os.Remove(parent) // unless another test uses it
		})
		return dir, path + "/" + name
	}
	t.Skip("no cgroup can be made here")
	return "", ""
}

func (h *helper) move(dir string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(h.pid()), 0); err != nil {
		h.t.Skipf("no process can be put into a cgroup here: %v", err)
	}
}

// shared is output that is read while it is written.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestCgroupsAndContainersAreTraced(t *testing.T) {
	t.Parallel()
	needBPF(t)
	id := fmt.Sprintf("%032x%032x", rand.Uint64(), rand.Uint64())
	dir, path := newCgroup(t, "docker-"+id+".scope")
	first, outside := startHelper(t, "churn"), startHelper(t, "churn")
	first.move(dir)
	for name, flags := range map[string][]string{
		"a path": {"--cgroup", path}, "the name of a unit": {"--cgroup", "docker-" + id + ".scope"},
		"a directory": {"--cgroup", dir}, "a container": {"--container", id[:20]},
	} {
		// One after the other: each would see the processes of the others end.
		t.Run(name, func(t *testing.T) {
			var out shared
			p := tracingTo(t, &out, append(flags, "-o", "json")...)
			traced := func(h *helper) bool { return strings.Contains(out.String(), `,"pid":`+h.pid()+`,"tid"`) }
			eventually(t, "the process in the group is traced", func() bool { return traced(first) })
			// What "docker exec" does.
			second := startHelper(t, "churn")
			second.move(dir)
			eventually(t, "the one that enters is traced", func() bool { return traced(second) })
			if traced(outside) {
				t.Error("a process of no group is traced")
			}
			p.signal(syscall.SIGINT)
			if r := p.result(); r.code != exitOK || r.stderr != "" {
				t.Errorf("exit code %d, standard error %q", r.code, r.stderr)
			}
			all := jsonLines(t, out.String())
			if last := all[len(all)-1]; last["event"] != "summary" || last["picture"] != "exact" || last["violations"] != 0.0 {
				t.Errorf("at the end: %v", last)
			}
			second.unharmed()
		})
	}
}

func TestAProcessWhoseLeaderHasEndedIsFoundInItsCgroup(t *testing.T) {
	t.Parallel()
	needBPF(t)
	id := fmt.Sprintf("%032x%032x", rand.Uint64(), rand.Uint64())
	dir, path := newCgroup(t, "docker-"+id+".scope")
	h := startHelper(t, "orphan")
	h.move(dir)
	for name, flags := range map[string][]string{"a path": {"--cgroup", path}, "a container": {"--container", id[:20]}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out shared
			p := tracingTo(t, &out, append(flags, "-o", "json")...)
			eventually(t, "the process is traced", func() bool { return strings.Contains(out.String(), `,"pid":`+h.pid()+`,"tid"`) })
			p.signal(syscall.SIGINT)
			if r := p.result(); r.code != exitOK || r.stderr != "" {
				t.Errorf("exit code %d, standard error %q", r.code, r.stderr)
			}
		})
	}
}

func TestGroupsThatAreNotThere(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"trace", "grow", "lat"} {
		for _, tt := range []struct {
			args []string
			code exitCode
			want string
		}{
			{[]string{"--cgroup", "/no/such/group"}, exitGone, `cgroup "/no/such/group": none of the `},
			{[]string{"--cgroup", "no-such.service"}, exitGone, `cgroup "no-such.service": none of the `},
			{[]string{"--container", "no such\x1bone"}, exitGone, `has an ID or name that begins with "no such\x1bone"`},
			{[]string{"--cgroup", "a/b"}, exitError, "want a path from /"},
			{[]string{"--cgroup", "/", "--", "true"}, exitUsage, "say what to trace"},
		} {
			r := inProcess(t, append([]string{command}, tt.args...)...)
			if r.code != tt.code || r.out != "" {
				t.Errorf("%s %v: exit code %d, output %q, want code %d", command, tt.args, r.code, r.out, tt.code)
			}
			checkOneLine(t, r.stderr, tt.want)
		}
	}
}

// compiled makes the program of the tests of sites.
func compiled(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	gcc := tool.Need(t, "gcc")
	out := filepath.Join(dir, "sites")
	args := append(flags, "-O2", "-fomit-frame-pointer", "../../tracer/site/testdata/sites.c", "-o", out)
	if text, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc %v: %v\n%s", args, err, text)
	}
	return out
}

// Ways to hide a program ($1) at the path of another ($2), in a mount namespace.
var hidings = map[string]string{
	"bound over it":         `mount --bind "$1" "$2"`,
	"on a file system":      `cp "$1" /mnt/sites && mount -t tmpfs none "${2%/*}" && cp /mnt/sites "$2"`,
	"and deleted":           `cp "$1" /mnt/sites && mount -t tmpfs none "${2%/*}" && cp /mnt/sites "$2" && { (sleep 0.5; rm "$2") & }`,
	"and replaced":          `cp "$1" /mnt/sites && mount -t tmpfs none "${2%/*}" && cp /mnt/sites "$2" && { (sleep 0.5; cp /bin/true "$2.new"; mv "$2.new" "$2") & }`,
	"in an overlay":         `mkdir /mnt/u /mnt/w && cp "$1" /mnt/u/sites && mount -t overlay none -o "lowerdir=${2%/*},upperdir=/mnt/u,workdir=/mnt/w" "${2%/*}"`,
	"below an overlay":      `mkdir /mnt/l /mnt/u /mnt/w && cp "$1" /mnt/l/sites && mount -t overlay none -o "lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w" "${2%/*}"`,
	"in a root of its own":  `mkdir -p /mnt/r && mount --rbind / /mnt/r && mount --bind "$1" "/mnt/r$2" && mount -t tmpfs none /mnt/r/tmp && chroot=/mnt/r`,
	"with another user too": `mount --bind "$1" "$2"`,
}

// TestNamesOfAProgramInAContainer traces a program that only its container has,
// at a path where the host has another with other names, and whose JIT code is
// named by a file in the container's /tmp, under the number it has there.
func TestNamesOfAProgramInAContainer(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	hidden := compiled(t, t.TempDir())
	for name, hide := range hidings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := []string{"--mount", "--pid", "--fork"}
			if strings.Contains(name, "user") {
				flags = append(flags, "--user", "--map-root-user")
			}
			dir, err := os.MkdirTemp("/var/tmp", "maptrace-test-") //nolint:usetesting // the program has another /tmp
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			shown := compiled(t, dir, "-Dleak_once=of_the_host", "-Dmiddle=host_middle", "-Douter=host_outer")
			script := `mount -t tmpfs none /mnt || exit 77
				` + hide + `
				[ $? = 0 ] || exit 77
				[ "$chroot" ] || mount -t tmpfs none /tmp
				exec ${chroot:+chroot $chroot} "$2" jit 2500000`
			argv := append(unshared(t, flags...), "sh", "-c", script, "sh", hidden, shown)
			r := maptrace(t, append([]string{"trace", "--stack", "-o", "json", "--"}, argv...)...)
			if r.code == 77 {
				t.Skipf("it cannot be hidden so: %s", r.stderr)
			}
			succeed(t, r)
			var stack []string
			size := float64(1017 * os.Getpagesize())
			for _, o := range jsonLines(t, r.out) {
				if o["event"] != "mmap" || o["size"] != size {
					continue
				}
				for _, f := range o["stack"].([]any) {
					stack = append(stack, f.(string))
				}
				if o["ns_pid"] != 1.0 || o["pid"] == 1.0 {
					t.Errorf("it is process %v, and %v inside; want 1", o["pid"], o["ns_pid"])
				}
			}
			for i, want := range []string{"leak_once", "compiled", "main"} {
				at := slices.IndexFunc(stack, func(f string) bool { return strings.HasPrefix(f, want) })
				if at < 0 || at < i {
					t.Errorf("%s is not in its place: %q", want, stack)
				}
			}
		})
	}
}

func TestGrowthInAContainer(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	for _, c := range leaks.Cases() {
		if c.Name != "c mmap" {
			continue
		}
		if err := c.Missing(); err != nil {
			t.Skip(err)
		}
		dir := t.TempDir()
		program := leaks.Args(c.Build(t, dir), 6*time.Second, 4<<20)
		script := `mount -t tmpfs none /mnt && cp "$1" /mnt/server && shift && exec /mnt/server "$@"`
		argv := append(unshared(t, "--mount", "--pid", "--fork"), "sh", "-c", script, "sh")
		argv = append(argv, program...)
		r := maptrace(t, append([]string{"grow", "--interval", "100ms", "-o", "json", "--"}, argv...)...)
		succeed(t, r)
		for _, o := range jsonLines(t, r.out) {
			if o["event"] == "finding" && o["ns_pid"] == 1.0 {
				if sentence := fmt.Sprint(o["sentence"]); !strings.Contains(sentence, c.Culprit[0]) || o["verdict"] != "leaks" {
					t.Errorf("the first finding is %v: %s", o["verdict"], sentence)
				}
				return
			}
		}
		t.Errorf("nothing of process 1 of the container was found:\n%s", r.out)
	}
}

func TestTextShowsTheNumberOfAProcessInItsContainer(t *testing.T) {
	t.Parallel()
	needBPF(t)
	argv := append(unshared(t, "--pid", "--fork"), "sh", "-c", "true; true")
	r := succeed(t, maptrace(t, append([]string{"trace", "--"}, argv...)...))
	for _, want := range []string{"(1)/", " (1 inside)\n", " (1 inside):   sh (exited"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in:\n%s", want, r.out)
		}
	}
}

// TestCapabilitiesOfAContainer runs maptrace with what --cap-add gives, beside a
// container whose pid namespace alone it shares.
func TestCapabilitiesOfAContainer(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	tool.Need(t, "setpriv")
	tool.Need(t, "nsenter")
	program := compiled(t, t.TempDir())
	begin := filepath.Join(t.TempDir(), "begin")
	argv := append(unshared(t, "--pid", "--fork", "--mount-proc", "--kill-child"),
		"sh", "-c", `echo ready; until [ -e "$0" ]; do sleep 0.1; done; "$1" jit 2500000; sleep 600`, begin, program)
	container := exec.Command(argv[0], argv[1:]...)
	var said shared
	container.Stdout = &said
	launch(t, container)
	eventually(t, "the container runs", func() bool { return said.String() == "ready\n" })
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", container.Process.Pid))
	if err != nil {
		t.Skip(err) // CONFIG_PROC_CHILDREN
	}
	init := strings.Fields(string(children))[0]
	within := func(caps string, args ...string) *exec.Cmd {
		return exec.Command("nsenter", append([]string{
			"--target", init, "--pid", "unshare", "--mount-proc",
			"setpriv", "--bounding-set", "-all" + caps, "--inh-caps", "-all", binary(t),
		}, args...)...)
	}
	t.Run("without them", func(t *testing.T) {
		r := launch(t, within(",+chown", "trace", "-p", "1")).result()
		if r.code != exitUnsupported {
			t.Errorf("exit code %d", r.code)
		}
		checkOneLine(t, r.stderr, "need root or CAP_SYS_PTRACE")
	})
	t.Run("with those that docs/containers.md names", func(t *testing.T) {
		p := launch(t, within(",+bpf,+perfmon,+sys_ptrace", "trace", "-p", "1", "--stack", "-o", "json",
			"--op", "mmap", "--count", "1", "--min-size", fmt.Sprint(1000*os.Getpagesize()), "--ready-file", begin))
		r := succeed(t, p.result())
		o := jsonLines(t, r.out)[0]
		stack := fmt.Sprint(o["stack"])
		if o["event"] != "mmap" || o["ns_pid"] != nil || !strings.Contains(stack, "leak_once") || !strings.Contains(stack, "compiled") {
			t.Errorf("%v", o)
		}
	})
}

func TestRootOfAUserNamespaceIsToldWhyNot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	argv := append(unshared(t, "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"), binary(t), "trace", "--", "true")
	r := launch(t, exec.Command(argv[0], argv[1:]...)).result()
	if r.code != exitUnsupported {
		t.Errorf("exit code %d", r.code)
	}
	checkOneLine(t, r.stderr, "root in a user namespace (a rootless container) has not")
}
