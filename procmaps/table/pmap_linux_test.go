package table

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// frozen starts a command, waits until it has printed a line, and stops it.
func frozen(t *testing.T, name string, arg ...string) *procmaps.Process {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s", name)
	}
	cmd := exec.CommandContext(t.Context(), path, arg...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	})
	if _, err = io.WriteString(in, "ready\n"); err != nil {
		t.Fatal(err)
	}
	if _, err = out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p, err := procmaps.Default().Process(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st, err := p.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if st.State == 'T' {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("state is %c 10 s after SIGSTOP", st.State)
		}
	}
}

// oddNames maps files with names that a printer can trip over, System V and POSIX
// shared memory, and says when it is done.
const oddNames = `
import mmap, os, ctypes, sys
libc = ctypes.CDLL(None)
keep = []
for name in [b'two  spaces ', b'new\nline', b'c\\012lit', b'e (deleted)', b'esc\x1b[31m', b'bad\xff',
             b'\xc3\xa9', b'tab\there', b'[x]', b'SYSV00000000', b'gone']:
    fd = os.open(os.fsencode(sys.argv[1]) + b'/' + name, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    keep.append(mmap.mmap(fd, 4096, mmap.MAP_SHARED if name == b'gone' else mmap.MAP_PRIVATE, mmap.PROT_READ))
os.unlink(sys.argv[1] + '/gone')
fd = os.memfd_create('a cursor')
os.ftruncate(fd, 8192)
keep += [mmap.mmap(fd, 8192), mmap.mmap(-1, 12288)]
keep[-1][0] = 1
libc.shmat.restype = ctypes.c_void_p
for key in (0, 0x1234abcd):
    shm = libc.shmget(key, 8192, 0o1600)
    libc.shmat(shm, None, 0)
    libc.shmctl(shm, 0, None)
print('ready', flush=True)
sys.stdin.readline()
sys.stdin.readline()
`

func TestTheTablesAreThoseOfPmap(t *testing.T) {
	pmap, err := exec.LookPath("pmap")
	if err != nil {
		t.Skip("no pmap")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TABLE_TEST_CAT", "1") // see TestMain
	python := "/usr/bin/python3"
	if _, err = os.Stat(python); err != nil {
		python = "python3"
	}
	targets := map[string]*procmaps.Process{
		"a C program":  frozen(t, "cat"),
		"a Go program": frozen(t, exe),
		"a script":     frozen(t, python, "-c", oddNames, t.TempDir(), "an  argument", "\xff\x1b", ""),
	}
	version, err := exec.CommandContext(t.Context(), pmap, "-V").Output()
	if err != nil || !regexp.MustCompile(`procps-ng 4\.0\.[0-4]\n`).Match(version) {
		t.Logf("%s is %q: without the process with odd names, which only pmap 4.0.4 and older print so", pmap, version)
		delete(targets, "a script")
	}
	dev, err := procmaps.ShmDevice()
	if err != nil {
		t.Fatal(err)
	}
	mid := func(p *procmaps.Process) string {
		rows, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		return rows[len(rows)/3].String()
	}
	options := []struct {
		args  string
		opt   Options
		limit bool
	}{
		{args: "", opt: Options{}},
		{args: "-q", opt: Options{Quiet: true}},
		{args: "-p", opt: Options{ShowPath: true}},
		{args: "-qp", opt: Options{Quiet: true, ShowPath: true}},
		{args: "-A", limit: true},
		{args: "-x", opt: Options{Layout: LayoutExtended}},
		{args: "-xq", opt: Options{Layout: LayoutExtended, Quiet: true}},
		{args: "-xp", opt: Options{Layout: LayoutExtended, ShowPath: true}},
		{args: "-d", opt: Options{Layout: LayoutDevice}},
		{args: "-dq", opt: Options{Layout: LayoutDevice, Quiet: true}},
		{args: "-dpA", opt: Options{Layout: LayoutDevice, ShowPath: true}, limit: true},
		{args: "-X", opt: Options{Layout: LayoutDetails}},
		{args: "-Xp", opt: Options{Layout: LayoutDetails, ShowPath: true}},
		{args: "-XX", opt: Options{Layout: LayoutAll}},
		{args: "-XXq", opt: Options{Layout: LayoutAll, Quiet: true}},
	}
	for target, p := range targets {
		for _, o := range options {
			// What others do to shared pages shows in a stopped process too
			// (Pss, Shared_Clean), so pmap must have read between two equal
			// readings of ours. With shared libraries it never can: pmap maps
			// them itself while it runs. That leaves the Go program, unless it
			// is linked for the race detector.
			details := o.opt.Layout == LayoutDetails || o.opt.Layout == LayoutAll
			if details && target != "a Go program" {
				continue
			}
			t.Run(target+" "+o.args, func(t *testing.T) {
				if details && mapsLibraries(t, p) {
					t.Skip("the Go program is linked to shared libraries")
				}
				var args []string
				if o.args != "" {
					args = append(args, o.args)
				}
				opt := o.opt
				opt.Compat, opt.CLocale = Compat402, true // as pmap 4.0.2 in the C locale
				if o.limit {
					arg := strings.Replace(mid(p), "-", ",", 1)
					l, err := ParseLimit(arg)
					if err != nil {
						t.Fatal(err)
					}
					opt.Limit = &l
					args = append(args, arg)
				}
				const attempts = 20
				for range attempts {
					before := printed(t, p, opt, dev)
					cmd := exec.CommandContext(t.Context(), pmap, append(args, strconv.Itoa(p.PID()))...)
					cmd.Env = []string{"LC_ALL=C"}
					want, err := cmd.Output()
					if err != nil {
						t.Fatalf("%s: %v", cmd, err)
					}
					if after := printed(t, p, opt, dev); before != after {
						continue
					}
					if diff := cmp.Diff(before, string(want)); diff != "" {
						t.Errorf("(-got +pmap):\n%s", diff)
					}
					return
				}
				t.Skipf("the numbers of the target kept changing in %d attempts", attempts)
			})
		}
	}
}

func mapsLibraries(t *testing.T, p *procmaps.Process) bool {
	t.Helper()
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(rows, func(m procmaps.Mapping) bool { return strings.Contains(m.Name, ".so") })
}

func printed(t *testing.T, p *procmaps.Process, opt Options, shm procmaps.Device) string {
	t.Helper()
	proc, err := Describe(p)
	if err != nil {
		t.Fatal(err)
	}
	proc.ShmDevice = shm
	if err := proc.Load(p, opt.Layout); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := NewPrinter(&out, opt).Print(proc); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
