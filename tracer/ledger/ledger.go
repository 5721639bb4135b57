// Package ledger keeps the books of an address space: which memory each place in
// the program made, what of it is still there, how much of it is in use, and who
// touches it. It turns a tracer's changes and trees into what package growth
// judges.
//
// What is counted and what is estimated: mappings are counted, each one, and so
// is what is resident, page by page, at the moments it is looked at. Where there
// were more calls than stacks are taken of, what the others have made is shared out
// among the sites (share.go), whose figures are then estimates (see
// [Book.Estimated]); they sum to what was counted. Who touched pages is always an
// estimate, from a sample of page faults.
//
// A Book has one owner: the goroutine that runs the tracer.
package ledger

import (
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/space"
)

// Sites says which sites are one: those of the same function, say, whatever led
// there. Group returns the number of one of them that stands for all. Pool names the
// heap that a site made larger, if the memory is handed out in pieces to whoever asks,
// and is "" otherwise.
type Sites interface {
	Group(site uint32) uint32
	Pool(site uint32) string
}

// Book is what is known of one address space since a moment.
type Book struct {
	sites Sites
	watch *growth.Watch
	began uint64 // CLOCK_MONOTONIC, ns

	old     []oldRegion // what was there when the book was opened, by address
	regions []space.Region
	pieces  []piece // what the ranges handed out by Ranges belong to
	looks   map[growth.Key]look

	made    map[part]*Part       // by group and site
	flows   flows                // of calls whose stacks were asked for
	past    map[part]growth.Flow // shares of flows that are forgotten
	shares  map[part]growth.Flow // of all, as of the last look
	touched map[touch]uint64     // faults
	faults  map[growth.Key]uint64

	allFaults uint64
	fates     map[fate]uint64 // words

	unsampled uint64 // bytes of memory made by calls without a stack
	estimated bool
}

// look is what a group's memory was last seen to be.
type look struct {
	role procmaps.Role
	name string
}

// part is one site's share of a group.
type part struct {
	key  growth.Key
	site uint32
}

// touch is a site that touched memory of a group.
type touch struct {
	key  growth.Key
	site uint32
}

