package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/testdata/tool"
)

// TestAccountsOfRealPrograms watches the situations of testdata/accounts, and wants what the
// groups explain to be what each process has by the kernel's own figures, at each look: to
// 2 %, or 1 MiB. It prints a table.
func TestAccountsOfRealPrograms(t *testing.T) {
	if os.Getenv("MAPTRACE_LONG") != "1" {
		t.Skip("takes ten minutes: make accounts")
	}
	needBPF(t)
	needRoot(t)
	scripts, err := filepath.Glob("../../testdata/accounts/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var rows []string
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".sh")
		t.Run(name, func(t *testing.T) {
			rows = append(rows, fmt.Sprintf("%-16s %s", name, accountOf(t, script)))
		})
	}
	t.Logf("%-16s PROCESSES  LOOKS  LARGEST      GREW  EXPLAINED  OFF AT THE WORST LOOK\n%s", "SITUATION", strings.Join(rows, "\n"))
}

// accountOf runs a script, and says what came of watching it.
func accountOf(t *testing.T, script string) string {
	t.Helper()
	cmd, group := situation(t, script)
	start(t, cmd, group)
	const warmup = 10 * time.Second
	time.Sleep(warmup)
	r := succeed(t, maptrace(t, "grow", "--for", "15s", "--interval", "500ms", "-o", "json", "--cgroup", group))
	const slack, part, mib = 1 << 20, 50, 1 << 20
	processes, looks := 0, 0
	var largest *render.WatchObject
	var worst string
	var ratio float64
	for line := range strings.Lines(r.out) {
		var w render.WatchObject
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if w.Event != "watch" || w.Account == nil {
			continue
		}
		processes++
		looks += w.Looks
		total := func(f *render.AccountFigures) uint64 { return f.Resident + f.Swapped + f.PageTables + f.Hugetlb }
		a := w.Account
		off := a.Off
		bound := max(slack, int64(max(total(&a.First), total(&a.Last))/part))
		if x := float64(max(off, -off)) / float64(bound); x >= ratio {
			ratio, worst = x, fmt.Sprintf("%+.2f MiB of %.1f (%s, %d)", float64(off)/mib, float64(total(&a.Last))/mib, w.Comm, w.PID)
		}
		if largest == nil || total(&a.Last) > total(&largest.Account.Last) {
			largest = &w
		}
	}
	if largest == nil {
		t.Fatalf("no process has an account:\n%s", r.out)
	}
	if ratio > 1 {
		t.Errorf("%s is not explained, at a look", worst)
	}
	a := largest.Account
	return fmt.Sprintf("%9d %6d %8s %9.2f %10.2f  %s", processes, looks, cmp.Or(largest.Comm, "?"), float64(a.Grown)/mib, float64(a.Explained)/mib, worst)
}

// situation is a command that runs a script, if what that needs is there, in a directory and in
// a cgroup of its own.
func situation(t *testing.T, script string) (cmd *exec.Cmd, group string) {
	t.Helper()
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	_, needs, _ := strings.Cut(string(text), "# needs: ")
	needs, _, _ = strings.Cut(needs, "\n")
	for program := range strings.FieldsSeq(needs) {
		tool.Need(t, program)
	}
	if script, err = filepath.Abs(script); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, open := range []string{filepath.Dir(dir), dir} {
		if err = os.Chmod(open, 0o755); err != nil { //nolint:gosec // some programs become others
			t.Fatal(err)
		}
	}
	group = memoryCgroup(t)
	cmd = exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$1"`, group, script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "SRC="+filepath.Dir(script))
	return cmd, group
}

// start starts a situation, which ends with the test.
func start(t *testing.T, cmd *exec.Cmd, group string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the situation has ended", func() bool { return !killGroup(group) })
		_ = cmd.Wait() // it was killed
	})
}

// killGroup kills all that are in a cgroup, and reports whether there were any.
func killGroup(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return false
	}
	pids := strings.Fields(string(text))
	for _, pid := range pids {
		n, err := strconv.Atoi(pid)
		if err == nil {
			err = unix.Kill(n, unix.SIGKILL)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return true
		}
	}
	return len(pids) > 0
}
