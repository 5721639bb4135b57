package attribution

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/space"
)

// What a process is charged for beside what is resident in its mappings: page tables, pages
// that are copied after a fork, and shared memory that it holds and maps nowhere. They are
// groups like others, and judged as these are.

// charges are the kernel's figures of one process.
type charges struct {
	first, last event.Account
	at          uint64 // when the last was read
	known       bool
	begun       event.Account // the first that has sums
	summed      event.Account // the last
	copied      uint64        // bytes of pages that were copied and are there
	before      *uint64       // what was written of private files at the first look
	tables      tables
	fresh       bool  // last was not compared with the groups yet
	off         int64 // see Account.Off
	totals      totals
	// Who has made what holds memory without a mapping, as far as that was seen, and who was
	// the first to map it to write to it.
	makers, writers makers[procmaps.HeldID]
	stocks          stocks // of what is held, by who has made it
}

// account takes new figures.
func (c *charges) account(at uint64, b event.Account) {
	if !c.known {
		c.first, c.known = b, true
	}
	c.last, c.at, c.fresh = b, at, true
	c.totals.add(at, b.Total())
	for _, m := range []*makers[procmaps.HeldID]{&c.makers, &c.writers} {
		if m.full() {
			m.keep(c.there(nil))
		}
	}
	c.stock(at)
	if !b.Summed {
		return
	}
	if c.summed.Summed {
		c.copy(&c.summed, &b)
	} else {
		c.begun = b
	}
	c.summed = b
}

// Account is what a process is charged for by the kernel's own figures, at its first look and
// its last, and how much of the growth between is found in what is listed.
type Account struct {
	First, Last event.Account
	// Grown is by how many bytes what is resident, swapped out, in page tables and of hugetlb
	// has grown; Explained is the sum of that over all groups.
	Grown, Explained int64
	// Rate is how fast that goes, in bytes a second, after a warm-up of a tenth of the time.
	Rate growth.Rate
	// Off is what was not explained at the look where that was the most, below 0 if more was
	// than there is.
	Off int64
}

// figures are those of a process; nil if they were not read.
func (c *charges) figures(found []Finding) *Account {
	if !c.known {
		return nil
	}
	a := &Account{First: c.first, Last: c.last, Grown: int64(c.last.Total()) - int64(c.first.Total()), Rate: c.totals.rate(), Off: c.off}
	for i := range found {
		if f := &found[i]; inTotal(f.What) {
			a.Explained += int64(f.Last.Of(growth.Resident)) - int64(f.First.Of(growth.Resident))
		}
	}
	return a
}

// totals are what a process had in all, at every stride-th reading.
type totals struct {
	t, y         []float64 // seconds, bytes
	seen, stride int
}

// mostTotals readings are kept of a process.
const mostTotals = 256

func (c *totals) add(at, total uint64) {
	c.stride = max(c.stride, 1)
	if c.seen%c.stride == 0 {
		c.t, c.y = append(c.t, float64(at)/1e9), append(c.y, float64(total))
	}
	c.seen++
	if len(c.t) < mostTotals {
		return
	}
	for i := range mostTotals / 2 {
		c.t[i], c.y[i] = c.t[2*i], c.y[2*i]
	}
	c.t, c.y = c.t[:mostTotals/2], c.y[:mostTotals/2]
	c.stride *= 2
}

// rate is their direction, once the process has warmed up.
func (c *totals) rate() growth.Rate {
	if len(c.t) == 0 {
		return growth.Rate{}
	}
	const warmup = 0.1
	first, last := c.t[0], c.t[len(c.t)-1]
	from, _ := slices.BinarySearch(c.t, first+warmup*(last-first))
	return growth.RateOf(c.t[from:], c.y[from:])
}

// inTotal tells whether what a group holds is part of the total of its process.
func inTotal(w growth.What) bool { return !w.Charged() || w == growth.PageTables }

// compare compares what the groups hold with the kernel's figures before and after they were
// counted: it may have been as much as either, or anything between.
func (c *charges) compare(holdings map[growth.Key]growth.Holding) {
	if !c.fresh {
		return
	}
	c.fresh = false
	var sum int64
	for k, h := range holdings {
		if inTotal(k.What) {
			sum += int64(h.Of(growth.Resident))
		}
	}
	least, most := int64(c.last.Total()), int64(c.last.Total())
	if c.last.Before != 0 {
		least, most = min(least, int64(c.last.Before)), max(most, int64(c.last.Before))
	}
	off := min(max(sum, least), most) - sum
	if off != 0 && c.last.Moved {
		return // it is not known what it was then
	}
	if max(off, -off) > max(c.off, -c.off) {
		c.off = off
	}
}

