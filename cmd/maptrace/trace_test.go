package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/testdata/tool"
)

// footer is what every text of a run that went well ends with.
var footer = regexp.MustCompile(`(?m)^---------------- -------- --------\ntotal kB .*\n` +
	`(?s:.*)^events \d+.*\nfailed \d+, fork \d+, exec \d+, exit \d+, processes \d+\n` +
	`sections \d+, missed 0, other \d+, late \d+, re-reads \d+, audits \d+\n` +
	`lost 0, drift 0, violations 0\n` +
	`(\d+ exited processes .*\n)?ordering: commit, .*\naccuracy: (exact|resynced at .*)\n(\nThe resident memory of process .*\n)?\z`)

// checkText checks a text for its heading, table and figures, and returns the
// lines of events in it.
func checkText(t *testing.T, text string) []string {
	t.Helper()
	const header = "TIME            PID/TID     OP       ADDRESS          SIZE MODE MAPPING\n"
	events, _, ok := strings.Cut(strings.TrimPrefix(text, header), "\n\n")
	if !strings.HasPrefix(text, header) || !ok || !footer.MatchString(text) {
		t.Errorf("the output lacks its heading, table or figures:\n%s", text)
	}
	return slices.Collect(strings.Lines(strings.TrimPrefix(events, "\n")))
}

// checkTextOfKilled is checkText for a process that a signal ended. Where that
// was within a call, nothing tells what the call changed, and nothing is left
// to be read: the text says so.
func checkTextOfKilled(t *testing.T, text string) {
	t.Helper()
	checkText(t, strings.Replace(text, "accuracy: approximate: gone before its last changes could be read\n", "accuracy: exact\n", 1))
}

// The members of the objects of -o json, as their readers know them.
type (
	objects struct {
		events  []jsonEvent
		tables  []jsonTable
		summary jsonSummary
	}
	jsonEvent struct {
		Event     string    `json:"event"`
		Time      time.Time `json:"time"`
		PID       int       `json:"pid"`
		TID       int       `json:"tid"`
		Space     uint64    `json:"space"`
		Address   string    `json:"address"`
		Size      uint64    `json:"size"`
		Delta     int64     `json:"delta"`
		Mode      string    `json:"mode"`
		Kind      string    `json:"kind"`
		Mapping   string    `json:"mapping"`
		From      string    `json:"from"`
		FromSize  uint64    `json:"from_size"`
		Displaced []struct {
			How     string `json:"how"`
			Address string `json:"address"`
			Size    uint64 `json:"size"`
			Mode    string `json:"mode"`
			Kind    string `json:"kind"`
			Mapping string `json:"mapping"`
			Split   bool   `json:"split"`
		} `json:"displaced"`
		Errno  string `json:"errno"`
		Child  int    `json:"child"`
		Comm   string `json:"comm"`
		Lost   uint64 `json:"lost"`
		Signal int    `json:"signal"`
		Status *int   `json:"status"`
		Detail string `json:"detail"`
		Late   bool   `json:"late"`
		SeenBy string `json:"seen_by"`
	}
	jsonTable struct {
		Event   string       `json:"event"`
		Time    time.Time    `json:"time"`
		PID     int          `json:"pid"`
		Comm    string       `json:"comm"`
		Exited  bool         `json:"exited"`
		Picture string       `json:"picture"`
		Size    uint64       `json:"size"`
		Delta   int64        `json:"delta"`
		Regions []jsonRegion `json:"regions"`
		Gone    []jsonRegion `json:"gone"`
	}
	jsonRegion struct {
		Address string `json:"address"`
		Size    uint64 `json:"size"`
		Delta   int64  `json:"delta"`
		Ops     uint64 `json:"ops"`
		Extents int    `json:"extents"`
		Mode    string `json:"mode"`
		Kind    string `json:"kind"`
		Mapping string `json:"mapping"`
		Offset  uint64 `json:"offset"`
		Device  string `json:"device"`
		Inode   uint64 `json:"inode"`
	}
	jsonSummary struct {
		Event      string            `json:"event"`
		Time       time.Time         `json:"time"`
		Picture    string            `json:"picture"`
		Ordering   string            `json:"ordering"`
		Calls      uint64            `json:"calls"`
		ByOp       map[string]uint64 `json:"by_op"`
		Failed     uint64            `json:"failed"`
		Suppressed uint64            `json:"suppressed"`
		Forks      uint64            `json:"forks"`
		Execs      uint64            `json:"execs"`
		Exits      uint64            `json:"exits"`
		Processes  uint64            `json:"processes"`
		Sections   uint64            `json:"sections"`
		Missed     uint64            `json:"missed"`
		Other      uint64            `json:"other"`
		Lost       uint64            `json:"lost"`
		Skipped    uint64            `json:"skipped"`
		Late       uint64            `json:"late"`
		Violations uint64            `json:"violations"`
		Drift      uint64            `json:"drift"`
		Audits     uint64            `json:"audits"`
		Unfinished uint64            `json:"audits_unfinished"`
		Unverified uint64            `json:"unverified"`
		Unaudited  uint64            `json:"unaudited"`
		Rereads    uint64            `json:"rereads"`
		Untracked  uint64            `json:"untracked"`
		Coarsened  uint64            `json:"coarsened"`
		Unkept     uint64            `json:"unkept"`
		Looks      uint64            `json:"looks"`
		Interval   float64           `json:"interval"`
		Changes    uint64            `json:"changes"`
	}
)

