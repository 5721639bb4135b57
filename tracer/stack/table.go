package stack

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"unsafe"
)

// ErrStopped is returned when the caller has stopped the reading.
var ErrStopped = errors.New("stopped before its end")

// ErrNoTable is returned for an ELF file that is sound but says nothing about
// how to unwind its code.
var ErrNoTable = errors.New("no unwind table")

// Bounds on the rows and functions of one file. What is behind them in the
// section is code without a rule. node has 0.4 million rows in 76,000
// functions, libLLVM 0.9 million in 98,000.
const (
	maxRows  = 8 << 20
	maxFuncs = 2 << 20
)

// A Table says how to unwind the code of one ELF file. It does not change, and
// any number of goroutines may use it at once.
//
// The unit is the row: from this address on, until the next row, that rule
// holds. A row takes 4 bytes: 16 bits for its distance from the start of its
// function, and 16 for the number of its rule. A function of more than 64 KiB
// has several entries.
type Table struct {
	arch  Arch
	base  uint64 // what the addresses below count from
	funcs []function
	rows  []row
	rules []rule
	saves []save
	exprs [][]byte
}

// function is a run of code with an FDE, or the part of one that rows reach.
// Functions are sorted and do not overlap.
type function struct {
	start, end uint32
	// row is the first row; the last is before that of the next function.
	// Its top bit marks what continues the function before.
	row uint32
}

const continues = 1 << 31

func (f *function) first() uint32 { return f.row &^ continues }

type row struct{ off, rule uint16 }

// ReadTable reads the call frame information of an ELF file of size bytes:
// .eh_frame, found by its section or as a running program finds it, or else
// .debug_frame. The file may be hostile: damaged entries are left out, and
// time and memory are bounded (sections of 64 MiB, 2 million functions, 8 million
// rows, 65,535 rules: a few seconds, and at worst 60 MB for the table and 300 MB
// while it is made). Functions that lie nowhere in executable segments, such as those a
// linker has removed, are left out, as are those more than 4 GiB behind the
// first segment.
//
// More, unless it is nil, is asked after every so many entries and instructions whether
// to go on, also while they are put in order.
//
// Errors are those of f, ErrStopped, a file that is no 64-bit program or shared library
// for a known machine, or ErrNoTable.
func ReadTable(f io.ReaderAt, size int64, more func(steps int) bool) (*Table, error) {
	im, err := readImage(f, size)
	if err != nil {
		return nil, err
	}
	b := newBuilder(im)
	b.more = more
	at := bases{text: im.addrOf(".text"), data: im.addrOf(".got.plt", ".got")}
	unread := ErrNoTable // or why there is none
	sections := func(name string) {
		for i := range im.secs {
			s := &im.secs[i]
			// Files with the debug information of others have the section without
			// its contents.
			if s.name != name || s.kind == elf.SHT_NOBITS {
				continue
			}
			data, err := im.data(s)
			if err != nil {
				unread = fmt.Errorf("read %s: %w", s.name, err)
				continue
			}
			at.section = s.addr
			b.parse(&frames{b: data, at: at, debug: name == ".debug_frame"})
		}
	}
	// Sections that are not where a running program looks are not to be trusted.
	addr, found := im.frameAddr()
	sound := !found || slices.ContainsFunc(im.secs, func(s section) bool { return s.name == ".eh_frame" && s.addr == addr })
	if sound {
		sections(".eh_frame")
	}
	if len(b.funcs) == 0 && found {
		if data := im.mapped(addr); data != nil {
			at.section = addr
			b.parse(&frames{b: data, at: at, endsAtZero: true})
		}
	}
	if len(b.funcs) == 0 && !sound {
		sections(".eh_frame")
	}
	if len(b.funcs) == 0 {
		sections(".debug_frame")
	}
	if len(b.funcs) == 0 && !b.stopped {
		return nil, unread
	}
	t := b.table()
	if b.stopped {
		return nil, ErrStopped
	}
	return t, nil
}

