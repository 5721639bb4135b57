package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/sample"
)

// The capabilities that docs/privileges.md says tracing needs.
var (
	toTrace       = []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}
	toTraceOthers = []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE}
	toCountOthers = []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}
)

// withCaps makes a command one of the user nobody with these capabilities.
func withCaps(t *testing.T, cmd *exec.Cmd, caps []uintptr) *exec.Cmd {
	t.Helper()
	have, err := privilege.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range caps {
		if !have.Permitted.Has(int(c)) {
			t.Skipf("we have no %s to give", privilege.Of(int(c)))
		}
	}
	nobody(t, cmd)
	cmd.SysProcAttr.AmbientCaps = caps
	return cmd
}

// growLine is what these tests read of -o json.
type growLine struct {
	Event     string            `json:"event"`
	PID       int               `json:"pid"`
	Looks     int               `json:"looks"`
	Uncounted string            `json:"uncounted"`
	Resident  uint64            `json:"resident"`
	Stacks    uint64            `json:"stacks"`
	Ends      map[string]uint64 `json:"stack_ends"`
	Faults    uint64            `json:"faults"`
	Unseen    string            `json:"faults_unseen"`
}

// growLines reads the output of grow.
func growLines(t *testing.T, text string) (watch, summary growLine, resident uint64) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l growLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		switch l.Event {
		case "watch":
			watch = l
		case "finding":
			resident += l.Resident
		case "summary":
			summary = l
		}
	}
	return watch, summary, resident
}

func TestOwnProcessesNeedTwoCapabilities(t *testing.T) {
	t.Parallel()
	needBPF(t)
	as := func(args ...string) result {
		return launch(t, withCaps(t, exec.Command(binary(t), args...), toTrace)).result()
	}
	o := parse(t, succeed(t, as("trace", "-o", "json", "--verify", "--", "sh", "-c", "true; cat /proc/self/maps >/dev/null; sleep 1; exit 0")).out)
	if s := o.summary; s.Calls == 0 || s.Execs < 1 || s.Picture != "exact" {
		t.Errorf("trace: %+v", s)
	}
	r := succeed(t, as("grow", "-o", "json", "--interval", "50ms", "--", "sh", "-c", "sleep 1; exit 0"))
	watch, sum, resident := growLines(t, r.out)
	if watch.Looks < 3 || watch.Uncounted != "" || resident == 0 || sum.Stacks == 0 || sum.Ends["root"] == 0 || sum.Faults == 0 || sum.Unseen != "" {
		t.Errorf("grow: %+v, %+v, %d bytes resident", watch, sum, resident)
	}
	r = succeed(t, as("lat", "--", "sh", "-c", "true; exit 0"))
	if !strings.Contains(r.out, "mmap") {
		t.Errorf("lat:\n%s", r.out)
	}
	h := helperOfNobody(t, "calls", "/dev/null")
	p := launch(t, withCaps(t, exec.Command(binary(t), "trace", "-o", "json", "--duration", "300ms", "-p", h.pid()), toTrace))
	if o := parse(t, succeed(t, p.result()).out); len(o.tables) != 1 {
		t.Errorf("a running process: %+v", o.tables)
	}
}

func TestOthersProcessesNeedMore(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	as := func(caps []uintptr, args ...string) result {
		return launch(t, withCaps(t, exec.Command(binary(t), append(args, "-p", h.pid())...), caps)).result()
	}
	o := parse(t, succeed(t, as(toTraceOthers, "trace", "-o", "json", "--verify", "--duration", "300ms")).out)
	if o.summary.Calls == 0 || o.summary.Picture != "exact" {
		t.Errorf("trace: %+v", o.summary)
	}
	if r := succeed(t, as(toTraceOthers, "lat", "--for", "300ms")); !strings.Contains(r.out, "munmap") {
		t.Errorf("lat:\n%s", r.out)
	}
	grow := []string{"grow", "-o", "json", "--for", "500ms", "--interval", "50ms"}
	watch, sum, resident := growLines(t, succeed(t, as(toCountOthers, grow...)).out)
	if watch.Looks < 3 || watch.Uncounted != "" || resident == 0 || sum.Stacks == 0 {
		t.Errorf("grow: %+v, %+v, %d bytes resident", watch, sum, resident)
	}
	// Without the fourth, pagemap, which is for its owner, cannot be opened: that is told at once.
	r := as(toTraceOthers, "grow", "--for", "1h")
	if r.code != exitUnsupported || r.out != "" {
		t.Errorf("grow that cannot count: exit code %d, %q", r.code, r.out)
	}
	checkOneLine(t, r.stderr, "takes CAP_DAC_READ_SEARCH too, or root\n")
	h.unharmed()
	// Of what is ours there is something to say.
	own := helperOfNobody(t, "churn")
	_, _, resident = growLines(t, succeed(t, as(toTraceOthers, append(slices.Clip(grow), "-p", own.pid())...)).out)
	if resident == 0 {
		t.Error("nothing is said of one's own process beside another's")
	}
}