// parse reads -o json, and checks that the picture is right.
func parse(t *testing.T, text string) objects {
	t.Helper()
	o := decode(t, text)
	s := &o.summary
	wrong := s.Picture != "exact" && s.Picture != "resynced" && s.Ordering != "polling"
	if s.Lost+s.Missed+s.Violations+s.Drift+s.Untracked != 0 || wrong {
		t.Errorf("the picture is wrong: %+v", s)
	}
	return o
}

// decode reads -o json, which must be one object of known members a line, the
// summary last.
func decode(t *testing.T, text string) objects {
	t.Helper()
	var o objects
	last := ""
	for line := range strings.Lines(text) {
		var kind struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal([]byte(line), &kind); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		var into any
		switch last = kind.Event; last {
		case "table":
			o.tables = append(o.tables, jsonTable{})
			into = &o.tables[len(o.tables)-1]
		case "summary":
			into = &o.summary
		default:
			if !slices.Contains(operations, last) {
				t.Errorf("an event %q, which --op does not know", last)
			}
			o.events = append(o.events, jsonEvent{})
			into = &o.events[len(o.events)-1]
		}
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(into); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
	}
	if last != "summary" {
		t.Fatalf("the last object is %q, want the summary", last)
	}
	return o
}

// notRead and tooLate are told where the CPUs are busy: it may take longer to read a file than a
// short watch waits, and names than is waited for at the end.
const (
	notRead = "code has no names where its file was not read in time"
	tooLate = "after the end of the run\n"
)

func unnamed(stderr string) bool {
	return strings.Contains(stderr, notRead) || strings.Contains(stderr, tooLate)
}

// named tells whether code has the names that it should have.
func (r *result) named() bool { return !unnamed(r.stderr) }

// succeed checks that a run ended well, and silently.
func succeed(t *testing.T, r result) result {
	t.Helper()
	var said []string
	for line := range strings.Lines(r.stderr) {
		if !unnamed(line) {
			said = append(said, line)
		}
	}
	if r.code != exitOK || len(said) > 0 {
		t.Fatalf("exit code %d, standard error %q", r.code, said)
	}
	return r
}

