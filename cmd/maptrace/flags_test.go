package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/space"
)

// inProcess runs the whole program within the test.
func inProcess(t *testing.T, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := run(t.Context(), append([]string{"maptrace"}, args...), streams{strings.NewReader(""), &out, &stderr})
	return result{code, out.String(), stderr.String()}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args string
		want string // in the one line on standard error
	}{
		{"no target", "trace", "say what to trace"},
		{"an empty command", "trace --", "say what to trace"},
		{"a process and a command", "trace -p 1 -- true", "say what to trace"},
		{"a name and a command", "trace --comm sh -- true", "say what to trace"},
		{"a word beside a process", "trace -p 1 2", "put -- before the command"},
		{"a command without dashes", "trace true", "put -- before the command"},
		{"a target before the dashes", "trace true -- false", "put -- before the command"},
		{"process 0", "trace -p 0", "0 is no process number"},
		{"a negative process", "trace -p -5", "-5 is no process number"},
		{"a process that is no number", "trace -p x", `invalid argument "x"`},
		{"a process beyond every number", "trace -p 99999999999999999999", "invalid argument"},
		{"an unknown form", "trace -p 1 -o xml", `output "xml": want text or json`},
		{"an unknown kind", "trace -p 1 --kind slab", `kind "slab": want anon, file`},
		{"one unknown kind of two", "trace -p 1 --kind anon,slab", `kind "slab"`},
		{"an unknown operation", "trace -p 1 --op map", `operation "map": want one of mmap,`},
		{"a broken glob", "trace -p 1 --path [", `path glob "["`},
		{"a size in furlongs", "trace -p 1 --min-size 3F", `size "3F"`},
		{"a negative size", "trace -p 1 --min-size=-1", `size "-1"`},
		{"a size beyond 64 bits", "trace -p 1 --min-size 99999999T", `size "99999999T"`},
		{"a thread that is no number", "trace -p 1 --tid x", `invalid argument "x"`},
		{"a negative count", "trace -p 1 --count -1", "cannot be negative"},
		{"a negative duration", "trace -p 1 --duration -1s", "cannot be negative"},
		{"a duration without a unit", "trace -p 1 --duration 5", `invalid argument "5"`},
		{"a negative interval of tables", "trace -p 1 --table-every -1s", "cannot be negative"},
		{"a count of lines that are not printed", "trace -p 1 --summary-only --count 3", "--summary-only leaves out"},
		{"a ring that is no power of two", "trace -p 1 --ring 3M", "want a power of two"},
		{"a ring below a page", "trace -p 1 --ring 2K", "want a power of two"},
		{"a ring beyond what the kernel takes", "trace -p 1 --ring 2G", "want a power of two"},
		{"looks too often", "trace -p 1 --poll=1us", "want a time of at least 1ms"},
		{"looks now and then", "trace -p 1 --poll=often", `interval "often"`},
		{"looks at an interval that is a word by itself", "trace --poll 50ms -p 1", "put -- before the command"},
		{"looks and stacks", "trace -p 1 --poll --stack", "--poll sees what has changed, and no calls"},
		{"looks and threads", "trace -p 1 --poll --tid 1", "--poll sees what has changed, and no calls"},
		{"looks and errors", "trace -p 1 --poll --failed", "--poll sees what has changed, and no calls"},
		{"looks and audits", "trace -p 1 --poll --verify", "--poll sees what has changed, and no calls"},
		{"looks and a ring", "trace -p 1 --poll --ring 1M", "--ring is for what --poll does without"},
		{"growth by looks", "grow -p 1 --poll", "unknown flag: --poll"},
		{"latencies by looks", "lat -p 1 --poll=1s", "unknown flag: --poll"},
		{"an unknown flag", "trace --bogus", "unknown flag: --bogus"},
		{"an unknown command", "bogus", `unknown command "bogus"`},
		{"an unknown shell", "completion nosh", `unknown command "nosh"`},
		{"too much for a shell", "completion bash x", "unknown command"},
		{"arguments of doctor", "doctor x", "unknown command"},
		{"arguments of version", "version x", "unknown command"},
		{"arguments of demo", "demo x", "unknown command"},
		{"a demo of no length", "demo --duration 0s", "want a time to run"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, strings.Fields(tt.args)...)
			if got.code != exitUsage {
				t.Errorf("exit code %d, want %d", got.code, exitUsage)
			}
			checkOneLine(t, got.stderr, tt.want)
			if got.out != "" {
				t.Errorf("standard output: %q", got.out)
			}
		})
	}
}

// checkOneLine checks that there is one line of complaint, with want in it.
func checkOneLine(t *testing.T, stderr, want string) {
	t.Helper()
	if strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
		t.Errorf("standard error is not one line: %q", stderr)
	}
	if !strings.Contains(stderr, want) {
		t.Errorf("standard error %q lacks %q", stderr, want)
	}
}

