package attribution

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// page is that of the trees here; nothing depends on it.
const page = 4096

const rw = procmaps.Read | procmaps.Write

// pairs makes two sites one group: 2 and 3, 4 and 5.
type pairs struct{}

func (pairs) Group(site uint32) uint32 { return site &^ 1 }

// Use: all are kept.
func (pairs) Use(uint32) {}

// Path gives each site a function of its own, called by a main that all have.
func (pairs) Path(site uint32) []heap.Place {
	return []heap.Place{{Function: "malloc", Serves: true}, {Function: fmt.Sprint("f", site&^1)}, {Function: "main"}}
}

// Moves: one is a collector.
func (pairs) Moves(site uint32) bool { return site == collector }

const collector = 90

// Pool: some make a heap for all larger.
func (pairs) Pool(site uint32) string {
	if site >= 1000 {
		return "a heap"
	}
	return ""
}

// blame is what a call has whose stack was taken with the chance 2^-chance.
func blame(site uint32, chance uint8) uint64 { return missing(chance) | uint64(site) }

// missing is what a call has whose stack was not.
func missing(chance uint8) uint64 {
	return uint64(model.MakeBlame(0, model.MakeStratum(7, 0, chance)))
}

func pages(lo, hi uint64) procmaps.Range { return procmaps.Range{Start: lo * page, End: hi * page} }

// run is a tree with its attribution.
type run struct {
	tree *space.Space
	attr *Attribution
	now  uint64
	log  []string
}

// Where things are, in pages: what was there before, the heap, the window of
// random calls, and the stack.
const (
	oldAt, oldEnd     = 0x100, 0x140
	bigAt, bigEnd     = 0x1000, 0x1000 + 2*ownGroup/page
	heapAt            = 0x400
	windowAt          = 0x500
	windowEnd         = 0x540
	stackAt, stackEnd = 0x8000, 0x8020
)

func newRun() *run {
	mix := func(a, b uint64) uint64 { return uint64(model.Blame(a).Mix(model.Blame(b))) }
	r := &run{tree: space.New(space.Options{PageSize: page, Reports: true, Mix: mix}), now: 1000}
	r.tree.SetBrk(heapAt*page, heapAt*page)
	r.tree.SetStack(stackEnd*page - 64)
	read := space.Read{Range: space.All, Began: r.now, Op: space.OpSeed}
	for _, m := range []procmaps.Mapping{
		{Range: pages(oldAt, oldEnd), Mode: rw},
		{Range: pages(bigAt, bigEnd), Mode: rw},
		{Range: pages(stackAt, stackEnd), Mode: rw, Name: "[stack]"},
	} {
		read.Rows = append(read.Rows, space.Row{Mapping: m})
	}
	r.tree.Reread(read)
	r.attr = New(pairs{}, r.now, r.tree.Regions(nil), budget.Node{})
	return r
}

// call applies a call to the tree and tells the attribution.
func (r *run) call(c space.Call) {
	r.now += 1_000_000
	c.Time = r.now
	flags := model.Flags(0)
	if model.Blame(c.Site).Missing() {
		flags |= model.Unsampled
	}
	eff := r.tree.Apply(&c)
	r.log = append(r.log, fmt.Sprintf("%v %x = %x, site %x", c.Op, c.Args, c.Ret, c.Site))
	r.attr.Change(&model.Change{Kind: model.KindCall, Time: c.Time, Flags: flags, Call: &c, Effect: &eff, Site: model.Blame(c.Site).Site()})
}

func (r *run) mmap(at procmaps.Range, mode procmaps.Mode, site uint64) {
	const private, fixed, anonymous = 2, 0x10, 0x20
	r.call(space.Call{
		Op: space.OpMmap, Site: site, Ret: int64(at.Start),
		Args: [6]uint64{at.Start, at.Len(), uint64(mode), private | fixed | anonymous},
	})
}

func (r *run) munmap(at procmaps.Range) {
	r.call(space.Call{Op: space.OpMunmap, Args: [6]uint64{at.Start, at.Len()}})
}

func (r *run) mprotect(at procmaps.Range, mode procmaps.Mode, site uint64) {
	r.call(space.Call{Op: space.OpMprotect, Site: site, Args: [6]uint64{at.Start, at.Len(), uint64(mode)}})
}

func (r *run) mremap(from, to procmaps.Range, flags, site uint64) {
	r.call(space.Call{
		Op: space.OpMremap, Site: site, Ret: int64(to.Start),
		Args: [6]uint64{from.Start, from.Len(), to.Len(), flags, to.Start},
	})
}

func (r *run) brk(from, to, site uint64) {
	r.call(space.Call{Op: space.OpBrk, Site: site, OldBrk: from * page, Ret: int64(to * page), Args: [6]uint64{to * page}})
}