// Arch returns the architecture of the file.
func (t *Table) Arch() Arch { return t.arch }

// Bytes returns the memory that the table holds.
func (t *Table) Bytes() int {
	n := int(unsafe.Sizeof(*t)) +
		cap(t.funcs)*int(unsafe.Sizeof(function{})) +
		cap(t.rows)*int(unsafe.Sizeof(row{})) +
		cap(t.rules)*int(unsafe.Sizeof(rule{})) +
		cap(t.saves)*int(unsafe.Sizeof(save{})) +
		cap(t.exprs)*int(unsafe.Sizeof([]byte{}))
	for _, e := range t.exprs {
		n += cap(e)
	}
	return n
}

// Function returns the range [start, end) of the function around an address of
// the file, as its FDE gives it. It serves as the function's identity where
// there is no symbol. (A compiler may split a function in two, with an FDE for
// each part.)
func (t *Table) Function(addr uint64) (start, end uint64, ok bool) {
	i := t.function(addr)
	if i < 0 {
		return 0, 0, false
	}
	j := i
	for t.funcs[i].row&continues != 0 {
		i--
	}
	for j+1 < len(t.funcs) && t.funcs[j+1].row&continues != 0 {
		j++
	}
	return t.base + uint64(t.funcs[i].start), t.base + uint64(t.funcs[j].end), true
}

// function returns the index of the function around addr, or -1.
func (t *Table) function(addr uint64) int {
	if addr < t.base || addr-t.base > 0xffffffff {
		return -1
	}
	a := uint32(addr - t.base)
	lo, hi := 0, len(t.funcs)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if t.funcs[mid].start <= a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 || a >= t.funcs[lo-1].end {
		return -1
	}
	return lo - 1
}

// find returns the number of the rule for addr.
func (t *Table) find(addr uint64) uint16 {
	i := t.function(addr)
	if i < 0 {
		return noRule
	}
	f := &t.funcs[i]
	a := uint32(addr-t.base) - f.start
	lo, hi := f.first(), uint32(len(t.rows))
	if i+1 < len(t.funcs) {
		hi = t.funcs[i+1].first()
	}
	rows := t.rows[lo:hi]
	lo, hi = 0, uint32(len(rows))
	for lo < hi {
		mid := (lo + hi) / 2
		if uint32(rows[mid].off) <= a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return noRule
	}
	return rows[lo-1].rule
}

// builder collects what becomes a table, and runs the programs that make it.
type builder struct {
	im    *image
	base  uint64
	funcs []draft
	rows  []draftRow
	rules *ruleSet
	last  segment // the one that a function was in last

	more    func(steps int) bool // see ReadTable
	steps   int                  // so far
	stopped bool                 // it was said not to go on

	// For the section that is being read.
	at   bases
	fuel int // how many more bytes of program may be run

	// For the function that is being read.
	first int // its first row
	state state
	saved []state // what DW_CFA_remember_state put by
}

// draft is a function with all its rows, which need not be sorted yet.
type draft struct{ start, end, row, rows uint32 }

type draftRow struct {
	addr uint32
	rule uint16
}

func newBuilder(im *image) *builder {
	b := &builder{im: im, base: ^uint64(0)}
	for _, s := range im.load {
		if s.executable {
			b.base = min(b.base, s.addr)
		}
	}
	b.rules = newRuleSet()
	return b
}

func (b *builder) full() bool {
	return len(b.rows) >= maxRows || len(b.funcs) >= maxFuncs || b.fuel < 0 || b.stopped
}

// step counts a step of a loop, and reports whether to go on.
func (b *builder) step() bool {
	const often = 1 << 10
	if b.steps++; b.steps%often == 0 && b.more != nil && !b.stopped {
		b.stopped = !b.more(often)
	}
	return !b.stopped
}

