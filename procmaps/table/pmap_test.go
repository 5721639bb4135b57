package table

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

const sample = `00400000-00402000 r-xp 00001000 08:01 7                                  /usr/bin/a b
Size:                  8 kB
KernelPageSize:        4 kB
Rss:                   8 kB
Shared_Dirty:          1 kB
Private_Dirty:         2 kB
THPeligible:           0
VmFlags: rd ex mr mw me 
00600000-40600000 rw-p 00000000 00:00 0                                  [heap]
Size:            1048576 kB
KernelPageSize:        4 kB
Rss:               12000 kB
Shared_Dirty:          0 kB
Private_Dirty:     12000 kB
THPeligible:           1
VmFlags: rd wr mr mw me ac 
7f0000000000-7f0000001000 rw-s 00000000 00:01 98346                      /SYSV00000000 (deleted)
Size:                  4 kB
KernelPageSize:        4 kB
Rss:                   0 kB
Shared_Dirty:          0 kB
Private_Dirty:         0 kB
THPeligible:           0
VmFlags: rd wr sh mr mw me ms sd 
7f0000002000-7f0000003000 rw-p 00000000 00:00 0                          [anon:a/b]
Size:                  4 kB
KernelPageSize:        4 kB
Rss:                   4 kB
Shared_Dirty:          0 kB
Private_Dirty:         4 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac 
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
Size:                132 kB
KernelPageSize:        4 kB
Rss:                  12 kB
Shared_Dirty:          0 kB
Private_Dirty:        12 kB
THPeligible:           0
VmFlags: rd wr mr mw me gd ac 
`

func sampleProcess(t *testing.T) *Process {
	t.Helper()
	s, err := procmaps.ParseSmaps([]byte(sample), "sample")
	if err != nil {
		t.Fatal(err)
	}
	return &Process{
		PID: 42, Command: "a b \x1b[1m\xff", StartStack: 0x7ffd00020f00,
		ShmDevice: procmaps.Device{Minor: 1}, Keys: s.Keys, Rows: SmapsRows(s),
	}
}