// look observes, with every page resident.
func (r *run) look() {
	r.now += 1_000_000_000
	r.attr.Plan(r.tree)
	var resident []procmaps.Resident
	for e := range r.tree.Extents(space.All) {
		resident = append(resident, procmaps.Resident{Bytes: e.Len()})
	}
	r.attr.Observe(r.now, resident)
}

// alive is what each site is known to hold of each group, by the tree alone, and what
// there is of which the site is not known.
func (r *run) alive() (sums map[part]int64, unknown int64) {
	sums = make(map[part]int64)
	for e := range r.tree.Extents(space.All) {
		_, site := e.Blame()
		b := model.Blame(site)
		if e.Mode&procmaps.Perm == 0 || e.Kind == procmaps.KindSpecial {
			continue
		}
		if b.Missing() {
			unknown += int64(e.Len())
			continue
		}
		key, _ := r.attr.key(&e)
		sums[part{key, b.Site()}] += int64(e.Len())
	}
	return sums, unknown
}

// balance is what each site made of each group and has not gone, by the attribution.
func (r *run) balance() map[part]int64 {
	sums := make(map[part]int64)
	for k, p := range r.attr.made {
		sums[k] += int64(p.Born) - int64(p.Died)
	}
	return sums
}

// TestBirthsLessDeathsAreWhatIsAlive does random calls and compares, after each,
// the books of every site with what the tree holds.
func TestBirthsLessDeathsAreWhatIsAlive(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 7))
			r := newRun()
			before, _ := r.alive()
			r.look()
			brk := uint64(heapAt)
			for step := range 300 {
				brk = r.random(rnd, brk)
				got := r.balance()
				want, _ := r.alive()
				for k, n := range before {
					want[k] -= n
				}
				for _, sums := range []map[part]int64{got, want} {
					for k, n := range sums {
						if n == 0 {
							delete(sums, k)
						}
					}
				}
				if d := cmp.Diff(want, got, cmp.AllowUnexported(part{})); d != "" {
					t.Fatalf("step %d: alive (-) and balance (+) differ:\n%s\n%s", step, d, strings.Join(r.log, "\n"))
				}
				if rnd.IntN(20) == 0 {
					r.look()
					r.conserves(t)
				}
			}
			r.look()
			r.conserves(t)
		})
	}
}

// coarsen gives up all single calls.
func (r *run) coarsen() bool {
	r.tree.Prune(r.now + 1)
	return r.tree.Coarsen(0)
}

func TestCoarsenedTreesConserveWhatThereIs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 8))
			r := newRun()
			r.look()
			brk, lost := uint64(heapAt), false
			for range 300 {
				brk = r.random(rnd, brk)
				if rnd.IntN(10) == 0 {
					lost = r.coarsen() || lost
				}
				if rnd.IntN(20) == 0 {
					r.look()
					r.conserves(t)
				}
			}
			if !lost {
				t.Error("nothing became coarser")
			}
		})
	}
}

// The calls of one site may be one extent: what is unmapped of it is the site's.
func TestACoarsenedExtentOfOneSiteIsItsOwn(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	for i := range uint64(40) {
		site, at := uint64(2), windowAt+i
		if i >= 20 {
			site, at = 4, at+1 // with a gap between
		}
		r.mmap(pages(at, at+1), rw, blame(uint32(site), 0))
	}
	if !r.coarsen() || r.tree.Spare() != 0 {
		t.Fatalf("%d extents to spare", r.tree.Spare())
	}
	r.munmap(pages(windowAt+5, windowAt+8))
	r.mprotect(pages(windowAt+10, windowAt+12), 0, 0)
	r.look()
	for site, mapped := range map[uint32]uint64{2: 15 * page, 4: 20 * page} {
		f := r.finding(t, growth.Key{What: growth.Anon, Site: site})
		if f.Last.Mapped != mapped || f.Born-f.Died != mapped {
			t.Errorf("site %d holds %d bytes, was born %d and died %d; want %d", site, f.Last.Mapped, f.Born, f.Died, mapped)
		}
	}
	if r.attr.Estimated() {
		t.Error("that is said to be an estimate")
	}
	r.conserves(t)
}