// copy estimates which pages were copied between two sums. A page that is copied makes private
// memory larger, what is shared smaller and nothing resident, and takes a page fault: where
// another process ends, what it shared becomes private without one.
func (c *charges) copy(was, now *event.Account) {
	if now.Private < was.Private {
		c.copied -= min(c.copied, was.Private-now.Private) // shared anew, or given back
		return
	}
	made := max(now.SumResident, was.SumResident) - was.SumResident
	private := now.Private - was.Private
	unshared := max(was.SharedDirty, now.SharedDirty) - now.SharedDirty
	c.copied += min(private-min(private, made), unshared, (now.Faults-min(was.Faults, now.Faults))*pageBytes)
}

// pageBytes is the least that a page has: those that are larger are copied in such pieces.
const pageBytes = 4096

// hold adds what is charged to what groups hold.
func (c *charges) hold(holdings map[growth.Key]growth.Holding) {
	if !c.known {
		return
	}
	charge := func(k growth.Key, bytes uint64) {
		if bytes > 0 {
			holdings[k] = holdings[k].Plus(growth.Holding{Resident: bytes})
		}
	}
	written := c.written(holdings)
	if c.before == nil {
		c.before = &written
	}
	charge(growth.Key{What: growth.Written}, written)
	charge(growth.Key{What: growth.PageTables}, c.last.PageTables)
	// To write to a page of a private file makes it private, too.
	charge(growth.Key{What: growth.Copied}, c.copied-min(c.copied, max(written, *c.before)-*c.before))
	for i := range c.last.Held {
		charge(heldKey(&c.last.Held[i]), c.last.Held[i].Bytes())
	}
	c.compare(holdings)
}

// written is how much of private mappings of files was written to, of what is beyond doubt: by
// the kernel it is anonymous, and no group of anonymous memory has it.
//
// What the kernel has brought in by itself may not be counted for some looks, up to a part of
// all (resident.Set.Check).
func (c *charges) written(holdings map[growth.Key]growth.Holding) uint64 {
	const uncounted = 64
	groups := c.last.Slack + c.last.Resident/uncounted
	for k, h := range holdings {
		if k.What.Private() {
			groups += h.Resident + h.Swapped
		}
	}
	anon := c.last.Anon + c.last.Swapped
	return anon - min(groups, anon)
}

func heldKey(h *event.Held) growth.Key {
	if h.Linked {
		return growth.Key{What: growth.Tmpfs, Name: h.Name}
	}
	return growth.Key{What: growth.Held, Name: h.Name}
}

// call notes who maps shared memory to write to it: whoever only reads has not made it.
func (c *charges) call(call *space.Call, now *space.Extent, site uint32) {
	if now.Kind == procmaps.KindShm && now.Mode&procmaps.Write != 0 && call.File.Inode != 0 {
		c.writers.note(call.File.Held(), site)
	}
}

// stock notes how much is held of what each site has made.
func (c *charges) stock(at uint64) {
	by := make(map[growth.Key]map[uint32]uint64)
	for i := range c.last.Held {
		h := &c.last.Held[i]
		k := heldKey(h)
		if by[k] == nil {
			by[k] = make(map[uint32]uint64)
		}
		for _, f := range h.Files {
			by[k][c.makers.of[f.HeldID]] += f.Bytes
		}
	}
	c.stocks.look(at, by)
}

// there are the bytes of what is held now, of one group or of all.
func (c *charges) there(of *growth.Key) map[procmaps.HeldID]uint64 {
	out := make(map[procmaps.HeldID]uint64)
	for i := range c.last.Held {
		if h := &c.last.Held[i]; of == nil || heldKey(h) == *of {
			for _, f := range h.Files {
				out[f.HeldID] = f.Bytes
			}
		}
	}
	return out
}

// sites calls use with those that have made or filled what is held.
func (c *charges) sites(use func(site uint32)) {
	for id := range c.there(nil) {
		use(c.makers.of[id])
		use(c.writers.of[id])
	}
}

func (c *charges) bytes() int {
	const entry = 32
	return 16*cap(c.totals.t) + entry*(len(c.makers.of)+len(c.writers.of)+c.stocks.entries()+len(c.tables.areas)+4*len(c.tables.by))
}

// forget gives up who makes page tables, and what is held: then nobody is named.
func (c *charges) forget() {
	c.tables, c.makers, c.writers, c.stocks = tables{}, makers[procmaps.HeldID]{}, makers[procmaps.HeldID]{}, nil
}

// tables tells who makes page tables: whoever is the first to touch an area that one is for.
// By a sample of page faults that is an estimate.
type tables struct {
	areas map[uint64]bool
	by    map[part]*touches
}

// touches are the faults of a part.
type touches struct{ samples, faults, areas uint64 }

