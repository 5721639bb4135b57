package procmaps

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// flat is a row of smaps as a value that can be compared.
type flat struct {
	Mapping Mapping
	Flags   string
	Numbers map[string]uint64
	Text    []TextValue
}

func flatten(s *Smaps) []flat {
	var rows []flat
	for i := range s.Rows {
		r := &s.Rows[i]
		f := flat{Mapping: r.Mapping, Flags: r.Flags.String(), Numbers: map[string]uint64{}, Text: r.Text}
		for k, key := range s.Keys {
			if v, ok := r.Value(k); ok {
				f.Numbers[key.Name] = v
			}
		}
		rows = append(rows, f)
	}
	return rows
}

const threeRows = `00400000-00401000 r-xp 00001000 08:01 7                                  /bin/a b: c
Size:                  4 kB
Rss:                   4 kB
THPeligible:           0
VmFlags: rd ex mr mw me zz 
00500000-00502000 rw-p 00000000 00:00 0 
Size:                  8 kB
Name:           [anon:libc malloc]
Rss:                   0 kB
FromTheFuture:        17
THPeligible:    1
ProtectionKey:         3
VmFlags:
00600000-00601000 ---p 00000000 00:00 0 
Size:                  4 kB
Rss:                   1 kB
THPeligible:           0
`

func TestParseSmapsKeepsEveryKeyOfEveryRow(t *testing.T) {
	s, err := ParseSmaps([]byte(threeRows), "smaps")
	if err != nil {
		t.Fatal(err)
	}
	keys := []Key{{"Size", true}, {"Rss", true}, {"THPeligible", false}, {"FromTheFuture", false}, {"ProtectionKey", false}}
	if diff := cmp.Diff(s.Keys, keys); diff != "" {
		t.Errorf("keys (-got +want):\n%s", diff)
	}
	want := []flat{
		{
			Mapping: Mapping{Range{0x400000, 0x401000}, Read | Exec, 0x1000, Device{8, 1}, 7, "/bin/a b: c"},
			Flags:   "rd ex mr mw me zz", Numbers: map[string]uint64{"Size": 4, "Rss": 4, "THPeligible": 0},
		},
		{
			Mapping: Mapping{Range: Range{0x500000, 0x502000}, Mode: Read | Write},
			Numbers: map[string]uint64{"Size": 8, "Rss": 0, "FromTheFuture": 17, "THPeligible": 1, "ProtectionKey": 3},
			Text:    []TextValue{{"Name", "[anon:libc malloc]"}},
		},
		{
			Mapping: Mapping{Range: Range{0x600000, 0x601000}},
			Numbers: map[string]uint64{"Size": 4, "Rss": 1, "THPeligible": 0},
		},
	}
	if diff := cmp.Diff(flatten(s), want); diff != "" {
		t.Errorf("rows (-got +want):\n%s", diff)
	}
	if v, ok := s.Rows[1].KB("Rss"); v != 0 || !ok {
		t.Errorf("KB of a zero = %d, %v", v, ok)
	}
	for _, key := range []string{"ProtectionKey", "FromTheFuture", "Pss"} {
		if v, ok := s.Rows[0].KB(key); ok {
			t.Errorf("KB(%q) = %d of a row that has no such amount", key, v)
		}
	}
	if v, ok := s.Rows[1].KB("ProtectionKey"); ok {
		t.Errorf("KB(ProtectionKey) = %d, but it is not an amount of memory", v)
	}
	if v, ok := s.Rows[1].Number("ProtectionKey"); v != 3 || !ok {
		t.Errorf("Number(ProtectionKey) = %d, %v; want 3", v, ok)
	}
	if got := s.SumKB("Size"); got != 16 {
		t.Errorf("SumKB(Size) = %d, want 16", got)
	}
	if got := s.SumKB("THPeligible") + s.SumKB("none"); got != 0 {
		t.Errorf("the sum of what is not memory is %d", got)
	}
	if i, ok := s.Index("FromTheFuture"); i != 3 || !ok {
		t.Errorf("Index(FromTheFuture) = %d, %v; want 3", i, ok)
	}
}