// Of an extent of several sites each holds as much as it does elsewhere, in proportion.
func TestACoarsenedExtentOfSeveralSitesIsSharedOut(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		of   func(site uint32) uint64
	}{
		{"of one path", func(site uint32) uint64 { return blame(site, 0) }},
		{"of several paths", func(site uint32) uint64 {
			return uint64(model.MakeBlame(site, model.MakeStratum(uint16(site), 0, 0)))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRun()
			r.look()
			for i := range uint64(40) {
				site := uint32(2)
				if i%4 == 0 {
					site = 4
				}
				r.mmap(pages(windowAt+i, windowAt+i+1), rw, tc.of(site))
			}
			if r.coarsen(); r.tree.Spare() != 0 {
				t.Fatalf("%d extents to spare", r.tree.Spare())
			}
			r.munmap(pages(windowAt+10, windowAt+30))
			r.look()
			r.conserves(t)
			for site, mapped := range map[uint32]uint64{2: 15 * page, 4: 5 * page} {
				f := r.finding(t, growth.Key{What: growth.Anon, Site: site})
				if f.Last.Mapped != mapped || f.Born != 2*mapped || f.Died != mapped {
					t.Errorf("site %d holds %d bytes, was born %d and died %d; want %d", site, f.Last.Mapped, f.Born, f.Died, mapped)
				}
			}
			if !r.attr.Estimated() {
				t.Error("that is not said to be an estimate")
			}
		})
	}
}

// random does one call that a kernel would let pass.
func (r *run) random(rnd *rand.Rand, brk uint64) uint64 {
	n := func(n uint64) uint64 { return uint64(rnd.IntN(int(n))) }
	// Sites 2 to 7, by different chances; and calls without a stack.
	site := blame(uint32(2+n(6)), uint8(n(3)))
	if n(6) == 0 {
		site = missing(uint8(n(4)))
	}
	lo := windowAt + n(windowEnd-windowAt)
	at := pages(lo, lo+1+n(min(12, windowEnd-lo)))
	if n(8) == 0 { // what was there before goes too
		lo = oldAt + n(oldEnd-oldAt)
		at = pages(lo, lo+1+n(oldEnd-lo))
	}
	free := func(at procmaps.Range) bool {
		for range r.tree.Extents(at) {
			return false
		}
		return true
	}
	// Within one extent: any mremap of a piece of it is legal.
	var inside procmaps.Range
	for e := range r.tree.Extents(at) {
		inside = e.Intersect(at)
		break
	}
	covered := uint64(0)
	for e := range r.tree.Extents(at) {
		covered += e.Intersect(at).Len()
	}
	modes := []procmaps.Mode{0, procmaps.Read, rw, procmaps.Read | procmaps.Exec}
	switch n(12) {
	case 0, 1, 2:
		r.mmap(at, modes[n(4)], site)
	case 3:
		r.munmap(at)
	case 4, 5, 6:
		if covered != at.Len() {
			break
		}
		mode := modes[n(4)]
		if mode&procmaps.Write == 0 {
			site = 0 // stacks are only asked for of what allows writing
		}
		r.mprotect(at, mode, site)
	case 7, 8:
		to := heapAt + n(0x80)
		if to > brk && !free(pages(brk, to)) {
			break
		}
		if to < brk {
			site = 0
		}
		r.brk(brk, to, site)
		return to
	case 9, 10:
		const mayMove, fixed, dontUnmap = 1, 2, 4
		to := pages(windowEnd+0x100+n(0x40), 0)
		to.End = to.Start + (1+n(8))*page
		if inside.Empty() || to.Overlaps(inside) {
			break
		}
		flags := uint64(mayMove | fixed)
		if n(3) == 0 {
			to.End = to.Start + inside.Len()
			flags |= dontUnmap
		}
		r.mremap(inside, to, flags, site)
	case 11:
		const prSetVMA, anonName = 0x53564d41, 0
		for e := range r.tree.Extents(at) {
			if _, blamed := e.Blame(); model.Blame(blamed).Site() != 0 && e.Kind == procmaps.KindAnon {
				r.call(space.Call{
					Op: space.OpSetVMA, Name: fmt.Sprintf("name %d", n(3)),
					Args: [6]uint64{prSetVMA, anonName, e.Start, e.Len()},
				})
				break
			}
		}
	}
	return brk
}

// conserves checks the findings: what the parts of one made and hold is what the
// finding says of the whole.
func (r *run) conserves(t *testing.T) {
	t.Helper()
	var all growth.Holding
	for _, f := range r.attr.Evidence() {
		var born, died uint64
		var now growth.Holding
		for _, p := range f.Parts {
			born += p.Born
			died += p.Died
			now = now.Plus(p.Now)
		}
		if born != f.Born || died != f.Died || now != f.Last {
			t.Errorf("%+v: parts were born %d, died %d, hold %+v; the whole %d, %d, %+v",
				f.Key, born, died, now, f.Born, f.Died, f.Last)
		}
		all = all.Plus(now)
		share := 0.0
		for _, s := range f.TouchedBy {
			share += s.Share
		}
		if len(f.TouchedBy) > 0 && (share < 0.999 || share > 1.001) {
			t.Errorf("%+v: the shares of faults add up to %f", f.Key, share)
		}
	}
	known, mapped := r.alive()
	for _, n := range known {
		mapped += n
	}
	if regions := len(r.tree.Regions(nil)); all.Mappings != regions {
		t.Errorf("findings have %d mappings, the tree %d", all.Mappings, regions)
	}
	if all.Mapped != uint64(mapped) {
		t.Errorf("findings hold %d bytes, the tree %d", all.Mapped, mapped)
	}
}

