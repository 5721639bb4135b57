package table

import (
	"encoding/csv"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// explained is the sample with what its rows are for.
func explained(t *testing.T) *Process {
	t.Helper()
	s, err := procmaps.ParseSmaps([]byte(sample), "sample")
	if err != nil {
		t.Fatal(err)
	}
	p := sampleProcess(t)
	p.Explain(s, nil, nil)
	return p
}

func TestGroups(t *testing.T) {
	tests := []struct {
		by   string
		opt  Options
		want string
	}{
		{"kind", Options{}, `
    Rows   Kbytes     % Reserved  Noresrv   Commit      RSS     %      PSS    Dirty     Swap     Huge  Hugetlb Kind
       1  1048576 100.0        0        0  1048576    12000  99.8        0    12000        0        0        0 heap
       1      132   0.0        0        0      132       12   0.1        0       12        0        0        0 stack
       1        8   0.0        0        0        0        8   0.1        0        3        0        0        0 file
       1        4   0.0        0        0        4        4   0.0        0        4        0        0        0 anon
       1        4   0.0        0        0        4        0   0.0        0        0        0        0        0 shared
`},
		{"mode", Options{}, `
    Rows   Kbytes     % Reserved  Noresrv   Commit      RSS     %      PSS    Dirty     Swap     Huge  Hugetlb Mode
       3  1048712 100.0        0        0  1048712    12016  99.9        0    12016        0        0        0 rw-p
       1        8   0.0        0        0        0        8   0.1        0        3        0        0        0 r-xp
       1        4   0.0        0        0        4        0   0.0        0        0        0        0        0 rw-s
`},
		{"path", Options{Human: true}, `
    Rows     Size     % Reserved  Noresrv   Commit      RSS     %      PSS    Dirty     Swap     Huge  Hugetlb Path
       1     1.0G 100.0       0K       0K     1.0G      12M  99.8       0K      12M       0K       0K       0K [heap]
       1     132K   0.0       0K       0K     132K      12K   0.1       0K      12K       0K       0K       0K [stack]
       1       8K   0.0       0K       0K       0K       8K   0.1       0K       3K       0K       0K       0K a b
       1       4K   0.0       0K       0K       4K       4K   0.0       0K       4K       0K       0K       0K [anon:a/b]
       1       4K   0.0       0K       0K       4K       0K   0.0       0K       0K       0K       0K       0K SYSV00000000 (deleted)
`},
	}
	for _, tt := range tests {
		t.Run(tt.by, func(t *testing.T) {
			groups := explained(t).GroupRows(tt.by)
			a := NewAligned(GroupColumns(tt.by, groups, tt.opt))
			got := "\n" + string(a.AppendHeader(nil))
			for _, g := range groups {
				got += string(a.AppendRow(nil, g))
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

func TestGroupsHaveTheirHugePages(t *testing.T) {
	text := strings.ReplaceAll(sample, "THPeligible:           1\n", "AnonHugePages: 2048 kB\nShmemPmdMapped: 4 kB\nFilePmdMapped: 2 kB\nShared_Hugetlb: 4096 kB\nPrivate_Hugetlb: 8 kB\nTHPeligible:           1\n")
	s, err := procmaps.ParseSmaps([]byte(text), "sample")
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Keys: s.Keys, Rows: SmapsRows(s)}
	var huge, hugetlb uint64
	for _, g := range p.GroupRows("mode") {
		huge += g.HugeKB
		hugetlb += g.HugetlbKB
	}
	if huge != 2054 || hugetlb != 4104 {
		t.Errorf("%d kB of huge pages, %d of hugetlb", huge, hugetlb)
	}
}

func TestGroupsOfNothing(t *testing.T) {
	if got := (&Process{}).GroupRows("kind"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestSelection(t *testing.T) {
	tests := []struct {
		name string
		sel  Selection
		want string // addresses
	}{
		{"nothing asked", Selection{}, "400000 600000 7f0000000000 7f0000002000 7ffd00000000"},
		{"by size", Selection{By: "size"}, "600000 7ffd00000000 400000 7f0000000000 7f0000002000"},
		{"by resident memory, two", Selection{By: "rss", Top: 2}, "600000 7ffd00000000"},
		{"by dirty memory", Selection{By: "dirty"}, "600000 7ffd00000000 7f0000002000 400000 7f0000000000"},
		{"kinds", Selection{Kinds: []procmaps.Kind{procmaps.KindStack, procmaps.KindFile}}, "400000 7ffd00000000"},
		{"a range before the first two", Selection{Limit: &Limit{0x600000, 0x7f0000002000}, By: "size", Top: 2}, "600000 7f0000000000"},
		{"the first by address", Selection{By: "address", Top: 1}, "400000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := sampleProcess(t)
			if err := tt.sel.Apply(p); err != nil {
				t.Fatal(err)
			}
			var got []string
			for r := range p.Rows {
				got = append(got, strings.TrimLeft(string(hexDigits(1)(nil, Uint(r.Mapping.Start))), "0"))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
		})
	}
	p := sampleProcess(t)
	err := (&Selection{By: "weight"}).Apply(p)
	const want = `sort key "weight": want one of address, dirty, kernelpagesize, private_dirty, rss, shared_dirty, size, thpeligible`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if n := len(slices.Collect(p.Rows)); n != 5 {
		t.Errorf("%d rows are left after an error, want 5", n)
	}
}

func TestOrderNamesTheKeys(t *testing.T) {
	groups := explained(t).GroupRows("kind")
	columns := GroupColumns("kind", groups, Options{})
	got, err := Order(columns, groups, "rows", 2)
	if err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Order(columns, groups, "weight", 0); err == nil || !strings.Contains(err.Error(), "size, size_percent, reserved") {
		t.Errorf("error %v", err)
	}
}

// Both forms for programs must be readable whatever a program called its memory.
func TestNamesSurviveJSONAndCSV(t *testing.T) {
	names := []string{"", "/plain", "/a,b", `/quo"te`, " lead", "/back\\slash", "/new\\012line", "/esc\x1b[31m", "/c1\u009b", "/bad\xff", "/é", "/<&>"}
	var rows []procmaps.Mapping
	for i, name := range names {
		start := uint64(i+1) << 12
		rows = append(rows, procmaps.Mapping{Range: procmaps.Range{Start: start, End: start + 4096}, Name: name})
	}
	p := &Process{Rows: MapsRows(rows)}
	columns := p.Columns()
	text := AppendCSVHeader(nil, columns)
	for r := range p.Rows {
		var o struct {
			Mapping string
			Size    uint64
			RSS     *uint64 `json:"rss_kb"`
		}
		line := AppendJSON(nil, columns, r)
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if want := strings.ReplaceAll(r.Mapping.Name, "\xff", `\xff`); o.Mapping != want || o.Size != 4096 || o.RSS != nil {
			t.Errorf("%s: got %+v, want %q", line, o, want)
		}
		if strings.ContainsAny(string(line), "\x1b\u009b") {
			t.Errorf("control characters in %q", line)
		}
		text = AppendCSV(text, columns, r)
	}
	records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(records) != len(names)+1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	at := slices.Index(records[0], "mapping")
	for i, name := range names {
		if got := records[i+1][at]; got != Escape(name) {
			t.Errorf("name %q became %q", name, got)
		}
	}
}
