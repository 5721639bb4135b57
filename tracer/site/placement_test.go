package site

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

func TestFramesAreWhereTheirModuleWasFirstMapped(t *testing.T) {
	t.Parallel()
	type memory struct {
		Addr   uint64
		In     procmaps.Range
		Offset uint64
	}
	// A file with two segments of code, at different distances from their addresses.
	const bias = 0x7f0000000000
	m := &Module{Path: "/lib/x.so", Err: io.EOF}
	for _, p := range []struct {
		bias       uint64
		start, end uint64 // in the file's numbering
		offset     uint64
	}{
		{bias, 0x2000, 0x4000, 0x1000},           // a piece from the middle of the first
		{bias, 0x3000, 0x5000, 0x2000},           // one that begins in it
		{bias, 0x1000, 0x2000, 0},                // its begin
		{bias, 0x9000, 0xa000, 0x5000},           // the second
		{bias + 1<<30, 0x4000, 0x6000, 0x3000},   // the first in another process
		{bias + 1<<30, 0x9000, 0x9800, 0x5000},   // and the second
		{bias + 1<<30, 0x10000, 0x11000, 0xf000}, // more of the first, after a hole
	} {
		m.mapped(p.bias, part{procmaps.Range{Start: p.start + p.bias, End: p.end + p.bias}, p.offset})
	}
	first := procmaps.Range{Start: bias + 0x1000, End: bias + 0x11000}
	for _, tt := range []struct {
		name  string
		frame Frame
		want  memory
	}{
		{"an instruction", Frame{Module: m, Addr: 0x2345}, memory{bias + 0x2345, first, 0}},
		{"a call, by where it returns", Frame{Module: m, Addr: 0x2345, Call: true}, memory{bias + 0x2344, first, 0}},
		{"a call that ends a mapping", Frame{Module: m, Addr: 0x11000, Call: true}, memory{bias + 0x10fff, first, 0}},
		{"the second segment", Frame{Module: m, Addr: 0x9000}, memory{bias + 0x9000, procmaps.Range{Start: bias + 0x9000, End: bias + 0xa000}, 0x5000}},
		{"code without a file", Frame{Addr: 0x1234, pid: 7}, memory{Addr: 0x1234}},
		{"a module that was never mapped", Frame{Module: &Module{}, Addr: 0x1234}, memory{Addr: 0x1234}},
	} {
		var got memory
		got.Addr, got.In, got.Offset = tt.frame.Memory()
		if diff := cmp.Diff(got, tt.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", tt.name, diff)
		}
	}
}

func TestAModuleLearnsTheWholeOfItsPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ known, full, want string }{
		{"x.so", "/lib/x.so", "/lib/x.so"},
		{"x.so", "/lib/x.so (deleted)", "/lib/x.so"},
		{"x.so", "", "x.so"},
		{"x.so", "x.so", "x.so"},
		{"x.so", "/lib/y.so", "x.so"}, // it was renamed, or is not what it seems
		{"/lib/x.so", "/usr/lib/x.so", "/lib/x.so"},
		{"[vdso]", "", "[vdso]"},
	} {
		m := &Module{Path: tt.known}
		if m.learnPath(tt.full); m.Path != tt.want {
			t.Errorf("%q, and then %q: %q, want %q", tt.known, tt.full, m.Path, tt.want)
		}
	}
}