// finding is that of a key, which must be there.
func (r *run) finding(t *testing.T, key growth.Key) Evidence {
	t.Helper()
	all := r.attr.Evidence()
	i := slices.IndexFunc(all, func(f Evidence) bool { return f.Key == key })
	if i < 0 {
		t.Fatalf("no finding of %+v in %+v", key, all)
	}
	return all[i]
}

func TestWhatHasNoStackIsSharedOut(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	if r.attr.Estimated() || r.attr.Unsampled() != 0 {
		t.Error("an estimate before anything happened")
	}
	at := func(i, n uint64) procmaps.Range { return pages(windowAt+i, windowAt+i+n) }
	holds := func(site uint32, mapped float64, mappings int) {
		t.Helper()
		f := r.finding(t, growth.Key{What: growth.Anon, Site: site})
		if want := uint64(mapped * page); f.Last.Mapped != want || f.Last.Resident != want || f.Last.Mappings != mappings {
			t.Errorf("site %d holds %+v, want %g pages in %d mappings", site, f.Last, mapped, mappings)
		}
		r.conserves(t)
	}
	// A call of which nothing like it is known.
	r.mmap(at(0, 2), rw, missing(1))
	r.look()
	holds(0, oldEnd-oldAt+2, 2)
	if f := r.finding(t, growth.Key{What: growth.Anon}); f.Born != 2*page {
		t.Errorf("born %d of nobody", f.Born)
	}
	// It is the one site's that is known in its stratum.
	r.mmap(at(4, 2), rw, blame(4, 1))
	r.look()
	holds(4, 4, 2)
	// Of two that hold two and six, a quarter is the one's.
	r.mmap(at(8, 6), rw, blame(2, 1))
	r.look()
	holds(4, 2.5, 2)
	holds(2, 7.5, 1)
	r.mmap(at(16, 6), rw, missing(1))
	r.look()
	holds(4, 4, 2)
	holds(2, 12, 2)
	// What is alive decides, not who calls the most.
	r.munmap(at(8, 6))
	r.look()
	holds(4, 10, 3)
	if f := r.finding(t, growth.Key{What: growth.Anon, Site: 2}); f.Last.Mapped != 0 || f.Born != 12*page || f.Died != 6*page {
		t.Errorf("site 2 was born %d, died %d, holds %+v", f.Born, f.Died, f.Last)
	}
	if !r.attr.Estimated() || r.attr.Unsampled() != 8*page {
		t.Errorf("estimated %v, %d bytes without a stack", r.attr.Estimated(), r.attr.Unsampled())
	}
	// Another chance of the same path will do where the stratum itself knows nobody.
	r.mmap(at(32, 4), rw, missing(3))
	r.look()
	holds(4, 14, 4)
}

// TestALeakAmidChurnIsMeasured has sites that keep what they make and one that keeps
// nothing but calls far more often, with stacks taken by chance.
func TestALeakAmidChurnIsMeasured(t *testing.T) {
	t.Parallel()
	const chance, churn = 5, 8
	rnd := rand.New(rand.NewPCG(1, 2))
	r := newRun()
	r.look()
	kept := make(map[uint32]uint64)
	next, all := uint64(1<<20), 0
	mmap := func(site uint32, size uint64) procmaps.Range {
		at := pages(next, next+size)
		next += 1 + size // none merges
		by := blame(site, chance)
		if rnd.IntN(1<<chance) > 0 {
			by = missing(chance)
		}
		r.mmap(at, rw, by)
		r.log = r.log[:0]
		return at
	}
	for range 40 {
		for range 300 {
			r.munmap(mmap(churn, 16))
			for _, site := range []uint32{2, 2, 2, 4, 4, 4, 4, 4, 4} {
				mmap(site, 4)
				kept[site] += 4 * page
				all++
			}
		}
		r.look()
		r.conserves(t)
	}
	for site, want := range kept {
		f := r.finding(t, growth.Key{What: growth.Anon, Site: site})
		if got := float64(f.Last.Mapped); math.Abs(got/float64(want)-1) > 0.05 {
			t.Errorf("site %d holds %.0f, found %d", site, got, want)
		}
	}
	if f := r.finding(t, growth.Key{What: growth.Anon, Site: churn}); f.Last.Mapped > uint64(all)*page/20 {
		t.Errorf("what is gone holds %+v", f.Last)
	}
}

