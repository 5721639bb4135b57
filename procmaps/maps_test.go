package procmaps

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestParseMapsRows(t *testing.T) {
	pad := func(head, name string) string { return head + strings.Repeat(" ", max(73-len(head), 1)) + name }
	tests := []struct {
		name string
		row  string
		want Mapping
		kind Kind
		path string
		gone bool
	}{
		{
			name: "a file",
			row:  pad("55de17baa000-55de17bac000 r-xp 00002000 fe:00 247026 ", "/usr/bin/cat"),
			want: Mapping{Range{0x55de17baa000, 0x55de17bac000}, Read | Exec, 0x2000, Device{0xfe, 0}, 247026, "/usr/bin/cat"},
			kind: KindFile, path: "/usr/bin/cat",
		},
		{
			name: "anonymous memory has a final space and no name",
			row:  "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ",
			want: Mapping{Range: Range{0x7f0000000000, 0x7f0000001000}, Mode: Read | Write},
			kind: KindAnon,
		},
		{
			name: "shared anonymous memory",
			row:  pad("7f0000000000-7f0000001000 -w-s 00000000 00:01 33 ", "/dev/zero (deleted)"),
			want: Mapping{Range{0x7f0000000000, 0x7f0000001000}, Write | Shared, 0, Device{0, 1}, 33, "/dev/zero (deleted)"},
			kind: KindShm, gone: true,
		},
		{
			name: "double and trailing spaces belong to the name",
			row:  pad("00400000-00401000 r--p 00000000 103:1b 7 ", "/tmp/d  two  spaces "),
			want: Mapping{Range{0x400000, 0x401000}, Read, 0, Device{0x103, 0x1b}, 7, "/tmp/d  two  spaces "},
			kind: KindFile, path: "/tmp/d  two  spaces ",
		},
		{
			name: "an escaped newline stays in the name and not in the path",
			row:  pad("00400000-00401000 r--p 00000000 08:01 7 ", `/tmp/a\012b (deleted)`),
			want: Mapping{Range{0x400000, 0x401000}, Read, 0, Device{8, 1}, 7, `/tmp/a\012b (deleted)`},
			kind: KindFile, path: "/tmp/a\nb", gone: true,
		},
		{
			name: "escape sequences and broken UTF-8 come through",
			row:  pad("00400000-00401000 r--p 00000000 08:01 7 ", "/tmp/\x1b[31m\x9b\xff\té"),
			want: Mapping{Range{0x400000, 0x401000}, Read, 0, Device{8, 1}, 7, "/tmp/\x1b[31m\x9b\xff\té"},
			kind: KindFile, path: "/tmp/\x1b[31m\x9b\xff\té",
		},
		{
			name: "a head longer than the name column is followed by two spaces",
			row:  "7f00000000000000-7f00000000001000 r--p 123456789abcdef0 fe00:fffff 18446744073709551615  /x",
			want: Mapping{
				Range{0x7f00000000000000, 0x7f00000000001000},
				Read,
				0x123456789abcdef0,
				Device{0xfe00, 0xfffff},
				18446744073709551615, "/x",
			},
			kind: KindFile, path: "/x",
		},
		{
			name: "the vsyscall page at the end of the address space",
			row:  pad("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 ", "[vsyscall]"),
			want: Mapping{Range{0xffffffffff600000, 0xffffffffff601000}, Exec, 0, Device{}, 0, "[vsyscall]"},
			kind: KindSpecial,
		},
		{
			name: "the first System V segment has inode 0",
			row:  pad("00400000-00401000 rw-s 00000000 00:01 0 ", "/SYSV00000000 (deleted)"),
			want: Mapping{Range{0x400000, 0x401000}, Read | Write | Shared, 0, Device{0, 1}, 0, "/SYSV00000000 (deleted)"},
			kind: KindShm, gone: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseMaps([]byte(tt.row+"\n"), "maps")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, []Mapping{tt.want}); diff != "" {
				t.Fatalf("parsed %q (-got +want):\n%s", tt.row, diff)
			}
			m := &got[0]
			if s := string(m.Append(nil)); s != tt.row {
				t.Errorf("printed again\n%q, want\n%q", s, tt.row)
			}
			if m.Kind() != tt.kind || m.Path() != tt.path || m.Deleted() != tt.gone {
				t.Errorf("kind, path, deleted = %v, %q, %v; want %v, %q, %v",
					m.Kind(), m.Path(), m.Deleted(), tt.kind, tt.path, tt.gone)
			}
		})
	}
}

