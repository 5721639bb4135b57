package attribution

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// TestPagesThatWereCopied gives two sums, and wants those told that were copied between them.
func TestPagesThatWereCopied(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		name                              string
		private, resident, faults, before uint64 // more of each, in MiB; and what was copied before
		less, want                        uint64 // less that is private
		alone                             bool   // no other process maps any of it
	}{
		{name: "each page that became private", private: 40, faults: 40, want: 40},
		{name: "some are new", private: 40, resident: 30, faults: 40, want: 10},
		{name: "all are new", private: 40, resident: 41, faults: 50},
		{name: "nothing was shared with anybody", private: 40, faults: 50, alone: true},
		{name: "the other process has ended", private: 40},
		{name: "it ended amid the copying", private: 40, faults: 7, want: 7},
		{name: "faults that made nothing private", faults: 50},
		{name: "another fork", less: 5, before: 9, want: 4},
		{name: "all is shared anew", less: 50, before: 9},
		{name: "more after that", private: 3, faults: 3, before: 9, want: 12},
	} {
		ch := charges{copied: c.before * mib}
		was := event.Account{Summed: true, Private: 100 * mib, SumResident: 200 * mib, SharedDirty: 100 * mib, Faults: 5}
		if c.alone {
			was.SharedDirty = 0
		}
		ch.account(0, was)
		ch.account(0, event.Account{Faults: 7}) // which has no sum
		now := was
		now.Private += (c.private - c.less) * mib
		now.SumResident += c.resident * mib
		now.Resident += 77 * mib // which is not as exact
		now.Faults += c.faults * mib / pageBytes
		if !c.alone {
			now.SharedDirty = now.SumResident - now.Private
		}
		ch.account(0, now)
		if ch.copied != c.want*mib {
			t.Errorf("%s: %d KiB, want %d MiB", c.name, ch.copied>>10, c.want)
		}
	}
}

// TestAreasAreEstimated samples touches of areas, dense and sparse ones, and wants their
// number.
func TestAreasAreEstimated(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ areas, faults, weight uint64 }{
		{2000, 2000, 1},
		{2000, 2000, 16}, // one page of each
		{500, 500 * 512, 16},
		{100, 100 * 512, 64},
		{1000, 8000, 8},
	} {
		var n tables
		by := part{site: 1}
		for i := range c.faults {
			if rng.Uint64N(c.weight) == 0 {
				n.touch(by, i%c.areas<<areaShift, c.weight)
			}
		}
		if got, want := n.by[by].estimate(), float64(c.areas); got < want*0.8 || got > want*1.25 {
			t.Errorf("%d faults in %d areas, one in %d sampled: %.0f", c.faults, c.areas, c.weight, got)
		}
	}
	if got := new(touches).estimate(); got != 0 {
		t.Errorf("%g without a fault", got)
	}
}

// charge observes as look does, with an account, and with what is huge of old memory.
func (r *run) charge(b event.Account, huge uint64) {
	r.attr.charges.account(r.now, b)
	r.now += 1_000_000_000
	r.attr.Plan(r.tree)
	var resident []procmaps.Resident
	for e := range r.tree.Extents(space.All) {
		held := procmaps.Resident{Bytes: e.Len()}
		if e.Start == bigAt*page {
			held = procmaps.Resident{Bytes: huge, HugeBytes: huge}
		}
		resident = append(resident, held)
	}
	r.attr.Observe(r.now, resident)
}

// found is the finding of a kind, which must be there.
func (r *run) found(t *testing.T, what growth.What) Evidence {
	t.Helper()
	all := r.attr.Evidence()
	i := slices.IndexFunc(all, func(e Evidence) bool { return e.What == what })
	if i < 0 {
		t.Fatalf("nothing of %v is found", what)
	}
	return all[i]
}

// touch has a site touch old memory, at an offset.
func (r *run) touch(site uint32, offset, weight uint64) {
	e, _ := r.tree.At(bigAt * page)
	r.attr.Change(&model.Change{Kind: model.KindFault, Site: site, Addr: bigAt*page + offset, Weight: weight, At: e})
}

