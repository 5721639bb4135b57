package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/testdata/tool"
)

// crasher makes the program that crashes as it is told.
func crasher(t *testing.T) string {
	t.Helper()
	gcc := tool.Need(t, "gcc")
	out := filepath.Join(t.TempDir(), "crash")
	args := []string{"-g", "-O1", "-pthread", "../../testdata/workload/crash.c", "-o", out}
	if text, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc %v: %v\n%s", args, err, text)
	}
	return out
}

// explained is an answer in JSON, as far as tests want to know it.
type explained struct {
	Source, Comm, What, Sentence string
	PID                          int
	TID                          int
	Mapping                      *struct{ Mapping, Role, Mode string }
	FileSize                     *uint64 `json:"file_size"`
	Page                         *struct{ Present, Guard, File bool }
	PageWhy                      string `json:"page_unknown"`
	Symbol                       *struct {
		Function, File string
		Line           int
	}
	Fault       *struct{ Signal, Access, Reason, Why string }
	Instruction *struct {
		What   string
		Symbol *struct{ Function string }
	}
	Missing string
}

// explainJSON runs explain, and reads its answer.
func explainJSON(t *testing.T, args ...string) explained {
	t.Helper()
	r := inProcess(t, append([]string{"explain", "--json"}, args...)...)
	if r.code != exitOK || r.stderr != "" || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("%q: exit code %d, %q, %q", args, r.code, r.out, r.stderr)
	}
	var e explained
	if err := json.Unmarshal([]byte(r.out), &e); err != nil {
		t.Fatalf("%v: %s", err, r.out)
	}
	return e
}

func TestExplainOfALivingProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(crasher(t), "wait")
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
		if failed := errors.Join(in.Close(), cmd.Wait()); failed != nil {
			t.Error(failed)
		}
	})
	at := make(map[string]uint64)
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "end"; {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if at[name], err = strconv.ParseUint(value, 16, 64); err != nil {
			t.Fatal(err)
		}
	}
	pid, tid := strconv.Itoa(cmd.Process.Pid), int(at["tid"])
	ask := func(addr uint64) explained {
		t.Helper()
		e := explainJSON(t, strconv.FormatUint(addr, 16), pid)
		if e.Source != "process" || e.PID != cmd.Process.Pid || e.Comm != "crash" || e.PageWhy != "" {
			t.Errorf("%#x: %+v", addr, e)
		}
		return e
	}
	if e := ask(at["code"]); e.What != "mapped" || e.Symbol == nil || e.Symbol.Function != "read_item" || !strings.HasSuffix(e.Symbol.File, "crash.c") || e.Symbol.Line == 0 {
		t.Errorf("code: %+v", e)
	}
	if e := ask(at["data"]); e.What != "mapped" || e.Mapping.Mode != "rw-p" {
		t.Errorf("data: %+v", e)
	}
	if e := ask(at["touched"]); e.What != "mapped" || !e.Page.Present || e.Page.File {
		t.Errorf("touched: %+v", e)
	}
	if e := ask(at["none"]); e.What != "no_access" || e.Page.Present {
		t.Errorf("without access: %+v", e)
	}
	if e := ask(at["file"] + 50); e.What != "mapped" || *e.FileSize != 100 {
		t.Errorf("in a file: %+v", e)
	}
	if e := ask(at["file"] + 4096); e.What != "past_end" || !strings.Contains(e.Sentence, "the file has 100 bytes") {
		t.Errorf("beyond its end: %+v", e)
	}
	if e := ask(at["stack"]); e.What != "mapped" || e.TID != tid || e.Mapping.Role != "thread stack" {
		t.Errorf("the stack of thread %d: %+v", tid, e)
	}
	// The guard is below what the library calls the stack, or its lowest page.
	below, lowest := ask(at["low"]-8), ask(at["low"]+8)
	if below.What != "guard" && lowest.What != "guard" || below.TID != tid && lowest.TID != tid {
		t.Errorf("the guard of thread %d: %+v, %+v", tid, below, lowest)
	}
	if e := ask(0x18); e.What != "null" || e.Mapping != nil {
		t.Errorf("null: %+v", e)
	}
	if e := ask(1<<64 - 22); e.What != "kernel" {
		t.Errorf("-22: %+v", e)
	}
	file := filepath.Join(t.TempDir(), "out")
	if r := inProcess(t, "explain", "--to", file, "18", pid); r.code != exitOK || r.out != "" {
		t.Errorf("--to: %+v", r)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "0x18 is not mapped: 24 bytes above address 0") {
		t.Errorf("--to wrote %q, %v", text, err)
	}
}

// coreOf has a program crash, and returns its core file. It skips where the kernel does not write
// one into the directory of the process.
func coreOf(t *testing.T, program, how string) string {
	t.Helper()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.ContainsAny(string(pattern), "|/@") {
		t.Skipf("cores are not written into the directory of the process: %q, %v", pattern, err)
	}
	dir := t.TempDir()
	cmd := exec.Command(program, how)
	cmd.Dir = dir
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("%s: %v, want a crash", how, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skip("the kernel has written no core")
	}
	return found[0]
}