func TestTheStatusOfTheCommandIsPassedOn(t *testing.T) {
	t.Parallel()
	needBPF(t)
	tests := []struct {
		name   string
		argv   []string
		code   exitCode
		stderr string
	}{
		{"success", []string{"sh", "-c", "exit 0"}, 0, ""},
		{"a failure", []string{"sh", "-c", "exit 7"}, 7, ""},
		{"a killed command", []string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		// What we do about closed pipes must not reach the command.
		{"a closed pipe", []string{"sh", "-c", "kill -PIPE $$"}, 141, ""},
		{"an unknown command", []string{"no-such-command"}, 1, "executable file not found"},
		{"a file that is no program", []string{"/etc/passwd"}, 1, "permission denied\n"},
		{"a directory", []string{"/"}, 1, "is a directory"},
		{"an empty name", []string{""}, 1, "no command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := maptrace(t, append([]string{"trace", "--"}, tt.argv...)...)
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d", r.code, tt.code)
			}
			if tt.stderr != "" {
				checkOneLine(t, r.stderr, tt.stderr)
				return
			}
			if r.stderr != "" {
				t.Errorf("standard error: %q", r.stderr)
			}
			if events := checkText(t, r.out); len(events) == 0 {
				t.Errorf("no events:\n%s", r.out)
			}
		})
	}
}

func TestTheCommandPrintsWhereItAlwaysDoes(t *testing.T) {
	t.Parallel()
	needBPF(t)
	to := filepath.Join(t.TempDir(), "trace.json")
	cmd := exec.Command(binary(t), "trace", "-o", "json", "--to", to, "--", "sh", "-c", "cat; sh -c 'exit 3'")
	cmd.Stdin = strings.NewReader("from standard input\n")
	r := launch(t, cmd).result()
	if r.code != 3 || r.out != "from standard input\n" || r.stderr != "" {
		t.Errorf("got %+v", r)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	o := parse(t, string(b))
	if s := o.summary; s.Execs < 1 || s.Exits < 2 || s.Processes != s.Forks+1 {
		t.Errorf("children are not all there: %+v", s)
	}
}

func TestACommandThatWasNeverLetGoHasDoneNothing(t *testing.T) {
	t.Parallel()
	needBPF(t)
	dir := t.TempDir()
	r := maptrace(t, "trace", "--ready-file", filepath.Join(dir, "no/such/directory"), "--", "touch", filepath.Join(dir, "ran"))
	if r.code != exitError {
		t.Errorf("exit code %d, want %d", r.code, exitError)
	}
	checkOneLine(t, r.stderr, "no such file or directory")
	if _, err := os.Stat(filepath.Join(dir, "ran")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the command ran: %v", err)
	}
}

// evil is a file name that would steer a terminal.
const evil = "\x1b]0;title\x07\x1b[2J\x9b31m\u009b1m\u202e\xff end"

// unprintable returns the first line with anything that a terminal would not
// simply print, "" if there is none.
func unprintable(text string) string {
	for line := range strings.Lines(text) {
		for _, r := range strings.TrimSuffix(line, "\n") {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return line
			}
		}
	}
	return ""
}