func TestPageTablesGrowByWhoTouchesFirst(t *testing.T) {
	t.Parallel()
	r := newRun()
	for i := range uint64(30) {
		r.touch(4, i<<areaShift, 10)
		r.touch(6, 0, 100) // all in one area
		r.charge(event.Account{PageTables: i * 40 << 10}, 0)
	}
	e := r.found(t, growth.PageTables)
	if e.Label != growth.Grows || len(e.TouchedBy) == 0 || e.TouchedBy[0].Site != 4 || e.TouchedBy[0].Share < 0.9 {
		t.Errorf("%v, touched by %+v", e.Label, e.TouchedBy)
	}
	if got := r.attr.charged(&e); !strings.HasPrefix(got, "page tables, of [ anon ] at ") {
		t.Errorf("%q", got)
	}
}

func TestPageTablesOfWhatGrowsGoWithoutSaying(t *testing.T) {
	t.Parallel()
	r := newRun()
	for i := range uint64(30) {
		r.mmap(pages(windowAt+i<<12, windowAt+i<<12+1<<12), rw, blame(2, 0))
		r.charge(event.Account{PageTables: i * 32 << 10}, 0)
	}
	if e := r.found(t, growth.PageTables); e.Label != growth.Steady || e.Growth < 500<<10 {
		t.Errorf("%v, by %.0f bytes", e.Label, e.Growth)
	}
}

// heldBy is the site of who is named for what is held, 0 if nobody is.
func heldBy(e *Evidence) uint32 {
	if e.Maker == nil {
		return 0
	}
	return e.Maker.Site
}

func TestWhoMapsWhatIsHeldIsNotNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, memfd string
		sites       []uint32  // that map it, in turn
		held        int       // whose files are held: that of the first of them, …; 0 for all
		sizes       [2]uint64 // of their files
		linked      bool
		reads       bool // it is mapped to be read only
		label       growth.Label
	}{
		{name: "one site", memfd: "/memfd:frame-%", sites: []uint32{4, 5}, sizes: [2]uint64{1 << 20, 1 << 20}, label: growth.Leaks},
		{name: "two functions", memfd: "/memfd:frame-%", sites: []uint32{4, 8}, sizes: [2]uint64{1 << 20, 1 << 20}, label: growth.Leaks},
		{name: "one of two, whose files are held", memfd: "/memfd:frame-%", sites: []uint32{4, 8}, sizes: [2]uint64{1 << 20}, held: 1, label: growth.Leaks},
		{name: "large ones and small ones", memfd: "/memfd:frame-%", sites: []uint32{4, 8}, sizes: [2]uint64{4 << 10, 1 << 20}, label: growth.Leaks},
		{name: "others only read it", memfd: "/memfd:frame-%", sites: []uint32{4}, sizes: [2]uint64{1 << 20}, reads: true, label: growth.Leaks},
		{name: "a file with a name", memfd: "/dev/shm/log", sites: []uint32{4}, sizes: [2]uint64{1 << 20}, reads: true, linked: true, label: growth.Grows},
	} {
		r := newRun()
		name := "/memfd:frame-*"
		kind := procmaps.HeldMemfd
		if c.linked {
			name, kind = c.memfd, procmaps.HeldFile
		}
		var files []event.HeldFile
		mode := uint64(rw)
		if c.reads {
			mode = uint64(procmaps.Read)
		}
		for i := range uint64(30) {
			for k, site := range c.sites {
				inode := 100 + 10*i + uint64(k)
				if c.held == 0 || k < c.held {
					files = append(files, event.HeldFile{HeldID: procmaps.HeldID{Kind: kind, Inode: inode}, Bytes: c.sizes[k]})
				}
				at := pages(windowAt+uint64(k)<<12, windowAt+uint64(k)<<12+256)
				const shared, fixed = 1, 0x10
				r.call(space.Call{
					Op: space.OpMmap, Site: blame(site, 0), Ret: int64(at.Start), Args: [6]uint64{at.Start, at.Len(), mode, shared | fixed},
					File: space.File{Inode: inode, Name: strings.ReplaceAll(c.memfd, "%", "7") + procmaps.DeletedSuffix, Class: space.ClassMemfd},
				})
				r.munmap(at)
			}
			r.charge(event.Account{Held: []event.Held{{Name: name, Linked: c.linked, Files: files}}}, 0)
		}
		what := growth.Held
		if c.linked {
			what = growth.Tmpfs
		}
		if e := r.found(t, what); e.Label != c.label || heldBy(&e) != 0 {
			t.Errorf("%s: %v of site %d, want %v of nobody", c.name, e.Label, heldBy(&e), c.label)
		}
	}
}