// TestALeakByEverOtherPathsIsMeasured has each call come by a path of its own, so that
// nothing else is known of most of those without a stack.
func TestALeakByEverOtherPathsIsMeasured(t *testing.T) {
	t.Parallel()
	const chance, leak, churn, busy = 3, 2, 4, 6
	rnd := rand.New(rand.NewPCG(3, 4))
	r := newRun()
	r.look()
	next := uint64(1 << 20)
	mmap := func(site uint32, path uint16) procmaps.Range {
		at := pages(next, next+4)
		next += 5 // none merges
		of := model.MakeStratum(path, 0, chance)
		if rnd.IntN(1<<chance) > 0 {
			site = 0
		}
		r.mmap(at, rw, uint64(model.MakeBlame(site, of)))
		r.log = r.log[:0]
		return at
	}
	var leaked uint64
	for i := range uint16(4000) {
		mmap(busy, 0)
		if i%3 > 0 {
			r.munmap(mmap(churn, i+1))
			continue
		}
		mmap(leak, i+1)
		leaked += 4 * page
	}
	r.look()
	r.conserves(t)
	held := func(site uint32) float64 {
		return float64(r.finding(t, growth.Key{What: growth.Anon, Site: site}).Last.Mapped)
	}
	if got, want := held(leak), float64(leaked); math.Abs(got/want-1) > 0.25 {
		t.Errorf("the leak holds %.0f, found %.0f", want, got)
	}
	if got, want := held(busy), 4000.0*4*page; math.Abs(got/want-1) > 0.1 {
		t.Errorf("the busy one holds %.0f, found %.0f", want, got)
	}
	if got := held(0); got != (oldEnd-oldAt)*page {
		t.Errorf("nobody holds %.0f", got)
	}
}

func TestMemoryFromBeforeIsGroupedByItsAddressesIfItIsLarge(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	big := growth.Key{What: growth.Anon, Name: fmt.Sprintf("%x-%x", bigAt*page, bigEnd*page)}
	if f := r.finding(t, big); f.Last.Mapped != (bigEnd-bigAt)*page || f.Last.Mappings != 1 {
		t.Errorf("the large one holds %+v", f.Last)
	}
	small := growth.Key{What: growth.Anon}
	if f := r.finding(t, small); f.Last.Mapped != (oldEnd-oldAt)*page {
		t.Errorf("the others hold %+v", f.Last)
	}
	// A hole does not rename what is left.
	r.munmap(pages(bigAt+8, bigAt+16))
	r.look()
	if f := r.finding(t, big); f.Last.Mapped != (bigEnd-bigAt-8)*page || f.Last.Mappings != 2 || f.Died != 8*page {
		t.Errorf("with a hole it holds %+v, died %d", f.Last, f.Died)
	}
	// What is moved away is no longer at those addresses, and has not vanished.
	r.mremap(pages(bigAt, bigAt+8), pages(windowAt, windowAt+8), 3, 0)
	r.look()
	if f := r.finding(t, big); f.Last.Mapped != (bigEnd-bigAt-16)*page || f.Died != 16*page {
		t.Errorf("moved: it holds %+v, died %d", f.Last, f.Died)
	}
	if f := r.finding(t, small); f.Last.Mapped != (oldEnd-oldAt+8)*page || f.Born != 8*page {
		t.Errorf("moved: the others hold %+v, born %d", f.Last, f.Born)
	}
	r.conserves(t)
}

func TestMemoryOfThisWatchIsNotCalledOlder(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	key := growth.Key{What: growth.Anon}
	if got := r.attr.subject(key, r.finding(t, key).Born > 0); got != "[ anon ] from before" {
		t.Errorf("what was there is called %q", got)
	}
	r.mmap(pages(windowAt, windowAt+4), rw, missing(0))
	r.look()
	if got := r.attr.subject(key, r.finding(t, key).Born > 0); got != "[ anon ] from before, or an unknown place" {
		t.Errorf("with what nobody is known to have made it is called %q", got)
	}
}

func TestTheMainStackIsOneGroupHoweverItGrew(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	r.now += 1_000_000
	grown := pages(stackAt-16, stackAt)
	found := slices.Clone(r.tree.Reread(space.Read{
		Range: grown, Began: r.now, Op: space.OpStack,
		Rows: []space.Row{{Mapping: procmaps.Mapping{Range: grown, Mode: rw}}},
	}))
	for i := range found {
		found[i].Now.Kind, found[i].Now.Name = procmaps.KindStack, "[stack]" // as the tracer tells it
	}
	r.attr.Change(&model.Change{Kind: model.KindReread, Time: r.now, Found: found})
	// That other calls had no stack must not hide it.
	r.mmap(pages(windowAt, windowAt+1), rw, missing(0))
	r.look()
	f := r.finding(t, growth.Key{What: growth.Stack})
	if want := uint64(stackEnd-stackAt+16) * page; f.Last.Mapped != want || f.Born != 16*page {
		t.Errorf("the stack holds %d bytes of %d, born %d", f.Last.Mapped, want, f.Born)
	}
	r.conserves(t)
}

