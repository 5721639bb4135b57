package procmaps

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// annotate prints the purposes behind the rows, as the tests below write them: a
// question mark means inferred, a number is the thread.
func annotate(rows []Mapping, purposes []Purpose) string {
	var b strings.Builder
	for i := range rows {
		p := purposes[i]
		fmt.Fprintf(&b, "%s => %v", strings.TrimRight(string(rows[i].Append(nil)), " "), p.Role)
		if p.Inferred {
			b.WriteString("?")
		}
		if p.TID != 0 {
			fmt.Fprintf(&b, " %d", p.TID)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// unannotate parses the rows of such text.
func unannotate(t *testing.T, text string) []Mapping {
	t.Helper()
	var maps strings.Builder
	for line := range strings.Lines(text) {
		row, _, ok := strings.Cut(line, " =>")
		if !ok {
			t.Fatalf("no purpose in %q", line)
		}
		row = strings.TrimRight(row, " ")
		if len(strings.Fields(row)) == 5 { // the kernel's space before a name that is not there
			row += " "
		}
		maps.WriteString(row + "\n")
	}
	rows, err := ParseMaps([]byte(maps.String()), "maps")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestInfer(t *testing.T) {
	tests := []struct {
		name    string
		threads []Thread
		text    string
	}{
		{"what the kernel names", nil, `
00400000-00401000 r-xp 00000000 08:01 7                                  /bin/a => file
00401000-00402000 rw-p 00000000 00:00 0 => anon
00500000-00521000 rw-p 00000000 00:00 0                                  [heap] => heap
00600000-00601000 ---p 00000000 00:00 0 => reserved
00700000-00701000 rw-s 00000000 00:01 9                                  /dev/zero (deleted) => shared
00701000-00702000 ---s 00000000 00:01 9                                  /dev/zero (deleted) => shared
00800000-00801000 rw-p 00000000 00:00 0                                  [stack:77] => thread stack 77
00900000-00901000 rw-p 00000000 00:00 0                                  [stack:x] => thread stack
00a00000-00a01000 rw-p 00000000 00:0f 9                                  /anon_hugepage (deleted) => anon
00b00000-00b01000 rw-s 00000000 00:0f 9                                  /anon_hugepage (deleted) => shared
7ffccf7d4000-7ffccf7f5000 rw-p 00000000 00:00 0                          [stack] => stack
7ffccf7f5000-7ffccf7f7000 r-xp 00000000 00:00 0                          [vdso] => special
`},
		{"gaps between the segments of a library", nil, `
7f0000000000-7f0000010000 r-xp 00000000 08:01 7                          /lib/a.so => file
7f0000010000-7f0000200000 ---p 00010000 08:01 7                          /lib/a.so => guard?
7f0000200000-7f0000210000 rw-p 00010000 08:01 7                          /lib/a.so => file
7f0000210000-7f0000220000 ---p 00020000 08:01 7                          /lib/a.so => file
7f0000300000-7f0000310000 rw-p 00010000 08:01 7                          /lib/a.so => file
7f0000310000-7f0000320000 ---p 00010000 08:01 7                          /lib/a.so => file
7f0000320000-7f0000330000 rw-p 00010000 08:01 8                          /lib/b.so => file
`},
		{
			"a C program with three threads",
			[]Thread{{1, "a", 0x7ffccf7f3000}, {2, "a", 0x7f28dfbebeb0}, {3, "a", 0x7f28df3eaeb0}, {4, "a", 0x7f28debe9eb0}},
			`
7f28c8000000-7f28c8021000 rw-p 00000000 00:00 0 => malloc arena?
7f28c8021000-7f28cc000000 ---p 00000000 00:00 0 => malloc arena?
7f28d0000000-7f28d0021000 rw-p 00000000 00:00 0 => malloc arena?
7f28d0021000-7f28d4000000 ---p 00000000 00:00 0 => malloc arena?
7f28de3ea000-7f28de3eb000 ---p 00000000 00:00 0 => guard? 4
7f28de3eb000-7f28debeb000 rw-p 00000000 00:00 0 => thread stack? 4
7f28debeb000-7f28debec000 ---p 00000000 00:00 0 => guard? 3
7f28debec000-7f28df3ec000 rw-p 00000000 00:00 0 => thread stack? 3
7f28df3ec000-7f28df3ed000 ---p 00000000 00:00 0 => guard? 2
7f28df3ed000-7f28dfbed000 rw-p 00000000 00:00 0 => thread stack? 2
7f28dfbed000-7f28dfbf0000 rw-p 00000000 00:00 0 => anon
7ffccf7d4000-7ffccf7f5000 rw-p 00000000 00:00 0                          [stack] => stack
`,
		},
		{"stacks of the usual size without a stack pointer", []Thread{{2, "a", 0}}, `
7f28de3ea000-7f28de3eb000 ---p 00000000 00:00 0 => guard?
7f28de3eb000-7f28debeb000 rw-p 00000000 00:00 0 => thread stack?
7f28debeb000-7f28debec000 ---p 00000000 00:00 0 => guard?
7f28debec000-7f28df3eb000 rw-p 00000000 00:00 0 => thread stack?
7f28df3eb000-7f28df3ec000 ---p 00000000 00:00 0 => reserved
7f28df3ec000-7f28df6ec000 rw-p 00000000 00:00 0 => anon
7f28df800000-7f28e0000000 rw-p 00000000 00:00 0 => anon
`},
		{"stacks as large as one that is known", []Thread{{2, "a", 0x7f28de3ec000}}, `
7f28de3ea000-7f28de3eb000 ---p 00000000 00:00 0 => guard? 2
7f28de3eb000-7f28de4eb000 rw-p 00000000 00:00 0 => thread stack? 2
7f28de4eb000-7f28de4ef000 ---p 00000000 00:00 0 => guard?
7f28de4ef000-7f28de5ef000 rw-p 00000000 00:00 0 => thread stack?
7f28de5ef000-7f28de5f3000 ---p 00000000 00:00 0 => guard?
7f28de5f3000-7f28de6f0000 rw-p 00000000 00:00 0 => thread stack?
7f28de6f0000-7f28de6f1000 ---p 00000000 00:00 0 => guard?
7f28de6f1000-7f28de7f2000 rw-p 00000000 00:00 0 => thread stack?
7f28de7f2000-7f28de7f6000 ---p 00000000 00:00 0 => guard?
7f28de7f6000-7f28de8f2000 rw-p 00000000 00:00 0 => thread stack?
7f28de8f2000-7f28de8f3000 ---p 00000000 00:00 0 => reserved
7f28de8f3000-7f28de8f4000 rw-p 00000000 00:00 0 => anon
`},
		{"a stack without a guard, and one on a large reservation", []Thread{{2, "a", 0x7f28de3eb800}, {3, "a", 0x7f28df000010}}, `
7f28de3eb000-7f28de3ec000 rwxp 00000000 00:00 0 => thread stack? 2
7f28de3ec000-7f28df000000 ---p 00000000 00:00 0 => reserved
7f28df000000-7f28df010000 rw-p 00000000 00:00 0 => thread stack? 3
`},
		{
			"stack pointers where no stack can be",
			[]Thread{{2, "a", 0x00500100}, {3, "a", 0x00600100}, {4, "a", 0x00700100}, {5, "a", 0x10}, {6, "a", 0xfffffffffffffff0}, {7, "a", 0x7f0000000000}},
			`
00500000-00521000 rw-p 00000000 00:00 0                                  [heap] => heap
00600000-00601000 ---p 00000000 00:00 0 => reserved
00700000-00701000 r--p 00000000 00:00 0 => anon
7f0000000000-7f0040001000 rw-p 00000000 00:00 0 => anon
`,
		},
		{
			"Go's heap is no stack and no arena",
			[]Thread{{1, "g", 0x183bf830ea78}, {2, "g", 0x183bf829be68}, {3, "g", 0x183bfc400100}},
			`
183bf8000000-183bf8400000 rw-p 00000000 00:00 0 => anon
183bf8400000-183bfc000000 ---p 00000000 00:00 0 => reserved
183bfc000000-183bfc400000 ---p 00000000 00:00 0 => reserved
183bfc400000-183bfc800000 rw-p 00000000 00:00 0 => anon
183bfc800000-183c00000000 ---p 00000000 00:00 0 => reserved
7f4fee878000-7f4ffde0e000 ---p 00000000 00:00 0 => reserved
7f4ffde0e000-7f4ffde0f000 rw-p 00000000 00:00 0 => anon
`,
		},
		{"Go's heap where it has a name", []Thread{{1, "g", 0xc000010000}}, `
c000000000-c000201000 rw-p 00000000 00:00 0                              [anon: Go: heap] => anon
c000201000-c004000000 ---p 00000000 00:00 0                              [anon: Go: heap reservation] => reserved
`},
		{"two threads in one mapping that is no row of stacks", []Thread{{1, "g", 0x7f0000101000}, {2, "g", 0x7f0000104000}}, `
7f0000100000-7f0000900000 rw-p 00000000 00:00 0 => anon
7f0001000000-7f0001001000 rw-p 00000000 00:00 0 => anon
`},
		{"stacks that merged, their guards being inside", []Thread{{2, "a", 0x7f0000900f00}, {3, "a", 0x7f0001101f00}, {4, "a", 0x7f0001902f00}}, `
7f0000100000-7f0001903000 rw-p 00000000 00:00 0 => thread stack?
`},
		{"one of three stacks is used twice", []Thread{{2, "a", 0x7f0000900f00}, {3, "a", 0x7f0001101f00}, {4, "a", 0x7f0001101000}}, `
7f0000100000-7f0001903000 rw-p 00000000 00:00 0 => anon
`},
		{"heaps that are full, or in many rows", nil, `
7f28c8000000-7f28cc021000 rw-p 00000000 00:00 0 => malloc arena?
7f28cc021000-7f28d0000000 ---p 00000000 00:00 0 => malloc arena?
7f28d8000000-7f28dc000000 rw-p 00000000 00:00 0 => malloc arena?
7f28e0000000-7f28e0010000 rw-p 00000000 00:00 0                          [anon: glibc: malloc arena] => malloc arena
7f28e0010000-7f28e0022000 rw-p 00000000 00:00 0 => malloc arena?
7f28e0022000-7f28e0052000 ---p 00000000 00:00 0 => malloc arena?
7f28e0052000-7f28e4000000 ---p 00000000 00:00 0 => malloc arena?
`},
		{"a named heap that is full", nil, `
7f28dc000000-7f28dc021000 rw-p 00000000 00:00 0                          [anon: glibc: malloc arena] => malloc arena
7f28dc021000-7f28e0000000 rw-p 00000000 00:00 0 => malloc arena?
7f28e4000000-7f28e8000000 rw-p 00000000 00:00 0 => anon
`},
		{"memory that has almost the shape of a heap", nil, `
fc000000-fc123000 rw-p 00000000 00:00 0 => anon
fc123000-100000000 ---p 00000000 00:00 0 => reserved
7f28c8001000-7f28c8022000 rw-p 00000000 00:00 0 => anon
7f28c8022000-7f28cc000000 ---p 00000000 00:00 0 => reserved
7f28cc000000-7f28cc021000 rw-p 00000000 00:00 0 => anon
7f28cc021000-7f28d0001000 ---p 00000000 00:00 0 => reserved
7f28d8000000-7f28dc000000 rw-p 00000000 00:00 0 => anon
7f28e0000000-7f28e0021000 rw-p 00000000 00:00 0 => anon
7f28e0022000-7f28e4000000 ---p 00000000 00:00 0 => reserved
7f28e8000000-7f28e8021000 rw-s 00000000 00:01 3                          /dev/zero (deleted) => shared
7f28e8021000-7f28ec000000 ---p 00000000 00:00 0 => reserved
fffffffffc000000-ffffffffffff0000 rw-p 00000000 00:00 0 => anon
ffffffffffff0000-ffffffffffffffff ---p 00000000 00:00 0 => reserved
`},
		{"what programs name", []Thread{{3, "a", 0x7f0001003000}}, `
7f0000000000-7f0000001000 ---p 00000000 00:00 0                          [anon: glibc: pthread stack: 42] => guard 42
7f0000001000-7f0000101000 rw-p 00000000 00:00 0                          [anon: glibc: pthread stack: 42] => thread stack 42
7f0000200000-7f0000201000 ---p 00000000 00:00 0 => guard? 43
7f0000201000-7f0000301000 rw-p 00000000 00:00 0                          [anon:stack_and_tls:43] => thread stack 43
7f0000400000-7f0000500000 rw-p 00000000 00:00 0                          [anon: glibc: unused stack] => thread stack
7f0000600000-7f0000601000 ---p 00000000 00:00 0                          [anon:thread stack guard] => guard
7f0000700000-7f0000701000 rw-p 00000000 00:00 0                          [anon: glibc: malloc] => anon
7f0001000000-7f0001010000 rw-p 00000000 00:00 0                          [anon:worker] => thread stack? 3
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.TrimPrefix(tt.text, "\n")
			rows := unannotate(t, text)
			got := Infer(rows, tt.threads, nil)
			// The kernel pads fewer digits to the same column; compare without.
			if diff := cmp.Diff(squeeze(annotate(rows, got)), squeeze(text)); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			for i, p := range got {
				if p.Inferred && p.Detail == "" {
					t.Errorf("%v is inferred as %v and does not say why", rows[i].Range, p.Role)
				}
			}
		})
	}
}

func squeeze(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// Several stacks are in one mapping: which is whose is told by guard pages between them.
func TestStacksThatShareAMapping(t *testing.T) {
	const at, mib = 0x7f0000000000, 1 << 20
	r := func(lo, hi uint64) Range { return Range{at + lo, at + hi} }
	row := []Mapping{{Range: r(0, 8*mib), Mode: Read | Write}}
	two := []Thread{{3, "a", at + 2*mib - 64}, {4, "b", at + 6*mib}}
	for _, tt := range []struct {
		name    string
		threads []Thread
		guards  []Range
		want    []ThreadStack
	}{
		{"two", two, []Range{r(0, 4096), r(4*mib, 4*mib+4096)}, []ThreadStack{{r(4096, 4*mib), 3}, {r(4*mib+4096, 8*mib), 4}}},
		{"and one of nobody", two, []Range{r(0, 4096), r(2*mib, 2*mib+4096), r(4*mib, 4*mib+4096)}, []ThreadStack{{r(4096, 2*mib), 3}, {r(2*mib+4096, 4*mib), 0}, {r(4*mib+4096, 8*mib), 4}}},
		{"other memory below", two, []Range{r(mib, mib+4096), r(4*mib, 4*mib+4096)}, []ThreadStack{{r(mib+4096, 4*mib), 3}, {r(4*mib+4096, 8*mib), 4}}},
		{"without guards", two, nil, nil},
		{"two in one", two, []Range{r(0, 4096)}, nil},
		{"one below all guards", two, []Range{r(4*mib, 4*mib+4096)}, nil},
		{"one in a guard", []Thread{two[0], {4, "b", at + 4*mib}}, []Range{r(0, 4096), r(4*mib, 4*mib+4096)}, nil},
		{"guards to the end", two, []Range{r(0, 4096), r(4*mib, 4*mib+4096), r(8*mib-4096, 8*mib)}, []ThreadStack{{r(4096, 4*mib), 3}, {r(4*mib+4096, 8*mib-4096), 4}}},
	} {
		got := Infer(row, tt.threads, func(Range) []Range { return tt.guards })
		wantRole := RoleThreadStack
		if tt.want == nil {
			wantRole = RoleAnon
		}
		if diff := cmp.Diff(tt.want, got[0].Stacks); diff != "" || got[0].Role != wantRole {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, got[0].Role, diff)
		}
	}
}

func TestInferOfNothing(t *testing.T) {
	if got := Infer(nil, []Thread{{1, "a", 0x1000}}, nil); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestRolesHaveStableWords(t *testing.T) {
	want := []string{
		"role(0)", "anon", "heap", "stack", "thread stack", "malloc arena", "guard",
		"reserved", "file", "shared", "special", "role(11)",
	}
	for r, word := range want {
		if got := Role(r).String(); got != word {
			t.Errorf("role %d is %q, want %q", r, got, word)
		}
	}
}

// FuzzInfer makes rows and stack pointers of the input. Bytes choose from sizes
// and gaps that the rules know, so that their edges are met.
func FuzzInfer(f *testing.F) {
	f.Add(uint64(0x7f28c8000000), []byte("\x01\x02\x03\x04\x11\x22\x33\x44\x55\x66\x77"))
	f.Add(^uint64(0), []byte("\xff\xff\xff"))
	f.Add(uint64(1)<<63, []byte{0, 0x80, 0x10, 0x90, 0x20, 0xa0})
	sizes := [...]uint64{1, 0x1000, 0x10000, 0x21000, guardMost, goChunk, stackUsual, heapMax - 0x21000, heapMax, stackMost + 1}
	modes := [...]Mode{0, Read | Write, Read | Write | Exec, Read, Shared | Read | Write}
	names := [...]string{"", "", "", "[anon: Go: heap]", "[anon: glibc: pthread stack: 5]", "[heap]", "/lib/a.so"}
	f.Fuzz(func(t *testing.T, at uint64, steps []byte) {
		var rows []Mapping
		var threads []Thread
		for len(steps) >= 3 {
			size := sizes[int(steps[0])%len(sizes)]
			if at+size < at {
				break
			}
			rows = append(rows, Mapping{
				Range: Range{at, at + size}, Mode: modes[int(steps[1])%len(modes)], Name: names[int(steps[1]>>4)%len(names)],
			})
			if steps[2]&1 != 0 {
				threads = append(threads, Thread{TID: len(rows), SP: at + uint64(binary.LittleEndian.Uint16(steps))%size})
			}
			if at += size; steps[2]&2 != 0 {
				at = (at + heapMax - 1) / heapMax * heapMax
				if at < rows[len(rows)-1].End {
					break
				}
			}
			steps = steps[3:]
		}
		guards := func(r Range) (all []Range) {
			for from := r.Start; from < r.End && r.End-from > 0x3000 && len(all) < 100; from += r.Len()/7 + 0x3000 {
				all = append(all, Range{from, from + 0x1000 + r.Len()%0x2000})
			}
			return all
		}
		got := Infer(rows, threads, guards)
		if len(got) != len(rows) {
			t.Fatalf("%d purposes of %d rows", len(got), len(rows))
		}
		for i, p := range got {
			m := &rows[i]
			access := m.Mode&Perm != 0
			switch {
			case p.Role < RoleAnon || p.Role > RoleSpecial,
				p.Role == RoleThreadStack && !access,
				(p.Role == RoleGuard || p.Role == RoleReserved) && access,
				p.Role != RoleThreadStack && p.Role != RoleGuard && p.TID != 0,
				(p.Role == RoleArena || p.Role == RoleReserved) && (m.Mode&Shared != 0 || m.Kind() != KindAnon),
				p.Inferred && p.Detail == "", p.Role != RoleThreadStack && p.Stacks != nil:
				t.Fatalf("%s is %+v", m.Append(nil), p)
			}
			for k, s := range p.Stacks {
				if s.Empty() || s.Intersect(m.Range) != s.Range || k > 0 && s.Start <= p.Stacks[k-1].End {
					t.Fatalf("%s has the stacks %v", m.Append(nil), p.Stacks)
				}
			}
		}
	})
}

func TestCommit(t *testing.T) {
	const kb = 8
	reserved, noReserve, committed, none := Commit{ReservedKB: kb}, Commit{NoReserveKB: kb}, Commit{CommittedKB: kb}, Commit{}
	for _, tt := range []struct {
		what, mode, name, flags string
		want                    Commit
	}{
		{"memory", "rw-p", "", "rd wr mr mw me ac", committed},
		{"memory of maps", "rw-p", "", "", committed},
		{"MAP_NORESERVE", "rw-p", "", "rd wr mr mw me nr", noReserve},
		{"MAP_NORESERVE, to be read only", "r--p", "", "rd mr mw me nr", none},
		{"an address range", "---p", "", "mr mw me", reserved},
		{"an address range of maps", "---p", "", "", reserved},
		{"an address range with MAP_NORESERVE", "---p", "", "mr mw me nr", reserved},
		{"memory that access was taken from", "---p", "", "mr mw me ac", committed},
		{"memory that was never writable", "r--p", "", "rd mr mw me", none},
		{"a text segment", "r-xp", "/bin/a", "rd ex mr mw me", none},
		{"a data segment", "rw-p", "/bin/a", "rd wr mr mw me ac", committed},
		{"a data segment made read-only", "r--p", "/bin/a", "rd mr mw me ac", committed},
		{"a gap between segments", "---p", "/bin/a", "mr mw me", none},
		{"a shared file", "rw-s", "/data", "rd wr sh mr mw me ms", none},
		{"shared memory", "rw-s", "/dev/zero (deleted)", "rd wr sh mr mw me ms", committed},
		{"shared memory without access", "---s", "/dev/zero (deleted)", "sh mr mw me ms", committed},
		{"shared memory with a name", "rw-s", "[anon_shmem:x]", "rd wr sh mr mw me ms", committed},
		{"shared memory with MAP_NORESERVE", "rw-s", "/dev/zero (deleted)", "rd wr sh mr mw me ms nr", noReserve},
		{"a System V segment", "rw-s", "/SYSV00000000 (deleted)", "rd wr sh mr mw me ms", committed},
		{"a file called like one", "rw-s", "/SYSV00000000", "rd wr sh mr mw me ms", none},
		{"a memfd", "rw-s", "/memfd:x (deleted)", "rd wr sh mr mw me ms", none},
		{"huge pages", "rw-p", "/anon_hugepage (deleted)", "rd wr mr mw me ht", none},
		{"huge pages with MAP_NORESERVE", "rw-p", "/anon_hugepage (deleted)", "rd wr mr mw me nr ht", none},
		{"huge pages of maps", "rw-p", "/anon_hugepage (deleted)", "", none},
		{"the vdso", "r-xp", "[vdso]", "rd ex mr mw me de", none},
	} {
		mode, ok := parseMode([]byte(tt.mode))
		flags, ok2 := ParseVmFlags(tt.flags)
		if !ok || !ok2 {
			t.Fatalf("%s: bad test", tt.what)
		}
		r := SmapsRow{Mapping: Mapping{Range: Range{0x1000, 0x1000 + kb<<10}, Mode: mode, Name: tt.name}, Flags: flags}
		if got := r.Commit(); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.what, got, tt.want)
		}
	}
	sum := Commit{1, 2, 3}
	sum.Add(Commit{10, 20, 30})
	if want := (Commit{11, 22, 33}); sum != want {
		t.Errorf("the sum is %+v, want %+v", sum, want)
	}
}

// A full arena of Go's heap, at a place of its own, looks like a full heap of
// glibc's: seen in a Go program with C in it.
func TestAFullHeapFarFromOthersIsNone(t *testing.T) {
	row := func(start, size uint64, mode Mode) Mapping {
		return Mapping{Range: Range{start, start + size}, Mode: mode}
	}
	const near, far = 0x7f1000000000, 0x218000000000
	rows := []Mapping{
		row(far, 2*heapMax, Read|Write),
		row(near, heapMax, Read|Write),
		row(near+4*heapMax, 0x21000, Read|Write), row(near+4*heapMax+0x21000, heapMax-0x21000, 0),
	}
	var got []Role
	for _, p := range Infer(rows, nil, nil) {
		got = append(got, p.Role)
	}
	if diff := cmp.Diff(got, []Role{RoleAnon, RoleArena, RoleArena, RoleArena}); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}
