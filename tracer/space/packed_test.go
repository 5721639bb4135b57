package space

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAPackedSnapshotIsTheSnapshot(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	empty := s.Packed()
	if diff := cmp.Diff(Snapshot{Regions: []Region{}}, empty.Snapshot()); diff != "" {
		t.Errorf("of nothing (-want +got):\n%s", diff)
	}
	const rows = 1000
	var rd Read
	for i := range uint64(rows) {
		r := Row{Known: DontFork | WipeOnFork | GrowsDown}
		r.Start, r.End = 0x7f00_0000_0000+3*i<<12, 0x7f00_0000_0000+(3*i+1+i%2)<<12
		switch i % 4 {
		case 0:
			r.Mode, r.Name, r.Inode, r.Offset = 5, "/lib/libx.so", 7, i<<12
			r.Dev.Minor = 3
		case 1:
			r.Mode, r.Flags = 3, DontFork
		case 2:
			r.Mode, r.Name = 1, "[anon:arena]"
		case 3:
			r.Mode, r.Name = 3, "[vdso]"
		}
		rd.Rows = append(rd.Rows, r)
	}
	rd.Range, rd.Began = All, 1
	s.Reread(rd)
	p := s.Packed()
	if diff := cmp.Diff(s.Snapshot(), p.Snapshot()); diff != "" {
		t.Errorf("(-snapshot +packed):\n%s", diff)
	}
	if n := len(s.Snapshot().Regions); n != rows || len(p.data) > 12*n {
		t.Errorf("%d regions take %d bytes", n, len(p.data))
	}
}