// TestFilters has a number of tracers look at the same calls, each with another
// filter, all at the same time.
func TestFilters(t *testing.T) {
	t.Parallel()
	needBPF(t)
	file := filepath.Join(t.TempDir(), evil)
	page := os.Getpagesize()
	if err := os.WriteFile(file, make([]byte, filePages*page), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHelper(t, "calls", file)
	size, part := strconv.Itoa(callsPages*page), strconv.Itoa(page)

	// The runtime of the helper makes calls too, so each filter keeps to what
	// only the helper itself does, or counts those alone.
	ours := func(e jsonEvent) bool {
		return e.Size == uint64(callsPages*page) || e.Size == uint64(page) && e.Event == "munmap" ||
			strings.HasSuffix(e.Mapping, "end")
	}
	tests := []struct {
		name  string
		flags []string
		want  map[string]int // of ours, by operation
	}{
		{"everything", nil, map[string]int{"mmap": callsMaps + callsFiles, "munmap": callsHoles, "mprotect": callsReadBit}},
		{"failed calls too", []string{"--failed"}, map[string]int{
			"mmap": callsMaps + callsFiles, "munmap": callsHoles, "mprotect": callsReadBit, "EEXIST": callsRefused,
		}},
		{"one operation", []string{"--op", "mprotect"}, map[string]int{"mprotect": callsReadBit}},
		{"two operations", []string{"--op", "munmap,mprotect"}, map[string]int{"munmap": callsHoles, "mprotect": callsReadBit}},
		{"a size", []string{"--min-size", size}, map[string]int{"mmap": callsMaps, "mprotect": callsReadBit}},
		{"a smaller size", []string{"--min-size", part, "--op", "munmap"}, map[string]int{"munmap": callsHoles}},
		{"a kind", []string{"--kind", "file"}, map[string]int{"mmap": callsFiles}},
		{"a glob of the name", []string{"--path", "*end"}, map[string]int{"mmap": callsFiles}},
		{"a glob of the path", []string{"--path", filepath.Dir(file) + "/*"}, map[string]int{"mmap": callsFiles}},
		{"a glob of nothing", []string{"--path", "no such name"}, map[string]int{}},
		{"a thread that does nothing", []string{"--tid", strconv.Itoa(os.Getpid())}, map[string]int{}},
	}
	running := make([]*process, len(tests))
	for i, tt := range tests {
		running[i] = tracing(t, append([]string{"-p", h.pid(), "-o", "json"}, tt.flags...)...)
	}
	text := tracing(t, "-p", h.pid(), "--failed", "--show-path")
	short := tracing(t, "-p", h.pid())
	h.tell("go")
	h.hear("done")
	for i, tt := range tests {
		running[i].signal(syscall.SIGINT)
		r := succeed(t, running[i].result())
		o := parse(t, r.out)
		got := make(map[string]int)
		for _, e := range o.events {
			if e.PID != h.Process.Pid {
				t.Errorf("%s: an event of process %d", tt.name, e.PID)
			}
			switch {
			case e.Errno == "EEXIST":
				got["EEXIST"]++
			case ours(e):
				got[e.Event]++
			}
		}
		if !mapsEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v\n%s", tt.name, got, tt.want, r.out)
		}
		// Filters choose what is printed, not what is known.
		if n := o.summary.ByOp["mmap"]; n < callsMaps+callsFiles+callsRefused {
			t.Errorf("%s: %d calls of mmap counted", tt.name, n)
		}
		if o.summary.Failed < callsRefused {
			t.Errorf("%s: %d failed calls counted", tt.name, o.summary.Failed)
		}
		checkFileRegions(t, &o, file)
		if bad := unprintable(r.out); bad != "" {
			t.Errorf("%s: unprintable %q in the output", tt.name, bad)
		}
	}
	for _, p := range []*process{text, short} {
		p.signal(syscall.SIGINT)
		r := succeed(t, p.result())
		events := strings.Join(checkText(t, r.out), "")
		if bad := unprintable(r.out); bad != "" {
			t.Errorf("unprintable %q in the output", bad)
		}
		const name = `\x1b]0;title\x07\x1b[2J\x9b31m\xc2\x9b1m\xe2\x80\xae\xff end`
		if n := strings.Count(events, name); n != callsFiles {
			t.Errorf("the evil name is there %d times, want %d:\n%s", n, callsFiles, events)
		}
		wantPath, wantErrno := 0, 0
		if p == text {
			wantPath, wantErrno = callsFiles, callsRefused
		}
		if n := strings.Count(events, " "+filepath.Dir(file)+"/"); n != wantPath {
			t.Errorf("the whole path is there %d times, want %d:\n%s", n, wantPath, events)
		}
		if n := strings.Count(events, "= EEXIST"); n != wantErrno {
			t.Errorf("the error is there %d times, want %d:\n%s", n, wantErrno, events)
		}
		if n := strings.Count(events, ", split)"); n < callsHoles {
			t.Errorf("%d splits told, want %d at least:\n%s", n, callsHoles, events)
		}
	}
	h.unharmed()
}