func TestAFileKeepsItsNameWhenItIsDeleted(t *testing.T) {
	t.Parallel()
	e := space.Extent{Range: pages(windowAt, windowAt+1), Kind: procmaps.KindFile, Name: "/tmp/data"}
	b := newRun().attr
	before, _ := b.key(&e)
	e.Name += " (deleted)"
	if after, _ := b.key(&e); before != after || before.Name != "/tmp/data" {
		t.Errorf("the group was %+v and is %+v", before, after)
	}
}

// Programs number files that they make: many small ones grow together.
func TestFilesWhoseNamesDifferByNumbersAreOneGroup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names []string
		group string // what it is called
		base  string
	}{
		{[]string{"/lib/libc-2.41.so"}, "/lib/libc-2.41.so", "libc-2.41.so"},
		{[]string{"/data/segment-1.db", "/data/segment-1.db (deleted)"}, "/data/segment-1.db", "segment-1.db"},
		{[]string{"/data/segment-1.db", "/data/segment-22.db", "/data/segment-1.db"}, "/data/segment-*.db", "segment-*.db"},
		{[]string{"/1/a", "/2/a"}, "/*/a", "a"},
	} {
		a := newRun().attr
		keys := make(map[growth.Key]bool)
		var key growth.Key
		for _, name := range c.names {
			key, _ = a.key(&space.Extent{Range: pages(windowAt, windowAt+1), Kind: procmaps.KindFile, Name: name})
			keys[key] = true
		}
		n := namer{Names: names{}, known: make(map[uint32]stack.Name)}
		f := n.finding(a, &Evidence{Finding: growth.Finding{Key: key}}, growth.Readings{})
		if len(keys) != 1 || f.Name != c.group || f.Subject != c.base {
			t.Errorf("%q are %d groups, called %q and %q", c.names, len(keys), f.Name, f.Subject)
		}
	}
	a := newRun().attr
	for i := range 3 * mostFileNames {
		name := strings.Repeat("x", i%(2*mostFileNames))
		a.files.of(name)
	}
	if n := len(a.files.group) + len(a.files.only); n > 2*mostFileNames {
		t.Errorf("%d names are kept", n)
	}
}

func TestANameGivenLaterDoesNotMoveMemoryToAnotherGroup(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	at := pages(windowAt, windowAt+4)
	r.mmap(at, rw, blame(2, 0))
	r.call(space.Call{Op: space.OpSetVMA, Name: "Go: heap", Args: [6]uint64{0x53564d41, 0, at.Start, at.Len()}})
	r.look()
	key := growth.Key{What: growth.Anon, Site: 2}
	if f := r.finding(t, key); f.Last.Mapped != 4*page || f.Born != 4*page {
		t.Errorf("holds %+v, born %d", f.Last, f.Born)
	}
	if got := r.attr.appearances[key].name; got != "[anon:Go: heap]" {
		t.Errorf("it is called %q", got)
	}
}

func TestFaultsAreSharedByWeight(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	r.mmap(pages(windowAt, windowAt+4), rw, blame(2, 0))
	r.look()
	at, _ := r.tree.At(windowAt * page)
	fault := func(site uint32, weight uint64, at space.Extent) {
		r.attr.Change(&model.Change{Kind: model.KindFault, Weight: weight, Site: site, At: at})
	}
	fault(6, 3, at)
	fault(7, 1, at)
	fault(9, 100, space.Extent{}) // nobody knows what was touched
	f := r.finding(t, growth.Key{What: growth.Anon, Site: 2})
	if d := cmp.Diff([]Share{{6, 0.75}, {7, 0.25}}, f.TouchedBy); d != "" || f.Faults != 4 {
		t.Errorf("of %d faults (-want +got):\n%s", f.Faults, d)
	}
}

