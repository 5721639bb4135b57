package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// polledFooter is what a text of polling ends with.
var polledFooter = regexp.MustCompile(`(?m)^---------------- -------- --------\ntotal kB .*\n` +
	`(?s:.*)^events \d+.*\nfailed 0, fork \d+, exec \d+, exit \d+, processes \d+\nlooks \d+\n` +
	`ordering: polling every 10ms: changes between two looks are not seen\n` +
	`accuracy: approximate: polling every 10ms: changes between two looks are not seen\n\z`)

// nobody gives a command to the user nobody, without any capability.
func nobody(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	needRoot(t)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// publicDir is a directory that everybody may write to.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	// The one above it is made for this test too.
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPollingNeedsNoPrivilege(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary(t), "trace", "--poll=10ms", "--", "sh", "-c", "sleep 0.2 & wait; exit 3")
	r := launch(t, nobody(t, cmd)).result()
	if r.code != 3 || r.stderr != "" || !polledFooter.MatchString(r.out) {
		t.Fatalf("exit code %d, standard error %q:\n%s", r.code, r.stderr, r.out)
	}
	events, _, _ := strings.Cut(r.out, "\n\n")
	lines := strings.Split(events, "\n")[1:]
	for _, line := range lines {
		if !strings.HasSuffix(line, "seen by polling)") || !strings.Contains(line, "/- ") {
			t.Errorf("a line that does not say how it was seen: %q", line)
		}
	}
	for _, want := range []string{"fork     child ", "exec     sleep  (seen", "exit     status 3  (seen"} {
		if !strings.Contains(events, want) {
			t.Errorf("no %q in:\n%s", want, events)
		}
	}
}

// TestPollingOneOfTheirOwn traces a running process of an unprivileged user by
// that user: what is told is what the tables differ by, and the last table is what
// maps shows.
func TestPollingOneOfTheirOwn(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := publicDir(t)
	file, ready := filepath.Join(dir, "file"), filepath.Join(dir, "ready")
	if err := os.WriteFile(file, make([]byte, filePages*os.Getpagesize()), 0o644); err != nil {
		t.Fatal(err)
	}
	h := helperOfNobody(t, "calls", file)
	p := launch(t, nobody(t, exec.Command(binary(t), "trace", "--poll=10ms", "-o", "json", "--ready-file", ready, "-p", h.pid())))
	eventually(t, "maptrace is ready", func() bool {
		b, err := os.ReadFile(ready)
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	h.tell("go")
	h.hear("done")
	h.signal(syscall.SIGSTOP)
	eventually(t, "the helper stands still", func() bool {
		b, err := os.ReadFile("/proc/" + h.pid() + "/stat")
		return err == nil && strings.Contains(string(b), ") T ")
	})
	p.signal(syscall.SIGINT) // which takes one more look
	o := parse(t, succeed(t, p.result()).out)
	maps := mappingsOf(t, h.Process.Pid)
	h.signal(syscall.SIGCONT)
	h.unharmed()

	var sum int64
	seen := make(map[string]int)
	for _, e := range o.events {
		if e.SeenBy != "polling" || e.TID != 0 {
			t.Errorf("an event that does not say how it was seen: %+v", e)
		}
		if e.PID == h.Process.Pid {
			sum += e.Delta
			seen[e.Event]++
		}
	}
	if seen["mmap"] == 0 || len(o.tables) != 1 || sum == 0 || sum != o.tables[0].Delta {
		t.Fatalf("the changes %v come to %d bytes; tables: %+v", seen, sum, o.tables)
	}
	if s := o.summary; s.Ordering != "polling" || s.Interval != 0.01 || s.Looks < 1 || s.Changes == 0 || s.Calls != 0 ||
		s.Picture != "approximate: polling every 10ms: changes between two looks are not seen" {
		t.Errorf("summary: %+v", s)
	}
	// Rows that the kernel shows apart may be one region, never the other way round.
	var size uint64
	for _, m := range maps {
		size += m.Len()
		if !covered(t, &m, o.tables[0].Regions) {
			t.Errorf("the last table lacks %+v", m)
		}
	}
	if size != o.tables[0].Size {
		t.Errorf("the last table comes to %d bytes, maps to %d", o.tables[0].Size, size)
	}
}

func mappingsOf(t *testing.T, pid int) []procmaps.Mapping {
	t.Helper()
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	return rows
}

// covered tells whether a mapping is part of one of the regions.
func covered(t *testing.T, m *procmaps.Mapping, regions []jsonRegion) bool {
	t.Helper()
	for _, r := range regions {
		start, err := strconv.ParseUint(r.Address, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if start <= m.Start && m.End <= start+r.Size {
			return r.Mode == m.Mode.String()
		}
	}
	return false
}

func TestPollingOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	r := asNobody(t, "trace", "--poll", "-p", strconv.Itoa(os.Getpid()))
	if r.code != exitUnsupported || r.out != "" {
		t.Errorf("exit code %d, output %q", r.code, r.out)
	}
	checkOneLine(t, r.stderr, "permission denied: other users' processes need root or CAP_SYS_PTRACE")
}

// TestPollingSaysWhatMayNotBeRead has a program execute one that its user may not
// read: the kernel then shows the memory to root alone (fs/exec.c:would_dump).
func TestPollingSaysWhatMayNotBeRead(t *testing.T) {
	t.Parallel()
	needRoot(t)
	hidden := filepath.Join(publicDir(t), "hidden")
	copyFile(t, "/bin/sleep", hidden, 0o711)
	r := asNobody(t, "trace", "--poll=10ms", "-o", "json", "--", "sh", "-c", hidden+" 0.5; exit 0")
	o := parse(t, succeed(t, r).out)
	child := 0
	for _, e := range o.events {
		if e.Event == "fork" {
			child = e.Child
		}
	}
	for _, table := range o.tables {
		if table.PID == child {
			if !strings.Contains(table.Picture, "its mappings cannot be read: ") || !strings.Contains(table.Picture, "permission denied") {
				t.Errorf("the picture of what may not be read: %q", table.Picture)
			}
			return
		}
	}
	t.Errorf("no table of the child %d: %+v", child, o.events)
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := tool.WriteProgram(to, b); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, mode); err != nil {
		t.Fatal(err)
	}
}

// helperOfNobody starts a helper as the user nobody.
func helperOfNobody(t *testing.T, name string, args ...string) *helper {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(publicDir(t), "helper") // go test builds where nobody else may look
	copyFile(t, self, public, 0o755)
	return startHelperWith(t, name, func(cmd *exec.Cmd) {
		cmd.Path = public
		nobody(t, cmd)
	}, args...)
}

func TestPollingEndsInTime(t *testing.T) {
	t.Parallel()
	began := time.Now()
	cmd := exec.Command(binary(t), "trace", "--poll=10ms", "--duration", "100ms", "--summary-only", "-p", strconv.Itoa(os.Getpid()), "--no-follow")
	r := succeed(t, launch(t, cmd).result())
	if !polledFooter.MatchString(r.out) || time.Since(began) < 100*time.Millisecond {
		t.Errorf("after %v:\n%s", time.Since(began), r.out)
	}
}