func TestGoodFlagsPassTheCheck(t *testing.T) {
	t.Parallel()
	for _, o := range []traceOptions{
		{attachOptions: attachOptions{output: "text", target: target{pids: []int{1}}}},
		{attachOptions: attachOptions{output: "json", target: target{comms: []string{"sh"}}}},
		{attachOptions: attachOptions{output: "text", target: target{pids: []int{1, 2}, comms: []string{"sh"}, noFollow: true}}},
		{attachOptions: attachOptions{output: "text", target: target{argv: []string{"true"}}}, ops: operations},
		{attachOptions: attachOptions{output: "text", target: target{argv: []string{"true"}}}, kinds: []string{"anon", "file", "heap", "stack", "shm", "special"}},
		{attachOptions: attachOptions{output: "text", target: target{argv: []string{"true"}}, ring: 1 << 20}, glob: "/usr/lib/*.so.[0-9]", count: 1},
		{attachOptions: attachOptions{output: "text", target: target{argv: []string{"true"}}, ring: 1 << 30}, summary: true},
		{attachOptions: attachOptions{output: "json", target: target{argv: []string{"true"}}, poll: 1e6}, count: 3},
	} {
		if err := o.check(); err != nil {
			t.Errorf("check of %+v: %v", o, err)
		}
	}
}