// fate is what became of a word that was watched: who was the first to write to it, a
// group, and which site left it as it is; 0 if it did not stay.
type fate struct {
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

// Finding is a verdict, with the sites behind it.
type Finding struct {
	growth.Finding
	// Parts are the sites that made the group's memory, those that made the most
	// of what is still there first.
	Parts []Part
	// Touched are the sites whose page faults were sampled in it, the most
	// frequent first; their shares are of all such faults.
	Touched []Share
	Faults  uint64 // that the shares are of
	// Kept are the sites that keep what stays, an estimate by Words watched words which
	// were written to and then left alone: those that wrote them last, each word with
	// the weight of who was the first to touch it.
	Kept  []Share
	Words uint64
	// Effective is how many words of equal weight would tell as much: fewer than Words
	// where some have much more weight than others.
	Effective float64
	// Shared says that the memory is handed out in pieces to whoever asks for some, so
	// that who made it need not be who keeps it.
	Shared bool
}

// Start is an address space as it was when its book was opened.
type Start struct {
	At      uint64 // CLOCK_MONOTONIC, ns; changes before are not told
	Regions []space.Region
	Threads []procmaps.Thread // may be nil
}

// New opens a book.
func New(sites Sites, start Start, opts growth.Options) *Book {
	b := &Book{
		sites: sites, watch: growth.NewWatch(opts), began: start.At, looks: make(map[growth.Key]look),
		made: make(map[part]*Part), flows: make(flows), past: make(map[part]growth.Flow), touched: make(map[touch]uint64), faults: make(map[growth.Key]uint64),
		fates: make(map[fate]uint64),
	}
	rows := mappings(start.Regions)
	for i, p := range procmaps.Infer(rows, start.Threads) {
		if start.Regions[i].Kind == procmaps.KindAnon {
			b.old = append(b.old, oldRegion{rows[i].Range, p.Role})
		}
	}
	return b
}

// since is a stamp as growth wants it; what was before is below 0.
func (b *Book) since(at uint64) time.Duration { return time.Duration(int64(at - b.began)) }

// usable tells whether memory can be used at all.
func usable(m procmaps.Mode) bool { return m&procmaps.Perm != 0 }

// Estimated tells whether some calls had no stack, so that what they made is shared out.
func (b *Book) Estimated() bool { return b.estimated }

// Unsampled is how much memory was made by calls without a stack, in bytes.
func (b *Book) Unsampled() uint64 { return b.unsampled }

// Change books one change of the address space. Only what OnChange is given can
// be booked, at that moment.
func (b *Book) Change(c *tracer.Change) {
	switch c.Kind {
	case tracer.KindCall:
		b.call(c)
	case tracer.KindReread:
		for i := range c.Found {
			f := &c.Found[i]
			b.died(&f.Was, f.Range)
			b.born(&f.Now, f.Range.Len())
		}
	case tracer.KindFault:
		b.fault(c)
	}
}

func (b *Book) call(c *tracer.Change) {
	if c.Flags&tracer.Unsampled != 0 {
		b.estimated = true
		b.unsampled += uint64(max(c.Effect.Delta, 0))
	}
	call, eff := &c.Call, c.Effect
	for i := range eff.Displaced {
		d := &eff.Displaced[i]
		now := d.Extent
		switch d.How {
		case space.Unmapped, space.Replaced:
			b.died(&d.Extent, d.Range)
		case space.Protected:
			now.Mode = now.Mode&^procmaps.Perm | eff.Now.Mode&procmaps.Perm
			if now.Granted = (space.Grant{}); call.Site != 0 {
				now.Granted = space.Grant{Time: call.Time, Site: call.Site}
			}
			b.became(&d.Extent, &now, d.Range)
		case space.Moved:
			now.Start += eff.Range.Start - eff.From.Start
			now.End += eff.Range.Start - eff.From.Start
			b.became(&d.Extent, &now, d.Range)
		}
	}
	switch call.Op {
	case space.OpMmap, space.OpShmat, space.OpRemapFilePages:
		b.born(&eff.Now, eff.Range.Len())
	case space.OpBrk:
		if eff.Delta > 0 {
			b.born(&eff.Now, eff.Range.Len())
		}
	case space.OpMremap:
		b.remapped(call, eff)
	}
}

// remapped books what an mremap added, and copies whose source stays.
func (b *Book) remapped(call *space.Call, eff *space.Effect) {
	const dontUnmap = 4 // MREMAP_DONTUNMAP
	kept := min(eff.From.Len(), eff.Range.Len())
	if call.Args[3]&dontUnmap != 0 {
		kept = 0
	}
	now := eff.Now
	now.Start = eff.Range.Start + kept
	now.Origin, now.Granted = space.Origin{Op: call.Op, Time: call.Time, Site: call.Site}, space.Grant{}
	b.born(&now, eff.Range.Len()-kept)
}

// born books memory that came to be.
func (b *Book) born(e *space.Extent, bytes uint64) {
	if e.Kind == 0 || !usable(e.Mode) || bytes == 0 {
		return
	}
	made, s := b.stake(e)
	b.count(s, growth.Flow{Born: bytes, BornCount: 1})
	if !s.partless {
		b.watch.Born(s.key, made, bytes, s.stratum.Weight())
	}
}

// died books memory that has gone.
func (b *Book) died(e *space.Extent, r procmaps.Range) {
	if e.Kind == 0 || !usable(e.Mode) {
		return
	}
	made, s := b.stake(e)
	b.count(s, growth.Flow{Died: r.Len(), DiedCount: 1})
	if !s.partless {
		b.watch.Died(s.key, made, r.Len(), s.stratum.Weight())
	}
}

// stake tells whose an extent is, and when its memory was made.
func (b *Book) stake(e *space.Extent) (made time.Duration, s stake) {
	at, _ := e.Blame()
	key, blame := b.key(e)
	s = stake{pool: pool{kindOf(key), blame.Stratum()}, partless: blame.Missing()}
	if !s.partless {
		s.part = part{key, blame.Site()}
	}
	return b.since(at), s
}

// count counts what was mapped or unmapped.
func (b *Book) count(s stake, f growth.Flow) {
	if s.stratum != 0 {
		all := b.flows.of(s)
		*all = all.Plus(f)
	}
	if !s.partless {
		p := b.part(s.key, s.site)
		p.Flow = p.Plus(f)
	}
}

// became books memory that is still there, but may be others' now.
func (b *Book) became(was, now *space.Extent, r procmaps.Range) {
	wasKey, wasBlame := b.key(was)
	key, blame := b.key(now)
	if usable(was.Mode) == usable(now.Mode) && wasKey == key && wasBlame == blame {
		return
	}
	b.died(was, r)
	b.born(now, r.Len())
}

func (b *Book) part(k growth.Key, site uint32) *Part {
	p := b.made[part{k, site}]
	if p == nil {
		p = &Part{Site: site}
		b.made[part{k, site}] = p
	}
	return p
}

func (b *Book) fault(c *tracer.Change) {
	if c.At.Kind == 0 {
		return
	}
	key, blame := b.key(&c.At)
	if blame.Missing() {
		return // of which group it is is not known
	}
	b.touched[touch{key, c.Site}] += c.Weight
	b.faults[key] += c.Weight
	b.allFaults += c.Weight
}

// Doubtful tells whether it is doubtful who keeps memory that a site touches: many
// share it, or its maker is not who touches it. Where little is touched it is not worth
// knowing.
func (b *Book) Doubtful(e *space.Extent, site uint32) bool {
	if e.Mode&procmaps.Write == 0 || e.Mode&procmaps.Shared != 0 {
		return false
	}
	key, _ := b.key(e)
	const much = 0.1
	if float64(b.faults[key]) < much*float64(b.allFaults) {
		return false
	}
	anon := key.What == growth.Anon || key.What == growth.NamedAnon
	return b.shared(key) || anon && b.sites.Group(site) != key.Site
}

// Reach is the memory of an extent and what it will grow into next. A malloc arena opens
// up its reserve by just as much as it needs, and touches that at once: none of it can be
// found untouched.
func (b *Book) Reach(e *space.Extent) procmaps.Range {
	r := e.Range
	if key, _ := b.key(e); key.What == growth.Arena || b.looks[key].role == procmaps.RoleArena {
		const heapMax = 64 << 20 // HEAP_MAX_SIZE of glibc's malloc/arena.c, and what each is aligned to
		r.End = (r.End + heapMax - 1) / heapMax * heapMax
	}
	return r
}

// shared tells whether memory is handed out in pieces to whoever asks for some, so
// that who made it need not be who keeps it. Of what was there before, it is not known
// who made it.
func (b *Book) shared(k growth.Key) bool {
	switch k.What {
	case growth.Heap, growth.Arena, growth.Reserve, growth.Pool:
		return true
	case growth.Anon, growth.NamedAnon:
		return k.Site == 0 || b.looks[k].role == procmaps.RoleArena
	default:
		return false
	}
}

// Fate books what became of a word of an extent: first is the group of sites that was
// the first to write to it, site the one that wrote last and left it so, 0 if the word
// did not stay.
func (b *Book) Fate(e *space.Extent, first, site uint32) {
	if key, blame := b.key(e); !blame.Missing() {
		b.fates[fate{key, first, site}]++
	}
}