func mapsEqual(a, b map[string]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, n := range a {
		if b[k] != n {
			return false
		}
	}
	return true
}

// checkFileRegions checks the final table for what the helper mapped of a file.
func checkFileRegions(t *testing.T, o *objects, file string) {
	t.Helper()
	if len(o.tables) != 1 {
		t.Fatalf("%d tables, want 1", len(o.tables))
	}
	var bytes uint64
	for _, r := range o.tables[0].Regions {
		if strings.HasPrefix(r.Mapping, filepath.Dir(file)+"/") {
			bytes += r.Size
			if r.Delta != int64(r.Size) || r.Kind != "file" || r.Mode != "r--p" || r.Inode == 0 {
				t.Errorf("a wrong row: %+v", r)
			}
		}
	}
	if want := uint64(callsFiles * filePages * os.Getpagesize()); bytes != want {
		t.Errorf("%d bytes of the file are in the table, want %d", bytes, want)
	}
}

func TestCallsThatSeccompAnswersAreNoChanges(t *testing.T) {
	t.Parallel()
	needBPF(t)
	program := bpftest.BuildC(t, "../../testdata/workload", "suppressed")
	for _, failed := range []bool{false, true} {
		args := []string{"trace", "-o", "json", "--to", filepath.Join(t.TempDir(), "trace")}
		if failed {
			args = append(args, "--failed")
		}
		r := maptrace(t, append(args, "--", program, "2", "2000")...)
		if r.code == 77 {
			t.Skip("seccomp cannot answer calls here")
		}
		succeed(t, r)
		b, err := os.ReadFile(args[4])
		if err != nil {
			t.Fatal(err)
		}
		events := jsonLines(t, string(b))
		summary := events[len(events)-1]
		told := 0.0
		for _, e := range events {
			if e["suppressed"] == true { // the summary has a number
				told++
			}
		}
		suppressed, _ := summary["suppressed"].(float64)
		if want := fmt.Sprintf("suppressed %.0f\n", suppressed); r.out != want || suppressed == 0 {
			t.Errorf("the program says %q, we %v", r.out, summary)
		}
		if summary["violations"] != 0.0 || summary["drift"] != 0.0 || summary["lost"] != 0.0 {
			t.Errorf("at the end: %v", summary)
		}
		if shown := map[bool]float64{true: suppressed}[failed]; told != shown {
			t.Errorf("--failed %t: %.0f lines, want %.0f", failed, told, shown)
		}
	}
}

func TestATIDSelectsItsThread(t *testing.T) {
	t.Parallel()
	needBPF(t)
	r := maptrace(t, "trace", "-o", "json", "--", "sh", "-c", "true")
	all := parse(t, r.out)
	tid := all.events[0].TID
	if n := len(all.events); n != strings.Count(r.out, `"tid":`+strconv.Itoa(tid)+",") {
		t.Errorf("a shell without children has one thread:\n%s", r.out)
	}
	h := startHelper(t, "churn")
	tasks, err := os.ReadDir("/proc/" + h.pid() + "/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) < 2 {
		t.Fatal("a Go program has one thread only")
	}
	thread := tasks[len(tasks)-1].Name()
	r = maptrace(t, "trace", "-p", thread)
	if r.code != exitError {
		t.Errorf("exit code %d, want %d", r.code, exitError)
	}
	checkOneLine(t, r.stderr, thread+" is a thread of process "+h.pid()+": name that")
}