// threadStates are those of all threads of a process.
func threadStates(t *testing.T, pid string) []privilege.State {
	t.Helper()
	files, err := filepath.Glob("/proc/" + pid + "/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	var all []privilege.State
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		s, err := privilege.Parse(string(b))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		t.Fatalf("no threads of %s", pid)
	}
	return all
}

func TestWhatIsNotNeededIsGivenUp(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	own := helperOfNobody(t, "calls", "/dev/null")
	perf, admin := privilege.Of(unix.CAP_PERFMON), privilege.Set(0) // for a watchpoint now and then
	if sample.Paranoid(procmaps.Default()) {
		admin = privilege.Of(unix.CAP_SYS_ADMIN)
	}
	ptrace, files := privilege.Of(unix.CAP_SYS_PTRACE), privilege.Of(unix.CAP_DAC_READ_SEARCH, unix.CAP_CHECKPOINT_RESTORE)
	have, err := privilege.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		caps []uintptr // nil for root
		pid  string
		want privilege.Set
	}{
		{"trace as root", []string{"trace"}, nil, h.pid(), ptrace},
		{"trace with stacks as root", []string{"trace", "--stack"}, nil, h.pid(), ptrace | files},
		{"polling as root", []string{"trace", "--poll"}, nil, h.pid(), ptrace},
		{"grow as root", []string{"grow", "--for", "1m"}, nil, h.pid(), ptrace | files | perf},
		{"grow that insists on watchpoints as root", []string{"grow", "--for", "1m", "--watchpoints", "3"}, nil, h.pid(), ptrace | files | perf | admin},
		{"grow without watchpoints as root", []string{"grow", "--for", "1m", "--watchpoints", "0"}, nil, h.pid(), ptrace | files},
		{"lat as root", []string{"lat", "--for", "1m"}, nil, h.pid(), ptrace | files},
		{"trace with three capabilities", []string{"trace"}, toTraceOthers, h.pid(), ptrace},
		// Since 6.15 CAP_PERFMON is what lets us read maps of others.
		{"trace with two", []string{"trace"}, toTrace, own.pid(), privilege.Of(unix.CAP_PERFMON)},
		{"grow with four", []string{"grow", "--for", "1m"}, toCountOthers, h.pid(), ptrace | perf | privilege.Of(unix.CAP_DAC_READ_SEARCH)},
		{"polling as nobody", []string{"trace", "--poll"}, []uintptr{}, own.pid(), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := publicDir(t)
			ready := filepath.Join(dir, "ready")
			args := append(tt.args, "--to", filepath.Join(dir, "out"), "--ready-file", ready, "-v", "-p", tt.pid)
			cmd := exec.Command(binary(t), args...)
			bounding := privilege.Set(0)
			if tt.caps != nil {
				withCaps(t, cmd, tt.caps)
				bounding = have.Bounding
			}
			p := launch(t, cmd)
			want := privilege.State{
				Effective: tt.want & have.Permitted, Permitted: tt.want & have.Permitted, Bounding: bounding, NoNewPrivs: true,
			}
			// It is ready a moment before it gives up what creating the file took.
			eventually(t, "every thread has given up what it may", func() bool {
				if _, err := os.Stat(ready); err != nil {
					return false
				}
				return !slices.ContainsFunc(threadStates(t, strconv.Itoa(p.Process.Pid)), func(s privilege.State) bool { return s != want })
			})
			// What reads files for it has no more than that takes.
			reader := want
			reader.Permitted &^= perf | admin
			reader.Effective = reader.Permitted
			all, err := descendants(procmaps.Default(), []int{p.Process.Pid})
			if err != nil {
				t.Fatal(err)
			}
			children := slices.DeleteFunc(all, func(pid int) bool { return pid == p.Process.Pid })
			if reads := tt.want.Has(unix.CAP_DAC_READ_SEARCH); reads != (len(children) == 1) {
				t.Fatalf("its children are %v", children)
			}
			for _, pid := range children {
				eventually(t, "what reads files has given up the same", func() bool {
					return !slices.ContainsFunc(threadStates(t, strconv.Itoa(pid)), func(s privilege.State) bool { return s != reader })
				})
			}
			p.signal(syscall.SIGINT)
			r := p.result()
			if r.code != exitOK || !strings.Contains(r.stderr, `msg="gave up capabilities"`) || !strings.Contains(r.stderr, "kept="+want.Permitted.String()+" ") {
				t.Errorf("exit code %d, standard error %q", r.code, r.stderr)
			}
		})
	}
}

