package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
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
	for v, want := range map[sizeValue]string{65536: "64K", 65537: "65537", 3 << 20: "3M", 5 << 40: "5T", 1 << 50: "1024T"} {
		if v.String() != want {
			t.Errorf("%d prints as %q, want %q", uint64(v), v.String(), want)
		}
	}
}

func TestTimesAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"10": 10 * time.Second, "0": 0, "0.5": 500 * time.Millisecond, "10s": 10 * time.Second, "1m": time.Minute, "1min": time.Minute,
		"1d": 24 * time.Hour, "1m30s": 90 * time.Second, "1.5h": 90 * time.Minute, "1d12h": 36 * time.Hour, "500ms": 500 * time.Millisecond,
		"100us": 100 * time.Microsecond, "100µs": 100 * time.Microsecond, "7ns": 7, "2sec": 2 * time.Second, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "s", "10x", "1 m", "10s5", ".", "1..2", "-1", "-1s", "+1", "1e3", "inf", "NaN", "0x10", "106752d", "1d-1h", "١s"} {
		if got, err := parseSpan(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", 100 * time.Microsecond: "100µs", 70 * time.Minute: "1h10m",
	} {
		if got := spanText(d); got != want {
			t.Errorf("%d is written %q, want %q", d, got, want)
		}
	}
	var d time.Duration
	var auto bool
	for _, v := range []spanValue{{to: &d}, {&d, &auto}} {
		err := v.Set("auto")
		if want := v.auto != nil; (err == nil) != want || auto != want {
			t.Errorf("auto: %v, %v", auto, err)
		}
	}
	v := spanValue{&d, &auto}
	if s := v.String(); s != "auto" {
		t.Errorf("auto is %q", s)
	}
	if err := v.Set("5m"); err != nil || auto || d != 5*time.Minute || v.String() != "5m" {
		t.Errorf("after auto: %v, %v, %v", d, auto, err)
	}
}

// TestOldSpellingsAreTheSameFlags sets the same by each of its names.
func TestOldSpellingsAreTheSameFlags(t *testing.T) {
	t.Parallel()
	options := func(line string) string {
		var o attachOptions
		cmd := &cobra.Command{Use: "any"}
		o.addFlags(cmd)
		addSpanFlag(cmd, span(&o.duration, time.Minute), "")
		err := cmd.ParseFlags(strings.Fields(line))
		if err == nil {
			err = o.arguments(cmd, cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		return fmt.Sprintf("%v %s %s %v", o.pids, o.output, o.duration, o.argv)
	}
	for _, tt := range []struct{ now, before, want string }{
		{"--for 5s 1", "--duration 5s -p 1", "[1] text 5s []"},
		{"--json 1", "-o json -p 1", "[1] json 1m0s []"},
		{"--json --json 1", "--output=json -p 1", "[1] json 1m0s []"},
		{"--csv 1", "-o csv -p 1", "[1] csv 1m0s []"},
		{"1", "-o text -p 1", "[1] text 1m0s []"},
		{"1 2 3", "-p 1,2 -p 3", "[1 2 3] text 1m0s []"},
		{"--for 2 /proc/7", "--for 2s --pid 7", "[7] text 2s []"},
		{"--json -- a -b", "-o json -- a -b", "[] json 0s [a -b]"},
		{"--for 1m -- a", "--duration 60 -- a", "[] text 1m0s [a]"},
	} {
		for _, line := range []string{tt.now, tt.before} {
			if got := options(line); got != tt.want {
				t.Errorf("%s: %s, want %s", line, got, tt.want)
			}
		}
	}
	for _, name := range []string{"trace", "grow", "lat"} {
		help := inProcess(t, name, "--help").out
		for _, flag := range []string{"--for ", "--json ", "--csv ", "--to "} {
			if !strings.Contains(help, flag) {
				t.Errorf("the help of %s lacks %s", name, flag)
			}
		}
		for _, flag := range []string{"--duration", "-o,", "--output"} {
			if strings.Contains(help, flag) {
				t.Errorf("the help of %s shows the old %s", name, flag)
			}
		}
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
		{"another user's process", fmt.Errorf("process 7: %w", fs.ErrPermission), exitUnsupported, "process 7: permission denied: "},
		{"BPF is not permitted", fmt.Errorf("%w: %w", tracer.ErrPermission, unix.EPERM), exitUnsupported, "CAP_BPF and CAP_PERFMON"},
		{"a kernel that is too old", fmt.Errorf("tracepoint: %w", ebpf.ErrNotSupported), exitUnsupported, "'maptrace doctor' tells"},
		{"a clock that cannot be compared", fmt.Errorf("attach: %w", tracer.ErrForeignClock), exitUnsupported, "start maptrace from a child"},
		{"no memory in the kernel", fmt.Errorf("create map: %w", syscall.ENOMEM), exitError, "try a smaller --ring"},
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

func TestForeignHint(t *testing.T) {
	t.Parallel()
	for have, want := range map[privilege.Set]string{
		0:                                 "need root or CAP_SYS_PTRACE",
		privilege.Of(unix.CAP_BPF):        "need root or CAP_SYS_PTRACE",
		privilege.Of(unix.CAP_SYS_PTRACE): "a security module or a sandbox",
		privilege.Of(unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN): "a security module or a sandbox",
	} {
		if got := foreignHint(have); !strings.Contains(got, want) {
			t.Errorf("with %v: %q lacks %q", have, got, want)
		}
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