func TestARowMayEndAfterItsInode(t *testing.T) {
	const rows = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n" +
		"7f0000002000-7f0000003000 r--p 00001000 08:01 7 \n" +
		"7f0000004000-7f0000005000 r--p 00001000 08:01 7 /x\n"
	want, err := ParseMaps([]byte(rows), "maps")
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.ReplaceAll(rows, " \n", "\n")
	got, err := ParseMaps([]byte(bare), "maps")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("maps (-without +with a space):\n%s", diff)
	}
	s, err := ParseSmaps([]byte(strings.ReplaceAll(bare, "\n", "\nRss: 4 kB\n")), "smaps")
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Rows {
		if rss, _ := s.Rows[i].KB("Rss"); s.Rows[i].Mapping != want[i] || rss != 4 {
			t.Errorf("smaps row %d is %+v with Rss %d, want %+v with 4", i, s.Rows[i].Mapping, rss, want[i])
		}
	}
}

func TestKindByName(t *testing.T) {
	tests := []struct {
		name string
		mode Mode
		want Kind
		path string
	}{
		{name: "", mode: Shared, want: KindAnon},
		{name: "[heap]", want: KindHeap},
		{name: "[stack]", want: KindStack},
		{name: "[stack:123]", want: KindStack},
		{name: "[anon: Go: heap]", want: KindAnon},
		{name: "[anon:a/b]", want: KindAnon},
		{name: "[anon_shmem:x]", want: KindShm},
		{name: "[vdso]", want: KindSpecial},
		{name: "[vvar_vclock]", want: KindSpecial},
		{name: "[uprobes]", want: KindSpecial},
		{name: "[of a later kernel]", want: KindSpecial},
		{name: "anon_inode:[perf_event]", mode: Shared, want: KindFile},
		{name: "socket:[123]", mode: Shared, want: KindFile},
		{name: "/memfd:wayland (deleted)", mode: Shared, want: KindShm},
		{name: "/memfd:wayland", mode: Shared, want: KindShm},
		{name: "/dev/shm/sem", mode: Shared, want: KindShm, path: "/dev/shm/sem"},
		{name: "/dev/zero", want: KindFile, path: "/dev/zero"},
		{name: "/dev/dri/card0", mode: Shared, want: KindFile, path: "/dev/dri/card0"},
		{name: "/SYSV0000000a (deleted)", mode: Shared, want: KindShm},
		{name: "/SYSVOL (deleted)", want: KindFile, path: "/SYSVOL"},
		{name: "/SYSV0000000a", want: KindFile, path: "/SYSV0000000a"},
		{name: "/anon_hugepage (deleted)", want: KindAnon},
		{name: "/anon_hugepage (deleted)", mode: Shared, want: KindShm},
	}
	for _, tt := range tests {
		m := Mapping{Mode: tt.mode, Name: tt.name}
		if m.Kind() != tt.want || m.Path() != tt.path {
			t.Errorf("%q: kind %v, path %q; want %v, %q", tt.name, m.Kind(), m.Path(), tt.want, tt.path)
		}
	}
}

