package attribution

import (
	"cmp"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Names are what sites are called.
type Names interface {
	Sites
	// Function is the function that a site blames, with its file and line where they
	// are known, and no name where it is not.
	Function(site uint32) stack.Name
	// StackNames are the functions that led to a site, innermost first, and why there are
	// no more; end is "" for a whole stack.
	StackNames(site uint32) (frames []stack.Name, end string)
	// PlaceName is one of the functions of [Sites.Path], with its file and line where they
	// are known.
	PlaceName(site uint32, depth int) stack.Name
}

// Evidence is a verdict on a group of memory, with the sites behind it.
type Evidence struct {
	growth.Finding
	// Parts are the sites that made the group's memory, those that made the most
	// of what is still there first.
	Parts []Part
	// TouchedBy are the sites whose page faults were sampled in it, the most
	// frequent first; their shares are of all such faults.
	TouchedBy []Share
	Faults    uint64 // that the shares are of
	// KeptBy are the sites that keep what stays, an estimate by Words watched words
	// which were written to and then left alone: those that wrote them last, each word
	// with the weight of who was the first to touch it. Decided counts those that did
	// not stay as well.
	KeptBy         []Share
	Words, Decided uint64
	// Moved are those of Words that a garbage collector has moved to where they are: who
	// keeps them does not show.
	Moved uint64
	// Separation is the confidence that the function with the most of KeptBy, collectors
	// left out, keeps more than any other; 0 if no word of one stayed, or the memory is
	// not Shared.
	Separation float64
	// Heap is who keeps it by a sample of its blocks; nil if none were sampled.
	Heap *heap.Result
	// Of is the memory that something is charged for, by most of it: page tables, or pages
	// that were copied; the zero Key if that is not known.
	Of growth.Key
	// Maker is who has made nearly all of what is held; nil if that is not known.
	Maker *heap.Maker
	// Files is how many there are of what is held without being mapped.
	Files int
	// Shared says that the memory is handed out in pieces to whoever asks for some, so
	// that who made it need not be who keeps it.
	Shared bool
}

// Finding is evidence with its names: what grow, and whatever else tells of growth,
// shows.
type Finding struct {
	Evidence
	Subject string        // what the memory is: "[ anon ]", a path
	From    stack.Name    // who made it for itself, where that is known: "leak (server.c:88)"
	Made    []Stack       // the stacks that made most of what came and is still there
	Touched []Stack       // the functions whose page faults were sampled in it
	Kept    []Stack       // those that were the last to write to its watched words that stayed
	Keepers []HeapKeeper  // of Heap, those that keep the most
	Settle  time.Duration // for how long those were left alone, at least
	SplitBy stack.Name    // who splits the mappings, where their number grows; no name if that is not known
	Split   []Stack       // the stacks of most of such calls
	Limit   *Reached      // the limit that is reached first; nil if none is
	// Disputed says that a sample of blocks and watched words say of memory that different
	// functions keep it: none of the words that stayed was last written on behalf of the one
	// that keeps the most by the sample, which was to be expected of some of them.
	Disputed bool
}

// Stack is a stack and its part in something.
type Stack struct {
	By     stack.Name // the function that is blamed, of Kept; empty if it is not known
	Group  uint32     // its group, of Touched and Kept
	Share  float64    // from 0 to 1
	Bytes  uint64
	Frames []stack.Name // innermost first
	End    string       // why there are no more frames; empty if it is whole
}

// HeapKeeper is a function that keeps blocks of a heap, with the stack on which it keeps the
// most.
type HeapKeeper struct {
	heap.Keeper
	By     stack.Name   // empty if it is not known
	Frames []stack.Name // innermost first
	End    string       // why there are no more frames; empty if it is whole
}

// Reached is a limit that will be reached if the growth goes on.
type Reached struct {
	growth.Limit
	In time.Duration
}

// BySample tells whether who keeps the memory is known, or not, by a sample of its blocks:
// watched words say less, but for what is handed out in pieces of blocks, and where there is
// next to no sample.
func (e *Evidence) BySample() bool {
	switch {
	case e.Heap == nil || len(e.Heap.Keepers) > 0 && e.Heap.Keepers[0].Pools:
		return false
	case e.Words > 0 && e.Heap.Poor():
		return false
	}
	return true
}

// nobody is who has no name.
var nobody stack.Name

// Keeper is who keeps what memory grows by that many share, nobody if it does not grow, or if
// neither sampled blocks nor watched words separate one from all others.
func (f *Finding) Keeper() stack.Name {
	if f.Label < growth.Grows || f.ByKernel() {
		return nobody
	}
	if f.BySample() {
		if len(f.Keepers) == 0 || f.Heap.Confidence < Sure || f.Disputed {
			return nobody
		}
		return f.Keepers[0].By
	}
	if !f.Shared || len(f.Kept) == 0 || f.Separation < Sure || f.Kept[0].By.OfRuntime() {
		return nobody
	}
	return f.Kept[0].By
}

// KeptShare is the part of what stays that is of [Finding.Keeper], from 0 to 1; 0 if that is
// nobody.
func (f *Finding) KeptShare() float64 {
	switch {
	case f.Keeper() == nobody:
		return 0
	case f.BySample():
		return f.Keepers[0].Share
	}
	return f.Kept[0].Share
}

// Minor tells whether what it grew by is little beside what another grew by.
func (f *Finding) Minor(beside *Finding) bool {
	const part = 0.05
	return f.Measure.OfMemory() && beside.Measure.OfMemory() && f.Growth < part*beside.Growth
}

// Blamed is the function that is named for the growth, no name if none is: of memory that
// many share who keeps it, never who made it larger; of other memory, who made it.
func (f *Finding) Blamed() stack.Name {
	if f.ByKernel() {
		return nobody
	}
	if f.Shared {
		return f.Keeper()
	}
	return f.From
}

// ByKernel tells whether no code of the process has made the memory grow, or keeps it.
func (f *Finding) ByKernel() bool {
	return slices.ContainsFunc(f.Reason, func(n growth.Note) bool { return n.Kind == growth.KernelHuge || n.Kind == growth.LazilyFreed })
}

// Confidence is how sure it is that the memory is of who is blamed, from 0 to 1; 0 if
// nobody is. Who made a mapping of its own was seen to do so.
func (f *Finding) Confidence() float64 {
	switch {
	case f.Blamed() == nobody:
		return 0
	case f.Shared && f.BySample():
		return f.Heap.Confidence
	case f.Shared:
		return f.Separation
	}
	return 1
}

// LastWriter is who wrote most of the words that stayed of memory that somebody else made
// for itself, if there is reason to tell: a word or two say less than a sample of page
// faults. It is nil otherwise.
func (f *Finding) LastWriter() *Stack {
	const most, fewest = 0.5, 4
	if f.Shared || f.From == nobody || len(f.Kept) == 0 || f.Words < fewest {
		return nil
	}
	if k := &f.Kept[0]; k.Share >= most && k.By != nobody && k.By != f.From && !f.made(k) {
		return k
	}
	return nil
}

// Toucher is who touches most of memory that somebody else made for itself; no name if
// there is nobody to be named.
func (f *Finding) Toucher() (who stack.Name, share float64) {
	const most = 0.3
	if f.Shared || f.From == nobody && !f.What.Charged() || f.Measure != growth.Resident || len(f.Touched) == 0 || len(f.Touched[0].Frames) == 0 {
		return nobody, 0
	}
	if t := &f.Touched[0]; t.Share >= most && t.Frames[0] != f.From && !f.made(t) {
		return t.Frames[0], t.Share
	}
	return nobody, 0
}

// made tells whether it is the function that made the memory, if by another line of it.
func (f *Finding) made(s *Stack) bool { return s.Group != 0 && s.Group == f.Site }

// namer gives evidence its names.
type namer struct {
	Names
	settle time.Duration
	known  map[uint32]stack.Name // of Function: it costs more than a look-up
}

// UnknownPlace is what code is called of which no frame is known.
const UnknownPlace = "an unknown place"

// function names the function that a site blames.
func (n *namer) function(site uint32) stack.Name {
	const many = 4096
	name, ok := n.known[site]
	if !ok {
		if len(n.known) >= many {
			clear(n.known)
		}
		name = cmp.Or(n.Function(site), stack.Plain(UnknownPlace))
		n.known[site] = name
	}
	return name
}

// finding names what evidence is about.
func (n *namer) finding(a *Attribution, e *Evidence, limits growth.Readings) Finding {
	f := Finding{Evidence: *e, Subject: a.subject(e.Key, e.Born > 0), Settle: n.settle}
	if e.What.Charged() {
		f.Subject = a.charged(e)
	}
	switch {
	case e.Maker != nil:
		f.From = n.PlaceName(e.Maker.Site, e.Maker.Depth)
	case e.Site != 0 && !e.Shared:
		f.From = n.function(e.maker())
	}
	const most = 3
	var total uint64
	for i := range e.Parts {
		if e.Parts[i].Site != 0 || e.What.Charged() {
			total += e.gained(&e.Parts[i])
		}
	}
	for i := range e.Parts[:min(len(e.Parts), most)] {
		p := &e.Parts[i]
		bytes := e.gained(p)
		if p.Site == 0 || bytes == 0 {
			continue
		}
		if f.From == nobody && f.What == growth.File {
			f.From = n.function(p.Site)
		}
		made := Stack{Share: float64(bytes) / float64(total), Bytes: bytes}
		made.Frames, made.End = n.StackNames(p.Site)
		f.Made = append(f.Made, made)
	}
	f.Touched, f.Kept, f.Keepers = n.touchers(e), n.keepers(e), n.heapKeepers(e)
	f.Disputed = n.disputed(e)
	n.split(&a.rare, &f)
	if l, left, ok := limits.Soonest(e.Finding); ok {
		f.Limit = &Reached{l, left}
	}
	if f.What == growth.File || f.What == growth.Memfd {
		f.Name = a.files.name(f.Name)
	}
	return f
}

// maker is the site by whose name the group's function goes, which may have others
// inlined into it: the one that made most of what is there and was not at first, or most
// of what has gone.
func (e *Evidence) maker() uint32 {
	site := e.Site
	var most *Part
	for i := range e.Parts {
		p := &e.Parts[i]
		if p.Site != 0 && (most == nil || cmp.Or(cmp.Compare(p.gained(), most.gained()), cmp.Compare(p.Born, most.Born)) > 0) {
			site, most = p.Site, p
		}
	}
	return site
}

// mostWriters is how many of those that were the last to write to words are told.
const mostWriters = 3

// keepers are the functions that were the last to write to the words that stayed, each
// with the stack on which it did so the most often.
func (n *namer) keepers(e *Evidence) []Stack {
	var out []Stack
	for _, s := range n.functions(e.KeptBy, mostWriters) {
		st := Stack{By: n.Function(s.Site), Group: n.Group(s.Site), Share: s.Share}
		st.Frames, st.End = n.StackNames(s.Site)
		out = append(out, st)
	}
	return out
}

// disputed is [Finding.Disputed].
func (n *namer) disputed(e *Evidence) bool {
	if !e.BySample() || e.Heap.Source != heap.ByBlocks || len(e.Heap.Keepers) == 0 {
		return false
	}
	k := &e.Heap.Keepers[0]
	const written = 0.8 // of the words of what it keeps it writes so many, itself or by others
	if math.Pow(1-written*k.Share, float64(e.Words)) >= 1-Sure {
		return false
	}
	return !slices.ContainsFunc(n.functions(e.KeptBy, mostWriters), func(s Share) bool {
		path := n.Path(s.Site)
		return len(path) == 0 || slices.ContainsFunc(path, func(p heap.Place) bool { return p.Cut || p.Function == k.Function })
	})
}

// heapKeepers are the functions that keep most of the sampled blocks.
func (n *namer) heapKeepers(e *Evidence) (out []HeapKeeper) {
	if e.Heap == nil {
		return nil
	}
	const most = 10
	for _, k := range e.Heap.Keepers[:min(len(e.Heap.Keepers), most)] {
		h := HeapKeeper{Keeper: k, By: n.PlaceName(k.Site, k.Depth)}
		h.Frames, h.End = n.StackNames(k.Site)
		out = append(out, h)
	}
	return out
}

// touchers are the functions that touch a group's memory, each once, by the place in it
// that does so the most often.
func (n *namer) touchers(e *Evidence) []Stack {
	const most = 5
	var out []Stack
	for _, s := range n.functions(e.TouchedBy, most) {
		st := Stack{Group: n.Group(s.Site), Share: s.Share}
		if who := n.Function(s.Site); who != nobody {
			st.Frames = []stack.Name{who}
		}
		out = append(out, st)
	}
	return out
}

// functions joins the shares of one function, and gives the greatest: each by the site
// that has the most of it.
func (n *namer) functions(all []Share, most int) []Share {
	var out []Share
	at := make(map[uint32]int)
	for _, s := range all { // the most frequent first
		group := n.Group(s.Site)
		i, ok := at[group]
		if !ok {
			i = len(out)
			at[group], out = i, append(out, Share{Site: s.Site})
		}
		out[i].Share += s.Share
	}
	slices.SortStableFunc(out, func(a, b Share) int { return cmp.Compare(b.Share, a.Share) })
	return out[:min(len(out), most)]
}

// gained is how many bytes of what a site has made are there and were not at the first
// observation.
func (p *Part) gained() uint64 { return uint64(max(p.grown(), 0)) }

// gained is what a site has made of what a finding is about. What is held without being
// mapped was mapped once, if at all.
func (e *Evidence) gained(p *Part) uint64 {
	if e.What.Charged() {
		return p.Born
	}
	return p.gained()
}

// subject is what a group's memory is called, some of which was mapped during the watch or
// none.
func (a *Attribution) subject(k growth.Key, born bool) string {
	switch k.What {
	case growth.Heap:
		return "[heap]"
	case growth.Stack:
		return "[stack]"
	case growth.File:
		return path.Base(a.files.name(k.Name))
	case growth.NamedAnon, growth.Pool:
		return k.Name
	case growth.Memfd:
		return "memfd " + strings.TrimPrefix(a.files.name(k.Name), procmaps.MemfdPrefix)
	case growth.Anon, growth.Arena, growth.ThreadStack, growth.Reserve:
	default:
		return k.What.String()
	}
	if a.javaHeap(k) {
		return growth.JVMPool
	}
	name := procmaps.AnonName
	seen := a.appearances[k]
	switch {
	case k.What == growth.ThreadStack && a.shared(k): // blocks of an allocator are in it, too
	case k.What != growth.Anon:
		name = k.What.String()
	case seen.name != "":
		name = seen.name
	case seen.role == procmaps.RoleArena && k.Site != 0: // what else is in its row is one
	case seen.role == procmaps.RoleArena, seen.role == procmaps.RoleThreadStack:
		name = seen.role.String()
	}
	switch {
	case k.Name != "":
		name += " at " + k.Name
	case k.Site == 0 && born:
		name += " from before, or " + UnknownPlace
	case k.Site == 0:
		name += " from before"
	}
	return name
}