// TestStack traces a program whose last calls all come from one place: each has the
// stack that leads there, from the first function on.
func TestStack(t *testing.T) {
	t.Parallel()
	needBPF(t)
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "chain.c"), filepath.Join(dir, "chain")
	const program = `
#include <sys/mman.h>
__attribute__((noipa)) long inner(long i) { return mmap(0, 4096 * i, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED; }
__attribute__((noipa)) long outer(long i) { return inner(i) + 1; }
int main(void) { long n = 0; for (long i = 1; i <= 23; i++) n += outer(i); return n != 46; }
`
	if err := os.WriteFile(src, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	gcc := exec.Command(tool.Need(t, "gcc"), "-O2", "-fomit-frame-pointer", "-o", bin, src)
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, form := range []string{"text", "json"} {
		r := succeed(t, maptrace(t, "trace", "--stack", "-o", form, "--op", "mmap", "--", bin))
		// What is between main and the first function is libc's.
		chain := regexp.MustCompile(`"inner \(chain\)","outer \(chain\)","main \(chain\)",[^]]*"_start \(chain\)"\]`)
		if form == "text" {
			chain = regexp.MustCompile(`(?m)^ +inner \(chain\)\n +outer \(chain\)\n +main \(chain\)\n(?: {20}.*\n){1,3} +_start \(chain\)$`)
		}
		if n := len(chain.FindAllString(r.out, -1)); n != 23 {
			t.Errorf("%s: %d calls have the stack of 23:\n%s", form, n, r.out)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	r := succeed(t, maptrace(t, "trace", "-p", h.pid(), "--count", "5", "--op", "munmap"))
	events := checkText(t, r.out)
	if len(events) != 5 || strings.Count(strings.Join(events, ""), " munmap ") != 5 {
		t.Errorf("%d lines, want 5:\n%s", len(events), r.out)
	}
	o := parse(t, succeed(t, maptrace(t, "trace", "-p", h.pid(), "--count", "1", "-o", "json")).out)
	if len(o.events) != 1 {
		t.Errorf("%d events, want 1", len(o.events))
	}
	h.unharmed()
}

func TestDuration(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	began := time.Now()
	r := succeed(t, maptrace(t, "trace", "-p", h.pid(), "--duration", "300ms", "--summary-only"))
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("it ended after %v", d)
	}
	if strings.Contains(r.out, "TIME") || !footer.MatchString(r.out) || !strings.HasPrefix(r.out, h.pid()+":   ") {
		t.Errorf("not a table and figures:\n%s", r.out)
	}
	h.unharmed()
}

func TestACommandOutlivesTheDuration(t *testing.T) {
	t.Parallel()
	needBPF(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // the end of cat
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	// Its output is nobody's: a pipe would be held open by the command.
	cmd := exec.CommandContext(ctx, binary(t), "trace", "--duration", "200ms", "--", "cat")
	cmd.Stdin = r
	if err = errors.Join(cmd.Run(), r.Close()); err != nil {
		t.Error(err)
	}
	// As long as cat reads, writing is no error.
	if _, err := w.WriteString("still there?"); err != nil {
		t.Errorf("the command is gone: %v", err)
	}
}

func TestTablesOnTheWay(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	o := parse(t, succeed(t, maptrace(t, "trace", "-p", h.pid(), "-o", "json", "--summary-only",
		"--duration", "1s", "--table-every", "50ms")).out)
	if len(o.tables) < 3 || len(o.events) > 0 {
		t.Errorf("%d tables and %d events, want more than 2 and none", len(o.tables), len(o.events))
	}
	for _, tab := range o.tables {
		if tab.PID != h.Process.Pid || len(tab.Regions) == 0 || tab.Exited {
			t.Errorf("a wrong table: %+v", tab)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	o := parse(t, succeed(t, maptrace(t, "trace", "-p", h.pid(), "-o", "json", "--summary-only",
		"--duration", "1s", "--verify")).out)
	if o.summary.Audits == 0 {
		t.Errorf("nothing was compared: %+v", o.summary)
	}
	h.unharmed()
}

// hangups tells whether SIGHUP ended us when we began: it does not under nohup, nor what we
// start. Commands that run in this process change that.
var hangups = !signal.Ignored(syscall.SIGHUP)

func TestSignalsEndItWell(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if sig == syscall.SIGHUP && !hangups {
			continue
		}
		p := tracing(t, "-p", h.pid())
		ids := bpfIDs(t, p.Process.Pid)
		p.signal(sig)
		checkText(t, succeed(t, p.result()).out)
		ids.checkGone(t)
		h.unharmed()
	}
}

func TestNohupIsRespected(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	ready := filepath.Join(t.TempDir(), "ready")
	// The shell's ignoring of a signal is inherited, as that of nohup is.
	p := launch(t, exec.Command("sh", "-c", `trap "" HUP; exec "$@"`, "sh",
		binary(t), "trace", "-p", h.pid(), "--ready-file", ready, "--summary-only"))
	eventually(t, "maptrace is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, mask, _ := strings.Cut(string(b), "SigIgn:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	ignored, err := strconv.ParseUint(mask, 16, 64)
	if err != nil || ignored&(1<<(syscall.SIGHUP-1)) == 0 {
		t.Errorf("SIGHUP is not ignored: %q, %v", mask, err)
	}
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGTERM)
	succeed(t, p.result())
}

func TestASignalIsPassedToTheCommand(t *testing.T) {
	t.Parallel()
	needBPF(t)
	ready := filepath.Join(t.TempDir(), "ready")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := tracingTo(t, w, "--to", ready+".trace", "--", "sh", "-c", `trap 'exit 9' TERM; echo set; while :; do sleep 0.01; done`)
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if line != "set\n" {
		t.Fatalf("the command said %q, %v", line, err)
	}
	p.signal(syscall.SIGTERM)
	if res := p.result(); res.code != 9 {
		t.Errorf("exit code %d (%s), want that of the command, 9", res.code, res.stderr)
	}
	b, err := os.ReadFile(ready + ".trace")
	if err != nil {
		t.Fatal(err)
	}
	// The child that it was waiting for may be killed within a call.
	checkTextOfKilled(t, string(b))
}

func TestATargetThatIsKilled(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	p := tracing(t, "-p", h.pid())
	h.signal(syscall.SIGKILL)
	r := succeed(t, p.result())
	checkTextOfKilled(t, r.out)
	if !strings.Contains(r.out, " (exited, signal 9)  since ") || !strings.Contains(r.out, " exit     signal 9\n") {
		t.Errorf("the end is not told:\n%s", r.out)
	}
}

// TestTargetsThatVanish attaches to processes that end at about that moment.
func TestTargetsThatVanish(t *testing.T) {
	t.Parallel()
	needBPF(t)
	const tries = 12
	for i := range tries {
		// From long before it is attached to just after.
		life := strconv.FormatFloat(0.02*float64(i), 'f', 3, 64)
		target := launch(t, exec.Command("sleep", life))
		r := maptrace(t, "trace", "-p", strconv.Itoa(target.Process.Pid))
		switch r.code {
		case exitOK:
			// It may have been too late to read its mappings, which is then said.
			if !strings.Contains(r.out, "\nlost 0, drift 0, violations 0\n") || r.stderr != "" {
				t.Errorf("no figures:\n%s%s", r.out, r.stderr)
			}
		case exitGone:
			checkOneLine(t, r.stderr, "maptrace: process "+strconv.Itoa(target.Process.Pid)+": ")
		case exitError:
			// Nobody has waited for it yet.
			checkOneLine(t, r.stderr, "is a zombie")
		default:
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	}
}

func TestTheShellIsTracedWithoutUs(t *testing.T) {
	t.Parallel()
	needBPF(t)
	to := filepath.Join(t.TempDir(), "trace")
	r := launch(t, exec.Command("sh", "-c", `"$@" -p $$; exit $?`, "sh",
		binary(t), "trace", "-o", "json", "--duration", "200ms", "--to", to)).result()
	succeed(t, r)
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if o := parse(t, string(b)); len(o.tables) != 1 || o.tables[0].Comm != "sh" {
		t.Errorf("traced: %+v", o.tables)
	}
}

func TestStandardOutputThatNobodyReads(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	for _, form := range []string{"text", "json", "csv"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p := tracingTo(t, w, "-p", h.pid(), "-o", form)
		ids := bpfIDs(t, p.Process.Pid)
		if err := errors.Join(w.Close(), r.Close()); err != nil {
			t.Fatal(err)
		}
		res := p.result()
		if res.code != exitUnread || res.stderr != "" {
			t.Errorf("exit code %d, want %d; standard error %q", res.code, exitUnread, res.stderr)
		}
		ids.checkGone(t)
		h.unharmed()
	}
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	needBPF(t)
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	r := maptrace(t, "trace", "--to", "/dev/full", "--", "true")
	if r.code != exitError {
		t.Errorf("exit code %d, want %d", r.code, exitError)
	}
	checkOneLine(t, r.stderr, "no space left on device")
}

func TestKillingItLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	p := tracing(t, "-p", h.pid())
	ids := bpfIDs(t, p.Process.Pid)
	p.signal(syscall.SIGKILL)
	if r := p.result(); r.code != 137 {
		t.Errorf("exit code %d", r.code)
	}
	ids.checkGone(t)
	h.unharmed()
}

func TestALimitedRing(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "churn")
	succeed(t, maptrace(t, "trace", "-p", h.pid(), "--ring", "64K", "--summary-only", "--duration", "100ms"))
}

// kernelIDs are the objects in the kernel that a process holds.
type kernelIDs struct{ progs, links, maps []uint32 }

var idLine = regexp.MustCompile(`(?m)^(prog|link|map)_id:\s+(\d+)$`)

// bpfIDs lists what /proc says a process has open: its own, whoever else traces
// on this machine.
func bpfIDs(t *testing.T, pid int) kernelIDs {
	t.Helper()
	ids := openIDs(t, pid)
	if len(ids.progs) == 0 || len(ids.links) == 0 || len(ids.maps) == 0 {
		t.Fatalf("nothing attached: %+v", ids)
	}
	return ids
}

// openIDs lists them, if there are any.
func openIDs(t *testing.T, pid int) kernelIDs {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fdinfo"
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ids kernelIDs
	for _, fd := range fds {
		b, err := os.ReadFile(filepath.Join(dir, fd.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range idLine.FindAllStringSubmatch(string(b), -1) {
			id, err := strconv.ParseUint(m[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			switch m[1] {
			case "prog":
				ids.progs = append(ids.progs, uint32(id))
			case "link":
				ids.links = append(ids.links, uint32(id))
			case "map":
				ids.maps = append(ids.maps, uint32(id))
			}
		}
	}
	return ids
}

// checkGone waits until the kernel has freed the objects, which it does in its
// own time after the last user has gone.
func (ids kernelIDs) checkGone(t *testing.T) {
	t.Helper()
	gone := func(err error) bool {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return err != nil
	}
	eventually(t, "links, programs and maps are gone", func() bool {
		for _, id := range ids.links {
			l, err := link.NewFromID(link.ID(id))
			if !gone(err) {
				_ = l.Close() // only looked at
				return false
			}
		}
		for _, id := range ids.progs {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			if !gone(err) {
				_ = p.Close() // only looked at
				return false
			}
		}
		for _, id := range ids.maps {
			m, err := ebpf.NewMapFromID(ebpf.MapID(id))
			if !gone(err) {
				_ = m.Close() // only looked at
				return false
			}
		}
		return true
	})
}