// TestWhatIsHeldIsOfWhoHasMadeIt has memfds made that nobody maps, some of which are closed.
func TestWhatIsHeldIsOfWhoHasMadeIt(t *testing.T) {
	t.Parallel()
	const closes, ring, ringed = 8, 12, 5
	for _, c := range []struct {
		name  string
		sites []uint32 // that make one at each look, in turn; 0 for one that was not seen
		want  uint32
	}{
		{"one function", []uint32{4, 5}, 4},
		{"another closes what it makes", []uint32{4, closes, closes}, 4},
		{"two functions", []uint32{4, 6}, 0},
		{"half of it was not seen", []uint32{4, 0}, 0},
		{"its stack is cut", []uint32{inVfork}, 0},
		{"another keeps as much as ever", []uint32{4, ring}, 4},
		{"all that grows was not seen, beside one that keeps as much as ever", []uint32{0, ring}, 0},
	} {
		r := newRun()
		r.attr = New(names{}, r.now, r.tree.Regions(nil), budget.Node{})
		var files, rings []event.HeldFile
		for i := range uint64(30) {
			for k, site := range c.sites {
				id := procmaps.HeldID{Kind: procmaps.HeldMemfd, Inode: 100*i + uint64(k)}
				r.attr.Change(&model.Change{Kind: model.KindMade, Made: id, Site: site})
				switch site {
				case closes:
				case ring:
					rings = append(rings, event.HeldFile{HeldID: id, Bytes: 50 << 20})
					rings = rings[max(len(rings)-ringed, 0):]
				default:
					files = append(files, event.HeldFile{HeldID: id, Bytes: 1 << 20})
				}
			}
			r.charge(event.Account{Held: []event.Held{{Name: "/memfd:x", Files: slices.Concat(files, rings)}}}, 0)
		}
		if e := r.found(t, growth.Held); heldBy(&e)&^1 != c.want || e.Files != len(files)+len(rings) {
			t.Errorf("%s: of site %d, want %d; %d files", c.name, heldBy(&e), c.want, e.Files)
		}
	}
}

func TestMakersAreBounded(t *testing.T) {
	t.Parallel()
	var m makers[int]
	for i := range 2 * mostMade {
		m.note(i, uint32(1+i%(2*mostMakers)))
	}
	if len(m.of) > mostMade || len(m.made) > mostMakers || !m.full() {
		t.Fatalf("%d things of %d sites", len(m.of), len(m.made))
	}
	m.keep(map[int]uint64{5: 1, 3 * mostMade: 1})
	if len(m.of) != 1 || m.of[5] == 0 {
		t.Errorf("%d are kept, want the one that is there", len(m.of))
	}
}

// TestWhatIsNotExplainedIsTold has looks at what groups hold between two readings of the kernel's
// figures, and wants the most that lies outside of both.
func TestWhatIsNotExplainedIsTold(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	type look struct {
		before, after, groups uint64
		moved                 bool
	}
	for _, c := range []struct {
		name  string
		looks []look
		want  int64
	}{
		{"less was found at first", []look{{100, 100, 90, false}, {200, 200, 195, false}}, 10},
		{"less is found than there is", []look{{100, 100, 100, false}, {200, 200, 170, false}, {300, 300, 295, false}}, 30},
		{"more is found than there is", []look{{100, 100, 100, false}, {200, 200, 240, false}}, -40},
		{"it was as much meanwhile", []look{{100, 100, 100, false}, {150, 200, 170, false}, {250, 210, 230, false}}, 0},
		{"it was never as much", []look{{100, 100, 100, false}, {150, 200, 145, false}, {250, 210, 253, false}}, 5},
		{"mappings changed meanwhile", []look{{100, 100, 100, false}, {200, 200, 0, true}}, 0},
		{"mappings changed, and it agrees", []look{{100, 100, 60, true}, {100, 100, 100, true}, {200, 200, 180, false}}, 20},
		{"the figures before were not read", []look{{0, 100, 100, false}, {0, 200, 180, false}}, 20},
	} {
		var ch charges
		for i, l := range c.looks {
			ch.account(uint64(i), event.Account{Resident: l.after * mib, Before: l.before * mib, Moved: l.moved})
			holdings := map[growth.Key]growth.Holding{
				{What: growth.Heap}: {Resident: l.groups * mib},
				{What: growth.Held}: {Resident: 7 * mib}, // which no total has
			}
			ch.compare(holdings)
			ch.compare(nil) // without new figures
		}
		if got := ch.figures(nil).Off; got != c.want*mib {
			t.Errorf("%s: off by %d KiB, want %d MiB", c.name, got>>10, c.want)
		}
	}
}