func TestParseMapsRefuses(t *testing.T) {
	const good = "00400000-00401000 r--p 00000000 08:01 7 /x\n"
	tests := []struct{ name, text, reason string }{
		{"permission letters of another alphabet", "00400000-00401000 ZZZZ 00000000 08:01 7 /x\n", "bad permissions"},
		{"permissions in the wrong place", "00400000-00401000 wr-p 00000000 08:01 7 /x\n", "bad permissions"},
		{"neither private nor shared", "00400000-00401000 r--- 00000000 08:01 7 /x\n", "bad permissions"},
		{"a long permission column", "00400000-00401000 r--pp 00000000 08:01 7 /x\n", "bad permissions"},
		{"nothing after the range", "00400000-00401000 \n", "bad permissions"},
		{"upper-case hex", "0040000A-00401000 r--p 00000000 08:01 7 /x\n", "bad start address"},
		{"17 digits", "10000000000400000-00401000 r--p 00000000 08:01 7 /x\n", "bad start address"},
		{"a sign", "+0400000-00401000 r--p 00000000 08:01 7 /x\n", "bad start address"},
		{"no start", "-00401000 r--p 00000000 08:01 7 /x\n", "bad start address"},
		{"no end", "00400000- r--p 00000000 08:01 7 /x\n", "bad end address"},
		{"an empty line", "\n", "bad start address"},
		{"an empty range", "00400000-00400000 r--p 00000000 08:01 7 /x\n", "the range is empty"},
		{"a backward range", "00401000-00400000 r--p 00000000 08:01 7 /x\n", "the range is empty"},
		{"a tab as separator", "00400000-00401000 r--p\t00000000 08:01 7 /x\n", "bad permissions"},
		{"two spaces between columns", "00400000-00401000 r--p  00000000 08:01 7 /x\n", "bad offset"},
		{"a device without a minor", "00400000-00401000 r--p 00000000 08 7 /x\n", "bad device"},
		{"a device of 33 bits", "00400000-00401000 r--p 00000000 100000000:01 7 /x\n", "bad device"},
		{"a hex inode", "00400000-00401000 r--p 00000000 08:01 a /x\n", "bad inode"},
		{"an inode of 65 bits", "00400000-00401000 r--p 00000000 08:01 18446744073709551616 /x\n", "bad inode"},
		{"no space after the inode", "00400000-00401000 r--p 00000000 08:01 7/x\n", "no space after the inode"},
		{"a tab after the inode", "00400000-00401000 r--p 00000000 08:01 7\t/x\n", "no space after the inode"},
		{"a row that was cut after its inode", "00400000-00401000 r--p 00000000 08:01 7", "the last line has no newline"},
		{"no newline at the end", "00400000-00401000 r--p 00000000 08:01 7 /x", "the last line has no newline"},
		{"a repeated row", good, "addresses go backwards"},
		{"an overlapping row", "00400800-00402000 r--p 00000000 08:01 7 /x\n", "addresses go backwards"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := ParseMaps([]byte(good+tt.text), "a/maps")
			var pe *ParseError
			if !errors.Is(err, ErrParse) || !errors.As(err, &pe) {
				t.Fatalf("ParseMaps(%q) = %v, %v; want a ParseError", tt.text, rows, err)
			}
			want := ParseError{File: "a/maps", Line: 2, Text: strings.TrimSuffix(tt.text, "\n"), Reason: tt.reason}
			if diff := cmp.Diff(*pe, want); diff != "" {
				t.Errorf("error (-got +want):\n%s", diff)
			}
			if rows != nil {
				t.Errorf("got %d rows with the error", len(rows))
			}
		})
	}
}

func TestScanMapsEndsWithTheReadersError(t *testing.T) {
	broken := errors.New("broken")
	text := mapsText(5000)
	r := io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))
	n := 0
	err := ScanMaps(r, "maps", func(*Mapping) error { n++; return nil })
	if !errors.Is(err, broken) || n != 5000 {
		t.Errorf("got %d rows and error %v, want 5000 and %v", n, err, broken)
	}
	if err := ScanMaps(strings.NewReader(text), "maps", func(*Mapping) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("fn's error came back as %v", err)
	}
}

func TestScanMapsDoesNotDependOnHowTheTextArrives(t *testing.T) {
	long := "/" + strings.Repeat("n", 3*bufSize)
	text := mapsText(300) + "ff0000000000-ff0000001000 r--p 00000000 08:01 7 " + long + "\n"
	want, err := ParseMaps([]byte(text), "maps")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{
		"at once":        strings.NewReader(text),
		"byte by byte":   iotest.OneByteReader(strings.NewReader(text)),
		"with the error": iotest.DataErrReader(strings.NewReader(text)),
	} {
		var got []Mapping
		err := ScanMaps(r, "maps", func(m *Mapping) error { got = append(got, *m); return nil })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", name, diff)
		}
	}
}