func TestTabsMayStandBeforeAValue(t *testing.T) {
	const head = "00400000-00401000 r-xp 00001000 08:01 7 /x\n"
	const spaces = head + "Rss:      4 kB\nTHPeligible:    0\nName:  [anon:a\tb]\nVmFlags: rd ex \n"
	const tabs = head + "Rss:\t4 kB\nTHPeligible:\t\t0\nName: \t[anon:a\tb]\nVmFlags:\trd ex \n"
	want, err := ParseSmaps([]byte(spaces), "smaps")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := want.Rows[0].Number("THPeligible"); !ok {
		t.Fatal("the row has no THPeligible with spaces either")
	}
	// The key is known by then in the second row, and new in the first.
	for rows, text := range map[string]string{
		"a first row": tabs, "a later row": spaces + strings.ReplaceAll(tabs, "0040", "0050"),
	} {
		got, err := ParseSmaps([]byte(text), "smaps")
		if err != nil {
			t.Fatalf("%s: %v", rows, err)
		}
		last := flatten(got)[len(got.Rows)-1]
		last.Mapping = want.Rows[0].Mapping
		if diff := cmp.Diff(last, flatten(want)[0]); diff != "" {
			t.Errorf("%s (-tabs +spaces):\n%s", rows, diff)
		}
	}
}

func TestTheZeroSmapsRowHasNoNumbers(t *testing.T) {
	var r SmapsRow
	for name, get := range map[string]func() (uint64, bool){
		"KB":     func() (uint64, bool) { return r.KB("Rss") },
		"Number": func() (uint64, bool) { return r.Number("Rss") },
		"Value":  func() (uint64, bool) { return r.Value(0) },
	} {
		if v, ok := get(); ok {
			t.Errorf("%s = %d", name, v)
		}
	}
}

func TestParseSmapsRefuses(t *testing.T) {
	const head = "00400000-00401000 r-xp 00001000 08:01 7 /x\n"
	tests := []struct{ name, text, reason string }{
		{"a key before any mapping", "Size: 4 kB\n", "a key before the first mapping"},
		{"a key twice", head + "Size: 4 kB\nRss: 4 kB\nSize: 4 kB\n", "the mapping has this key twice"},
		{"a number that stops", head + "Size: 4 kB\nRss: 4x\n", "want a number without a unit"},
		{"a unit that is gone", head + "Size: 4 kB\n" + strings.Replace(head, "4", "5", 2) + "Size: 4\n", "want a number of kB"},
		{"a number that became text", head + "Size: 4 kB\n" + strings.Replace(head, "4", "5", 2) + "Size: none\n", "bad number"},
		{"a number of 65 bits", head + "Size: 18446744073709551616 kB\n", "bad number"},
		{"a flag of three letters", head + "VmFlags: rd wrx \n", "bad VmFlags"},
		{"a row without a key or a range", head + "nonsense\n", "bad start address"},
		{"an empty key", head + ": 4 kB\n", "bad start address"},
		{"rows that overlap", head + head, "addresses go backwards"},
		{"text that was cut", head + "Size: 4 k", "the last line has no newline"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSmaps([]byte(tt.text), "x/smaps")
			var pe *ParseError
			if !errors.As(err, &pe) || !errors.Is(err, ErrParse) || s != nil {
				t.Fatalf("ParseSmaps = %v, %v; want a ParseError", s, err)
			}
			if pe.File != "x/smaps" || pe.Reason != tt.reason || pe.Line != strings.Count(strings.TrimSuffix(tt.text, "\n"), "\n")+1 {
				t.Errorf("error %v; want %q in the last line", pe, tt.reason)
			}
		})
	}
}

func TestReadSmapsEndsWithTheReadersError(t *testing.T) {
	broken := errors.New("broken")
	if s, err := ReadSmaps(iotest.ErrReader(broken), "smaps"); !errors.Is(err, broken) || s != nil {
		t.Errorf("ReadSmaps = %v, %v; want %v", s, err, broken)
	}
}