func TestPrinter(t *testing.T) {
	// A tilde stands for a space at the end of a line.
	tests := []struct {
		name string
		opt  Options
		want string
	}{
		{name: "the default", want: `42:   a b ?[1m?
0000000000400000      8K r-x-- a b
0000000000600000 1048576K rw---   [ anon ]
00007f0000000000      4K rw-s-   [ shmid=0x1802a ]
00007f0000002000      4K rw---   [ anon ]
00007ffd00000000    132K rw---   [ stack ]
 total          1048724K
`},
		{name: "extended", opt: Options{Layout: LayoutExtended, Compat: Compat402, CLocale: true}, want: `42:   a b .[1m?
Address           Kbytes     RSS   Dirty Mode  Mapping
0000000000400000       8       8       3 r-x-- a b
0000000000600000 1048576   12000   12000 rw---   [ anon ]
00007f0000000000       4       0       0 rw-s-   [ shmid=0x1802a ]
00007f0000002000       4       4       4 rw---   [ anon ]
00007ffd00000000     132      12      12 rw---   [ stack ]
---------------- ------- ------- -------~
total kB         1048724   12024   12019
`},
		{name: "the totals of -x are those of the rows shown", opt: Options{
			Layout: LayoutExtended, Escape: true, ShowPath: true, KernelNames: true,
			Limit: &Limit{0x7f0000000fff, 0x7f0000002000},
		}, want: `42:   a b \x1b[1m\xff
Address           Kbytes     RSS   Dirty Mode  Mapping
00007f0000000000       4       0       0 rw-s-   [ shmid=0x1802a ]
00007f0000002000       4       4       4 rw--- [anon:a/b]
---------------- ------- ------- -------~
total kB               8       4       4
`},
		{name: "device", opt: Options{Layout: LayoutDevice, ShowPath: true}, want: `42:   a b ?[1m?
Address           Kbytes Mode  Offset           Device    Mapping
0000000000400000       8 r-x-- 0000000000001000 008:00001 /usr/bin/a b
0000000000600000 1048576 rw--- 0000000000000000 000:00000   [ anon ]
00007f0000000000       4 rw-s- 0000000000000000 000:00001   [ shmid=0x1802a ]
00007f0000002000       4 rw--- 0000000000000000 000:00000   [ anon ]
00007ffd00000000     132 rw--- 0000000000000000 000:00000   [ stack ]
mapped: 1048724K    writeable/private: 1048712K    shared: 4K
`},
		{name: "quiet and with the kernel's names", opt: Options{Layout: LayoutDevice, Quiet: true, KernelNames: true}, want: `42:   a b ?[1m?
0000000000400000       8 r-x-- 0000000000001000 008:00001 a b
0000000000600000 1048576 rw--- 0000000000000000 000:00000 [heap]
00007f0000000000       4 rw-s- 0000000000000000 000:00001   [ shmid=0x1802a ]
00007f0000002000       4 rw--- 0000000000000000 000:00000 [anon:a/b]
00007ffd00000000     132 rw--- 0000000000000000 000:00000 [stack]
`},
		{name: "details", opt: Options{Layout: LayoutDetails}, want: `42:   a b ?[1m?
     Address Perm   Offset Device Inode    Size   Rss THPeligible Mapping
    00400000 r-xp 00001000  08:01     7       8     8           0 a b
    00600000 rw-p 00000000  00:00     0 1048576 12000           1 [heap]
7f0000000000 rw-s 00000000  00:01 98346       4     0           0 SYSV00000000 (deleted)
7f0000002000 rw-p 00000000  00:00     0       4     4           0 [anon:a/b]
7ffd00000000 rw-p 00000000  00:00     0     132    12           0 [stack]
                                        ======= ===== ===========~
                                        1048724 12024           1 KB~
`},
		{name: "the fields asked for", opt: Options{Layout: LayoutFields, Fields: map[string]bool{
			"Rss": true, "Perm": true, "VmFlags": true, "Nothing": true,
		}}, want: `42:   a b ?[1m?
     Address Perm   Rss                 VmFlags~
    00400000 r-xp     8          rd ex mr mw me
    00600000 rw-p 12000       rd wr mr mw me ac
7f0000000000 rw-s     0 rd wr sh mr mw me ms sd
7f0000002000 rw-p     4       rd wr mr mw me ac
7ffd00000000 rw-p    12    rd wr mr mw me gd ac
                  =====~
                  12024 KB~
`},
		{name: "no fields but the address", opt: Options{Layout: LayoutFields, Limit: &Limit{0, 0x400000}}, want: `42:   a b ?[1m?
     Address~
    00400000
`},
		{name: "sizes for people", opt: Options{Layout: LayoutExtended, Human: true}, want: `42:   a b ?[1m?
Address             Size     RSS   Dirty Mode  Mapping
0000000000400000      8K      8K      3K r-x-- a b
0000000000600000    1.0G     12M     12M rw---   [ anon ]
00007f0000000000      4K      0K      0K rw-s-   [ shmid=0x1802a ]
00007f0000002000      4K      4K      4K rw---   [ anon ]
00007ffd00000000    132K     12K     12K rw---   [ stack ]
---------------- ------- ------- -------~
total               1.0G     12M     12M
`},
		{name: "all details of some rows, quiet", opt: Options{Layout: LayoutAll, Quiet: true, Limit: &Limit{0x7f0000000000, ^uint64(0)}}, want: `42:   a b ?[1m?
7f0000000000 rw-s 00000000 00:01 98346   4 4  0 0  0 0 rd wr sh mr mw me ms sd SYSV00000000 (deleted)
7f0000002000 rw-p 00000000 00:00     0   4 4  4 0  4 0       rd wr mr mw me ac [anon:a/b]
7ffd00000000 rw-p 00000000 00:00     0 132 4 12 0 12 0    rd wr mr mw me gd ac [stack]
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := NewPrinter(&out, tt.opt).print(sampleProcess(t)); err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(tt.want, "~\n", " \n")
			if diff := cmp.Diff(out.String(), want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

func TestAProcessWithoutMappings(t *testing.T) {
	for layout, want := range map[Layout]string{
		LayoutDefault:  "2:   [kthreadd]\n total                0K\n",
		LayoutExtended: "2:   [kthreadd]\nAddress           Kbytes     RSS   Dirty Mode  Mapping\n---------------- ------- ------- ------- \ntotal kB               0       0       0\n",
		LayoutDevice:   "2:   [kthreadd]\nAddress           Kbytes Mode  Offset           Device    Mapping\nmapped: 0K    writeable/private: 0K    shared: 0K\n",
		LayoutDetails:  "2:   [kthreadd]\n",
	} {
		var out strings.Builder
		if err := NewPrinter(&out, Options{Layout: layout}).print(&Process{PID: 2, Command: CommandLine(nil, "kthreadd", false)}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(out.String(), want); diff != "" {
			t.Errorf("layout %d (-got +want):\n%s", layout, diff)
		}
	}
}

func TestSeveralProcesses(t *testing.T) {
	print := func(l Layout, procs ...*Process) string {
		var out strings.Builder
		p := NewPrinter(&out, Options{Layout: l})
		for _, proc := range procs {
			if err := p.print(proc); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	small := &Process{PID: 1, Command: "small", Rows: MapsRows([]procmaps.Mapping{{Range: procmaps.Range{Start: 0x1000, End: 0x2000}}})}
	for _, l := range []Layout{LayoutDefault, LayoutExtended, LayoutDevice, LayoutDetails, LayoutAll} {
		one := print(l, sampleProcess(t))
		if two := print(l, sampleProcess(t), sampleProcess(t)); two != one+one {
			t.Errorf("layout %d: totals or widths carry over:\n%s", l, two)
		}
		// The numbers of -X, and their widths, are those of the first process.
		got, want := print(l, sampleProcess(t), small), one+print(l, small)
		if l == LayoutDetails {
			want = one + `1:   small
 Address Perm   Offset Device Inode    Size   Rss THPeligible Mapping
00001000 ---p 00000000  00:00     0                           ` + `
                                    ======= ===== =========== ` + `
                                          0     0           0 KB ` + `
`
		}
		if l != LayoutAll && got != want {
			t.Errorf("layout %d: %s", l, cmp.Diff(got, want))
		}
	}
}

func TestAKernelThreadAfterAProcess(t *testing.T) {
	print := func(opt Options) string {
		var out strings.Builder
		p := NewPrinter(&out, opt)
		for _, proc := range []*Process{{PID: 2, Command: "[kthreadd]"}, sampleProcess(t), {PID: 2, Command: "[kthreadd]"}} {
			if err := p.print(proc); err != nil {
				t.Fatal(err)
			}
		}
		return strings.ReplaceAll(out.String()[strings.LastIndex(out.String(), "2:   "):], " \n", "~\n")
	}
	for want, opt := range map[string]Options{
		"2:   [kthreadd]\n     ======= ===== ===========~\n           0     0           0 KB~\n": {Layout: LayoutDetails},
		"2:   [kthreadd]\n     ======= ===== ===========~\n     1048724 12024           1 KB~\n": {Layout: LayoutDetails, Compat: Compat402},
		"2:   [kthreadd]\n": {Layout: LayoutDetails, Quiet: true},
	} {
		if got := print(opt); got != want {
			t.Errorf("%+v:\n%s", opt, cmp.Diff(got, want))
		}
	}
}

func TestTheTotalsOf402GoOn(t *testing.T) {
	var out strings.Builder
	p := NewPrinter(&out, Options{Layout: LayoutDetails, Compat: Compat402, Limit: &Limit{0, 0x400000}})
	for range 10 {
		if err := p.print(sampleProcess(t)); err != nil {
			t.Fatal(err)
		}
	}
	// The limit does not hold there, and the column fits what the total has grown to.
	const want = "                                        ======== ====== =========== \n                                        10487240 120240          10 KB \n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("got the end %q, want %q", out.String()[out.Len()-len(want):], want)
	}
}

// What was seen of procps 4.0.2 and 4.0.7, in the C locale and in C.UTF-8.
func TestCommandsAreCleanedAsPmapDoes(t *testing.T) {
	tests := []struct{ in, c402, utf402, c407, utf407 string }{
		{"", "?", "?", "-", "-"},
		{"é \x01\t \u0085 \ue000 ok", "?? .. ?? ??? ok", "é ?? \u0085 \ue000 ok", "?? ?? ?? ??? ok", "é ?? ?? ??? ok"},
		{"é \xc0\xaf é \x01", "?? ?? ?? .", "é ?? ?? .", "?? ?? ?? ?", "é ?? é ?"},
		{"é \xed\xa0\x80 é \x01", "?? ??? ?? .", "é \xed\xa0\x80 é ?", "?? ??? ?? ?", "é ??? é ?"},
		{"é \xf5\x80\x80\x80 é \x01", "?? ???? ?? .", "é ???? ?? .", "?? ???? ?? ?", "é ???? é ?"},
		{"\xc3A é \x01", "?A ?? .", "\xc3A é ?", "?A ?? ?", "?A é ?"},
		{"\xe2\x01\x02 é \x01", "?.. ?? .", "\xe2\x01\x02 é ?", "??? ?? ?", "??? é ?"},
		{"x é \x01\xf0\x9f\x92", "x ?? .???", "x é ????", "x ?? ????", "x é ????"},
		{"\u200b\u202e \u0378 \U000f0000", "?????? ?? ????", "\u200b\u202e \u0378 \U000f0000", "?????? ?? ????", "\u200b\u202e \u0378 ????"},
	}
	for _, tt := range tests {
		for want, opt := range map[*string]Options{
			&tt.c402: {Compat: Compat402, CLocale: true}, &tt.utf402: {Compat: Compat402},
			&tt.c407: {CLocale: true}, &tt.utf407: {},
		} {
			var out strings.Builder
			if err := NewPrinter(&out, opt).PrintHead(&Process{PID: 1, Command: tt.in}); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSuffix(strings.TrimPrefix(out.String(), "1:   "), "\n"); got != *want {
				t.Errorf("%q with %+v is %q, want %q", tt.in, opt, got, *want)
			}
		}
	}
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name, args string
		zombie     bool
		want       string
	}{
		{"arguments", "a\x00b c\x00", false, "a b c"},
		{"empty arguments at the end are lost", "a\x00\x00b\x00\x00\x00", false, "a  b"},
		{"spaces at the end stay", "a\x00b  \x00\n\x00\x00", false, "a b    "},
		{"newlines are spaces, other bytes stay", "a\nb\t\xff\x00", false, "a b\t\xff"},
		{"no arguments", "", false, "[comm]"},
		{"only empty arguments", "\x00\x00", false, ""},
		{"a zombie", "", true, "[comm] <defunct>"},
		{"no more than fits pmap's buffer", strings.Repeat("x", 200<<10), false, strings.Repeat("x", 128<<10-1)},
	}
	for _, tt := range tests {
		if got := CommandLine([]byte(tt.args), "comm", tt.zombie); got != tt.want {
			t.Errorf("%s: %.40q, want %.40q", tt.name, got, tt.want)
		}
	}
}

func TestParseLimit(t *testing.T) {
	const end = ^uint64(0)
	for in, want := range map[string]Limit{
		"": {0, end}, ",": {0, end}, "10": {0x10, 0x10}, "0x10": {0x10, 0x10}, "10,": {0x10, end},
		",20": {0, 0x20}, "10,0x20": {0x10, 0x20}, "ffffffffffffffff": {end, end},
		"-1": {end, end}, "+1": {1, 1}, " \t1": {1, 1}, "10000000000000000": {end, end}, "0XaF,B": {0xaf, 0xb},
	} {
		if got, err := ParseLimit(in); got != want || err != nil {
			t.Errorf("ParseLimit(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"zz", "1,zz", "1,2,3", "1 ", "- 1", "--1", "0x", "0xg", " ", ", "} {
		if got, err := ParseLimit(in); err == nil {
			t.Errorf("ParseLimit(%q) = %+v", in, got)
		}
	}
}

func TestNames(t *testing.T) {
	shm := procmaps.Device{Minor: 1}
	tests := []struct {
		name string
		m    procmaps.Mapping
		opt  Options
		want string
	}{
		{"a path that ends in a slash", procmaps.Mapping{Name: "/"}, Options{}, "/"},
		{"a deleted memfd", procmaps.Mapping{Name: "/memfd:x (deleted)", Dev: shm}, Options{}, "memfd:x (deleted)"},
		{"a path from its first slash", procmaps.Mapping{Name: "(unreachable)/a/b"}, Options{ShowPath: true}, "/a/b"},
		{"an anonymous inode", procmaps.Mapping{Name: "anon_inode:[perf_event]"}, Options{}, "  [ anon ]"},
		{"an anonymous inode by the kernel's name", procmaps.Mapping{Name: "anon_inode:[perf_event]"}, Options{KernelNames: true}, "[perf_event]"},
		{"a file called like a segment elsewhere", procmaps.Mapping{Name: "/SYSV0 (deleted)", Dev: procmaps.Device{Minor: 2}}, Options{}, "SYSV0 (deleted)"},
		{"a tab passes in the newer style", procmaps.Mapping{Name: "/a\tb\xffé"}, Options{}, "a\tb?é"},
		{"a tab passes in the C locale too", procmaps.Mapping{Name: "/a\tb\xffé"}, Options{CLocale: true}, "a\tb???"},
		{"a tab does not pass in the older", procmaps.Mapping{Name: "/a\tb\xffé"}, Options{Compat: Compat402, CLocale: true}, "a?b???"},
		{"escaped", procmaps.Mapping{Name: "/a\tb\xffé"}, Options{Escape: true}, `a\x09b\xffé`},
		{"an escaped name of -X", procmaps.Mapping{Name: "/a\tb"}, Options{Escape: true, Layout: LayoutDetails}, `a\x09b`},
		{"a raw name of -X", procmaps.Mapping{Name: "/a\tb\xff"}, Options{Layout: LayoutDetails}, "a\tb\xff"},
		{"a long name", procmaps.Mapping{Name: "/" + strings.Repeat("d", 2000) + "/" + strings.Repeat("f", 255)}, Options{}, strings.Repeat("f", 255)},
		{"a long name of -X", procmaps.Mapping{Name: "/" + strings.Repeat("d", 2000) + "/f"}, Options{Layout: LayoutDetails}, "f"},
	}
	for _, tt := range tests {
		tt.opt.Quiet = true
		tt.m.Range = procmaps.Range{Start: 0x1000, End: 0x2000}
		var out strings.Builder
		proc := &Process{ShmDevice: shm, Rows: MapsRows([]procmaps.Mapping{tt.m})}
		if err := NewPrinter(&out, tt.opt).PrintTable(proc); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSuffix(out.String(), "\n"); !strings.HasSuffix(got, " "+tt.want) || strings.Count(got, "\n") != 0 {
			t.Errorf("%s: row %q, want the name %q", tt.name, got, tt.want)
		}
	}
}

func TestDescribeAndLoad(t *testing.T) {
	root, err := procmaps.NewFS(filepath.Join("..", "testdata", "proc"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := root.Process(103)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	proc, err := Describe(p)
	if err != nil {
		t.Fatal(err)
	}
	if proc.PID != 103 || proc.Command != "/usr/bin/python3 /tmp/odd.py an arg" || proc.StartStack != 140727971274608 {
		t.Errorf("got %+v", proc)
	}
	for _, l := range []Layout{LayoutDefault, LayoutExtended} {
		if err := proc.Load(p, l); err != nil {
			t.Fatal(err)
		}
		n := 0
		for r := range proc.Rows {
			if (r.Values != nil) != l.NeedsSmaps() {
				t.Errorf("layout %d: values are %v", l, r.Values)
			}
			n++
		}
		if n != 30 {
			t.Errorf("layout %d: %d rows, want 30", l, n)
		}
	}
}

func TestPackedRowsPrintAsRowsDo(t *testing.T) {
	root, err := procmaps.NewFS(filepath.Join("..", "testdata", "proc"))
	if err != nil {
		t.Fatal(err)
	}
	pids, err := root.Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		p, err := root.Process(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for _, l := range []Layout{LayoutDefault, LayoutExtended, LayoutDevice, LayoutDetails, LayoutAll} {
			table := func(load func(*Process, *procmaps.Process, Layout) error) string {
				proc := &Process{PID: pid}
				if err := load(proc, p, l); err != nil {
					t.Fatal(err)
				}
				var s strings.Builder
				if err := NewPrinter(&s, Options{Layout: l}).print(proc); err != nil {
					t.Fatal(err)
				}
				return s.String()
			}
			if diff := cmp.Diff(table((*Process).LoadPacked), table((*Process).Load)); diff != "" {
				t.Errorf("process %d, layout %d (-packed +rows):\n%s", pid, l, diff)
			}
		}
	}
}

// Rows of one file need not have the same keys, and the kernel prints ?? for a flag
// of a mapping that it has no letters for. Of the former pmap makes an error, or
// the number of another row; the flags it cuts before the first ??.
func TestRowsWithOtherKeysAndUnknownFlags(t *testing.T) {
	dir := t.TempDir()
	const smaps = `00400000-00401000 r-xp 00000000 08:01 7                                  /x
Size:                  4 kB
Rss:                   4 kB
VmFlags: rd ex ?? mr 
00500000-00502000 rw-p 00000000 00:00 0 
Size:                  8 kB
FromTheFuture:         5 kB
Rss:                   0 kB
ProtectionKey:         3
VmFlags: ?? ?? 
00600000-00601000 ---p 00000000 00:00 0 
Size:                  4 kB
FromTheFuture:         1 kB
VmFlags: 
`
	maps := regexp.MustCompile(`(?m)^[A-Z].*\n`).ReplaceAllString(smaps, "")
	for name, text := range map[string]string{"smaps": smaps, "maps": maps} {
		file := filepath.Join(dir, "7", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := procmaps.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := root.Process(7)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for form, load := range map[string]func(*Process, *procmaps.Process, Layout) error{
		"rows": (*Process).Load, "packed rows": (*Process).LoadPacked,
	} {
		proc := &Process{PID: 7, Command: "x"}
		if err := load(proc, p, LayoutAll); err != nil {
			t.Fatal(err)
		}
		for layout, want := range map[Layout]string{
			LayoutDetails: `7:   x
 Address Perm   Offset Device Inode Size Rss FromTheFuture ProtectionKey Mapping
00400000 r-xp 00000000  08:01     7    4   4                             x
00500000 rw-p 00000000  00:00     0    8   0             5             3~
00600000 ---p 00000000  00:00     0    4                 1              ~
                                    ==== === ============= =============~
                                      16   4             6             3 KB~
`,
			LayoutAll: `7:   x
 Address Perm   Offset Device Inode Size Rss FromTheFuture ProtectionKey     VmFlags Mapping
00400000 r-xp 00000000  08:01     7    4   4                             rd ex ?? mr x
00500000 rw-p 00000000  00:00     0    8   0             5             3       ?? ??~
00600000 ---p 00000000  00:00     0    4                 1                          ~
                                    ==== === ============= =============~
                                      16   4             6             3 KB~
`,
		} {
			var out strings.Builder
			if err := NewPrinter(&out, Options{Layout: layout}).print(proc); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(out.String(), strings.ReplaceAll(want, "~\n", " \n")); diff != "" {
				t.Errorf("%s, layout %d (-got +want):\n%s", form, layout, diff)
			}
		}
		columns := slices.DeleteFunc(proc.Columns(), func(c Column[Row]) bool {
			return !slices.Contains([]string{"rss_kb", "fromthefuture_kb", "protectionkey", "vmflags"}, c.Key)
		})
		var objects []string
		text := AppendCSVHeader(nil, columns)
		for r := range proc.Rows {
			objects = append(objects, string(AppendJSON(nil, columns, r)))
			text = AppendCSV(text, columns, r)
		}
		if diff := cmp.Diff(objects, []string{
			`{"rss_kb":4,"vmflags":"rd ex ?? mr"}`,
			`{"rss_kb":0,"fromthefuture_kb":5,"protectionkey":3,"vmflags":"?? ??"}`,
			`{"fromthefuture_kb":1,"vmflags":""}`,
		}); diff != "" {
			t.Errorf("%s, JSON (-got +want):\n%s", form, diff)
		}
		if diff := cmp.Diff(string(text), `rss_kb,fromthefuture_kb,protectionkey,vmflags
4,,,rd ex ?? mr
0,5,3,?? ??
,1,,
`); diff != "" {
			t.Errorf("%s, CSV (-got +want):\n%s", form, diff)
		}
	}
}

func TestPrinterReportsTheWritersError(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	if err := NewPrinter(w, Options{}).print(sampleProcess(t)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
	}
}

func BenchmarkPrinter(b *testing.B) {
	const rows = 60_000
	maps := make([]procmaps.Mapping, rows)
	for i := range maps {
		maps[i].Range = procmaps.Range{Start: uint64(i) << 13, End: uint64(i)<<13 + 4096}
		if i%2 == 0 {
			maps[i].Name = "/usr/lib/x86_64-linux-gnu/libc.so.6"
		}
	}
	proc := &Process{Rows: MapsRows(maps)}
	for name, l := range map[string]Layout{"default": LayoutDefault, "device": LayoutDevice} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := NewPrinter(io.Discard, Options{Layout: l}).print(proc); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}

// print prints the line with the command and then the table.
func (p *Printer) print(proc *Process) error {
	if err := p.PrintHead(proc); err != nil {
		return err
	}
	return p.PrintTable(proc)
}