// TestAGroupGoesByWhatGrowsInIt has two places in one function, as where others were
// inlined into it. The first to be seen does not grow.
func TestAGroupGoesByWhatGrowsInIt(t *testing.T) {
	t.Parallel()
	const setup, leak, other, toucher = 2, 3, 4, 5
	key := growth.Key{What: growth.Anon, Site: setup}
	call := names{}.Function
	for _, tt := range []struct {
		name          string
		leaks, drops  bool
		faults        []uint32
		from, toucher stack.Name
	}{
		{"one grows", true, false, []uint32{other, toucher, toucher}, call(leak), call(toucher)},
		{"the other touches it", true, false, []uint32{setup, setup, leak}, call(leak), nobody},
		{"one comes and goes", true, true, nil, call(leak), nobody},
		{"none does", false, false, nil, call(setup), nobody},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRun()
			r.look()
			r.mmap(pages(windowAt, windowAt+1), rw, blame(setup, 0))
			r.look()
			at, _ := r.tree.At(windowAt * page)
			for _, site := range tt.faults {
				r.attr.Change(&model.Change{Kind: model.KindFault, Weight: 1, Site: site, At: at})
			}
			if tt.drops {
				r.munmap(pages(windowAt, windowAt+1))
			}
			for i := uint64(2); tt.leaks && i < 6; i++ {
				r.mmap(pages(windowAt+i, windowAt+i+1), rw, blame(leak, 0))
				if tt.drops {
					r.munmap(pages(windowAt+i, windowAt+i+1))
				}
			}
			r.look()
			e := r.finding(t, key)
			n := namer{Names: names{}, known: make(map[uint32]stack.Name)}
			f := n.finding(r.attr, &e, growth.Readings{})
			f.Measure = growth.Resident
			if who, _ := f.Toucher(); f.From != tt.from || who != tt.toucher {
				t.Errorf("from %q, touched by %q; want %q and %q", f.From, who, tt.from, tt.toucher)
			}
		})
	}
}

// What is asked twice is answered alike: maps have no order, and sums of fractions have one.
func TestWhatIsAskedAgainIsAnsweredAlike(t *testing.T) {
	t.Parallel()
	r := newRun()
	r.look()
	r.mmap(pages(windowAt, windowAt+4), rw, blame(1000, 0))
	r.look()
	at, _ := r.tree.At(windowAt * page)
	for site := range uint32(100) {
		r.attr.Change(&model.Change{Kind: model.KindFault, Weight: 1, Site: 2 + site, At: at})
		for range 1 + site%3 {
			r.attr.Outcome(&at, 2+site, 200+site%7)
		}
	}
	first := r.attr.Evidence()
	for range 20 {
		if d := cmp.Diff(first, r.attr.Evidence()); d != "" {
			t.Fatalf("(-first +again):\n%s", d)
		}
	}
	var kept map[part]uint64
	for range 20 {
		other := maps.Clone(r.attr.touched)
		whole := r.attr.touched
		r.attr.touched = other
		r.attr.forgetTouchers(few.parts)
		if r.attr.touched = whole; kept == nil {
			kept = other
		}
		if d := cmp.Diff(kept, other, cmp.AllowUnexported(part{})); d != "" {
			t.Fatalf("those who stay (-first +again):\n%s", d)
		}
	}
}

// TestKeepersAreWeighedByWhoTouchesFirst has a heap that one touches ten times as often
// as another. As many words of each were watched.
func TestKeepersAreWeighedByWhoTouchesFirst(t *testing.T) {
	t.Parallel()
	const churn, leak, list = 2, 4, 6
	r := newRun()
	r.look()
	r.mmap(pages(windowAt, windowAt+4), rw, blame(1000, 0))
	r.mmap(pages(windowAt+8, windowAt+12), rw, blame(1002, 0)) // the same heap, made by another
	r.look()
	at, _ := r.tree.At(windowAt * page)
	for site, weight := range map[uint32]uint64{churn: 500, churn + 1: 399, leak: 99} {
		r.attr.Change(&model.Change{Kind: model.KindFault, Weight: weight, Site: site, At: at})
	}
	other, _ := r.tree.At((windowAt + 9) * page)
	for _, f := range []struct {
		first, site uint32
		n           int
	}{{churn, 0, 9}, {churn, leak + 1, 1}, {leak, leak, 8}, {leak, 0, 1}, {leak, list, 1}} {
		for range f.n {
			r.attr.Outcome(&at, f.first, f.site)
			at, other = other, at
		}
	}
	f := r.finding(t, growth.Key{What: growth.Pool, Name: "a heap"})
	// Of 900 faults a tenth, and of 100 eight and one tenths.
	want := []Share{{leak + 1, 90.0 / 180}, {leak, 80.0 / 180}, {list, 10.0 / 180}}
	if d := cmp.Diff(want, f.KeptBy, cmpopts.EquateApprox(0, 1e-9)); d != "" || f.Words != 10 || !f.Shared {
		t.Errorf("by %d words, shared %v (-want +got):\n%s", f.Words, f.Shared, d)
	}
	if f.Decided != 20 {
		t.Errorf("%d words are decided, want 20", f.Decided)
	}
	if len(f.Parts) != 2 {
		t.Errorf("made by %v", f.Parts)
	}
}