const (
	// areaShift is of what one page table is for (PMD_SHIFT, of pages of 4 KiB).
	areaShift = 21
	// mostAreas are remembered: 64 GiB.
	mostAreas = 1 << 15
	// mostTouchers are counted.
	mostTouchers = 4096
)

func (t *tables) touch(by part, addr, weight uint64) {
	if t.areas == nil {
		t.areas, t.by = make(map[uint64]bool), make(map[part]*touches)
	}
	n := t.by[by]
	if n == nil {
		if len(t.by) >= mostTouchers {
			return
		}
		n = new(touches)
		t.by[by] = n
	}
	n.samples++
	n.faults += weight
	if at := addr >> areaShift; !t.areas[at] && len(t.areas) < mostAreas {
		t.areas[at] = true
		n.areas++
	}
}

// total is how many faults were sampled, and how many these stand for.
func (t *tables) total() (samples, faults uint64) {
	for _, n := range t.by {
		samples += n.samples
		faults += n.faults
	}
	return samples, faults
}

// estimate is how many areas were touched, of which so many were seen by a sample: with x
// samples in each on average, 1-exp(-x) of them are seen.
func (n *touches) estimate() float64 {
	if n.areas == 0 {
		return 0
	}
	seen := float64(n.areas) / float64(n.samples)
	low, high := 0.0, 1/seen // between them is x
	for range 50 {
		if x := (low + high) / 2; -math.Expm1(-x)/x > seen {
			low = x
		} else {
			high = x
		}
	}
	return min(float64(n.samples)/high, float64(n.faults))
}

// judgeHuge takes back the verdict that memory leaks which the kernel has made larger: it
// makes huge pages of small ones, and touches for that what nobody did. Of a process' huge
// pages as many have a page fault as the process has touched: so many it has not had in all, or,
// by the sample, not there.
func (a *Attribution) judgeHuge(f *growth.Finding) {
	const hugeBytes, most, fewest = 2 << 20, 0.5, 5
	huge := float64(f.Last.Huge) - float64(f.First.Huge)
	if f.Label < growth.Grows || f.Measure != growth.Resident || huge < most*f.Growth || !a.charges.known {
		return
	}
	touched := most * huge / hugeBytes // at least, if it was the process
	c := &a.charges
	none := float64(c.last.Faults-min(c.first.Faults, c.last.Faults)) < touched
	samples, faults := c.tables.total()
	sampled := samples > 0 && touched*float64(samples)/float64(faults) >= fewest && float64(a.faults[f.Key]) < touched
	if !none && !sampled {
		return
	}
	f.Label = growth.Grows
	f.Reason = append(f.Reason, growth.Note{Kind: growth.KernelHuge, Size: min(huge, f.Growth)})
}

// judgeFreed takes back the verdict that memory leaks which the program has given back with
// madvise(MADV_FREE): it stays resident until the kernel needs it. How much that is, is known of
// the process, not of a group: it must be most of what the process has grown by, and the group a
// large part of that.
func (a *Attribution) judgeFreed(f *growth.Finding) {
	const most, large = 0.75, 0.5
	was, now := &a.charges.begun, &a.charges.summed
	grown := float64(now.SumResident) - float64(was.SumResident)
	freed := float64(now.LazyFree) - float64(was.LazyFree)
	if f.Label < growth.Grows || f.Measure != growth.Resident || !f.What.Private() || freed <= 0 || freed < most*grown || f.Growth < large*freed {
		return
	}
	f.Label = growth.Grows
	f.Reason = append(f.Reason, growth.Note{Kind: growth.LazilyFreed, Size: min(freed, f.Growth)})
}

// judgeTables takes back the verdict on page tables that are as many as what has grown beside
// them needs: that is what there is to say.
func judgeTables(found []growth.Finding) {
	const needed = 1.0 / 256 // twice as many as where each page was touched
	var grown float64
	tables := -1
	for i := range found {
		switch f := &found[i]; {
		case f.What == growth.PageTables:
			tables = i
		case f.Measure == growth.Resident && !f.What.Charged():
			grown += max(f.Growth, 0)
		}
	}
	if tables < 0 {
		return
	}
	if f := &found[tables]; f.Label > growth.Steady && f.Growth <= needed*grown {
		f.Label = growth.Steady
		f.Reason = []growth.Note{{Kind: growth.Grew, Size: f.Growth, Time: f.To - f.From}, {Kind: growth.AsNeeded}}
	}
}