func TestExplainOfCores(t *testing.T) {
	t.Parallel()
	program := crasher(t)
	for how, want := range map[string]struct{ what, signal, access, reason, at string }{
		"null":    {"null", "SIGSEGV", "", "not_mapped", "read_item"},
		"code":    {"mapped", "SIGSEGV", "write", "not_writable", "main"},
		"execute": {"mapped", "SIGSEGV", "execute", "not_executable", ""},
		"stack":   {"stack_overflow", "SIGSEGV", "", "stack_overflow", "descend"},
		"file":    {"mapped", "SIGBUS", "", "no_backing", "main"},
		"abort":   {"", "SIGABRT", "", "", "-"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			core := coreOf(t, program, how)
			e := explainJSON(t, "--core", core)
			if e.Source != "core" || e.Comm != "crash" || e.What != want.what || e.Fault == nil || e.Instruction == nil {
				t.Fatalf("%+v", e)
			}
			if f := e.Fault; f.Signal != want.signal || f.Access != want.access || f.Reason != want.reason {
				t.Errorf("fault %+v", f)
			}
			if s := e.Instruction.Symbol; want.at != "-" && (s == nil) != (want.at == "") || s != nil && want.at != "-" && s.Function != want.at {
				t.Errorf("instruction %+v", s)
			}
			if e.Missing != "" {
				t.Errorf("missing %q", e.Missing)
			}
			if e = explainJSON(t, "0x18", "--core", core); e.What != "null" || e.Instruction != nil || (e.Fault != nil) != (how == "null") {
				t.Errorf("0x18: %+v", e)
			}
			r := inProcess(t, "explain", "--core", core)
			if n := strings.Count(r.out, "\n"); r.code != exitOK || n == 0 || n > 10 {
				t.Errorf("exit code %d, %d lines:\n%s", r.code, n, r.out)
			}
		})
	}
	t.Run("canonical", func(t *testing.T) {
		t.Parallel()
		if runtime.GOARCH != "amd64" {
			t.Skip("other processors say which address it was")
		}
		e := explainJSON(t, "--core", coreOf(t, program, "canonical"))
		if e.What != "" || e.Instruction.Symbol == nil || e.Instruction.Symbol.Function != "read_item" || !strings.Contains(e.Fault.Why, "canonical") {
			t.Errorf("%+v", e)
		}
	})
}

// TestExplainOfAReplacedProgram wants no names of a file that is another by now.
func TestExplainOfAReplacedProgram(t *testing.T) {
	t.Parallel()
	program := crasher(t)
	core := coreOf(t, program, "null")
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(tool.Need(t, "gcc"), "-O2", "-pthread", "../../testdata/workload/crash.c", "-o", program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	r := inProcess(t, "explain", "--core", core)
	if r.code != exitOK || strings.Contains(r.out, "read_item") || !strings.Contains(r.out, " into crash, ") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.stderr)
	}
}

func TestExplainOfReports(t *testing.T) {
	t.Parallel()
	const report = "# SIGSEGV\nsiginfo: si_signo: 11 (SIGSEGV), si_code: 2 (SEGV_ACCERR), si_addr: 0x0000000000401020\n\n" +
		"Dynamic libraries:\n00401000-00402000 r-xp 00001000 fe:00 4294967295       /opt/ser\x1bver\n" +
		"00602000-00603000 rw-p 00000000 00:00 0                  [heap]\n"
	ask := func(text string, args ...string) result {
		t.Helper()
		var out, stderr strings.Builder
		words := append([]string{"maptrace", "explain", "--report", "-"}, args...)
		code := run(t.Context(), words, streams{io.Reader(strings.NewReader(text)), &out, &stderr})
		return result{code, out.String(), stderr.String()}
	}
	for _, tt := range []struct {
		text, want string
		args       []string
	}{
		{report, "0x401020 is 32 bytes into ser\\x1bver (r-xp), file offset 0x1020\nwhy      a write, as reads are permitted, to memory that is not writable (r-xp)\n", nil},
		{report, "0x602010 is 16 bytes into [heap] (rw-p)\nmapping ", []string{"0x602010"}},
		{report, "0x500000 is not mapped: in the gap of 2.0 MiB between ser\\x1bver, which ends\n", []string{"500000"}},
		{"a.out[7]: segfault at 18 ip 401136 sp 7ffc00000010 error 4 in a.out[401000+1000]\n", "0x18 is 24 bytes above address 0 (a null pointer plus 0x18), where hardly\n", nil},
	} {
		if r := ask(tt.text, tt.args...); r.code != exitOK || !strings.HasPrefix(r.out, tt.want) {
			t.Errorf("%q: %+v, want %q", tt.args, r, tt.want)
		}
	}
	_, rows, _ := strings.Cut(report, "\n\n")
	r := ask(rows)
	checkOneLine(t, r.stderr, "the report does not say what the crash was about: give an address")
	if r.code != exitUsage {
		t.Errorf("exit code %d", r.code)
	}
}
