package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pane is a shell on a terminal of tmux.
type pane struct {
	t      *testing.T
	socket string
}

// openPane starts one of 80x24.
func openPane(t *testing.T) *pane {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed")
	}
	dir, err := os.MkdirTemp("", "pane-") //nolint:usetesting // the path of a socket is to be short, and a test's directory has its name
	if err != nil {
		t.Fatal(err)
	}
	p := &pane{t, filepath.Join(dir, "s")}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() // it may have ended with its shell
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24",
		"exec env PS1='> ' LC_ALL=C.UTF-8 ENV= sh -i")
	p.until("a prompt", func(seen string) bool { return strings.HasPrefix(seen, ">") })
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// seen is what is visible; all is that and what has scrolled away.
func (p *pane) seen() string { return p.tmux("capture-pane", "-p") }
func (p *pane) all() string  { return p.tmux("capture-pane", "-p", "-S", "-") }

// types types a command.
func (p *pane) types(format string, args ...any) {
	p.t.Helper()
	p.tmux("send-keys", "-l", fmt.Sprintf(format, args...))
	p.tmux("send-keys", "Enter")
}

// until waits until it is so on the screen, and returns that.
func (p *pane) until(what string, so func(seen string) bool) string {
	p.t.Helper()
	for end := time.Now().Add(bound); ; time.Sleep(50 * time.Millisecond) {
		seen := p.seen()
		if so(seen) {
			return seen
		}
		if time.Now().After(end) {
			p.t.Fatalf("there is never %s:\n%s", what, p.all())
		}
	}
}

// shows waits until something is on the screen.
func (p *pane) shows(pattern string) string {
	p.t.Helper()
	is := regexp.MustCompile(`(?m)` + pattern)
	return p.until(pattern, is.MatchString)
}

// prompts waits until the shell is there again, and nothing else.
func (p *pane) prompts() {
	p.t.Helper()
	p.until("a prompt", func(seen string) bool { return strings.HasSuffix("\n"+strings.TrimRight(seen, "\n "), "\n>") })
}

// leak starts a program that grows.
func leak(t *testing.T) *process {
	t.Helper()
	return launch(t, exec.Command(binary(t), leakyCommand, "--duration", "10m"))
}

// foot is the last line of what is seen while grow watches.
const foot = "^C for the answer so far"

// watching waits for the screen of grow, with a size.
func (p *pane) watching(width, height int) {
	p.t.Helper()
	p.until(fmt.Sprintf("a screen of %dx%d", width, height), func(seen string) bool {
		lines := strings.Split(strings.TrimSuffix(seen, "\n"), "\n")
		if len(lines) != height || lines[height-1] != foot {
			return false
		}
		for _, line := range lines {
			if len([]rune(line)) > width {
				return false
			}
		}
		return strings.HasSuffix(lines[0], "s") && strings.Contains(lines[0], "grow ")
	})
}

