package space

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

const page = 4096

// checkInvariants fails the test where the structure of the tree is broken.
func (s *Space) checkInvariants() error {
	l := &s.list
	var last *cell
	var mapped, end uint64
	cells, alive := 0, 0
	if len(l.chunks) != len(l.first) {
		return fmt.Errorf("%d chunks, %d in the index", len(l.chunks), len(l.first))
	}
	for ci, ch := range l.chunks {
		if ch.n == 0 || ch.n > chunkCap {
			return fmt.Errorf("chunk %d has %d cells", ci, ch.n)
		}
		if l.first[ci] != ch.c[0].start {
			return fmt.Errorf("chunk %d starts at %x, index says %x", ci, ch.c[0].start, l.first[ci])
		}
		for i := range ch.n {
			c := &ch.c[i]
			switch {
			case c.start >= c.end:
				return fmt.Errorf("empty cell %v", c.rng())
			case last != nil && c.start < last.end:
				return fmt.Errorf("cell %v overlaps %v", c.rng(), last.rng())
			case c.newest() == 0:
				return fmt.Errorf("cell %v remembers nothing", c.rng())
			case !c.alive() && (c.file != 0 || c.off != 0 || c.op != 0 || c.ops != 0 || c.extents != 0 || c.flag&special != 0 || c.mode&procmaps.Shared != 0):
				return fmt.Errorf("hole %v holds properties of a mapping: %+v", c.rng(), *c)
			case c.alive() && (c.op == 0 || c.ops == 0 || c.extents == 0 || c.mapAt == 0):
				return fmt.Errorf("extent %v has no origin: %+v", c.rng(), *c)
			case int(c.file) >= len(s.tab.files) || int(c.name) >= len(s.tab.names):
				return fmt.Errorf("cell %v has identifiers out of range", c.rng())
			case c.file != 0 && s.tab.files[c.file].Class == 0:
				return fmt.Errorf("extent %v has a freed file", c.rng())
			}
			if c.alive() {
				mapped += c.rng().Len()
				end = c.end
				alive++
			}
			cells++
			last = c
		}
	}
	if s.End() != end {
		return fmt.Errorf("the end is %x, said to be %x", end, s.End())
	}
	if cells != l.cells || alive != l.alive || mapped != s.mapped {
		return fmt.Errorf("counted %d cells, %d extents, %d bytes; kept %d, %d, %d",
			cells, alive, mapped, l.cells, l.alive, s.mapped)
	}
	return nil
}

// pageState is what the oracle knows of one mapped page.
type pageState struct {
	mode       procmaps.Mode
	inode      uint64 // 0: private anonymous memory
	class      Class
	off        uint64 // pages
	name       string
	dc, wf, gd bool
}

// oracle is an address space kept page by page.
type oracle struct {
	pages map[uint64]pageState
	brk   uint64
	// flagless are where the flags are left out of comparisons.
	flagless []procmaps.Range
}

func (o *oracle) clone() *oracle { return &oracle{pages: maps.Clone(o.pages), brk: o.brk} }

