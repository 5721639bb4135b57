package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
)

// attaching waits until a process has descriptors of BPF: it has not yet attached to all then.
func (p *process) attaching() {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.Process.Pid)
	eventually(p.t, "it begins to attach", func() bool {
		all, err := os.ReadDir(dir)
		if err != nil {
			return false
		}
		for _, fd := range all {
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && strings.HasPrefix(to, "anon_inode:bpf") {
				return true
			}
		}
		return false
	})
}

// TestAnEndBeforeTheFirstLookIsAnsweredToo asks for the end while grow attaches, of a process
// that goes on, and of a command, which is not let go then.
func TestAnEndBeforeTheFirstLookIsAnsweredToo(t *testing.T) {
	t.Parallel()
	needBPF(t)
	target := startHelper(t, "calls")
	mark := filepath.Join(t.TempDir(), "ran")
	for _, tt := range []struct {
		args []string
		code exitCode
	}{
		{[]string{"grow", target.pid()}, exitOK},
		{[]string{"grow", "--json", target.pid()}, exitOK},
		{[]string{"grow", "--", "sh", "-c", `: >"$0"; read line`, mark}, 128 + exitCode(syscall.SIGINT)},
	} {
		p := launch(t, exec.Command(binary(t), tt.args...))
		p.attaching()
		p.signal(syscall.SIGINT)
		r := p.result()
		if r.code != tt.code || r.stderr != "" || !strings.Contains(r.out, "too short to judge") {
			t.Errorf("%q: got %+v", tt.args, r)
		}
		if strings.Contains(r.out, "nothing") {
			t.Errorf("%q: it says that nothing grew:\n%s", tt.args, r.out)
		}
		if tt.args[1] == "--json" {
			line, _, _ := strings.Cut(r.out, "\n")
			var a render.AnswerObject
			if err := json.Unmarshal([]byte(line), &a); err != nil || a.Event != "answer" || a.Verdict != "short" || a.Next == "" {
				t.Errorf("without a process it begins with %s (%v)", line, err)
			}
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the command ran")
	}
	target.unharmed()
}

// TestACommandThatGoesOnIsTold ends a watch before its command.
func TestACommandThatGoesOnIsTold(t *testing.T) {
	t.Parallel()
	needBPF(t)
	// Its input ends with this test, and so does the command.
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer w.Close()
	for _, args := range [][]string{
		{"grow", "--interval", "50ms"}, {"trace", "--summary-only"}, {"lat"},
	} {
		pidFile := filepath.Join(t.TempDir(), "pid")
		// Who holds its errors open is waited for, so they are not ours.
		cmd := exec.Command(binary(t), append(args, "--for", "3s", "--to", os.DevNull, "--", "/bin/sh", "-c", `exec >/dev/null 2>&1; echo $$ >"$0"; while read line; do :; done`, pidFile)...)
		cmd.Stdin = in
		r := launch(t, cmd).result()
		var pid int
		text, err := os.ReadFile(pidFile)
		if err == nil {
			_, err = fmt.Sscan(string(text), &pid)
		}
		if err != nil {
			t.Fatalf("%q: %v; got %+v", args, err, r)
		}
		if want := fmt.Sprintf("maptrace: process %d (sh) goes on running\n", pid); r.code != exitOK || r.stderr != want {
			t.Errorf("%q: got %+v, want %q", args, r, want)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("%q: it does not go on: %v", args, err)
		}
		if r := maptrace(t, append(args, "--for", "1m", "--to", os.DevNull, "--", "true")...); r.stderr != "" {
			t.Errorf("%q: of a command that has ended it says %q", args, r.stderr)
		}
	}
}