func (b *builder) parse(f *frames) {
	f.out = b
	b.at = f.at
	b.fuel = 2*len(f.b) + 1<<16
	if b.rows == nil {
		// About half of what compilers make of so many bytes: both grow once.
		b.funcs = make([]draft, 0, len(f.b)/64+1)
		b.rows = make([]draftRow, 0, len(f.b)/12+1)
	}
	f.parse()
}

// function adds an FDE.
func (b *builder) function(c *cie, start, size uint64, prog reader) {
	if start-b.last.addr >= b.last.memSize {
		s := b.im.executable(start)
		if s == nil {
			return
		}
		b.last = *s
	}
	// Address 0 of a shared library is its ELF header: no function, but where
	// a linker leaves the FDEs of those it has removed.
	if start == 0 || size == 0 || start-b.base > 0xfffffffe {
		return
	}
	end := start + min(size, b.last.memSize-(start-b.last.addr), 0xffffffff-(start-b.base))
	b.first = len(b.rows)
	b.state = c.initial
	if pc, ok := b.exec(prog, c, true, start, end); !ok {
		b.row(pc, noRule) // what the rest says is not known
	}
	if len(b.rows) > maxRows {
		b.rows = b.rows[:b.first]
		return
	}
	b.funcs = append(b.funcs, draft{
		start: uint32(start - b.base), end: uint32(end - b.base),
		row: uint32(b.first), rows: uint32(len(b.rows) - b.first),
	})
}

// row adds a row to the function that is being read.
func (b *builder) row(pc uint64, rule uint16) {
	addr := uint32(pc - b.base)
	if n := len(b.rows); n > b.first {
		last := &b.rows[n-1]
		if last.addr == addr {
			last.rule = rule
			return
		}
		if last.rule == rule {
			return
		}
	}
	if len(b.rows) <= maxRows {
		b.rows = append(b.rows, draftRow{addr, rule})
	}
}

// table sorts, resolves overlaps and packs.
func (b *builder) table() *Table {
	// Where several FDEs have one start (identical functions that were
	// folded), the longest counts.
	order := func(x, y draft) int {
		if !b.step() {
			return 0 // so that there is little left to do
		}
		return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(y.end, x.end), cmp.Compare(x.row, y.row))
	}
	if !slices.IsSortedFunc(b.funcs, order) {
		slices.SortFunc(b.funcs, order)
	}
	b.funcs = slices.CompactFunc(b.funcs, func(x, y draft) bool { return x.start == y.start })
	// Of overlapping functions, the one that begins last counts, as it does
	// for a binary search of .eh_frame_hdr.
	n, rows := 0, 0
	for i := range b.funcs {
		f := &b.funcs[i]
		if i+1 < len(b.funcs) {
			f.end = min(f.end, b.funcs[i+1].start)
		}
		rows += int(f.rows)
		n++
		start := f.start
		for _, r := range b.rows[f.row:][:f.rows] {
			if r.addr-start > 0xffff {
				start = r.addr
				n++
			}
		}
	}
	t := &Table{
		arch: b.im.arch, base: b.base,
		funcs: make([]function, 0, n),
		rows:  make([]row, 0, rows),
		rules: slices.Clone(b.rules.rules), saves: slices.Clone(b.rules.saves), exprs: slices.Clone(b.rules.exprs),
	}
	for _, f := range b.funcs {
		start := f.start
		cur := function{start: f.start, end: f.end, row: uint32(len(t.rows))}
		for _, r := range b.rows[f.row:][:f.rows] {
			if r.addr >= f.end {
				break
			}
			if r.addr-start > 0xffff {
				start = r.addr
				cur.end = start
				t.funcs = append(t.funcs, cur)
				cur = function{start: start, end: f.end, row: uint32(len(t.rows)) | continues}
			}
			t.rows = append(t.rows, row{uint16(r.addr - start), r.rule})
		}
		t.funcs = append(t.funcs, cur)
	}
	return t
}