// rows renders the oracle as the kernel would, one row a page: the tree must
// not care how rows are cut.
func (o *oracle) rows(r procmaps.Range) []Row {
	var rows []Row
	for _, p := range slices.Sorted(maps.Keys(o.pages)) {
		if !r.Contains(p * page) {
			continue
		}
		st := o.pages[p]
		row := Row{Mapping: procmaps.Mapping{
			Range: procmaps.Range{Start: p * page, End: (p + 1) * page}, Mode: st.mode,
			Offset: st.off * page, Inode: st.inode, Name: pathOf(st),
		}, Known: GrowsDown | DontFork | WipeOnFork}
		if st.inode != 0 {
			row.Dev = procmaps.Device{Minor: 1}
		}
		for f, on := range map[Flags]bool{GrowsDown: st.gd, DontFork: st.dc, WipeOnFork: st.wf} {
			if on {
				row.Flags |= f
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func pathOf(st pageState) string {
	switch {
	case st.class == ClassSysV:
		return fmt.Sprintf("/SYSV%08x (deleted)", st.inode)
	case st.class == ClassAnonShared && st.name != "":
		return "[anon_shmem:" + st.name + "]"
	case st.class == ClassAnonShared:
		return "/dev/zero (deleted)"
	case st.inode != 0:
		return fmt.Sprintf("/lib/file%d", st.inode)
	case st.name != "":
		return "[anon:" + st.name + "]"
	}
	return ""
}

func mappings(rows []Row) []procmaps.Mapping {
	out := make([]procmaps.Mapping, len(rows))
	for i := range rows {
		out[i] = rows[i].Mapping
	}
	return out
}

// diff compares tree and oracle page by page, outside of skip.
func (o *oracle) diff(s *Space, skip []procmaps.Range) string {
	var b strings.Builder
	tree := map[uint64]pageState{}
	for e := range s.Extents(All) {
		f := s.File(e.File)
		for a := e.Start; a < e.End; a += page {
			st := pageState{
				mode: e.Mode, inode: f.Inode, class: f.Class,
				dc: e.Flags&DontFork != 0, wf: e.Flags&WipeOnFork != 0, gd: e.Flags&GrowsDown != 0,
			}
			c := s.list.cell(s.list.find(a))
			st.name = s.tab.names[c.name].raw
			if e.File != 0 {
				st.off = (e.Offset + a - e.Start) / page
			}
			tree[a/page] = st
		}
	}
	all := maps.Clone(tree)
	maps.Copy(all, o.pages)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if slices.ContainsFunc(skip, func(r procmaps.Range) bool { return r.Contains(p * page) }) {
			continue
		}
		got, gotOK := tree[p]
		want, wantOK := o.pages[p]
		if got.class == ClassAnonShared && got.inode == 0 {
			got.inode = want.inode // identity not told to the tree
		}
		if slices.ContainsFunc(o.flagless, func(r procmaps.Range) bool { return r.Contains(p * page) }) {
			got.dc, got.wf, got.gd = want.dc, want.wf, want.gd
		}
		if gotOK != wantOK || got != want {
			fmt.Fprintf(&b, "page %x: got %v %+v, want %v %+v\n", p, gotOK, got, wantOK, want)
		}
	}
	return b.String()
}

// chooser makes the choices of the generator: at random, or from fuzzed bytes.
type chooser interface{ IntN(n int) int }

type byteChooser struct{ b []byte }

func (c *byteChooser) IntN(n int) int {
	if len(c.b) == 0 || n <= 1 {
		return 0
	}
	v := int(c.b[0])
	c.b = c.b[1:]
	return v % n
}

// kernel makes legal random histories: it plays the kernel, picking addresses
// and results, and keeps the oracle.
type kernel struct {
	chooser
	o         *oracle
	window    uint64 // pages
	readers   bool   // with calls that read what they change, and with refused ones
	before617 bool   // an MREMAP_FIXED moves one mapping, and has freed its target if refused
	time      uint64
	inode     uint64
}

const brkStart = 8

func newKernel(c chooser, window uint64, readers bool) *kernel {
	return &kernel{
		chooser: c, o: &oracle{pages: map[uint64]pageState{}, brk: brkStart},
		window: window, readers: readers, inode: 100, before617: c.IntN(2) == 0,
	}
}

func (k *kernel) n(n uint64) uint64 { return uint64(k.IntN(int(n))) }

// span picks any range in the window.
func (k *kernel) span() (at, n uint64) {
	at = 1 + k.n(k.window-2)
	return at, 1 + k.n(min(8, k.window-at))
}

// gap picks a free range, as get_unmapped_area would.
func (k *kernel) gap(n uint64) (uint64, bool) {
	from := 1 + k.n(k.window-1)
	for i := range k.window {
		at := 1 + (from+i)%(k.window-1)
		if at+n <= k.window && k.free(at, n) {
			return at, true
		}
	}
	return 0, false
}

func (k *kernel) free(at, n uint64) bool {
	for p := at; p < at+n; p++ {
		if _, ok := k.o.pages[p]; ok {
			return false
		}
	}
	return true
}

// mapped picks a range whose pages are mapped and all satisfy ok, given the
// first and the page itself with its distance.
func (k *kernel) mapped(ok func(first, st pageState, d uint64) bool) (at, n uint64) {
	pages := slices.Sorted(maps.Keys(k.o.pages))
	if len(pages) == 0 {
		return 0, 0
	}
	at = pages[k.IntN(len(pages))]
	want := 1 + k.n(8)
	first := k.o.pages[at]
	for n < want {
		st, is := k.o.pages[at+n]
		if !is || !ok(first, st, n) {
			break
		}
		n++
	}
	return at, n
}

func anyPage(_, _ pageState, _ uint64) bool { return true }

// oneVMA accepts the pages of one mapping.
func oneVMA(first, st pageState, d uint64) bool {
	if first.inode != 0 {
		first.off += d
	}
	return first == st && st.class != ClassSysV
}

func (k *kernel) unmap(at, n uint64) {
	for p := at; p < at+n; p++ {
		delete(k.o.pages, p)
	}
}

func (k *kernel) fill(at, n uint64, st pageState) {
	for p := at; p < at+n; p++ {
		k.o.pages[p] = st
		if st.inode != 0 {
			st.off++
		}
	}
}

func (k *kernel) set(at, n uint64, f func(*pageState)) {
	for p := at; p < at+n; p++ {
		st := k.o.pages[p]
		f(&st)
		k.o.pages[p] = st
	}
}

// step makes one call; nil if the choice had no legal form.
func (k *kernel) step() *Call {
	kinds := 9
	if k.readers {
		kinds = 16
	}
	var c *Call
	switch k.IntN(kinds) {
	case 0, 1, 2:
		c = k.mmap()
	case 3:
		at, n := k.span()
		k.unmap(at, n)
		c = &Call{Op: OpMunmap, Args: [6]uint64{at * page, n*page - k.n(page)}}
	case 4:
		c = k.brk()
	case 5, 6:
		at, n := k.mapped(anyPage)
		if n == 0 {
			return nil
		}
		perm := procmaps.Mode(k.n(8))
		k.set(at, n, func(st *pageState) { st.mode = st.mode&procmaps.Shared | perm })
		c = &Call{Op: OpMprotect, Args: [6]uint64{at * page, n * page, uint64(perm)}}
	case 7:
		c = k.advise()
	case 8:
		c = k.shmat()
	case 9:
		c = k.shmdt()
	case 10:
		c = k.remapFile()
	case 11, 12:
		c = k.refused()
	default:
		c = k.mremap()
	}
	if c != nil {
		k.time += 10
		c.Time, c.TID, c.Site = k.time, uint32(1+k.IntN(3)), k.time*uint64(k.IntN(2))
	}
	return c
}

func (k *kernel) mmap() *Call {
	at, n := k.span()
	fixed := k.IntN(3) == 0
	if !fixed {
		var ok bool
		if at, ok = k.gap(n); !ok {
			return nil
		}
	}
	st := pageState{mode: procmaps.Mode(k.n(8))}
	c := &Call{Op: OpMmap, Ret: int64(at * page)}
	flags := uint64(0x2)
	switch k.IntN(5) {
	case 0, 1:
		flags |= mapAnonymous
		if k.IntN(4) == 0 {
			flags |= mapGrowsDown
			st.gd = true
		}
	case 2, 3:
		st.inode, st.class, st.off = 1+k.n(3), ClassRegular, k.n(6)
		if k.IntN(2) == 0 {
			flags, st.mode = mapShared, st.mode|procmaps.Shared
		}
		c.File = File{Dev: procmaps.Device{Minor: 1}, Inode: st.inode, Name: fmt.Sprintf("file%d", st.inode)}
		c.Args[5] = st.off * page
	case 4:
		k.inode++
		st.inode, st.class, st.mode = k.inode, ClassAnonShared, st.mode|procmaps.Shared
		flags = mapAnonymous | mapShared
		if k.IntN(2) == 0 {
			c.File = File{Dev: procmaps.Device{Minor: 1}, Inode: st.inode, Class: ClassAnonShared}
		}
	}
	switch {
	case fixed:
		flags |= mapFixed
	case k.IntN(4) == 0:
		flags |= mapFixedNoReplace
	}
	c.Args[0], c.Args[1] = at*page, n*page-k.n(page)
	c.Args[2], c.Args[3] = uint64(st.mode&procmaps.Perm), flags
	k.fill(at, n, st)
	return c
}

func (k *kernel) brk() *Call {
	old := k.o.brk
	now := brkStart + k.n(8)
	c := &Call{Op: OpBrk, Args: [6]uint64{now * page}, OldBrk: old * page, Ret: int64(now * page)}
	switch {
	case now > old && !k.free(old, now-old):
		c.Ret = int64(old * page)
		return c
	case now > old:
		k.fill(old, now-old, pageState{mode: procmaps.Read | procmaps.Write})
	case now < old:
		k.unmap(now, old-now)
	}
	k.o.brk = now
	return c
}

func (k *kernel) advise() *Call {
	anon := func(_, st pageState, _ uint64) bool { return st.inode == 0 }
	switch k.IntN(6) {
	case 0, 1:
		at, n := k.mapped(anyPage)
		if n == 0 {
			return nil
		}
		on := k.IntN(2) == 0
		k.set(at, n, func(st *pageState) { st.dc = on })
		return &Call{Op: OpMadvise, Args: [6]uint64{at * page, n * page, map[bool]uint64{true: madvDontFork, false: madvDoFork}[on]}}
	case 2, 3:
		at, n := k.mapped(anon)
		if n == 0 {
			return nil
		}
		on := k.IntN(2) == 0
		k.set(at, n, func(st *pageState) { st.wf = on })
		return &Call{Op: OpMadvise, Args: [6]uint64{at * page, n * page, map[bool]uint64{true: madvWipeOnFork, false: madvKeepOnFork}[on]}}
	}
	at, n := k.mapped(func(_, st pageState, _ uint64) bool { return st.inode == 0 || st.class == ClassAnonShared })
	if n == 0 {
		return nil
	}
	name := []string{"", "arena", "a b", "]"}[k.IntN(4)]
	k.set(at, n, func(st *pageState) { st.name = name })
	return &Call{Op: OpSetVMA, Args: [6]uint64{0x53564d61, 0, at * page, n * page}, Name: name}
}

// refused makes a call that fails, with what it did before.
func (k *kernel) refused() *Call {
	at, n := k.span()
	gap, file := at, at // the first of each
	for gap < at+n && !k.free(gap, 1) {
		gap++
	}
	for file < at+n && (k.o.pages[file].inode == 0) {
		file++
	}
	mapped := func(at, n uint64, f func(*pageState)) {
		for p := at; p < at+n; p++ {
			if _, ok := k.o.pages[p]; ok {
				k.set(p, 1, f)
			}
		}
	}
	switch k.IntN(6) {
	case 0: // mprotect stops at the first gap
		if gap == at+n {
			return nil
		}
		perm := procmaps.Mode(k.n(8))
		k.set(at, gap-at, func(st *pageState) { st.mode = st.mode&procmaps.Shared | perm })
		return &Call{Op: OpMprotect, Args: [6]uint64{at * page, n * page, uint64(perm)}, Ret: -errnoNoMemory}
	case 1: // the place is free when the file refuses
		gone := k.freed(at, n)
		return &Call{
			Op: OpMmap, Args: [6]uint64{at * page, n * page, protRead, mapShared | mapFixed}, Ret: -19, Pages: -gone,
		}
	case 2: // as it may be when an mremap is refused
		m, to := 1+k.n(8), 1+k.n(k.window-10)
		if m == n || at < to+m && to < at+n || k.free(at, 1) {
			return nil
		}
		gone := int64(0)
		if k.before617 {
			gone = k.freed(to, m)
			if m < n {
				gone += k.freed(at+m, n-m)
			}
		}
		return &Call{
			Op: OpMremap, Args: [6]uint64{at * page, n * page, m * page, 1 | mremapFixed, to * page}, Ret: -errnoFault, Pages: -gone,
		}
	case 3: // a name passes over gaps and stops at a file
		stop, errno := at, int64(0)
		for ; stop < at+n; stop++ {
			if st, ok := k.o.pages[stop]; !ok {
				errno = errnoNoMemory
			} else if st.inode != 0 && st.class != ClassAnonShared {
				errno = errnoBadFile
				break
			}
		}
		if errno == 0 {
			return nil
		}
		mapped(at, stop-at, func(st *pageState) { st.name = "half" })
		return &Call{Op: OpSetVMA, Args: [6]uint64{0x53564d61, 0, at * page, n * page}, Name: "half", Ret: -errno}
	case 4:
		return k.refusedMove(at, n)
	}
	if file == at+n { // and so does the advice to wipe
		return nil
	}
	mapped(at, file-at, func(st *pageState) { st.wf = true })
	return &Call{Op: OpMadvise, Args: [6]uint64{at * page, n * page, madvWipeOnFork}, Ret: -errnoInvalid}
}

// refusedMove makes a move of several mappings that is refused, where the count
// of pages says how far it came.
func (k *kernel) refusedMove(at, n uint64) *Call {
	to := 1 + k.n(k.window-n)
	if to < at+n && at < to+n || k.free(at, 1) || k.oneMapping(at, n) {
		return nil
	}
	// Of the files that may forbid it, there is one at most.
	stop, file := n, pageState{}
	for d := range n {
		st := k.o.pages[at+d]
		if st.class != ClassRegular && st.class != ClassSysV {
			continue
		}
		if stop < n && (st.class != file.class || st.inode != file.inode) {
			return nil
		}
		if stop == n {
			stop, file = d, st
		}
	}
	part, all := k.alive(to, stop), k.alive(to, n)
	if stop > 0 && stop < n && part == all {
		return nil // cannot be distinguished
	}
	was := len(k.o.pages)
	switch {
	case k.before617:
		k.unmap(to, n)
	case stop == n || !file.unmovable():
		return nil
	default:
		for d := range stop {
			if k.free(at+d, 1) && !k.free(to+d, 1) {
				return nil
			}
		}
		k.move(at, stop, to)
	}
	return &Call{
		Op: OpMremap, Args: [6]uint64{at * page, n * page, n * page, 1 | mremapFixed, to * page}, Ret: -errnoFault,
		Pages: int64(len(k.o.pages) - was),
	}
}

// unmovable reports whether a mapping must not be moved with others, since its
// file chooses its own addresses.
func (st pageState) unmovable() bool {
	return st.class == ClassSysV || st.class == ClassRegular && st.inode == 3
}

// oneMapping reports whether a range may be a part of one mapping.
func (k *kernel) oneMapping(at, n uint64) bool {
	first := k.o.pages[at]
	for d := range n {
		want := first
		if want.inode != 0 {
			want.off += d
		}
		if st, ok := k.o.pages[at+d]; !ok || st != want {
			return false
		}
	}
	return true
}

func (k *kernel) alive(at, n uint64) (pages int) {
	for p := at; p < at+n; p++ {
		if !k.free(p, 1) {
			pages++
		}
	}
	return pages
}

// move moves what is mapped; gaps leave the target alone.
func (k *kernel) move(at, n, to uint64) {
	for d := range n {
		if st, ok := k.o.pages[at+d]; ok {
			k.o.pages[to+d] = st
			delete(k.o.pages, at+d)
		}
	}
}

// freed unmaps a range and returns how many pages of it were mapped.
func (k *kernel) freed(at, n uint64) int64 {
	was := len(k.o.pages)
	k.unmap(at, n)
	return int64(was - len(k.o.pages))
}

func (k *kernel) shmat() *Call {
	id := 1 + k.n(3)
	size := 2 + id
	c := &Call{Op: OpShmat, Args: [6]uint64{id}, File: File{Dev: procmaps.Device{Minor: 1}, Inode: id, Class: ClassSysV}}
	at, ok := k.gap(size)
	if k.IntN(3) == 0 {
		at, ok = 1+k.n(k.window-size-1), true
		c.Args[1], c.Args[2] = at*page, shmRemap
	}
	if !ok {
		return nil
	}
	st := pageState{mode: procmaps.Read | procmaps.Write | procmaps.Shared, inode: id, class: ClassSysV}
	if k.IntN(3) == 0 {
		c.Args[2] |= shmReadOnly
		st.mode &^= procmaps.Write
	}
	c.Ret, c.VMA = int64(at*page), procmaps.Range{Start: at * page, End: (at + size) * page}
	k.fill(at, size, st)
	return c
}

func (k *kernel) shmdt() *Call {
	at, n := k.mapped(func(_, st pageState, _ uint64) bool { return st.class == ClassSysV })
	if n == 0 || k.o.pages[at].off > at {
		return nil
	}
	base := at - k.o.pages[at].off
	var id uint64
	for p := base; p < k.window; p++ {
		st, ok := k.o.pages[p]
		if ok && st.class == ClassSysV && st.off == p-base && (id == 0 || id == st.inode) {
			id = st.inode
			delete(k.o.pages, p)
		}
	}
	return &Call{Op: OpShmdt, Args: [6]uint64{base * page}}
}

func (k *kernel) remapFile() *Call {
	at, n := k.mapped(func(first, st pageState, d uint64) bool {
		return oneVMA(first, st, d) && st.mode&procmaps.Shared != 0
	})
	if n == 0 {
		return nil
	}
	st := k.o.pages[at]
	st.off, st.dc, st.wf, st.gd, st.name = k.n(9), false, false, false, ""
	k.fill(at, n, st)
	return &Call{Op: OpRemapFilePages, Args: [6]uint64{at * page, n * page, 0, st.off}}
}

func (k *kernel) mremap() *Call {
	at, n := k.mapped(oneVMA)
	if n == 0 {
		return nil
	}
	st := k.o.pages[at]
	call := func(newLen, flags, to uint64) *Call {
		return &Call{Op: OpMremap, Args: [6]uint64{at * page, n * page, newLen * page, flags, to * page}, Ret: int64(to * page)}
	}
	grown := func(m uint64) pageState { // the page that follows the source
		g := st
		if g.inode != 0 {
			g.off += m
		}
		return g
	}
	switch k.IntN(7) {
	case 0: // shrink
		m := 1 + k.n(n)
		k.unmap(at+m, n-m)
		return call(m, 1, at)
	case 1: // grow in place
		m := 1 + k.n(4)
		if at+n+m > k.window || !k.free(at+n, m) {
			return nil
		}
		k.fill(at+n, m, grown(n))
		return call(n+m, 1, at)
	case 2: // move and grow
		m := n + 1 + k.n(3)
		to, ok := k.gap(m)
		if !ok {
			return nil
		}
		k.unmap(at, n)
		k.fill(to, m, st)
		return call(m, 1, to)
	case 3, 4: // a target of one's own, keeping the source or not
		m := n
		flags := uint64(1 | mremapFixed)
		if k.IntN(3) == 0 {
			flags |= mremapDontUnmap
		} else {
			m = 1 + k.n(6)
		}
		to := 1 + k.n(k.window-m)
		if to < at+n && at < to+m {
			return nil
		}
		if flags&mremapDontUnmap == 0 {
			k.unmap(at, n)
		}
		k.fill(to, m, st)
		return call(m, flags, to)
	case 5: // duplicate
		if st.mode&procmaps.Shared == 0 {
			return nil
		}
		m := 1 + k.n(4)
		to, ok := k.gap(m)
		if !ok {
			return nil
		}
		n = 0
		k.fill(to, m, st)
		return call(m, 1, to)
	}
	// Many mappings with the gaps between them.
	if n = 1 + k.n(10); at+n > k.window {
		return nil
	}
	to := 1 + k.n(k.window-n)
	if to < at+n && at < to+n {
		return nil
	}
	one := k.oneMapping(at, n)
	if k.before617 && !one {
		return nil
	}
	for d := range n {
		if st := k.o.pages[at+d]; st.class == ClassSysV || st.unmovable() && !one {
			return nil
		}
	}
	k.move(at, n, to)
	return call(n, 1|mremapFixed, to)
}

// history makes n calls, and the oracle before each.
func (k *kernel) history(n int) (calls []*Call, before []*oracle) {
	for tries := 0; len(calls) < n && tries < 20*n; tries++ {
		was := k.o.clone()
		if c := k.step(); c != nil {
			calls, before = append(calls, c), append(before, was)
		}
	}
	return calls, before
}

func (c *Call) text() string {
	return fmt.Sprintf("@%d %v %x = %x old=%x vma=%v file=%d %q", c.Time, c.Op, c.Args, uint64(c.Ret), c.OldBrk, c.VMA, c.File.Inode, c.Name)
}

func listing(calls []*Call) string {
	var b strings.Builder
	for _, c := range calls {
		b.WriteString(c.text() + "\n")
	}
	return b.String()
}

// forSeeds runs f as subtests of random seeds; the seed is in the name.
func forSeeds(t *testing.T, n int, f func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	if testing.Short() {
		n /= 4
	}
	for range n {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			f(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func shuffled(r *rand.Rand, calls []*Call) []*Call {
	out := slices.Clone(calls)
	for range len(calls) / 4 {
		out = append(out, calls[r.IntN(len(calls))]) // delivered twice
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// jittered is the order of arrival: almost that of commit.
func jittered(r *rand.Rand, calls []*Call) []*Call {
	type arrival struct {
		c  *Call
		at uint64
	}
	var as []arrival
	for _, c := range calls {
		as = append(as, arrival{c, c.Time + r.Uint64N(60)})
	}
	slices.SortStableFunc(as, func(a, b arrival) int { return int(a.at) - int(b.at) })
	out := make([]*Call, len(as))
	for i := range as {
		out[i] = as[i].c
	}
	return out
}