func TestGrowRefreshesInPlaceAndLeavesTheAnswer(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := leak(t)
	p := openPane(t)
	const before = 30
	p.types("for i in $(seq %d); do echo before $i; done", before)
	p.shows(fmt.Sprintf(`^before %d$`, before))
	p.types("%s grow --for 0 -p %d; echo status $?", binary(t), target.Process.Pid)
	p.shows(`^(grows|leaks) .* allocated by leaky`)
	seen := p.shows(`openSession`)
	p.watching(80, 24)
	if !strings.HasPrefix(seen, fmt.Sprintf("maptrace grow   %d ", target.Process.Pid)) || strings.Contains(seen, "before ") {
		t.Errorf("the screen is not whole:\n%s", seen)
	}
	if !regexp.MustCompile(`(?m)^anonymous +\S+ MiB +\+\S+ \S+ +[▁▂▃▄▅▆▇█]+$`).MatchString(seen) {
		t.Errorf("it does not say how what is charged grows:\n%s", seen)
	}
	p.tmux("send-keys", "C-c")
	p.shows(`^status 0`)
	all := p.all()
	for i := range before {
		if !strings.Contains(all, fmt.Sprintf("\nbefore %d\n", i+1)) {
			t.Errorf("line %d of what was there is gone", i+1)
		}
	}
	if !strings.Contains(all, fmt.Sprintf("\nProcess %d (maptrace): watched for", target.Process.Pid)) || strings.Contains(all, foot) || strings.Contains(all, "maptrace grow   ") {
		t.Errorf("the answer is not there, or the screen is:\n%s", all)
	}
	p.types("%s grow --for 0 -p %d & sleep 3; kill $!; wait; echo status $?", binary(t), target.Process.Pid)
	p.shows(`^status 0`)
	if strings.Contains(p.all(), foot) {
		t.Errorf("a job in the background drew a screen:\n%s", p.all())
	}
	p.types("%s grow --for 0 -p %d; echo ended with $?", binary(t), target.Process.Pid)
	p.watching(80, 24)
	kill(t, growWatching(t, target.Process.Pid), syscall.SIGTERM)
	p.shows(`^ended with 0`)
	if strings.Contains(p.all(), foot) {
		t.Errorf("SIGTERM leaves the screen:\n%s", p.all())
	}
}