// TestTheCommandKeepsWhatTheUserHas compares what a traced command may do with what
// one that is not traced may.
func TestTheCommandKeepsWhatTheUserHas(t *testing.T) {
	t.Parallel()
	needBPF(t)
	show := []string{"grep", "-E", "^(Cap|NoNewPrivs|Seccomp)", "/proc/self/status"}
	for _, caps := range [][]uintptr{nil, toTrace, {}} {
		as := func(argv ...string) string {
			cmd := exec.Command(argv[0], argv[1:]...)
			if caps != nil {
				withCaps(t, cmd, caps)
			}
			return succeed(t, launch(t, cmd).result()).out
		}
		want := as(show...)
		for _, trace := range [][]string{{"trace"}, {"grow"}, {"lat"}, {"trace", "--poll"}} {
			if caps != nil && len(caps) == 0 && !slices.Contains(trace, "--poll") {
				continue // it may not
			}
			to := filepath.Join(publicDir(t), "out")
			got := as(slices.Concat([]string{binary(t)}, trace, []string{"--to", to, "--"}, show)...)
			if got != want {
				t.Errorf("%v: the command has\n%swant\n%s", trace, got, want)
			}
		}
	}
}

// TestFilesWhereOnlyRootMayWriteAreWritten has root write into a directory of
// another user, where it may by a capability that it gives up.
func TestFilesWhereOnlyRootMayWriteAreWritten(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	dir := filepath.Join(publicDir(t), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	h := startHelper(t, "churn")
	for _, target := range [][]string{{"-p", h.pid()}, {"--", "sleep", "0.5"}} {
		args := []string{
			"grow", "--for", "400ms", "--interval", "20ms",
			"--to", at("to"), "--ready-file", at("ready"), "--pprof", at("pprof"), "--folded", at("folded"),
		}
		succeed(t, maptrace(t, append(args, target...)...))
		for _, name := range []string{"to", "ready", "pprof"} {
			if info, err := os.Stat(at(name)); err != nil || info.Size() == 0 {
				t.Errorf("%v: %s: %v, %+v", target, name, err, info)
			}
			if err := os.Remove(at(name)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAProfileThatIsNotWrittenLeavesTheOldOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	if err := os.WriteFile(old, []byte("of yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	const missing = "4194305" // no process has this number
	r := inProcess(t, "grow", "-p", missing, "--pprof", old, "--folded", fresh)
	if r.code != exitGone {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "of yesterday" {
		t.Errorf("the old one is %q, %v", b, err)
	}
	if _, err := os.Stat(fresh); !os.IsNotExist(err) {
		t.Errorf("the new one is there: %v", err)
	}
	r = inProcess(t, "grow", "-p", missing, "--pprof", filepath.Join(dir, "no", "directory"))
	if r.code != exitError {
		t.Errorf("a file that cannot be: exit code %d", r.code)
	}
	checkOneLine(t, r.stderr, "no such file or directory")
}

func TestAnOutputIsEmptiedWhenItIsWritten(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(name, []byte("something longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{name, "/dev/null"} { // which cannot be cut, and need not
		o, err := openOutput(to)
		if err != nil {
			t.Fatal(err)
		}
		err = o.begin()
		if err == nil {
			_, err = o.WriteString("short")
		}
		if err = errors.Join(err, o.close()); err != nil {
			t.Errorf("write %s: %v", to, err)
		}
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "short" {
		t.Errorf("it holds %q, %v", b, err)
	}
}

// TestFilesThatMayNotBeReadAreTold has a user without CAP_DAC_READ_SEARCH, which grow wants
// anyway, watch a program of root whose file is for root alone.
func TestFilesThatMayNotBeReadAreTold(t *testing.T) {
	t.Parallel()
	needBPF(t)
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	copyFile(t, self, secret, 0o700)
	h := startHelperWith(t, "churn", func(cmd *exec.Cmd) { cmd.Path = secret })
	for _, args := range [][]string{{"lat", "--for", "300ms"}, {"trace", "--stack", "--duration", "300ms"}} {
		r := launch(t, withCaps(t, exec.Command(binary(t), append(args, "-p", h.pid())...), toTraceOthers)).result()
		if r.code != exitOK {
			t.Errorf("%v: exit code %d", args, r.code)
		}
		checkOneLine(t, r.stderr, "code has no names where its file may not be read (files: 1): ")
		checkOneLine(t, r.stderr, "permission denied")
	}
}