func TestEveryNameOfACallIsAnOperation(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	for _, n := range operations {
		if names[n] {
			t.Errorf("%q is there twice", n)
		}
		names[n] = true
	}
	calls := []struct {
		op  space.Op
		sub space.Sub
	}{
		{space.OpMmap, 0},
		{space.OpMunmap, 0},
		{space.OpBrk, 0},
		{space.OpMremap, 0},
		{space.OpMprotect, 0},
		{space.OpMprotect, space.SubPkeyMprotect},
		{space.OpMadvise, 0},
		{space.OpMadvise, space.SubProcessMadvise},
		{space.OpMlock, 0},
		{space.OpMlock, space.SubMlock2},
		{space.OpMlock, space.SubMunlock},
		{space.OpMlock, space.SubMlockall},
		{space.OpMlock, space.SubMunlockall},
		{space.OpMlock, space.SubMseal},
		{space.OpShmat, 0},
		{space.OpShmdt, 0},
		{space.OpRemapFilePages, 0},
		{space.OpMbind, 0},
		{space.OpSetVMA, 0},
		{space.OpFork, 0},
		{space.OpExec, 0},
		{space.OpExit, 0},
		{space.OpStack, 0},
		{space.OpOther, 0},
		{space.OpReread, 0},
	}
	for _, c := range calls {
		if name := tracer.CallName(c.op, c.sub); !names[name] {
			t.Errorf("--op %s is refused", name)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	good := map[string]uint64{
		"0": 0, "1": 1, "4096": 4096, "1B": 1, "64K": 64 << 10, "64k": 64 << 10, "64KB": 64 << 10, "64KiB": 64 << 10,
		"1M": 1 << 20, "2G": 2 << 30, "3T": 3 << 40, "18446744073709551615": 1<<64 - 1, "16777215T": 16777215 << 40,
	}
	for s, want := range good {
		var v sizeValue
		if err := v.Set(s); err != nil || uint64(v) != want {
			t.Errorf("Set(%q) = %d, %v, want %d", s, v, err, want)
		}
	}
	for _, s := range []string{
		"", "K", "x", "-1", "+1", "1.5M", "1 M", "1P", "1KM", "0x10", "16777216T", "18446744073709551616",
	} {
		v := sizeValue(7)
		if err := v.Set(s); err == nil || v != 7 {
			t.Errorf("Set(%q) made %d, with error %v", s, v, err)
		}
	}
	if s := new(sizeValue).String(); s != "" {
		t.Errorf("no size prints as %q, which help would show as a default", s)
	}
	if v := sizeValue(65536); v.String() != "65536" {
		t.Errorf("64K prints as %q", v.String())
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	lib := render.Event{
		Op: "mmap", TID: 12, Range: procmaps.Range{Start: 0x10000, End: 0x30000}, Delta: 128 << 10, Mapped: true,
		Now: space.Extent{Kind: procmaps.KindFile, Name: "/usr/lib/libm.so.6"},
	}
	freed := render.Event{
		Op: "munmap", TID: 13, Range: procmaps.Range{Start: 0x10000, End: 0x30000}, Delta: -4096,
		Displaced: []space.Displaced{{Extent: space.Extent{Kind: procmaps.KindAnon}, How: space.Unmapped}},
	}
	refused := render.Event{Op: "mmap", TID: 12, Range: procmaps.Range{End: 4096}, Errno: unix.ENOMEM}
	half := render.Event{
		Op: "mremap", TID: 14, Range: procmaps.Range{Start: 0x40000, End: 0x41000}, Delta: -4096, Errno: unix.EFAULT, Half: true,
		Displaced: []space.Displaced{{Extent: space.Extent{Kind: procmaps.KindShm}, How: space.Unmapped}},
	}
	fork := render.Event{Op: "fork", TID: 12}
	lost := render.Event{Op: "lost", Detail: "5"}
	drift := render.Event{Op: "drift", Range: procmaps.Range{Start: 0x1000, End: 0x2000}}
	all := map[string]*render.Event{
		"lib": &lib, "freed": &freed, "refused": &refused, "half": &half, "fork": &fork, "lost": &lost, "drift": &drift,
	}
	tests := []struct {
		name string
		o    traceOptions
		want string
	}{
		{"nothing asked for", traceOptions{}, "drift fork freed half lib lost"},
		{"failed calls too", traceOptions{failed: true}, "drift fork freed half lib lost refused"},
		{"a call that failed half way", traceOptions{ops: []string{"mremap"}}, "drift half lost"},
		{"one operation", traceOptions{ops: []string{"munmap"}}, "drift freed lost"},
		{"two operations", traceOptions{ops: []string{"mmap", "fork"}}, "drift fork lib lost"},
		{"a thread", traceOptions{tids: []int{13, 99}}, "drift freed lost"},
		{"a kind, of what is and what was", traceOptions{kinds: []string{"anon"}}, "drift freed lost"},
		{"two kinds", traceOptions{kinds: []string{"anon", "file"}}, "drift freed lib lost"},
		{"a size that counts what was freed", traceOptions{minSize: 4096}, "drift freed half lib lost"},
		{"a size above one of them", traceOptions{minSize: 4097}, "drift lib lost"},
		{"a size, with those that failed", traceOptions{minSize: 4096, failed: true}, "drift freed half lib lost refused"},
		{"a glob of the last element", traceOptions{glob: "libm*"}, "drift lib lost"},
		{"a glob of the whole path", traceOptions{glob: "/usr/lib/*"}, "drift lib lost"},
		{"a glob that no star crosses", traceOptions{glob: "/usr/*"}, "drift lost"},
		{"a star, which nameless memory does not match", traceOptions{glob: "*"}, "drift lib lost"},
		{"all at once", traceOptions{ops: []string{"mmap"}, tids: []int{12}, kinds: []string{"file"}, minSize: 1, glob: "*.6"}, "drift lib lost"},
		{"all at once, and one against", traceOptions{ops: []string{"mmap"}, tids: []int{13}, kinds: []string{"file"}}, "drift lost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := tt.o.filter()
			var got []string
			for _, name := range []string{"drift", "fork", "freed", "half", "lib", "lost", "refused"} {
				if f.shows(all[name]) {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		code exitCode
		want string // the line; "" for none
	}{
		{"no error", nil, exitOK, ""},
		{"any error", errors.New("disk on fire"), exitError, "disk on fire"},
		{"wrong usage", usagef("which %q?", "one"), exitUsage, `which "one"?`},
		{"a target that is gone", fmt.Errorf("process 7: %w", procmaps.ErrGone), exitGone, "process 7: "},
		{"a kernel thread", fmt.Errorf("process 2: %w", tracer.ErrNoMemory), exitError, "no memory of its own"},
		{"another user's process", fmt.Errorf("process 7: %w", fs.ErrPermission), exitUnsupported, "need root or CAP_SYS_PTRACE"},
		{"BPF is not permitted", fmt.Errorf("%w: %w", tracer.ErrPermission, unix.EPERM), exitUnsupported, "CAP_BPF and CAP_PERFMON"},
		{"a kernel that is too old", fmt.Errorf("tracepoint: %w", ebpf.ErrNotSupported), exitUnsupported, "'maptrace doctor' tells"},
		{"a clock that cannot be compared", fmt.Errorf("attach: %w", tracer.ErrForeignClock), exitUnsupported, "start maptrace from a child"},
		{"no memory in the kernel", fmt.Errorf("create map: %w", syscall.ENOMEM), exitError, "try a smaller --ring"},
		{"nobody reads", fmt.Errorf("write: %w", syscall.EPIPE), exitError, "nobody reads the output"},
		{"drift", &codedError{exitDrift, errors.New("3 places")}, exitDrift, "3 places"},
		{"a command's status is no error of ours", &codedError{code: 7}, 7, ""},
		{"the wrong usage in a chain", fmt.Errorf("a: %w", usagef("b")), exitUsage, "a: b"},
		{"two errors in one line", errors.Join(errors.New("one"), errors.New("two")), exitError, "one; two"},
		{"the name of a traced process", errors.New("process 7 (\x1b[2Jx\x9b)"), exitError, `process 7 (\x1b[2Jx\x9b)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if got := report(&b, tt.err); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			if tt.want == "" {
				if b.Len() > 0 {
					t.Errorf("printed %q", b.String())
				}
				return
			}
			checkOneLine(t, b.String(), tt.want)
			if !strings.HasPrefix(b.String(), "maptrace: ") {
				t.Errorf("%q does not say who speaks", b.String())
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":             "Available Commands:",
		"--help":       "Available Commands:",
		"trace --help": "The exit status is that of the command",
		"pmap --help":  "Exit status: 0 done; 1",
		"version":      "maptrace ",
		"--version":    "maptrace ",
	} {
		got := inProcess(t, strings.Fields(args)...)
		if got.code != exitOK || !strings.Contains(got.out, want) || got.stderr != "" {
			t.Errorf("maptrace %s: %+v, want %q", args, got, want)
		}
		if strings.Contains(got.out, leakyCommand) {
			t.Errorf("maptrace %s shows what is hidden", args)
		}
	}
}