func TestTornReadsAreMended(t *testing.T) {
	const torn = "00001000-00003000 rw-p 00000000 00:00 0 \n" +
		"00002000-00003000 rw-p 00000000 00:00 0 \n" + // was split after it was printed
		"00001000-00005000 r--p 00001000 08:01 7 /grew\n" +
		"00002000-00007000 rw-p 00000000 00:00 0 [heap]\n"
	p := mapsParser{mend: true}
	got, err := p.all(&lines{buf: []byte(torn), file: "maps"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{Range: Range{0x1000, 0x3000}, Mode: Read | Write},
		{Range: Range{0x3000, 0x5000}, Mode: Read, Offset: 0x3000, Dev: Device{8, 1}, Inode: 7, Name: "/grew"},
		{Range: Range{0x5000, 0x7000}, Mode: Read | Write, Name: "[heap]"},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestParseMapsAllocatesPerNameAndNotPerRow(t *testing.T) {
	data := []byte(mapsText(10_000))
	const names = 8 // of mapsText
	allocs := testing.AllocsPerRun(10, func() {
		if _, err := ParseMaps(data, "maps"); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > names+8 {
		t.Errorf("%v allocations for 10,000 rows with %d names", allocs, names)
	}
}

// mapsText returns n rows that use eight names, 5 in 8 of them anonymous.
func mapsText(n int) string {
	var b []byte
	for i := range n {
		m := Mapping{Range: Range{uint64(i)<<13 + 0x7f0000000000, uint64(i)<<13 + 0x7f0000001000}, Mode: Read | Write}
		if i%8 < 3 {
			m.Mode, m.Dev, m.Inode = Read|Exec, Device{8, 1}, uint64(i)
			m.Name = fmt.Sprintf("/usr/lib/x86_64-linux-gnu/libnumber%d.so.6", i/8%8)
		}
		b = append(m.Append(b), '\n')
	}
	return string(b)
}

func BenchmarkParseMaps(b *testing.B) {
	const rows = 10_000
	data := []byte(mapsText(rows))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseMaps(data, "maps"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}

func FuzzParseMaps(f *testing.F) {
	addFixtures(f, "maps")
	f.Add([]byte(mapsText(9)))
	f.Add([]byte("0-1 ---s 0 0:0 0 \n"))
	f.Add([]byte("0-1 ---s 0 0:0 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := ParseMaps(data, "maps")
		if err != nil {
			if !errors.Is(err, ErrParse) || rows != nil {
				t.Fatalf("got %d rows, error %v", len(rows), err)
			}
			return
		}
		printed := bytes.SplitAfter(data, []byte("\n"))
		for i := range rows {
			line := append(rows[i].Append(nil), '\n')
			again, bad := ParseMaps(line, "again")
			if bad != nil || again[0] != rows[i] {
				t.Fatalf("%q parsed as %+v, and again as %+v, %v", line, rows[i], again, bad)
			}
			// Bytes may differ only in what a 64-bit kernel always does alike.
			if got, want := canonical(line), canonical(printed[i]); got != want {
				t.Fatalf("printed %q, want %q", got, want)
			}
		}
		var scanned []Mapping
		err = ScanMaps(iotest.HalfReader(bytes.NewReader(data)), "maps", func(m *Mapping) error {
			scanned = append(scanned, *m)
			return nil
		})
		if err != nil || len(scanned) != len(rows) {
			t.Fatalf("scanned %d rows (%v), parsed %d", len(scanned), err, len(rows))
		}
	})
}

// canonical drops the padding, the newline and the leading zeros of the five columns.
func canonical(line []byte) string {
	s := strings.TrimSuffix(string(line), "\n")
	var out []string
	for range 5 {
		var col string
		col, s, _ = strings.Cut(s, " ")
		parts := strings.FieldsFunc(col, func(r rune) bool { return r == '-' || r == ':' })
		if len(out) != 1 { // not the permissions
			for i := range parts {
				parts[i] = strings.TrimLeft(parts[i], "0")
			}
			col = strings.Join(parts, "-")
		}
		out = append(out, col)
	}
	return strings.Join(out, " ") + " " + strings.TrimLeft(s, " ")
}

// addFixtures seeds with the beginning of every fixture file of that name; long
// seeds would only slow the fuzzer down.
func addFixtures(f *testing.F, name string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "proc", "*", name))
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures named %s: %v", name, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if limit := 4000; len(data) > limit {
			data = data[:bytes.LastIndexByte(data[:limit], '\n')+1]
		}
		f.Add(data)
	}
}