// TestWhatTurnsOverDoesNotGrow looks at what sites have made.
func TestWhatTurnsOverDoesNotGrow(t *testing.T) {
	t.Parallel()
	const looks = 200
	k := growth.Key{What: growth.Held, Name: "x"}
	var s stocks
	for i := range uint64(looks) {
		now := map[growth.Key]map[uint32]uint64{k: {4: i, 5: 70 + i%2, 0: 9}}
		if i > looks*3/4 {
			delete(now[k], 0) // what was not seen to be made has gone
		}
		s.look(i, now)
	}
	if n := len(s[k].looks); n > mostStocks {
		t.Errorf("%d looks are kept", n)
	}
	by, all := s.gains(k, 0, looks-1)
	if near := math.Abs(by[4]-looks/2) < looks/mostStocks; !near || math.Abs(by[5]) > 1 || by[0] != -9 || all != by[4]+by[5]+by[0] {
		t.Errorf("gains %v, in all %v", by, all)
	}
	if by, all := s.gains(growth.Key{}, 0, looks); len(by) != 0 || all != 0 {
		t.Errorf("of another group: %v, %v", by, all)
	}
}

// TestStocksAreBounded has many groups come and go.
func TestStocksAreBounded(t *testing.T) {
	t.Parallel()
	var s stocks
	for i := range uint64(3 * mostStockKeys) {
		s.look(i, map[growth.Key]map[uint32]uint64{{Name: strconv.FormatUint(i, 10)}: {4: 1}})
	}
	if n := s.entries(); len(s) > mostStockKeys || n > 2*mostStocks*mostStockKeys || n == 0 {
		t.Errorf("%d groups, %d numbers", len(s), n)
	}
}

func TestPagesOfPrivateFilesThatWereWritten(t *testing.T) {
	t.Parallel()
	const slack = 100
	c := charges{known: true, last: event.Account{Anon: 1000, Swapped: 50, Slack: slack}}
	groups := map[growth.Key]growth.Holding{
		{What: growth.Heap}:                {Resident: 400, Swapped: 50},
		{What: growth.Anon, Site: 4}:       {Resident: 100},
		{What: growth.File, Name: "/a"}:    {Resident: 9000},
		{What: growth.Shm}:                 {Resident: 9000},
		{What: growth.Memfd, Name: "/b"}:   {Resident: 9000},
		{What: growth.Stack}:               {Resident: 10},
		{What: growth.Special, Name: "/c"}: {Resident: 9000},
	}
	if got, want := c.written(groups), uint64(1050-560-slack); got != want {
		t.Errorf("%d, want %d: what no group of anonymous memory has", got, want)
	}
	c.last.Anon = 500
	if got := c.written(groups); got != 0 {
		t.Errorf("%d, where the groups have it all", got)
	}
}

// TestMemoryThatSeveralHoldIsToldOnce wants it said that it is the same.
func TestMemoryThatSeveralHoldIsToldOnce(t *testing.T) {
	t.Parallel()
	held := func(name string) Finding {
		return Finding{Subject: name, Evidence: Evidence{Finding: growth.Finding{Key: growth.Key{What: growth.Held, Name: name}}}}
	}
	all := []Process{{Findings: []Finding{held("a"), held("b")}}, {Findings: []Finding{held("b")}}}
	toldOnce(all)
	if got := []string{all[0].Findings[0].Subject, all[0].Findings[1].Subject, all[1].Findings[0].Subject}; !slices.Equal(got, []string{"a", "b, by each of 2 processes", "b, by each of 2 processes"}) {
		t.Errorf("%q", got)
	}
}

func TestHugePagesOfTheKernelAreNoLeak(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		here     uint64 // page faults in what grows, for each huge page
		sampled  uint64 // elsewhere, by the sample
		weight   uint64 // that each of these stands for
		had      uint64 // all that the process has had by the kernel's count, at each look
		byKernel bool
	}{
		{name: "the process has had none", byKernel: true},
		{name: "it has touched each", here: 1, had: 1},
		{name: "its faults are not sampled", had: 1000},
		{name: "it has had others", sampled: 10, weight: 1, had: 10, byKernel: true},
		{name: "it has had so many that the sample may have none of these", sampled: 10, weight: 1000, had: 10_000},
	} {
		r := newRun()
		const looks = 40
		for i := range uint64(looks) {
			for range c.here {
				r.touch(4, i<<areaShift, 1)
			}
			for k := range c.sampled {
				e, _ := r.tree.At(oldAt * page)
				r.attr.Change(&model.Change{Kind: model.KindFault, Site: 8, Addr: oldAt*page + k*page%0x40, Weight: c.weight, At: e})
			}
			r.charge(event.Account{Faults: i * c.had}, i<<areaShift)
		}
		e := r.found(t, growth.Anon)
		want := growth.Leaks
		if c.byKernel {
			want = growth.Grows
		}
		if f := (Finding{Evidence: e}); e.Label != want || f.ByKernel() != c.byKernel {
			t.Errorf("%s: %v, by the kernel %v", c.name, e.Label, f.ByKernel())
		}
	}
}

