// Package attribution says which code made, touches and keeps the memory of a
// process, how much of it is still there and in use, and what of it grows. It turns
// changes and samplers' records into what package growth judges, and its verdicts
// into findings with names. It looks at nothing else: the same changes and records
// give the same findings.
//
// What is counted and what is estimated: mappings are counted, each one, and so
// is what is resident, page by page, at the moments it is looked at. Where there
// were more calls than stacks are taken of, or than are kept, what the others have made is shared out
// among the sites (share.go), whose figures are then estimates (see
// [Attribution.Estimated]); they sum to what was counted. Who touched pages is always an
// estimate, from a sample of page faults.
//
// Whatever is here has one owner: the goroutine that runs the tracer. Others see what it
// publishes: a [View].
package attribution

import (
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// Sites says which sites are one: those of the same function, say, whatever led
// there. Group returns the number of one of them that stands for all. Pool names the
// heap that a site made larger, if the memory is handed out in pieces to whoever asks,
// and is "" otherwise. Moves tells whether a site is a garbage collector that moves what
// others have made, so that it is the last to write to it. Path is the functions that led to a
// site, innermost first. Use says that something still refers to a site: the stacks of
// others are forgotten first.
type Sites interface {
	Group(site uint32) uint32
	Pool(site uint32) string
	Moves(site uint32) bool
	Use(site uint32)
	Path(site uint32) []heap.Place
}

// Attribution is what is known of one address space since a moment.
type Attribution struct {
	sites  Sites
	watch  *growth.Watch
	memory *budget.Holder // of all but the watch's
	began  uint64         // CLOCK_MONOTONIC, ns

	start       []space.Region // what was there at the beginning
	old         []oldRegion    // of that, what is anonymous, by address
	pieces      []piece        // what the extents of the last Plan belong to
	stakes      []stake        // of these
	appearances map[growth.Key]appearance
	files       fileNames
	jvm         bool // it is one

	made    map[part]*Part       // by group and site
	flows   flows                // of calls whose stacks were asked for
	past    map[part]growth.Flow // shares of flows that are forgotten
	shares  map[part]growth.Flow // of all, as of the last look
	touched map[part]uint64      // faults
	faults  map[growth.Key]uint64

	allFaults uint64
	outcomes  map[outcome]uint64 // words
	charges   charges
	rare      rare
	heap      *heap.Book      // samples of blocks; nil while there are none
	malloc    *mallocs        // nil while what malloc holds was not read
	profile   *heap.Profile   // of the program's own; nil if it has none
	goArenas  map[uint64]bool // where Go's runtime has its heap: addresses by goArena

	narrow    bool   // it is a program of 32 bits
	unsampled uint64 // bytes of memory made by calls without a stack
	estimated bool
}

// appearance is what a group's memory was last seen to be.
type appearance struct {
	role procmaps.Role
	name string
}

// part is one site's share of a group: of what it made, or touched.
type part struct {
	key  growth.Key
	site uint32
}

// outcome is what became of a word that was watched: who was the first to write to it, a
// group, and which site left it as it is; 0 if it did not stay.
type outcome struct {
	key   growth.Key
	first uint32
	site  uint32
}

// Part is what one site holds of a group, in bytes.
type Part struct {
	Site uint32
	// Flow is what it has made since the beginning, and what of all it ever made has
	// gone.
	growth.Flow
	First, Now growth.Holding
}

// Share is a site's part in something, from 0 to 1.
type Share struct {
	Site  uint32
	Share float64
}

// New begins the attribution of an address space whose regions are known, as of a
// moment (CLOCK_MONOTONIC, ns): changes before are not told. Memory is what it may keep,
// with others of the node.
func New(sites Sites, at uint64, regions []space.Region, memory budget.Node) *Attribution {
	a := &Attribution{
		sites: sites, watch: growth.NewWatch(growth.Options{Share: memory.Series}), memory: memory.Parts.Join(),
		began: at, start: regions,
		appearances: make(map[growth.Key]appearance), made: make(map[part]*Part), flows: make(flows),
		past: make(map[part]growth.Flow), touched: make(map[part]uint64), faults: make(map[growth.Key]uint64),
		outcomes: make(map[outcome]uint64), goArenas: make(map[uint64]bool),
	}
	a.SetThreads(nil)
	return a
}

// Close gives back its memory to the others of the node.
func (a *Attribution) Close() {
	a.watch.Close()
	a.memory.Leave()
}

// SetThreads tells which memory of the beginning is a thread's stack; without, it is
// found by its shape. Call it before the first [Attribution.Observe], or never.
func (a *Attribution) SetThreads(threads []procmaps.Thread) {
	a.old = a.old[:0]
	rows := mappings(a.start)
	for i, p := range procmaps.Infer(rows, threads, nil) {
		if a.start[i].Kind == procmaps.KindAnon {
			a.old = append(a.old, oldRegion{rows[i].Range, p.Role})
		}
	}
}

// since is a stamp as growth wants it; what was before is below 0.
func (a *Attribution) since(at uint64) time.Duration { return time.Duration(int64(at - a.began)) }

// usable tells whether memory can be used at all.
func usable(m procmaps.Mode) bool { return m&procmaps.Perm != 0 }

// Estimated tells whether some calls had no stack, so that what they made is shared out.
func (a *Attribution) Estimated() bool { return a.estimated }

// Unsampled is how much memory was made by calls without a stack, in bytes.
func (a *Attribution) Unsampled() uint64 { return a.unsampled }

// Change books one change of the address space. Only what OnChange is given can
// be booked, at that moment.
func (a *Attribution) Change(c *model.Change) {
	switch c.Kind {
	case model.KindCall:
		a.call(c)
	case model.KindReread:
		for i := range c.Found {
			f := &c.Found[i]
			a.died(&f.Was, f.Range)
			a.born(&f.Now, f.Range.Len())
		}
	case model.KindFault:
		a.fault(c)
	case model.KindMade:
		a.charges.makers.note(c.Made, c.Site)
	}
}

func (a *Attribution) call(c *model.Change) {
	if c.Flags&model.Unsampled != 0 {
		a.estimated = true
		a.unsampled += uint64(max(c.Effect.Delta, 0))
	}
	a.rare.call(c, a.key)
	call, eff := c.Call, c.Effect
	if call.Op == space.OpMmap || call.Op == space.OpShmat {
		a.charges.call(call, &eff.Now, c.Site)
	}
	for i := range eff.Displaced {
		d := &eff.Displaced[i]
		now := d.Extent
		switch d.How {
		case space.Unmapped, space.Replaced:
			a.died(&d.Extent, d.Range)
		case space.Protected:
			var by space.Grant
			if call.Site != 0 {
				by = space.Grant{Time: call.Time, Site: call.Site}
			}
			now = d.Protected(eff.Now.Mode, by)
			a.became(&d.Extent, &now, d.Range)
		case space.Moved:
			now.Start += eff.Range.Start - eff.From.Start
			now.End += eff.Range.Start - eff.From.Start
			a.became(&d.Extent, &now, d.Range)
		}
	}
	switch call.Op {
	case space.OpMmap, space.OpShmat, space.OpRemapFilePages:
		a.born(&eff.Now, eff.Range.Len())
	case space.OpBrk:
		if eff.Delta > 0 {
			a.born(&eff.Now, eff.Range.Len())
		}
	case space.OpMremap:
		a.remapped(call, eff)
	}
}

// remapped books what an mremap added, and copies whose source stays.
func (a *Attribution) remapped(call *space.Call, eff *space.Effect) {
	kept := min(eff.From.Len(), eff.Range.Len())
	if call.KeepsSource() {
		kept = 0
	}
	now := eff.Now
	now.Start = eff.Range.Start + kept
	now.Origin, now.Granted = space.Origin{Op: call.Op, Time: call.Time, Site: call.Site}, space.Grant{}
	a.born(&now, eff.Range.Len()-kept)
}

// born books memory that came to be.
func (a *Attribution) born(e *space.Extent, bytes uint64) {
	if e.Kind == 0 || !usable(e.Mode) || bytes == 0 {
		return
	}
	made, s := a.stake(e)
	a.count(s, growth.Flow{Born: bytes, BornCount: 1})
	if s.key == goPool {
		a.noteGo(e.Range)
	}
	if !s.partless {
		a.watch.Born(s.key, made, bytes, s.stratum.Weight())
	}
}

// died books memory that has gone.
func (a *Attribution) died(e *space.Extent, r procmaps.Range) {
	if e.Kind == 0 || !usable(e.Mode) {
		return
	}
	made, s := a.stake(e)
	a.count(s, growth.Flow{Died: r.Len(), DiedCount: 1})
	if !s.partless {
		a.watch.Died(s.key, made, r.Len(), s.stratum.Weight())
	}
}

// stake tells whose an extent is, and when its memory was made.
func (a *Attribution) stake(e *space.Extent) (made time.Duration, s stake) {
	at, _ := e.Blame()
	key, blame := a.key(e)
	s = stake{pool: pool{kindOf(key), blame.Stratum()}, partless: blame.Missing()}
	if s.partless {
		a.estimated = true
	} else {
		s.part = part{key, blame.Site()}
	}
	return a.since(at), s
}

// count counts what was mapped or unmapped.
func (a *Attribution) count(s stake, f growth.Flow) {
	if s.stratum != 0 {
		all := a.flows.of(s)
		*all = all.Plus(f)
	}
	if !s.partless {
		p := a.part(s.key, s.site)
		p.Flow = p.Plus(f)
	}
}

// became books memory that is still there, but may be others' now.
func (a *Attribution) became(was, now *space.Extent, r procmaps.Range) {
	wasKey, wasBlame := a.key(was)
	key, blame := a.key(now)
	if usable(was.Mode) == usable(now.Mode) && wasKey == key && wasBlame == blame {
		return
	}
	a.died(was, r)
	a.born(now, r.Len())
}

func (a *Attribution) part(k growth.Key, site uint32) *Part {
	p := a.made[part{k, site}]
	if p == nil {
		p = &Part{Site: site}
		a.made[part{k, site}] = p
	}
	return p
}

func (a *Attribution) fault(c *model.Change) {
	if c.At.Kind == 0 {
		return
	}
	key, blame := a.key(&c.At)
	if blame.Missing() {
		return // of which group it is is not known
	}
	a.touched[part{key, c.Site}] += c.Weight
	a.faults[key] += c.Weight
	a.allFaults += c.Weight
	if a.heap != nil && a.shared(key) {
		a.heap.Fault(a.own(key), c.Time, c.Site)
	}
	a.charges.tables.touch(part{key, c.Site}, c.Addr, c.Weight)
}

// Doubtful tells whether it is doubtful who keeps memory that a site touches: many
// share it, or its maker is not who touches it. Where little is touched it is not worth
// knowing.
func (a *Attribution) Doubtful(e *space.Extent, site uint32) bool {
	if e.Mode&procmaps.Write == 0 || e.Mode&procmaps.Shared != 0 {
		return false
	}
	key, _ := a.key(e)
	const much = 0.1
	if float64(a.faults[key]) < much*float64(a.allFaults) {
		return false
	}
	anon := key.What == growth.Anon || key.What == growth.NamedAnon
	return a.shared(key) || anon && a.sites.Group(site) != key.Site
}

// Reach is the memory of an extent and what it will grow into next. A malloc arena opens
// up its reserve by just as much as it needs, and touches that at once: none of it can be
// found untouched.
func (a *Attribution) Reach(e *space.Extent) procmaps.Range {
	r := e.Range
	if key, _ := a.key(e); key.What == growth.Arena || a.appearances[key].role == procmaps.RoleArena {
		const heapMax = 64 << 20 // HEAP_MAX_SIZE of glibc's malloc/arena.c, and what each is aligned to
		r.End = (r.End + heapMax - 1) / heapMax * heapMax
	}
	return r
}

// shared tells whether memory is handed out in pieces to whoever asks for some, so
// that who made it need not be who keeps it. Of what was there before, it is not known
// who made it.
func (a *Attribution) shared(k growth.Key) bool {
	const several = 20
	switch k.What {
	case growth.ThreadStack:
		// The kernel makes one mapping of a stack and of a heap that is its neighbour.
		return a.heap != nil && a.heap.Count(k) >= several
	case growth.Heap, growth.Arena, growth.Reserve, growth.Pool:
		return true
	case growth.Anon, growth.NamedAnon:
		return k.Site == 0
	default:
		return false
	}
}

// goPool is the group of what Go's runtime takes to hand it out.
var goPool = growth.Key{What: growth.Pool, Name: heap.GoHeap}

// Block books a block of a heap that was allocated, in an extent.
func (a *Attribution) Block(at uint64, e *space.Extent, b event.Block) {
	key, blame := a.key(e)
	if blame.Missing() {
		return // of which group it is is not known
	}
	a.book().Born(heap.Block{ID: b.ID, At: at, Site: b.Site, Key: a.own(key), Bytes: b.Bytes, Weight: b.Weight, Blind: b.Blind, Class: b.Class})
	a.sites.Use(b.Site)
}

// book is the samples of blocks.
func (a *Attribution) book() *heap.Book {
	if a.heap == nil {
		a.heap = heap.New()
	}
	return a.heap
}

// Malloc books what glibc's malloc holds at a moment (CLOCK_MONOTONIC, ns).
func (a *Attribution) Malloc(at uint64, b event.Malloc) {
	if a.malloc == nil {
		a.malloc = newMallocs()
	}
	a.malloc.add(a.since(at), b)
}

// Profile books a reading of the profile that a Go program keeps of its heap.
func (a *Attribution) Profile(at uint64, b event.GoHeap) {
	if a.profile == nil {
		a.profile = heap.NewProfile()
	}
	a.profile.Assumed = b.Assumed
	a.profile.Read(at, b.Rate, b.Collections, b.Records)
	for i := range b.Records {
		a.sites.Use(b.Records[i].Site)
	}
}

// Sampled tells whether enough blocks of the memory of an extent are sampled to tell who
// keeps it: blocks that are not handed out in pieces. Or the program itself does so.
func (a *Attribution) Sampled(e *space.Extent) bool {
	key, _ := a.key(e)
	if a.profiled(key) {
		return true
	}
	return a.heap != nil && a.heap.Count(key) >= heap.Enough && !a.heap.Large(key)
}

// Outcome books what became of a word of an extent: first is the group of sites that was
// the first to write to it, site the one that wrote last and left it so, 0 if the word
// did not stay.
func (a *Attribution) Outcome(e *space.Extent, first, site uint32) {
	if key, blame := a.key(e); !blame.Missing() {
		a.outcomes[outcome{key, first, site}]++
	}
}
