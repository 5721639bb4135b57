package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnArchiveIsWhatTheKernelUnpacks(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &archive{w: &out}
	a.dir("bin")
	a.file("bin/x", 0o755, []byte("hello"))
	a.link("bin/y", "/init")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"07070100000001000041ED00000000000000000000000100000000000000000000000000000000000000000000000000000004" +
		"00000000bin\x00\x00\x00" +
		"07070100000002000081ED00000000000000000000000100000000000000050000000000000000000000000000000000000006" +
		"00000000bin/x\x00hello\x00\x00\x00" +
		"070701000000030000A1FF00000000000000000000000100000000000000050000000000000000000000000000000000000006" +
		"00000000bin/y\x00/init\x00\x00\x00" +
		"0707010000000400000000000000000000000000000001000000000000000000000000000000000000000000000000" +
		"0000000B00000000TRAILER!!!\x00\x00\x00\x00"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	if out.Len()%4 != 0 {
		t.Errorf("%d bytes", out.Len())
	}
}

type fullDisk struct{ room int }

func (f *fullDisk) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, os.ErrClosed
	}
	return len(b), nil
}

func TestAnArchiveThatCannotBeWrittenSaysSo(t *testing.T) {
	t.Parallel()
	a := &archive{w: &fullDisk{room: 200}}
	a.dir("bin")
	a.file("bin/x", 0o755, []byte("hello"))
	if err := a.close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestTheTableIsSound(t *testing.T) {
	t.Parallel()
	tab, err := parseTable(strings.NewReader(tableText))
	if err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, k := range tab.kernels {
		if k.required {
			required = append(required, k.id)
		}
	}
	want := []string{"6.1-amd64", "6.12-amd64", "6.18-amd64", "7.3-amd64", "6.1-arm64", "6.12-arm64", "7.3-arm64"}
	if diff := cmp.Diff(want, required); diff != "" {
		t.Errorf("required kernels (-want +got):\n%s", diff)
	}
}

// smallTable has one of everything.
const smallTable = `# a comment
check BTF
check mm_lock_seq   # another
suite tracer/small
	without TestA|TestB: needs gcc
kernel required 6.1-amd64 linux-image-6.1.*
	less mm_lock_seq: numbered since 6.4
	skip small.TestC/sub: why
kernel all 5.10-arm64 linux-image-5.10.*
	fails BTF: too old
	refused it is too old
	append lockdown=confidentiality
	cpus 2
	no32 it cannot
`

func parsed(tb testing.TB) *table {
	tb.Helper()
	tab, err := parseTable(strings.NewReader(smallTable))
	if err != nil {
		tb.Fatal(err)
	}
	return tab
}

func TestATableIsRead(t *testing.T) {
	t.Parallel()
	none := map[string]string{}
	want := &table{
		checks: []string{"BTF", "mm_lock_seq"},
		suites: []suite{{dir: "tracer/small", leftOut: map[string]string{"TestA": "needs gcc", "TestB": "needs gcc"}}},
		kernels: []*kernel{
			{
				id: "6.1-amd64", required: true, pattern: "linux-image-6.1.*", cpus: 1, fails: none,
				less:  map[string]string{"mm_lock_seq": "numbered since 6.4"},
				skips: map[string]string{"small.TestC/sub": "why"},
			},
			{
				id: "5.10-arm64", pattern: "linux-image-5.10.*", cpus: 2, append: "lockdown=confidentiality",
				less: none, skips: none, fails: map[string]string{"BTF": "too old"}, refused: "it is too old", no32: "it cannot",
			},
		},
	}
	got := parsed(t)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(table{}, suite{}, kernel{})); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if a, b := got.kernels[0].arch(), got.kernels[1].arch(); a != "amd64" || b != "arm64" {
		t.Errorf("architectures %s and %s", a, b)
	}
}

func TestABadTableIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ from, to, want string }{
		{"check BTF", "check", `line 2: "check" needs an argument`},
		{"check BTF", " check BTF", "line 2: check must not be indented"},
		{"check BTF", "step BTF", `line 2: unknown word "step"`},
		{"check BTF", " less BTF: x", "line 2: less belongs to a kernel"},
		{"check BTF", " without TestA: x", "line 2: without belongs to a suite"},
		{"less mm_lock_seq: numbered", "less mm_lock_seq numbered", `line 7: "mm_lock_seq numbered since 6.4": want a name, a colon and the reason`},
		{"less mm_lock_seq", "less mm_lock", `kernel 6.1-amd64: "mm_lock" is no check`},
		{"skip small.", "skip large.", `kernel 6.1-amd64: the test "large.TestC/sub" is of no suite`},
		{"TestA|TestB", "TestA|TestA", "line 5: TestA is there twice"},
		{"cpus 2", "cpus 0", `line 13: cpus "0": want a number`},
		{"5.10-arm64", "6.1-amd64", "line 9: kernel 6.1-amd64 is there twice"},
		{"kernel all", "kernel some", `line 9: want "kernel required|all ID PACKAGE"`},
		{"linux-image-5.10.*", "[", `line 9: package "[": syntax error in pattern`},
		{"refused it is too old", "cpus 3", "kernel 5.10-arm64: what fails and what is refused go together"},
		{"refused", "allowed", `line 11: unknown word "allowed"`},
	} {
		_, err := parseTable(strings.NewReader(strings.Replace(smallTable, tt.from, tt.to, 1)))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q for %q: got %v, want %s", tt.to, tt.from, err, tt.want)
		}
	}
	if _, err := parseTable(strings.NewReader("check BTF\n")); err == nil {
		t.Error("a table without kernels is taken")
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(smallTable)
	f.Add(tableText)
	f.Fuzz(func(_ *testing.T, text string) {
		tab, err := parseTable(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, k := range tab.kernels {
			tab.plan(k)
			tab.judge(k, parseConsole(text))
		}
	})
}

func TestTheNewestPackageIsFirst(t *testing.T) {
	t.Parallel()
	names, err := packageNames(strings.NewReader("Package: linux-6.1.0-9-x\nVersion: 1\nArchitecture: amd64\n\n" +
		"Package: linux-6.1.0-56-x\nArchitecture: amd64\n\nPackage: linux-6.1.0-56-x\nArchitecture: amd64\n\n" +
		"Package: linux-6.1.0-0.deb11.52-x\nArchitecture: amd64\n\n" +
		"Package: linux-6.1.0-57-x\nArchitecture: arm64\n\nPackage: linux-6.1.0-58-y\nArchitecture: amd64\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"linux-6.1.0-56-x", "linux-6.1.0-9-x", "linux-6.1.0-0.deb11.52-x"}
	if diff := cmp.Diff(want, newest(names, "linux-6.1.*-x", "amd64")); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if got := newest(names, "linux-6.2.*", "amd64"); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestAKernelOfThisWeekIsTakenFromTheCache(t *testing.T) {
	t.Parallel()
	c := &cache{dir: t.TempDir(), log: t.Output(), failed: errors.New("no network")}
	k := &kernel{id: "6.1-amd64", pattern: "linux-image-6.1.*"}
	if _, err := c.get(t.Context(), k); !errors.Is(err, c.failed) {
		t.Errorf("an empty cache: %v", err)
	}
	path := filepath.Join(c.dir, "linux-image-6.1.x", "linux-image-6.1.0-1")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := image{path, "linux-image-6.1.0-1"}
	for _, age := range []time.Duration{0, 30 * 24 * time.Hour} { // the old one: better than none
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if got, err := c.get(t.Context(), k); got != want || err != nil {
			t.Errorf("%s old: got %v, %v", age, got, err)
		}
	}
	c.failed, c.packages = nil, []string{"linux-image-5.10.0-1:amd64"}
	if _, err := c.fetch(t.Context(), k, filepath.Dir(path)); !errors.Is(err, errNoPackage) {
		t.Errorf("a package that is not there: %v", err)
	}
}

func TestOfAGuestEverythingIsEmulated(t *testing.T) {
	t.Parallel()
	for _, k := range parsed(t).kernels {
		argv := strings.Join(qemu(k, "/k", "/i"), " ")
		for _, want := range []string{"-accel tcg", "-kernel /k", "-initrd /i", fmt.Sprintf("-smp %d", k.cpus), k.append} {
			if !strings.Contains(argv, want) {
				t.Errorf("%s: %q lacks %q", k.id, argv, want)
			}
		}
	}
}

// good is the console of a guest in which all is as smallTable wants it.
const good = `[    0.04] a message of the kernel's

@ begin doctor
kernel        6.1.0-56-cloud-amd64 x86_64
user          uid 0

ok    BTF                        the kernel's types
less  mm_lock_seq                proving that no change was missed
      not supported

@ end doctor 0 1.5

@ begin small
--- PASS: TestD (0.00s)
--- PASS: TestC (0.00s)
    --- SKIP: TestC/sub (0.00s)
PASS

@ end small 0 2.0

@ begin trace
did mmap 7000 12288
did munmap 8000 4096
did mprotect 7000 4096
did mmap 20000 4096
did mmap 30000 4096
did mremap 30000 4096
did mmap 40000 4096
did brk 50000 8192
did brk 51000 4096
did stack 7f00000 4096
child 12 7
7000-8000 r--p 00000000 00:00 0 
30000-31000 rw-p 00000000 00:00 0 
31000-32000 rw-p 00000000 00:00 0 
50000-51000 rw-p 00000000 00:00 0                                  [heap]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]

@ end trace 0 3.0

@ begin events
{"event":"mmap","pid":11,"address":"0x7000","size":12288}
{"event":"munmap","pid":11,"address":"0x8000","size":4096}
{"event":"mprotect","pid":11,"address":"0x7000","size":4096}
{"event":"mmap","pid":11,"address":"0x20000","size":4096}
{"event":"mmap","pid":11,"address":"0x30000","size":4096}
{"event":"mremap","pid":11,"address":"0x30000","size":4096}
{"event":"mmap","pid":11,"address":"0x40000","size":4096}
{"event":"brk","pid":11,"address":"0x50000","size":8192}
{"event":"brk","pid":11,"address":"0x51000","size":4096}
{"event":"stack","pid":11,"address":"0x7f00000","size":4096}
{"event":"fork","pid":11,"child":12}
{"event":"munmap","pid":12,"address":"0x9000","size":4096}
{"event":"exec","pid":12}
{"event":"exit","pid":12,"status":7}
{"event":"exit","pid":11,"status":0}
{"event":"table","pid":11,"picture":"exact","regions":[{"address":"0x7000","size":4096,"mode":"r--p"},{"address":"0x30000","size":8192,"mode":"rw-p"},{"address":"0x50000","size":4096,"mode":"rw-p","mapping":"[heap]"}]}
{"event":"summary","ordering":"time","calls":9,"audits":2}

@ end events 0 0.1

@ begin grow

@ end grow 0 7.0

@ begin grow-longer

@ end grow-longer 0 0.0

@ begin growth
{"event":"finding","verdict":"leaks","from":"main.forget (main.go:1)"}
{"event":"finding","verdict":"churns","from":"main.borrow (main.go:1)"}

@ end growth 0 0.1

@ begin trace32
08048000-08049000 r-xp 00000000 00:03 9                                  /bin/story32
{"event":"table","pid":9,"picture":"exact","regions":[{"address":"0x8048000","size":4096,"mode":"r-xp","mapping":"/bin/story32"}]}
{"event":"summary","ordering":"time","other":21,"audits":1}

@ end trace32 0 1.0

@ tainted 0
@ done
`

func TestAGoodRunIsJudgedSo(t *testing.T) {
	t.Parallel()
	tab := parsed(t)
	want := &verdict{
		version: "6.1.0-56-cloud-amd64 x86_64", less: []string{"mm_lock_seq"}, passed: 2, skipped: 1,
		story: "exact, by time", growth: "leaks: main.forget",
	}
	got := tab.judge(tab.kernels[0], parseConsole(good))
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

// A kernel that skips programs may make trace approximate, if it says so.
func TestWhatIsSkippedMustBeTold(t *testing.T) {
	t.Parallel()
	wrong := strings.NewReplacer(`"audits":2`, `"audits":2,"skipped":3`, `"did mmap`, `"did mmap2`).Replace(good)
	told := strings.Replace(wrong, `"picture":"exact"`, `"picture":"resynced"`, 1)
	for _, tt := range []struct {
		preempts, console, story string
		faults                   bool
	}{
		{"it does", told, "resynced; 3 skipped", false},
		{"", told, "", true},
		{"it does", wrong, "exact, by time", false},
	} {
		tab := parsed(t)
		tab.kernels[0].preempts = tt.preempts
		got := tab.judge(tab.kernels[0], parseConsole(tt.console))
		if got.story != tt.story || len(got.wrong) > 0 != tt.faults {
			t.Errorf("preempts %q: story %q, wrong %q", tt.preempts, got.story, got.wrong)
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	tab := parsed(t)
	for _, tt := range []struct{ from, to, want string }{
		{"@ tainted 0", "@ tainted 512", "the kernel is tainted: 512"},
		{"@ tainted 0\n", "", "the kernel is tainted: "},
		{"@ done", "", "the machine was not done"},
		{"@ end small 0 2.0", "", "small did not end"},
		{"@ begin events", "", "events did not begin"},
		{"@ end small 0 2.0", "@ end small 1 2.0", "the tests of tracer/small ended with 1"},
		{"--- PASS: TestD", "--- FAIL: TestD", "small.TestD failed"},
		{"--- PASS: TestC", "=== RUN   TestC\n    x_test.go:7: why\n--- FAIL: TestC", "small.TestC failed\n    x_test.go:7: why"},
		{"--- PASS: TestD", "--- SKIP: TestD", "small.TestD was skipped, which the table does not allow"},
		{"--- SKIP: TestC/sub", "--- PASS: TestC/sub", "gained: small.TestC/sub was not skipped, as the table says"},
		{"--- PASS: TestD (0.00s)\n--- PASS: TestC (0.00s)", "", "no test was run"},
		{"ok    BTF ", "less  BTF ", "lost: doctor says less to BTF, not ok"},
		{"ok    BTF ", "ok    BFT ", "doctor says nothing of BTF"},
		{"less  mm_lock", "ok    mm_lock", "gained: doctor finds mm_lock_seq, which the table calls missing"},
		{"      not supported", "less  new                        thing", "doctor says less to new, which the table does not have"},
		{"@ end doctor 0", "@ end doctor 4", "doctor ended with 4, not 0"},
		{"@ end trace32 0", "@ end trace32 5", "trace of a 32-bit program ended with 5"},
		{`"other":21`, `"other":2`, "of a 32-bit program 0 calls were decoded, and 2 sections seen"},
		{`"mapping":"/bin/story32"`, `"mapping":"/bin/other"`, "the maps have 8048000-8049000 r-xp /bin/story32, the table 8048000-8049000 r-xp /bin/other"},
		{`"pid":9,"picture":"exact"`, `"pid":9,"picture":"stale"`, "the picture of a 32-bit program is stale"},
		{`"other":21,"audits":1}`, `"other":21,"audits":1`, `what trace of a 32-bit program printed: unexpected end of JSON input in "{\"event\":\"summary\",\"ordering\":\"time\",\"other\":21,\"audits\":1"`},
		{"@ end trace 0", "@ end trace 5", "trace ended with 5"},
		{`"event":"brk","pid":11,"address":"0x51000"`, `"event":"brk","pid":11,"address":"0x52000"`, "not seen: brk of 4096 bytes at 0x51000"},
		{`"event":"exec","pid":12`, `"event":"exec","pid":13`, "not seen: exec of the child"},
		{`"pid":12,"status":7`, `"pid":12,"status":8`, "not seen: exit of the child"},
		{"child 12 7", "child 12 127", "the story's child ended with 127"},
		{"child 12 7", "child 13 7", "the story's child 13 is in no fork"},
		{"did stack 7f00000 4096\n", "", "the story told of 9 calls"},
		{`"picture":"exact"`, `"picture":"approximate"`, "the picture is approximate"},
		{`"address":"0x7000","size":4096,"mode":"r--p"`, `"address":"0x7000","size":4096,"mode":"rw-p"`, "the maps have 7000-8000 r--p , the table 7000-8000 rw-p "},
		{`,{"address":"0x50000","size":4096,"mode":"rw-p","mapping":"[heap]"}`, "", "the maps have 3 rows, the table 2"},
		{`"audits":2`, `"audits":2,"lost":1`, "missed 0, lost 1, violations 0, drift 0, audits 2"},
		{`"audits":2`, `"audits":0`, "missed 0, lost 0, violations 0, drift 0, audits 0"},
		{`"ordering":"time"`, `"ordering":"section"`, "ordered by section, not by time"},
		{`{"event":"summary"`, `{"event":"sum"`, "what trace printed: 17 lines and no summary"},
		{"@ end grow 0", "@ end grow 1", "grow ended with 1"},
		{"main.forget (", "main.leak (", "an innocent is called a leak: "},
		{"main.forget (", "main.leak (", "grow names main.forget 0 times"},
		{`"verdict":"leaks"`, `"verdict":"steady"`, "grow names main.forget 0 times"},
	} {
		text := strings.Replace(good, tt.from, tt.to, 1)
		if text == good {
			t.Errorf("%q is not there", tt.from)
		}
		if got := tab.judge(tab.kernels[0], parseConsole(text)).wrong; !slices.Contains(got, tt.want) {
			t.Errorf("%q for %q: got %q, want %q", tt.to, tt.from, got, tt.want)
		}
	}
}

// refusal is the console of a guest that cannot be traced, as it should be.
const refusal = `
@ begin doctor
FAIL  BTF                        the kernel's types
ok    mm_lock_seq                proving
tracing does not work here; 'maptrace pmap' does, for your own processes
@ end doctor 4 1.0
@ begin trace
maptrace: tracepoint mmap_lock_released: not supported
@ end trace 4 0.1
@ begin pmap
total kB 1000
@ end pmap 0 0.1
@ tainted 0
@ done
`

func TestARefusalMustBeClearAndPmapWork(t *testing.T) {
	t.Parallel()
	tab := parsed(t)
	for _, tt := range []struct{ from, to, want string }{
		{"@", "@", ""},
		{"@ end doctor 4", "@ end doctor 0", "doctor ended with 0, not 4"},
		{"@ end trace 4", "@ end trace 0", `trace ended with 0 and said`},
		{"maptrace: tracepoint", "tracepoint", `trace ended with 4 and said`},
		{"@ end pmap 0", "@ end pmap 1", "pmap ended with 1 and printed 1 lines"},
		{"total", "", "pmap ended with 0 and printed 1 lines"},
	} {
		got := tab.judge(tab.kernels[1], parseConsole(strings.Replace(refusal, tt.from, tt.to, 1))).wrong
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)) {
			t.Errorf("%q for %q: got %q, want %q", tt.to, tt.from, got, tt.want)
		}
	}
}

func TestWhatRunsInAGuest(t *testing.T) {
	t.Parallel()
	tab := parsed(t)
	var names [2][]string
	for i, k := range tab.kernels {
		for _, s := range tab.plan(k) {
			names[i] = append(names[i], s.Name)
			if s.Name == "small" && !slices.Contains(s.Argv, "-test.skip=^(TestA|TestB)$") {
				t.Errorf("%q", s.Argv)
			}
		}
	}
	want := [2][]string{{"doctor", "small", "trace32", "trace", "events", "grow", "grow-longer", "growth"}, {"doctor", "trace", "pmap"}}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	initrd, err := (&payload{files: map[string][]byte{"src/a/b/c": []byte("x")}}).initrd(tab.plan(tab.kernels[1]))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x00\x00plan.json\x00", "src/a\x00", "src/a/b\x00", "src/a/b/c\x00", "bin/true\x00"} {
		if want = strings.TrimLeft(want, "\x00"); !bytes.Contains(initrd, []byte(want)) {
			t.Errorf("the archive lacks %q", want)
		}
	}
}

func TestKernelsAreChosenByNameOrByKind(t *testing.T) {
	t.Parallel()
	tab := parsed(t)
	for _, tt := range []struct {
		o    options
		want string
	}{
		{options{}, "[6.1-amd64]"},
		{options{all: true}, "[6.1-amd64 5.10-arm64]"},
		{options{kernels: "5.10-arm64"}, "[5.10-arm64]"},
		{options{kernels: "4.4-amd64"}, `-kernel "4.4-amd64": the table does not have it`},
		{options{command: "maptrace doctor"}, "-run needs -kernel"},
	} {
		kernels, err := choose(tab, &tt.o)
		var ids []string
		for _, k := range kernels {
			ids = append(ids, k.id)
		}
		if got := fmt.Sprint(ids); err != nil && err.Error() != tt.want || err == nil && got != tt.want {
			t.Errorf("%+v: got %s, %v, want %s", tt.o, got, err, tt.want)
		}
	}
}

func TestTheReportNamesFailuresAndWhatIsNotThere(t *testing.T) {
	t.Parallel()
	tab := parsed(t)
	var out bytes.Buffer
	m := &matrix{options: options{cache: "/cache", jobs: 2}, table: tab, out: &out}
	good := &outcome{kernel: tab.kernels[0], verdict: &verdict{
		version: "6.1.0 x86_64", less: []string{"mm_lock_seq"}, passed: 2, skipped: 1, story: "exact", growth: "leaks",
	}, seconds: 3, cpu: 2}
	gone := &outcome{kernel: tab.kernels[1], verdict: &verdict{}, absent: errNoPackage}
	if err := m.report([]*outcome{good, gone}, time.Second); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"| 6.1-amd64 | 6.1.0 | all but mm_lock_seq | 2 passed, 1 skipped | exact | leaks | 3 | 2 |\n",
		"| 5.10-arm64 | not tried: the archive has no such package |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
	out.Reset()
	bad := &outcome{kernel: tab.kernels[1], verdict: &verdict{fails: []string{"BTF"}, wrong: []string{"it burns"}}, console: "a\nb\n"}
	if err := m.report([]*outcome{good, bad}, time.Second); err == nil || err.Error() != "1 of 2 kernels failed" {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"no tracing: lacks BTF", "FAILED", "5.10-arm64 failed:\n  it burns\n", "/cache/5.10-arm64.console", "a\nb\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
}