func TestATornSmapsIsMended(t *testing.T) {
	p := newSmapsParser()
	p.maps.mend = true
	s, err := p.parse(&lines{file: "smaps", buf: []byte(`00001000-00003000 rw-p 00000000 00:00 0 
Rss:                   1 kB
00002000-00003000 rw-p 00000000 00:00 0 
Rss:                   2 kB
VmFlags: rd 
00002000-00004000 rw-p 00000000 00:00 0 
Rss:                   3 kB
`)})
	if err != nil {
		t.Fatal(err)
	}
	want := []flat{
		{Mapping: Mapping{Range: Range{0x1000, 0x3000}, Mode: Read | Write}, Numbers: map[string]uint64{"Rss": 1}},
		{Mapping: Mapping{Range: Range{0x3000, 0x4000}, Mode: Read | Write}, Numbers: map[string]uint64{"Rss": 3}},
	}
	if diff := cmp.Diff(flatten(s), want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestParseRollup(t *testing.T) {
	row, err := ParseRollup([]byte("00400000-7ffd00000000 ---p 00000000 00:00 0                          [rollup]\nRss: 5 kB\nPss_Anon: 3 kB\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	want := Mapping{Range: Range{0x400000, 0x7ffd00000000}, Name: "[rollup]"}
	if v, ok := row.KB("Pss_Anon"); row.Mapping != want || v != 3 || !ok {
		t.Errorf("got %+v with Pss_Anon %d, %v", row.Mapping, v, ok)
	}
	row, err = ParseRollup([]byte("00000000-00000000 ---p 00000000 00:00 0                          [rollup]\nRss: 0 kB\n"), "f")
	if err != nil || row.Mapping != (Mapping{Name: "[rollup]"}) {
		t.Errorf("a process without mappings: %+v, %v", row, err)
	}
	for _, bad := range []string{"", threeRows} {
		if _, err := ParseRollup([]byte(bad), "f"); !errors.Is(err, ErrParse) {
			t.Errorf("%q: error %v, want %v", bad, err, ErrParse)
		}
	}
}

func TestVmFlags(t *testing.T) {
	f, ok := ParseVmFlags("rd wr dc zz ")
	if !ok || f.String() != "rd wr dc zz" {
		t.Fatalf("got %q, %v", f, ok)
	}
	for code, want := range map[string]bool{
		"rd": true, "dc": true, "zz": true, "ex": false, "": false, "d ": false, " d": false, "r": false, "rd wr": false,
	} {
		if f.Has(code) != want {
			t.Errorf("Has(%q) = %v", code, !want)
		}
	}
	if got := slices.Collect(f.All()); !slices.Equal(got, []string{"rd", "wr", "dc", "zz"}) {
		t.Errorf("All() = %q", got)
	}
	if g, _ := ParseVmFlags("rd wr dc zz"); f != g {
		t.Error("equal sets differ")
	}
	if f, ok := ParseVmFlags(""); !ok || f != (VmFlags{}) || f.Has("rd") || len(slices.Collect(f.All())) != 0 {
		t.Errorf("the empty set is %q, %v", f, ok)
	}
	for _, bad := range []string{"r", "rdx", "rd  wr", "rd wr  ", " rd", "rd wrx "} {
		if f, ok := ParseVmFlags(bad); ok {
			t.Errorf("ParseVmFlags(%q) = %q", bad, f)
		}
	}
}

func TestParseSmapsAllocatesNothingPerRow(t *testing.T) {
	count := func(rows int) float64 {
		data := []byte(smapsText(rows))
		return testing.AllocsPerRun(5, func() {
			if _, err := ParseSmaps(data, "smaps"); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Growing the result to ten times its size takes a few more steps.
	few, many := count(1000), count(10_000)
	if many > few+30 || many > 150 {
		t.Errorf("%v allocations for 1,000 rows, %v for 10,000", few, many)
	}
}

func smapsText(n int) string {
	maps := strings.SplitAfter(mapsText(n), "\n")
	var b strings.Builder
	for _, row := range maps[:n] {
		b.WriteString(row)
		for i, key := range []string{
			"Size", "KernelPageSize", "MMUPageSize", "Rss", "Pss", "Pss_Dirty", "Shared_Clean",
			"Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "KSM", "LazyFree", "AnonHugePages",
			"ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss", "Locked",
		} {
			b.WriteString(key + ":          " + strconv.Itoa(4*i) + " kB\n")
		}
		b.WriteString("THPeligible:           0\nVmFlags: rd wr mr mw me ac sd \n")
	}
	return b.String()
}

func BenchmarkParseSmaps(b *testing.B) {
	const rows = 2000
	data := []byte(smapsText(rows))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSmaps(data, "smaps"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}

func FuzzParseSmaps(f *testing.F) {
	addFixtures(f, "smaps")
	f.Add([]byte(threeRows))
	f.Add([]byte("0-1 r-xp 0 0:0 0 \nSize:\nSize:0\n"))
	f.Add([]byte("0-1 r-xp 0 0:0 0\nTHPeligible:\t\t0\nName:\t[a\tb]\nVmFlags: rd ??\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSmaps(data, "smaps")
		if err != nil {
			if !errors.Is(err, ErrParse) || s != nil {
				t.Fatalf("got %v, %v", s, err)
			}
			return
		}
		// Print what was understood, in the order of Keys, and read it again.
		var text []byte
		for i := range s.Rows {
			r := &s.Rows[i]
			text = append(r.Append(text), '\n')
			for k, key := range s.Keys {
				if v, ok := r.Value(k); ok {
					text = append(text, key.Name+": "+strconv.FormatUint(v, 10)...)
					if key.KB {
						text = append(text, " kB"...)
					}
					text = append(text, '\n')
				}
			}
			for _, v := range r.Text {
				text = append(text, v.Key+": "+v.Text+"\n"...)
			}
			text = append(text, "VmFlags: "+r.Flags.String()+"\n"...)
		}
		again, err := ParseSmaps(text, "again")
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got, want := flatten(again), flatten(s); !reflect.DeepEqual(got, want) {
			t.Fatalf("read again (-got +want):\n%s", cmp.Diff(got, want))
		}
	})
}

func FuzzParseRollup(f *testing.F) {
	addFixtures(f, "smaps_rollup")
	f.Add([]byte("00000000-00000000 ---p 00000000 00:00 0 [rollup]\nRss: 0 kB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if row, err := ParseRollup(data, "f"); (row == nil) == (err == nil) {
			t.Fatalf("got %v, %v", row, err)
		}
	})
}

func TestKeysOfTheKernels(t *testing.T) {
	const oldest = "Size KernelPageSize MMUPageSize Rss Pss Shared_Clean Shared_Dirty Private_Clean Private_Dirty Referenced " +
		"Anonymous LazyFree AnonHugePages ShmemPmdMapped FilePmdMapped Shared_Hugetlb Private_Hugetlb Swap SwapPss Locked THPeligible"
	withPssDirty := strings.Replace(oldest, " Pss ", " Pss Pss_Dirty ", 1)
	newest := strings.Replace(withPssDirty, " Anonymous ", " Anonymous KSM ", 1)
	tests := []struct {
		pid    int
		kernel string
		want   string
	}{
		{104, "5.10", oldest},
		{105, "6.1 with protection keys", withPssDirty + " ProtectionKey"},
		{106, "6.12", newest},
		{101, "6.18", newest},
	}
	for _, tt := range tests {
		t.Run(tt.kernel, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", "proc", strconv.Itoa(tt.pid), "smaps"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := ParseSmaps(data, "smaps")
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, k := range s.Keys {
				names = append(names, k.Name)
				if unit := k.Name != "THPeligible" && k.Name != "ProtectionKey"; k.KB != unit {
					t.Errorf("%s: KB is %v", k.Name, k.KB)
				}
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("keys\n%s, want\n%s", got, tt.want)
			}
			for i := range s.Rows {
				if len(flatten(s)[i].Numbers) != len(s.Keys) {
					t.Errorf("row %d lacks a key", i)
				}
			}
		})
	}
}