// TestWhoseKeepersAreInDoubt goes through the kinds of memory.
func TestWhoseKeepersAreInDoubt(t *testing.T) {
	t.Parallel()
	const maker, other = 2, 4
	r := newRun()
	r.look()
	r.mmap(pages(windowAt, windowAt+4), rw, blame(maker, 0))
	r.mmap(pages(windowAt+8, windowAt+12), rw, blame(1000, 0))
	r.mmap(pages(windowAt+16, windowAt+20), procmaps.Read, blame(1000, 0))
	r.brk(heapAt, heapAt+4, blame(maker, 0))
	r.look()
	for _, tt := range []struct {
		name string
		at   uint64
		site uint32
		want bool
	}{
		{"its own", windowAt, maker, false},
		{"its own, touched by another", windowAt, other, true},
		{"a runtime's", windowAt + 8, 1000, true},
		{"a runtime's, that nobody can write to", windowAt + 16, 1000, false},
		{"the heap", heapAt, maker, true},
		{"from before", oldAt, other, true},
		{"the stack", stackAt, other, false},
	} {
		at, ok := r.tree.At(tt.at * page)
		if !ok {
			t.Fatalf("%s: nothing is there", tt.name)
		}
		fault := func(weight uint64) {
			r.attr.Change(&model.Change{Kind: model.KindFault, Weight: weight, Site: tt.site, At: at})
		}
		fault(1)
		if tt.at == heapAt && r.attr.Doubtful(&at, tt.site) {
			t.Errorf("%s: one fault of %d is enough", tt.name, r.attr.allFaults)
		}
		fault(100)
		if got := r.attr.Doubtful(&at, tt.site); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// TestAnArenaReachesToItsEnd has an arena that grows by a page, beside memory that does not.
func TestAnArenaReachesToItsEnd(t *testing.T) {
	t.Parallel()
	const arena, end = 64 << 30, 64<<30 + 64<<20
	r := newRun()
	r.mmap(pages(windowAt, windowAt+4), rw, blame(2, 0))
	r.mmap(procmaps.Range{Start: arena, End: end}, 0, blame(4, 0))
	r.mprotect(procmaps.Range{Start: arena, End: arena + 3*page}, rw, blame(4, 0))
	r.mprotect(procmaps.Range{Start: arena + 3*page, End: arena + 4*page}, rw, blame(4, 0))
	r.look()
	for _, want := range []procmaps.Range{pages(windowAt, windowAt+4), {Start: arena + 3*page, End: end}} {
		e, ok := r.tree.At(want.Start)
		if got := r.attr.Reach(&e); !ok || got != want {
			t.Errorf("Reach(%v) = %v, want %v", e.Range, got, want)
		}
	}
}

func TestWhatALongWatchKeepsIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		memory budget.Node
		most   int // parts
	}{
		{"by itself", budget.Node{}, 2 * usual.parts},
		// There is some more after a look than it leaves.
		{"where memory is short", budget.Node{Series: budget.New(256 << 10), Parts: budget.New(64 << 10)}, usual.parts / 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			longWatch(t, tt.memory, tt.most)
		})
	}
}

func longWatch(t *testing.T, memory budget.Node, most int) {
	t.Helper()
	r := newRun()
	r.attr = New(pairs{}, r.now, r.tree.Regions(nil), memory)
	r.look()
	kept := pages(windowEnd+16, windowEnd+20)
	r.mmap(kept, rw, blame(2, 0))
	var at space.Extent
	sites := uint32(5 * usual.parts)
	for i := uint32(4); i < sites; i++ {
		piece := pages(windowAt, windowAt+1)
		r.mmap(piece, rw, blame(i, 0))
		at, _ = r.tree.At(piece.Start)
		r.attr.Change(&model.Change{Kind: model.KindFault, Weight: 1, Site: i, At: at})
		r.log = r.log[:0]
		if i%1024 == 0 {
			r.look()
		}
	}
	r.look()
	if made, touched, looks := len(r.attr.made), len(r.attr.touched), len(r.attr.appearances); max(made, touched, looks) > most {
		t.Errorf("%d parts, %d touchers, %d looks", made, touched, looks)
	}
	f := r.finding(t, growth.Key{What: growth.Anon, Site: 2})
	if f.Last.Mapped != kept.Len() || len(f.Parts) == 0 || f.Parts[0].Site != 2 {
		t.Errorf("what is still there was lost: %+v", f)
	}
	var born, died uint64
	for _, p := range r.attr.made {
		born += p.Born
		died += p.Died
	}
	if want := uint64(sites-4)*page + kept.Len(); born != want || born-died != page+kept.Len() {
		t.Errorf("born %d, died %d; want %d born", born, died, want)
	}
}
