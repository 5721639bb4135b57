package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// small returns one of the committed libraries.
func small(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func read(tb testing.TB, b []byte, o Options) *Module {
	tb.Helper()
	m, err := ReadModule(bytes.NewReader(b), int64(len(b)), o)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestFunctionsAndLinesOfASmallLibrary(t *testing.T) {
	t.Parallel()
	const file = "/src/small.c"
	for _, name := range []string{"dwarf4.so", "dwarf5.so", "compressed.so"} {
		m := read(t, small(t, name), Options{})
		for _, tt := range []struct {
			addr  uint64
			fn    Function
			lines []Line
		}{
			{0x2a0, Function{"puts@plt", "puts@plt", 0x2a0, 16, FromPLT, false}, []Line{{"puts@plt", "puts@plt", "", 0, 0}}},
			{0x2af, Function{"puts@plt", "puts@plt", 0x2a0, 16, FromPLT, false}, []Line{{"puts@plt", "puts@plt", "", 0, 0}}},
			{0x290, Function{}, nil}, // the stub that finds functions has no name
			{0x2be, Function{"once", "once", 0x2b0, 0x13, FromSymtab, false}, []Line{{"once", "once", file, 20, 18}}},
			{0x2c3, Function{}, []Line{{"", "", file, 21, 0}}}, // between functions
			{0x2dc, Function{"both", "both", 0x2d0, 0x26, FromSymtab, false}, []Line{{"both", "both", file, 25, 23}}},
			{0x2ea, Function{"both", "both", 0x2d0, 0x26, FromSymtab, false}, []Line{{"twice", "twice", file, 14, 12}, {"both", "both", file, 25, 23}}},
			{0x2f6, Function{}, nil},
			{0, Function{}, nil},
			{math.MaxUint64, Function{}, nil},
		} {
			fn, ok := m.Function(tt.addr)
			if fn != tt.fn || ok != (tt.fn.Name != "") {
				t.Errorf("%s: Function(%#x) = %+v, %v; want %+v", name, tt.addr, fn, ok, tt.fn)
			}
			if diff := cmp.Diff(tt.lines, m.Lines(tt.addr, nil)); diff != "" {
				t.Errorf("%s: Lines(%#x) (-want +got):\n%s", name, tt.addr, diff)
			}
		}
		if id := m.BuildID(); len(id) != 40 {
			t.Errorf("%s: BuildID = %q", name, id)
		}
		if m.IsGo() {
			t.Errorf("%s is taken for Go", name)
		}
	}
}

func TestLinesAreAppended(t *testing.T) {
	t.Parallel()
	m := read(t, small(t, "dwarf5.so"), Options{})
	first := Line{"caller", "caller", "a.c", 1, 0}
	got := m.Lines(0x2ea, []Line{first})
	if len(got) != 3 || got[0] != first || got[1].Function != "twice" || got[2].Function != "both" {
		t.Errorf("Lines = %+v", got)
	}
}

func TestBiasIsThatOfTheSegmentWithTheCode(t *testing.T) {
	t.Parallel()
	page := uint64(os.Getpagesize())
	m := &Module{head: &header{file: &elf.File{Progs: []*elf.Prog{
		{ProgHeader: elf.ProgHeader{Type: elf.PT_LOAD, Flags: elf.PF_R, Off: 0, Vaddr: 0x10 * page, Filesz: page + 8, Memsz: page + 8}},
		// Its first page in the file is the last of the one before.
		{ProgHeader: elf.ProgHeader{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_X, Off: page + 8, Vaddr: 0x12*page + 8, Filesz: 3 * page, Memsz: 3 * page}},
		{ProgHeader: elf.ProgHeader{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W, Off: 4*page + 16, Vaddr: 0x20*page + 16, Filesz: 8, Memsz: 9 * page}},
	}}}}
	const base = 0x7f0000000000
	for _, tt := range []struct {
		name          string
		start, offset uint64
		want          uint64
		ok            bool
	}{
		{"data before code", base + 0x10*page, 0, base, true},
		{"code", base + 0x12*page, page, base, true},
		{"the rest of code that was split", base + 0x14*page, 3 * page, base, true},
		{"past the end", base, 9 * page, 0, false},
	} {
		if bias, ok := m.Bias(tt.start, tt.offset); bias != tt.want || ok != tt.ok {
			t.Errorf("%s: Bias(%#x, %#x) = %#x, %v; want %#x, %v", tt.name, tt.start, tt.offset, bias, ok, tt.want, tt.ok)
		}
	}
}

func TestOtherFilesAreNotELF(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "#!/bin/sh\n", "\x7fELF", strings.Repeat("\x7fELG", 100)} {
		if m, err := ReadModule(strings.NewReader(text), int64(len(text)), Options{}); !errors.Is(err, ErrNotELF) {
			t.Errorf("ReadModule(%.8q) = %v, %v", text, m, err)
		}
	}
}

func TestClosedModuleHasNoNames(t *testing.T) {
	t.Parallel()
	m := read(t, small(t, "dwarf5.so"), Options{})
	if _, ok := m.Function(0x2b0); !ok {
		t.Fatal("no name before")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if fn, ok := m.Function(0x2b0); ok {
		t.Errorf("Function = %+v", fn)
	}
	if l := m.Lines(0x2b0, nil); l != nil {
		t.Errorf("Lines = %+v", l)
	}
}

// endless is a file of zeros behind some bytes, as a sparse file of terabytes is.
type endless struct{ head []byte }

func (e endless) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(e.head)) {
		copy(p, e.head[off:])
	}
	return len(p), nil
}