// growWatching is the process of grow that watches a process.
func growWatching(t *testing.T, target int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		line, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(line), fmt.Sprintf("\x00grow\x00--for\x000\x00-p\x00%d\x00", target)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatal("there is no grow")
	return 0
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestTheScreenFollowsTheSizeOfTheTerminal(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := leak(t)
	p := openPane(t)
	p.types("%s grow --for 0 -p %d", binary(t), target.Process.Pid)
	p.watching(80, 24)
	for _, size := range [][2]int{{120, 40}, {40, 24}, {60, 12}, {80, 24}} {
		p.tmux("resize-window", "-x", strconv.Itoa(size[0]), "-y", strconv.Itoa(size[1]))
		p.watching(size[0], size[1])
	}
	p.tmux("send-keys", "C-c")
	p.prompts()
	if strings.Contains(p.seen(), foot) {
		t.Errorf("the screen is still there:\n%s", p.seen())
	}
}

func TestAScreenIsGoneWhileItsJobIsStopped(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := leak(t)
	p := openPane(t)
	p.types("echo before; %s grow --for 0 -p %d", binary(t), target.Process.Pid)
	for range 2 {
		p.watching(80, 24)
		p.tmux("send-keys", "C-z")
		p.shows(`Stopped`)
		p.prompts()
		if seen := p.seen(); strings.Contains(seen, foot) {
			t.Errorf("the screen is there while it is stopped:\n%s", seen)
		}
		p.types("echo amid")
		p.shows(`^amid`)
		p.types("fg")
	}
	p.watching(80, 24)
	p.tmux("send-keys", "C-c")
	p.prompts()
	all := p.all()
	if strings.Count(all, "\namid\n") != 2 || !strings.Contains(all, "\nbefore\n") || strings.Contains(all, foot) {
		t.Errorf("what was there is gone, or the screen is not:\n%s", all)
	}
}

// Where there is no shell to continue it, ^Z does nothing, as ever.
func TestWhatNobodyWouldContinueIsNotStopped(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := leak(t)
	p := openPane(t)
	p.types("exec %s grow --for 0 -p %d", binary(t), target.Process.Pid)
	p.watching(80, 24)
	for range 2 {
		before, _, _ := strings.Cut(p.seen(), "\n")
		p.tmux("send-keys", "C-z")
		p.until("a later screen", func(seen string) bool { return !strings.HasPrefix(seen, before) })
		p.watching(80, 24)
	}
}

// A trace of a program that does nothing for a while says that it goes on, and loses no line.
func TestAQuietTraceSaysThatItGoesOn(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := leak(t)
	p := openPane(t)
	const lines = 300
	p.types("%s trace --count %d -p %d", binary(t), lines, target.Process.Pid)
	p.shows(` mmap `)
	for range 2 {
		target.signal(syscall.SIGSTOP)
		p.shows(fmt.Sprintf(`^%d maptrace, \d+ s: \d+ lines; \^C for the tables$`, target.Process.Pid))
		target.signal(syscall.SIGCONT)
		p.until("nothing but lines", func(seen string) bool { return !strings.Contains(seen, "^C for") })
	}
	p.prompts()
	all := p.all()
	got := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{6} +\d+/`).FindAllString(all, -1)
	if len(got) != lines || strings.Contains(all, "^C for") {
		t.Errorf("%d lines of %d, or a status among them:\n%s", len(got), lines, all)
	}
}

func TestPmapRefreshesInPlaceAndLeavesTheLastTable(t *testing.T) {
	t.Parallel()
	target := leak(t)
	p := openPane(t)
	p.types("%s pmap --watch 0.2 --count 5 --changed %d; echo status $?", binary(t), target.Process.Pid)
	p.shows(`^\^C to end`)
	p.shows(`^status 0`)
	if all := p.all(); strings.Count(all, " s since the start\n") != 1 || strings.Contains(all, "^C to end") {
		t.Errorf("there is not the last table alone:\n%s", all)
	}
	// Lines that wrap are one here.
	for line := range strings.Lines(p.tmux("capture-pane", "-p", "-J", "-S", "-")) {
		if n := len([]rune(strings.TrimRight(line, " \n"))); n > 80 && !strings.Contains(line, "pmap --watch") {
			t.Errorf("the last table has a line of %d columns: %s", n, line)
		}
	}
	p.tmux("clear-history")
	p.types("clear; echo before; %s pmap --watch 1 %d; echo missing $?", binary(t), 1<<30)
	if seen := p.shows(`^missing 42`); !strings.HasPrefix(seen, "before\npmap: ") {
		t.Errorf("a screen was drawn for nobody:\n%s", p.all())
	}
	p.types("TERM=dumb %s pmap --watch 0.2 --count 5 --changed %d; echo dumb $?", binary(t), target.Process.Pid)
	p.shows(`^dumb 0`)
	if n := strings.Count(p.all(), " s since the start\n"); n != 5 {
		t.Errorf("a terminal that cannot be drawn on has %d tables, want 5", n)
	}
}

func TestLatShowsWhatItHasCounted(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := leak(t)
	p := openPane(t)
	p.types("%s lat --for 0 -p %d; echo status $?", binary(t), target.Process.Pid)
	seen := p.shows(`^munmap +\d+`)
	if !strings.HasPrefix(seen, "maptrace lat ") || !strings.HasSuffix(strings.TrimRight(seen, "\n"), "\n"+foot) {
		t.Errorf("the screen is not whole:\n%s", seen)
	}
	p.tmux("send-keys", "C-c")
	p.shows(`^status 0`)
	if all := p.all(); strings.Contains(all, foot) || strings.Count(all, "Duration of the calls") != 1 {
		t.Errorf("the answer is not there, or the screen is:\n%s", all)
	}
}

// Where a command is started nothing is drawn: it may use the terminal itself.
func TestACommandHasTheTerminalForItself(t *testing.T) {
	t.Parallel()
	needBPF(t)
	p := openPane(t)
	p.types("%s grow -- sh -c 'printf half; sleep 3; echo of a line'; echo status $?", binary(t))
	p.shows(`^status 0`)
	if all := p.all(); !strings.Contains(all, "\nhalfof a line\n") || strings.Contains(all, foot) {
		t.Errorf("what the command printed is not whole:\n%s", all)
	}
}

func TestKindsOfTerminals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind, unwanted string
		draws, colors  bool
	}{
		{"xterm-256color", "", true, true},
		{"xterm", "", true, true},
		{"screen", "1", true, false},
		{"linux", "", true, true},
		{"vt100", "", true, false},
		{"vt220", "", true, false},
		{"xterm-mono", "", true, false},
		{"linux-m", "", true, false},
		{"dumb", "", false, true},
		{"", "", false, true},
		{"unknown", "", false, true},
	} {
		if got := draws(tt.kind); got != tt.draws {
			t.Errorf("%q can be drawn on: %v", tt.kind, got)
		}
		if got := colors(tt.kind, tt.unwanted); got != tt.colors {
			t.Errorf("%q with NO_COLOR=%q has colors: %v", tt.kind, tt.unwanted, got)
		}
	}
}

func TestHowFarAWatchIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		d, of time.Duration
		want  string
	}{
		{0, 0, "0 s"},
		{12900 * time.Millisecond, time.Minute, "12 s of 1 min"},
		{90 * time.Second, 10 * time.Minute, "90 s of 10 min"},
		{150 * time.Second, 90 * time.Second, "2 min 30 s of 90 s"},
		{3 * time.Hour, 0, "3 h"},
	} {
		if got := elapsed(tt.d, tt.of); got != tt.want {
			t.Errorf("%v of %v: %q, want %q", tt.d, tt.of, got, tt.want)
		}
	}
}

// Not all that is a terminal is drawn on, and what is no terminal never.
func TestWhereAScreenIsDrawn(t *testing.T) {
	a, b := pseudoTerminal(t), pseudoTerminal(t)
	file := openFile(t, filepath.Join(t.TempDir(), "plain"))
	read, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer pipe.Close()
	for _, tt := range []struct {
		name         string
		kind         string
		s            streams
		live, screen bool
	}{
		{"a terminal", "xterm", streams{nil, a, a}, true, true},
		{"two terminals", "xterm", streams{nil, a, b}, true, false},
		{"output to a file", "xterm", streams{nil, file, a}, true, false},
		{"output to a pipe", "xterm", streams{nil, pipe, a}, true, false},
		{"errors to a file", "xterm", streams{nil, a, file}, false, false},
		{"no file at all", "xterm", streams{nil, new(strings.Builder), new(strings.Builder)}, false, false},
		{"a terminal that knows nothing", "dumb", streams{nil, a, a}, false, false},
	} {
		t.Setenv("TERM", tt.kind)
		l, s := openLive(tt.s, true)
		if (l != nil) != tt.live || l != nil && l.screen != tt.screen {
			t.Errorf("%s: %+v", tt.name, l)
		}
		if l == nil && s != tt.s || l != nil && s.err != l || l != nil && (s.out == l) != tt.screen {
			t.Errorf("%s is written to by others than who draws on it", tt.name)
		}
		l.close()
		o := attachOptions{target: target{argv: []string{"true"}}}
		if l, s = o.openLive(tt.s, true); l != nil || s != tt.s {
			t.Errorf("%s is drawn on while a command may use it", tt.name)
		}
	}
	if isPipe(file) || isPipe(a) || isPipe(new(strings.Builder)) || !isPipe(pipe) {
		t.Error("what is a pipe is not known")
	}
}

// TestTablesOfGroupsFitTheTerminal has tables of --group on terminals of several widths:
// names are whole where there is room, and what tells least goes first.
func TestTablesOfGroupsFitTheTerminal(t *testing.T) {
	t.Parallel()
	target := leak(t)
	for width, want := range map[uint16]struct{ there, gone string }{
		60:  {"RSS", "Dirty"},
		80:  {"Dirty", "Swap"},
		200: {"Hugetlb", "nothing"},
	} {
		text := onTerminal(t, width, 24, binary(t), "pmap", "--group", "kind", strconv.Itoa(target.Process.Pid))
		if !strings.Contains(text, want.there) || strings.Contains(text, want.gone) || !strings.Contains(text, " anon\n") {
			t.Errorf("in %d columns want %s, and no %s:\n%s", width, want.there, want.gone, text)
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > int(width) && !strings.Contains(line, ": ") {
				t.Errorf("in %d columns there is a line of %d: %s", width, n, line)
			}
		}
	}
}
