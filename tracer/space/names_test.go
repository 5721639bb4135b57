package space

import (
	"strings"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

func TestAFileWithSeveralNames(t *testing.T) {
	t.Parallel()
	file := func(name string) File {
		return File{Dev: procmaps.Device{Major: 8}, Inode: 7, Class: ClassRegular, Name: name}
	}
	row := func(at uint64, name string) Row {
		return Row{Mapping: procmaps.Mapping{
			Range: procmaps.Range{Start: at * page, End: (at + 1) * page}, Mode: procmaps.Read, Dev: procmaps.Device{Major: 8}, Inode: 7, Name: name,
		}}
	}
	var time uint64
	call := func(at uint64, name string) func(*Space) {
		return func(s *Space) {
			time += 10
			s.Apply(&Call{Op: OpMmap, Time: time, Args: [6]uint64{at * page, page, 1, mapFixed | 2}, Ret: int64(at * page), File: file(name)})
		}
	}
	read := func(r procmaps.Range, rows ...Row) func(*Space) {
		return func(s *Space) {
			time += 10
			s.Reread(Read{Range: r, Rows: rows, Began: time, Ended: time})
		}
	}
	segment := func(at uint64, name string) func(*Space) {
		return func(s *Space) {
			time += 10
			c := Call{Op: OpShmat, Time: time, Ret: int64(at * page), VMA: procmaps.Range{Start: at * page, End: (at + 1) * page}}
			c.File = File{Dev: procmaps.Device{Minor: 1}, Class: ClassSysV, Name: name}
			s.Apply(&c)
		}
	}
	other := row(0x20, "/d/c")
	other.Inode++
	long := strings.Repeat("n", 90)
	one := procmaps.Range{Start: 0x10 * page, End: 0x11 * page}
	for name, tt := range map[string]struct {
		do   []func(*Space)
		want bool
	}{
		"one name":                        {[]func(*Space){call(0x10, "a"), call(0x20, "a")}, false},
		"two names of calls":              {[]func(*Space){call(0x10, "a"), call(0x20, "b")}, true},
		"the other is gone":               {[]func(*Space){call(0x10, "a"), call(0x10, "b")}, false},
		"a path and its end":              {[]func(*Space){call(0x10, "a"), read(All, row(0x10, "/d/a")), call(0x20, "a")}, false},
		"another path":                    {[]func(*Space){call(0x10, "a"), read(All, row(0x10, "/d/a")), call(0x20, "b")}, true},
		"it has no path any more":         {[]func(*Space){call(0x10, "a"), call(0x20, "a"), read(one, row(0x10, "/d/a (deleted)"))}, false},
		"an end that is cut":              {[]func(*Space){call(0x10, long[:MostName]), call(0x20, "x"), read(All, row(0x10, "/d/"+long), row(0x20, "/d/"+long)), call(0x30, long[:MostName])}, false},
		"renamed, all of it is read":      {[]func(*Space){call(0x10, "a"), call(0x20, "a"), read(All, row(0x10, "/d/b"), row(0x20, "/d/b"))}, false},
		"renamed or linked, a part is":    {[]func(*Space){call(0x10, "a"), call(0x20, "a"), read(one, row(0x10, "/d/b"))}, true},
		"two paths are read":              {[]func(*Space){read(All, row(0x10, "/d/a"), row(0x20, "/e/a"))}, true},
		"two paths are read of two files": {[]func(*Space){call(0x10, "a"), read(All, row(0x10, "/d/b"), other)}, false},
		"two names, and then all is read": {[]func(*Space){call(0x10, "a"), call(0x20, "b"), read(All, row(0x10, "/d/b"), row(0x20, "/d/b"))}, false},
		"one segment, attached twice":     {[]func(*Space){segment(0x10, "SYSV00001111"), segment(0x20, "SYSV00001111")}, false},
		"segments of two IPC namespaces":  {[]func(*Space){segment(0x10, "SYSV00001111"), segment(0x20, "SYSV00002222")}, true},
		"a line break":                    {[]func(*Space){call(0x10, `a\012b`), read(All, row(0x10, `/d/a\012b`)), call(0x20, `a\012b`)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{})
			for _, do := range tt.do {
				do(s)
			}
			if got := s.Aliased(); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
			if child, _ := s.Clone(time + 1); child.Aliased() != tt.want {
				t.Error("its child has it otherwise")
			}
		})
	}
}

// TestAnonymousInodesAreToldApartByName maps a perf buffer and a BPF map, which have one inode,
// as calls and as rows.
func TestAnonymousInodesAreToldApartByName(t *testing.T) {
	t.Parallel()
	const perf, bpf = "anon_inode:[perf_event]", "anon_inode:bpf-map"
	id := File{Dev: procmaps.Device{Minor: 16}, Inode: 1038}
	at := func(i int) procmaps.Range {
		return procmaps.Range{Start: uint64(0x10*(i+1)) * page, End: uint64(0x10*(i+1)+1) * page}
	}
	for _, names := range [][]string{{perf, bpf}, {bpf, perf}, {perf, bpf, perf}} {
		called, read := New(Options{}), New(Options{})
		var rows []Row
		for i, name := range names {
			f := id
			f.Class, f.Name = ClassAnonInode, name
			r := at(i)
			called.Apply(&Call{Op: OpMmap, Time: uint64(i + 1), Args: [6]uint64{r.Start, page, 1, mapFixed | 1}, Ret: int64(r.Start), File: f})
			rows = append(rows, Row{Mapping: procmaps.Mapping{Range: r, Mode: procmaps.Read | procmaps.Shared, Dev: id.Dev, Inode: id.Inode, Name: name}})
		}
		read.Reread(Read{Range: All, Rows: rows, Began: 1, Ended: 1})
		for i, name := range names {
			for how, s := range map[string]*Space{"called": called, "read": read} {
				if got := s.Regions(nil); len(got) != len(names) || got[i].Name != name || s.Aliased() {
					t.Errorf("%s, %v: %v, aliased %t", how, names, got, s.Aliased())
				}
			}
		}
	}
}