// charge adds to evidence on what is charged who causes it, by page: of what is copied each
// takes a page fault, and of page tables each is for an area that was touched.
func (a *Attribution) charge(e *Evidence, all []growth.Finding) {
	by := make(map[part]float64)
	switch e.What {
	case growth.PageTables:
		for p, n := range a.charges.tables.by {
			by[p] = n.estimate()
		}
		e.cause(by)
	case growth.Copied:
		grows := make(map[growth.Key]bool)
		for i := range all {
			grows[all[i].Key] = all[i].Label >= growth.Grows && all[i].Measure == growth.Resident
		}
		for p, n := range a.touched {
			if p.key.What.Private() && !grows[p.key] { // there pages are touched for the first time
				by[p] = float64(n)
			}
		}
		e.cause(by)
	case growth.Written:
		for p, n := range a.touched {
			if p.key.What == growth.File {
				by[p] = float64(n)
			}
		}
		e.cause(by)
	case growth.Held, growth.Tmpfs:
		a.holder(e)
	}
}

// cause puts evidence down to who has touched what, in pages. If that is much more than what
// came to be charged, others touch memory as well, for another reason; if it is much less, there
// are others whose faults do not show (MADV_POPULATE_WRITE, /proc/PID/mem). Then nobody is named.
func (e *Evidence) cause(by map[part]float64) {
	const most, least = 1.5, 0.5
	var sum float64
	sites, keys := make(map[uint32]float64), make(map[growth.Key]float64)
	for _, p := range slices.SortedFunc(maps.Keys(by), compareParts) {
		sum += by[p]
		sites[p.site] += by[p]
		keys[p.key] += by[p]
	}
	e.TouchedBy, e.Faults = nil, uint64(sum)
	grown := float64(e.Last.Resident) - float64(e.First.Resident)
	if sum == 0 || sum*pageBytes > most*grown || sum*pageBytes < least*grown {
		return
	}
	for site, n := range sites {
		e.TouchedBy = append(e.TouchedBy, Share{site, n / sum})
	}
	sortShares(e.TouchedBy)
	for _, k := range slices.SortedFunc(maps.Keys(keys), growth.Key.Compare) {
		if keys[k] > sum/2 {
			e.Of = k
		}
	}
}

// holder says who has made what is held and not mapped any more: it is of one function if
// nearly all of what it grows by is. Who maps it, or has it open, need not keep it.
func (a *Attribution) holder(e *Evidence) {
	c := &a.charges
	held := c.there(&e.Key)
	gains, grown := c.stocks.gains(e.Key, a.began+uint64(e.From), a.began+uint64(e.To))
	fates := c.makers.fates(held, gains)
	e.Files, e.Parts, e.Maker = len(held), nil, maker(fates, gains[0], grown, a.sites.Path)
	if e.Maker != nil {
		a.filler(e, held)
	}
	for site, bytes := range gains {
		if bytes > 0 {
			e.Parts = append(e.Parts, Part{Site: site, Flow: growth.Flow{Born: uint64(bytes)}})
		}
	}
	slices.SortFunc(e.Parts, func(x, y Part) int { return cmp.Or(cmp.Compare(y.Born, x.Born), cmp.Compare(x.Site, y.Site)) })
}

// filler says who has called what makes it, to fill what it gets: who has mapped nearly all of
// it to write to it.
func (a *Attribution) filler(e *Evidence, held map[procmaps.HeldID]uint64) {
	w := &a.charges.writers
	by, all := make(map[string]float64), 0.0
	path := a.sites.Path(e.Maker.Site)
	for id, bytes := range held {
		if a.charges.makers.of[id] == 0 {
			continue // it was there before
		}
		all += float64(bytes)
		for _, p := range a.sites.Path(w.of[id]) {
			if !p.Serves && !p.Cut {
				by[p.Function] += float64(bytes) // the innermost of those that map
				break
			}
		}
	}
	for i := e.Maker.Depth + 1; i < len(path); i++ {
		if by[path[i].Function] >= Sure*all {
			e.Maker.Depth = i
			return
		}
	}
}

// charged is what something is called that is charged to a process.
func (a *Attribution) charged(e *Evidence) string {
	switch e.What {
	case growth.PageTables, growth.Copied, growth.Written:
		name := map[growth.What]string{
			growth.PageTables: "page tables", growth.Copied: "pages copied after a fork", growth.Written: "written pages of private files",
		}[e.What]
		if e.Of != (growth.Key{}) {
			name += ", of " + a.subject(e.Of, true)
		}
		return name
	}
	name := e.Name
	switch memfd, is := strings.CutPrefix(name, procmaps.MemfdPrefix); {
	case is:
		name = "unmapped memory of memfd " + memfd
	case e.Name == procmaps.RingPath:
		name = "io_uring, not mapped"
	case e.Name == event.SystemV:
		name += ", not attached"
	case e.What == growth.Held:
		name += ", deleted and open, on tmpfs"
	default:
		name += ", on tmpfs"
	}
	if e.Files > 1 {
		what := "file"
		switch e.Name {
		case event.SystemV:
			what = "segment"
		case procmaps.RingPath:
			what = "ring"
		}
		name += " (" + units.Count(uint64(e.Files), what) + ")"
	}
	return name
}