// bounded fails when f takes more memory or time than any honest file needs.
func bounded(t *testing.T, f func()) {
	t.Helper()
	const most = 128 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("it took %d MiB", n>>20)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestATableOfTooManySymbolsIsReportedAndNotRead(t *testing.T) {
	t.Parallel()
	b := small(t, "dwarf5.so")
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range f.Sections {
		if s.Type == elf.SHT_SYMTAB {
			header := b[binary.LittleEndian.Uint64(b[40:])+uint64(i)*64:]
			binary.LittleEndian.PutUint64(header[32:], (maxSymbols+1)*elf.Sym64Size)
		}
	}
	m := read(t, b, Options{})
	if err := m.Refused(); err != nil {
		t.Errorf("before they are asked for: %v", err)
	}
	if fn, ok := m.Function(0x2be); ok && fn.From == FromSymtab {
		t.Errorf("Function = %+v", fn)
	}
	if err := m.Refused(); !errors.Is(err, ErrTooLarge) || err.Error() != ".symtab: too large" {
		t.Errorf("Refused: %v", err)
	}
}

// Not parallel: it measures what the process allocates.
func TestClaimsOfHostileHeadersTakeNoMemory(t *testing.T) {
	const size = 1 << 50
	le := binary.LittleEndian
	original := small(t, "dwarf5.so")
	section := func(b []byte, name string) []byte {
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range f.Sections {
			if s.Name == name {
				return b[le.Uint64(b[40:])+uint64(i)*64:][:64]
			}
		}
		t.Fatalf("no section %s", name)
		return nil
	}
	for _, tt := range []struct {
		name  string
		spoil func(b []byte)
	}{
		{"sections without end", func(b []byte) {
			le.PutUint16(b[60:], 0)
			le.PutUint64(b[le.Uint64(b[40:])+32:], 1<<31)
		}},
		{"65535 sections of terabytes", func(b []byte) { le.PutUint16(b[60:], 65535) }},
		{"65535 segments", func(b []byte) { le.PutUint16(b[56:], 65535) }},
		{"section names of terabytes", func(b []byte) { le.PutUint64(section(b, ".shstrtab")[32:], 1<<45) }},
		{"a build ID of terabytes", func(b []byte) { le.PutUint64(section(b, ".note.gnu.build-id")[32:], 1<<45) }},
		{"symbols of terabytes", func(b []byte) { le.PutUint64(section(b, ".symtab")[32:], 1<<45) }},
		{"stubs of terabytes", func(b []byte) { le.PutUint64(section(b, ".plt")[32:], 1<<45) }},
		{"relocations of terabytes", func(b []byte) { le.PutUint64(section(b, ".rela.plt")[32:], 1<<45) }},
		{"units of terabytes", func(b []byte) { le.PutUint64(section(b, ".debug_info")[32:], 1<<45) }},
		{"abbreviations of terabytes", func(b []byte) { le.PutUint64(section(b, ".debug_abbrev")[32:], 1<<45) }},
		{"a name that does not end", func(b []byte) {
			le.PutUint64(section(b, ".strtab")[24:], 0)
			le.PutUint64(section(b, ".strtab")[32:], 1<<45)
		}},
		{"a unit of 4 GiB", func(b []byte) {
			info := section(b, ".debug_info")
			le.PutUint32(b[le.Uint64(info[24:]):], 0xffffff00)
			le.PutUint64(info[32:], 1<<45)
		}},
	} {
		b := bytes.Clone(original)
		tt.spoil(b)
		t.Run(tt.name, func(t *testing.T) {
			bounded(t, func() {
				m, err := ReadModule(endless{b}, size, Options{})
				if err != nil {
					return
				}
				for addr := uint64(0x280); addr < 0x300; addr += 7 {
					m.Function(addr)
					m.Lines(addr, nil)
				}
			})
		})
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	t.Parallel()
	b := small(t, "compressed.so")
	if got := read(t, b, Options{MaxDWARF: 100}).Lines(0x2be, nil); len(got) != 1 || got[0].Line != 0 {
		t.Errorf("with a budget of 100 bytes: %+v", got)
	}
	for _, size := range []uint64{1 << 20, 1 << 40, math.MaxUint64} {
		spoiled := bytes.Clone(b)
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Sections {
			if s.Flags&elf.SHF_COMPRESSED != 0 {
				binary.LittleEndian.PutUint64(spoiled[s.Offset+8:], size)
			}
		}
		if got := read(t, spoiled, Options{}).Lines(0x2be, nil); len(got) != 1 || got[0].Line != 0 {
			t.Errorf("with sections that claim %d bytes: %+v", size, got)
		}
	}
}

// The line table that ends a process which uses debug/dwarf.
func TestLineTableThatClaimsManyDirectoriesIsRefused(t *testing.T) {
	line := []byte{56, 0, 0, 0, 5, 0, 8, 0, 30, 0, 0, 0, 1, 1, 1, 0xfb, 14, 1}
	for _, count := range [][]byte{
		{0, 0xff, 0xff, 0xff, 0xff, 0x7f},       // of no fields
		{1, 1, 8, 0xff, 0xff, 0xff, 0xff, 0x7f}, // of a string
		{1, 1, 0x19, 40},                        // of a form that takes no bytes
		{0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		b := append(bytes.Clone(line), count...)
		b = append(b, make([]byte, 60-len(b))...)
		d := &dwarfData{of: &Module{}, order: binary.LittleEndian, line: blob{r: bytes.NewReader(b), size: uint64(len(b))}}
		bounded(t, func() {
			table := d.readLines(&unit{version: 5, addrSize: 8, hasLines: true})
			if n := len(table.dirs) + len(table.files); n > len(b) {
				t.Errorf("%d directories and files", n)
			}
		})
	}
}

// A million units that each have their own beginning of one long table.
func TestOverlappingAbbreviationsTakeNoTime(t *testing.T) {
	const units = 200_000
	abbrev := bytes.Repeat([]byte{2, 0x11, 0, 0, 0}, 100_000)
	abbrev = append(abbrev, 1, 0x11, 0, 0, 0, 0)
	var info []byte
	for i := range uint32(units) {
		info = append(info, 8, 0, 0, 0, 4, 0)
		info = binary.LittleEndian.AppendUint32(info, i%100_000*5)
		info = append(info, 8, 1)
	}
	bounded(t, func() {
		m := read(t, small(t, "dwarf5.so"), Options{})
		d := &dwarfData{
			of: m, code: m.head.code, order: binary.LittleEndian, abbrevBytes: abbrev,
			info: blob{r: bytes.NewReader(info), size: uint64(len(info))},
		}
		d.readUnits()
		if len(d.units) != units {
			t.Errorf("%d units", len(d.units))
		}
	})
}

// tinyGo is a function table with two functions, main.a at 0x1000 and main.(*T).b at
// 0x1040: since Go 1.18 these count from an address that is to be found.
func tinyGo(version int) []byte {
	const (
		names  = "main.a\x00main.(*T).b\x00 "
		file   = "/src/main.g\x00"
		values = "\x00\x02\x40\x00\x0c\x10\x04\x30\x00\x00" // tables of the file, at 1, and of the line, at 4
	)
	le := binary.LittleEndian
	magic := map[int]uint32{go12: 0xfffffffb, go116: 0xfffffffa, go118: 0xfffffff0, go120: 0xfffffff1}
	head := append(le.AppendUint32(nil, magic[version]), 0, 0, 1, 8)
	// What functions are described by: the offsets of the name, of the tables and, of
	// each of the two, where it begins, the name and the start line.
	function := func(b []byte, entry uint64, name, tables, line uint32) []byte {
		if version >= go118 {
			b = le.AppendUint32(b, uint32(entry))
		} else {
			b = le.AppendUint64(b, entry)
		}
		for _, v := range []uint32{name, 0, 0, 0, tables + 1, tables + 4, 0, 0, line, 0} {
			b = le.AppendUint32(b, v)
		}
		return b
	}
	switch version {
	case go12:
		const list, functions = 16, 16 + 5*8 + 4
		const text = functions + 2*48 // names, file, values, and the list of files
		b := le.AppendUint64(head, 2)
		for _, v := range []uint64{0x1000, functions, 0x1040, functions + 48, 0x1080} {
			b = le.AppendUint64(b, v)
		}
		b = le.AppendUint32(b, text+uint32(len(names+file+values)))
		b = function(b, 0x1000, text, text+uint32(len(names+file)), 0)
		b = function(b, 0x1040, text+7, text+uint32(len(names+file)), 0)
		b = append(b, names+file...)
		// Files are numbered from 1.
		b = append(b, strings.Replace(values, "\x02", "\x04", 1)...)
		return le.AppendUint32(le.AppendUint32(b, 2), text+uint32(len(names)))
	case go116:
		for _, v := range []uint64{2, 1, 72, 92, 96, 108, 118} {
			head = le.AppendUint64(head, v)
		}
		b := append(append(head, make([]byte, 8)...), names...)
		b = append(le.AppendUint32(b, 0), file+values...)
		for _, v := range []uint64{0x1000, 40, 0x1040, 88, 0x1080} {
			b = le.AppendUint64(b, v)
		}
		return function(function(b, 0x1000, 0, 0, 0), 0x1040, 7, 0, 0)
	}
	for _, v := range []uint64{2, 1, 0, 72, 92, 96, 108, 118} {
		head = le.AppendUint64(head, v)
	}
	b := append(le.AppendUint32(append(head, names...), 0), file+values...)
	for _, v := range []uint32{0, 20, 0x40, 64, 0x80} {
		b = le.AppendUint32(b, v)
	}
	return function(function(b, 0, 0, 0, 4), 0x40, 7, 0, 6)
}

var goVersions = []int{go12, go116, go118, go120}

func TestGoTable(t *testing.T) {
	t.Parallel()
	for _, version := range goVersions {
		b := tinyGo(version)
		g := parseGo(bytes.NewReader(b), int64(len(b)), binary.LittleEndian)
		if g == nil {
			t.Fatalf("that of Go %d is refused", version)
		}
		if version >= go118 {
			g.text = 0x1000
		}
		for _, tt := range []struct {
			addr  uint64
			fn    Function
			file  string
			line  int
			start int // since Go 1.20
		}{
			{0xfff, Function{}, "", 0, 0},
			{0x1000, Function{"main.a", "main.a", 0x1000, 0x40, FromGo, false}, "/src/main.g", 5, 4},
			{0x1010, Function{"main.a", "main.a", 0x1000, 0x40, FromGo, false}, "/src/main.g", 7, 4},
			{0x107f, Function{"main.(*T).b", "main.(*T).b", 0x1040, 0x40, FromGo, false}, "/src/main.g", 7, 6},
			{0x1080, Function{}, "", 0, 0},
		} {
			if version < go120 {
				tt.start = 0
			}
			fn, ok := g.function(tt.addr)
			file, line := g.position(tt.addr)
			if fn != tt.fn || ok != (tt.fn.Name != "") || file != tt.file || line != tt.line || g.startLine(tt.addr) != tt.start {
				t.Errorf("Go %d, %#x: %+v, %v at %s:%d, from %d; want %+v at %s:%d, from %d",
					version, tt.addr, fn, ok, file, line, g.startLine(tt.addr), tt.fn, tt.file, tt.line, tt.start)
			}
		}
	}
}

func FuzzGoTable(f *testing.F) {
	for _, version := range goVersions {
		f.Add(tinyGo(version), uint64(0x1010))
	}
	f.Fuzz(func(t *testing.T, b []byte, addr uint64) {
		g := parseGo(bytes.NewReader(b), int64(len(b)), binary.LittleEndian)
		if g == nil {
			return
		}
		if g.version >= go118 {
			g.text = 0x1000
		}
		if fn, ok := g.function(addr); ok && fn.Name == "" {
			t.Errorf("no name at %#x", addr)
		}
		g.position(addr)
		if g.startLine(addr) < 0 {
			t.Errorf("a negative line at %#x", addr)
		}
	})
}

func FuzzModule(f *testing.F) {
	for _, name := range []string{"dwarf4.so", "dwarf5.so", "compressed.so"} {
		f.Add(small(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is not paid for may be missing anywhere.
		few, all := quota.Limits{Bytes: int64(len(b)), Time: time.Hour}, quota.Limits{Bytes: 1 << 40, Time: time.Hour}
		poor, err := ReadModule(bytes.NewReader(b), int64(len(b)), Options{MaxDWARF: 1 << 20, Account: quota.New(few, all).Of("process", 1)})
		for addr := uint64(0); err == nil && addr < 0x1000; addr += 0x10 {
			poor.Lines(addr, nil)
		}
		m, err := ReadModule(bytes.NewReader(b), int64(len(b)), Options{MaxDWARF: 1 << 20})
		if err != nil {
			return
		}
		m.Bias(0x1000, 0)
		for _, fn := range m.Named([]string{"main", "f", "malloc"}, true) {
			if fn.Offset >= uint64(len(b)) {
				t.Errorf("%+v in a file of %d bytes", fn, len(b))
			}
		}
		for _, s := range m.head.code {
			step := max((s.end-s.start)/16, 1)
			for i := range uint64(16) {
				addr := s.start + i*step
				fn, ok := m.Function(addr)
				if ok && (fn.Name == "" || addr < fn.Start || addr-fn.Start >= fn.Size) {
					t.Errorf("Function(%#x) = %+v", addr, fn)
				}
				if len(m.Lines(addr, nil)) > maxDIEDepth+1 {
					t.Errorf("Lines(%#x) does not end", addr)
				}
			}
			if s.start > s.end {
				t.Errorf("code at %#x-%#x", s.start, s.end)
			}
		}
		if n := m.bytes.Load(); n < 0 || n > 64<<20 {
			t.Errorf("%d bytes held", n)
		}
		if err := m.Close(); err != nil || m.bytes.Load() != 0 {
			t.Errorf("Close: %v, %d bytes held", err, m.bytes.Load())
		}
	})
}

func TestStubsOfARM64(t *testing.T) {
	t.Parallel()
	words := []uint32{
		0xa9bf7bf0, 0x90000090, 0xf947ca11, 0x913e4210, 0xd61f0220, 0xd503201f, 0xd503201f, 0xd503201f, // finds functions
		0x90000090, 0xf947ce11, 0x913e6210, 0xd61f0220,
		0xd503245f, 0xf0ffff90, 0xf9400211, 0x91000210, 0xd61f0220, // with bti, and a page before
	}
	var code []byte
	for _, w := range words {
		code = binary.LittleEndian.AppendUint32(code, w)
	}
	type found struct{ start, end, slot uint64 }
	var got []found
	stubsARM64(code, 0x18600, func(start, end, slot uint64) { got = append(got, found{start, end, slot}) })
	want := []found{{0x18604, 0x18614, 0x28f90}, {0x18620, 0x18630, 0x28f98}, {0x18630, 0x18644, 0xb000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(found{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDemangledNamesAreShort(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"malloc":                             "malloc",
		"_Znwm":                              "operator new",
		"_ZN4leak4growERKSsi":                "leak::grow",
		"_ZN4leak4growEi.isra.0.cold":        "leak::grow",
		"_ZN4leak3BoxIiE4growEv":             "leak::Box<int>::grow",
		"_ZNSt6vectorIiSaIiEE9push_backERKi": "std::vector<int, std::allocator<int> >::push_back",
		"_ZN5alloc3vec12Vec$LT$T$GT$4push17h0123456789abcdefE": "alloc::vec::Vec<T>::push",
		"_RNvNtCs1234_7mycrate3foo3bar":                        "mycrate::foo::bar",
		"leak_chunk.part.0":                                    "leak_chunk",
		"leak_chunk.constprop.3.cold":                          "leak_chunk",
		"a.b":                                                  "a.b",
		"main.grow":                                            "main.grow",
		"net.partial":                                          "net.partial",
		".hidden":                                              ".hidden",
		"_Znot a name":                                         "_Znot a name",
		"":                                                     "",
	} {
		if got := demangled(name); got != want {
			t.Errorf("demangled(%q) = %q, want %q", name, got, want)
		}
	}
}

// Names that double with every letter.
func TestDemanglingIsBounded(t *testing.T) {
	bounded(t, func() {
		cpp := "_Z1fI" + strings.Repeat("S_IS0_S0_E", 1000) + "E"
		for i := range 40 {
			cpp += "St4pairI" + strings.Repeat("S", i%3) + "_S_E"
		}
		var rust strings.Builder
		rust.WriteString("_RINvC1a1b")
		for range 60 {
			rust.WriteString("TB_B_E")
		}
		rust.WriteString("E")
		for _, name := range []string{cpp, rust.String(), "_Z1f" + strings.Repeat("P", 15000) + "v", "_ZN" + strings.Repeat("1aI", 5000)} {
			if got := demangled(name); len(got) > 1<<maxReadableLog+len(name) {
				t.Errorf("%d bytes", len(got))
			}
		}
	})
}

func TestSourcesHaveNames(t *testing.T) {
	t.Parallel()
	for s := FromSymtab; s <= FromMini; s++ {
		if strings.HasPrefix(s.String(), "source(") {
			t.Errorf("source %d has no name", s)
		}
	}
	if got := Source(99).String(); got != "source(99)" {
		t.Errorf("Source(99) = %s", got)
	}
}

var _ io.ReaderAt = endless{}