// TestWhatIsGivenBackLazilyIsNobodysLeak has memory touched of which some is given back with
// MADV_FREE.
func TestWhatIsGivenBackLazilyIsNobodysLeak(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		grows, freed uint64 // by the sums, in MiB at ten looks
		label        growth.Label
	}{
		{name: "nothing", grows: 20, label: growth.Leaks},
		{name: "a part", grows: 20, freed: 12, label: growth.Leaks},
		{name: "all of it", grows: 20, freed: 20, label: growth.Grows},
		{name: "what is large beside it", grows: 1000, freed: 1000, label: growth.Leaks},
	} {
		const mib = 1 << 20
		r := newRun()
		for i := range uint64(40) {
			r.touch(4, i<<areaShift, 1)
			r.charge(event.Account{Faults: i * 1000, Summed: true, SumResident: i * c.grows * mib / 10, LazyFree: i * c.freed * mib / 10}, i<<areaShift)
		}
		e := r.found(t, growth.Anon)
		if f := (Finding{Evidence: e}); e.Label != c.label || f.ByKernel() != (c.label == growth.Grows) {
			t.Errorf("%s: %v, of %.1f MiB; by the kernel %v", c.name, e.Label, e.Growth/mib, f.ByKernel())
		}
	}
}

// TestNobodyIsNamedWhereOthersTouchMemoryAsWell has much more touched than what came to be
// charged: who touches most need not be who causes it.
func TestNobodyIsNamedWhereOthersTouchMemoryAsWell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		pages, other uint64 // that are copied at a look, and that another touches again and again
		named        bool
	}{
		{"all are copied", 256, 0, true},
		{"nearly all", 256, 64, true},
		{"another touches more", 256, 1024, false},
	} {
		r := newRun()
		for i := range uint64(30) {
			r.touch(4, i*page, c.pages)
			if c.other > 0 {
				r.touch(8, 0, c.other)
			}
			r.charge(event.Account{
				Summed: true, Private: i * c.pages * page, SumResident: 1 << 30, SharedDirty: 1<<30 - i*c.pages*page, Faults: i * (c.pages + c.other),
			}, 1<<20)
		}
		e := r.found(t, growth.Copied)
		if named := len(e.TouchedBy) > 0; named != c.named || named && e.TouchedBy[0].Site != 4 {
			t.Errorf("%s: touched by %+v", c.name, e.TouchedBy)
		}
	}
}

func TestWhatIsSwappedOutIsStillThere(t *testing.T) {
	t.Parallel()
	r := newRun()
	for i := range uint64(40) {
		r.now += 1_000_000_000
		r.attr.Plan(r.tree)
		var found []procmaps.Resident
		for e := range r.tree.Extents(space.All) {
			held := procmaps.Resident{Bytes: page}
			if e.Start == bigAt*page {
				held.SwapBytes = i * 128 << 10
			}
			found = append(found, held)
		}
		r.attr.Observe(r.now, found)
	}
	e := r.found(t, growth.Anon)
	swapped := slices.ContainsFunc(e.Reason, func(n growth.Note) bool { return n.Kind == growth.SwappedOut && n.Size > 4<<20 })
	if e.Label != growth.Leaks || !swapped || e.Last.Swapped != 39*128<<10 {
		t.Errorf("%v, %+v: %+v", e.Label, e.Last, e.Reason)
	}
}

func TestWhoMakesPageTablesIsForgottenWhereMemoryIsShort(t *testing.T) {
	t.Parallel()
	r := newRun()
	for i := range uint64(1000) {
		r.touch(4, i<<areaShift, 1)
	}
	before := r.attr.charges.bytes()
	if r.attr.charges.forget(); before < 1000 || r.attr.charges.bytes() != 0 {
		t.Errorf("%d bytes, and then %d", before, r.attr.charges.bytes())
	}
	r.touch(4, 0, 1) // which begins anew
}
