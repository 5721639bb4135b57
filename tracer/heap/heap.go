// Package heap estimates who keeps a malloc heap, by a sample of its blocks.
//
// Who allocates the most, and who makes a heap larger, need not be who keeps what ends up
// there. So blocks are sampled when they are allocated, with the stack of who asked for
// them, and then waited for: whether they are freed, and when. Of each sample is known how
// many allocations it stands for. What a function keeps is what it allocates, times the part
// that survives.
//
// Three things are kept apart, as a wrong name is worse than none:
//
//   - Deaths that were not seen. Frees are seen only while the allocator is probed, and
//     contents of blocks tell of some allocators only. Where they do not, of the samples
//     that seem alive as many may be dead as the frees that were seen allow.
//   - Deaths to come. A cache gives back what it holds some time after. What all functions
//     seem to keep cannot be more than what the heap grows by: the difference may be anybody's.
//   - Who was not seen. What the heap grows by beyond what all functions keep may be of one
//     that has no sample.
//
// A name is sure if it keeps more than any other however these are divided, in nineteen of
// twenty draws from what is possible.
//
// Of the heap of a Go program the runtime itself keeps such a sample: see [Profile].
//
// A Book has one owner.
package heap

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/maptrace/maptrace/tracer/growth"
)

// most is how many samples a book keeps. Beyond, half of them, by their numbers, go, and the
// others stand for twice as much.
const most = 1 << 15

// Block is a sample.
type Block struct {
	ID     uint64
	At     uint64 // when it was allocated, CLOCK_MONOTONIC, ns
	Site   uint32
	Key    growth.Key // of the memory it is in
	Bytes  uint64
	Weight float64 // how many allocations of its window it stands for
	Blind  bool    // contents do not tell whether it is alive
	Class  uint8   // of its size, of those that are counted in use; 0 if it is not known
}

// block is one with its end.
type block struct {
	Block
	ended uint64 // when it was seen to be no more; 0 while it is there
	seen  bool   // its free was seen
}

// Window is a time in which all calls of the allocators were seen, and, for a while after it,
// those that free. It stands for the time since the end of the one before, and that is another
// amount of work: while its calls are seen, a program is slower.
type Window struct {
	From, To uint64 // CLOCK_MONOTONIC, ns
	// Until is to when calls that free were seen, To or later.
	Until uint64
	// Faults are page faults in it, Beside those since the one before; 0 where they are not
	// seen.
	Faults, Beside uint64
	// CPU is what the process has used for itself in it, CPUBeside since the one before.
	CPU, CPUBeside time.Duration
}

// window is one, or several that were joined, with the ns of all windows up to its end: in
// which all calls were seen, and those that free.
type window struct {
	Window
	probed, seen uint64
}

// Book has the samples of one address space.
type Book struct {
	blocks  map[uint64]*block
	groups  map[growth.Key]group
	thin    uint64 // of samples only those are kept whose number is a multiple of it
	windows []window
	now     uint64 // of the newest that was told
	work    Window // sums of all windows
	faults  map[growth.Key][]fault
}

// fault is a page fault.
type fault struct {
	at   uint64
	site uint32
}

// mostFaults is how many of a group are kept.
const mostFaults = 1 << 12

// group sums up the samples of one group that are kept.
type group struct {
	samples int
	alive   uint64 // those that are there
	bytes   uint64 // of these
}

// New returns an empty book.
func New() *Book {
	return &Book{blocks: make(map[uint64]*block), groups: make(map[growth.Key]group), faults: make(map[growth.Key][]fault), thin: 1}
}

// Count is how many samples of a group are kept, whether or not they are there.
func (b *Book) Count(key growth.Key) int { return b.groups[key].samples }

// Len is how many samples there are.
func (b *Book) Len() int { return len(b.blocks) }

// Large tells whether the samples of a group that are there are large enough to be handed
// out in pieces.
func (b *Book) Large(key growth.Key) bool {
	g := b.groups[key]
	return g.alive > 0 && g.bytes/g.alive >= pieces
}

// count counts a sample in its group.
func (b *Book) count(s *block) {
	g := b.groups[s.Key]
	g.samples++
	if s.ended == 0 {
		g.alive++
		g.bytes += s.Bytes
	}
	b.groups[s.Key] = g
}

// uncount takes a sample out of its group.
func (b *Book) uncount(s *block) {
	g := b.groups[s.Key]
	g.samples--
	if s.ended == 0 {
		g.alive--
		g.bytes -= s.Bytes
	}
	if b.groups[s.Key] = g; g.samples == 0 {
		delete(b.groups, s.Key)
	}
}

// Born takes a sample.
func (b *Book) Born(s Block) {
	if s.ID%b.thin != 0 || s.Bytes == 0 {
		return
	}
	s.Weight *= float64(b.thin)
	b.now = max(b.now, s.At)
	next := &block{Block: s}
	b.blocks[s.ID] = next
	b.count(next)
	if len(b.blocks) > most {
		b.Thin(2 * b.thin)
	}
}

// Thin keeps only samples whose number is a multiple of a power of two, of those that there are
// and of those to come: the others stand for them.
func (b *Book) Thin(to uint64) {
	if to <= b.thin {
		return
	}
	times := float64(to / b.thin)
	b.thin = to
	for id, s := range b.blocks {
		if id%b.thin != 0 {
			b.uncount(s)
			delete(b.blocks, id)
			continue
		}
		s.Weight *= times
	}
}

// End is told that a sample is no more, by a time, and whether its free was seen.
func (b *Book) End(id, at uint64, seen bool) {
	b.now = max(b.now, at)
	if s := b.blocks[id]; s != nil && s.ended == 0 {
		b.uncount(s)
		s.ended, s.seen = max(at, s.At+1), seen
		b.count(s)
	}
}

// Blind is told that the contents of a sample tell nothing any more.
func (b *Book) Blind(id uint64) {
	if s := b.blocks[id]; s != nil {
		s.Blind = true
	}
}

// mostWindows bounds what is remembered; beyond, neighbours are joined.
const mostWindows = 1 << 14

// Window is told of one. They come in their order.
func (b *Book) Window(w Window) {
	if w.To <= w.From {
		return
	}
	w.Until = max(w.Until, w.To)
	b.work.Faults += w.Faults
	b.work.Beside += w.Beside
	b.work.CPU += w.CPU
	b.work.CPUBeside += w.CPUBeside
	b.now = max(b.now, w.Until)
	next := window{w, w.To - w.From, w.Until - w.From}
	if n := len(b.windows); n > 0 {
		next.probed += b.windows[n-1].probed
		next.seen += b.windows[n-1].seen
	}
	b.windows = append(b.windows, next)
	if len(b.windows) <= mostWindows {
		return
	}
	kept := b.windows[:0]
	for i := 0; i+1 < len(b.windows); i += 2 {
		x, y := b.windows[i], b.windows[i+1]
		kept = append(kept, window{Window{From: x.From, To: y.To, Until: y.Until}, y.probed, y.seen})
	}
	b.windows = append(kept, b.windows[len(kept)*2:]...)
}

// Faults is how many page faults are kept, of all groups.
func (b *Book) Faults() (n int) {
	for _, all := range b.faults {
		n += len(all)
	}
	return n
}

// Fault is told of a page fault in memory of a group.
func (b *Book) Fault(key growth.Key, at uint64, site uint32) {
	all := b.faults[key]
	if len(all) >= mostFaults { // every second is as good
		kept := all[:0]
		for i := 0; i < len(all); i += 2 {
			kept = append(kept, all[i])
		}
		all = kept
	}
	b.faults[key] = append(all, fault{at, site})
}

// windowOf is the index of the window that a time is in, or of the one after it.
func (b *Book) windowOf(at uint64) int {
	i, _ := slices.BinarySearchFunc(b.windows, at, func(w window, at uint64) int { return cmp.Compare(w.Until, at) })
	return i
}

// reaches are until when frees were seen without a pause from each window on: in windows that
// follow each other at once the probes stay.
func (b *Book) reaches() []uint64 {
	const pause = uint64(time.Millisecond)
	out := make([]uint64, len(b.windows))
	for i := len(b.windows) - 1; i >= 0; i-- {
		out[i] = b.windows[i].Until
		if i+1 < len(out) && b.windows[i+1].From < out[i]+pause {
			out[i] = out[i+1]
		}
	}
	return out
}

// work is how much work was done in all, as a multiple of what was done in windows.
type work struct {
	times  float64 // the best estimate
	least  float64 // it is no less
	pieces float64 // of how many independent pieces it is the mean; 0 if everything was seen
}

// cluster is how many page faults come together, about.
const cluster = 1.5

// worked estimates it. It is no less than the time in all, as a multiple of that of the
// windows: while calls are seen a program is slower, and never faster. How much slower tell
// page faults, which what makes a heap larger has in windows and beside, and CPU time, of
// which less is known: the price of seeing calls must be taken off. So that counts for a few
// page faults, and decides where there are fewer.
func (b *Book) worked() (w work) {
	const unsure, all = 3, 0.99
	watched, probed := b.Watched(), b.probedSince(0)
	if float64(probed) > all*float64(watched) {
		return work{times: 1, least: 1}
	}
	w.least = float64(watched) / float64(max(probed, 1))
	faults, beside := float64(b.work.Faults), float64(b.work.Beside)
	more := float64(b.work.CPUBeside) / float64(max(b.work.CPU, time.Microsecond))
	more = max(more, w.least-1)
	w.pieces = unsure + faults/cluster
	w.times = 1 + (unsure*more+beside/cluster)/w.pieces
	w.times = max(w.times, w.least)
	return w
}

// inWindow tells whether all calls were seen at a time.
func (b *Book) inWindow(at uint64) bool {
	i := b.windowOf(at)
	return i < len(b.windows) && at >= b.windows[i].From && at < b.windows[i].To
}

// stands is how many bytes of its window a sample stands for. Those that were seen before or
// after a window, while the probes were put on or taken off, stand for nothing.
func (b *Book) stands(s *block) float64 {
	if b.inWindow(s.At) {
		return s.Weight * float64(s.Bytes)
	}
	return 0
}

// probedSince is for how long all calls were seen in the windows from the first on that began
// at a time or later.
func (b *Book) probedSince(from uint64) time.Duration {
	n := len(b.windows)
	i := slices.IndexFunc(b.windows, func(w window) bool { return w.From >= from })
	if i < 0 {
		return 0
	}
	probed := b.windows[n-1].probed
	if i > 0 {
		probed -= b.windows[i-1].probed
	}
	return time.Duration(probed)
}

// seenSince is for how long frees were seen since a time.
func (b *Book) seenSince(at uint64) time.Duration {
	n := len(b.windows)
	if n == 0 {
		return 0
	}
	i := b.windowOf(at)
	if i == n {
		return 0
	}
	seen := b.windows[n-1].seen - b.windows[i].seen
	w := b.windows[i]
	before := uint64(0)
	if i > 0 {
		before = b.windows[i-1].seen
	}
	return time.Duration(seen + min(w.Until-max(w.From, at), w.seen-before))
}

// Watched is the time since the first window.
func (b *Book) Watched() time.Duration {
	if len(b.windows) == 0 {
		return 0
	}
	return time.Duration(b.now - b.windows[0].From)
}

// Fold has the samples of groups for which own gives another be of that.
func (b *Book) Fold(own func(growth.Key) growth.Key) {
	for key, all := range b.faults {
		if to := own(key); to != key {
			delete(b.faults, key)
			b.faults[to] = append(b.faults[to], all[:min(len(all), max(mostFaults-len(b.faults[to]), 0))]...)
		}
	}
	clear(b.groups)
	for _, s := range b.blocks {
		s.Key = own(s.Key)
		b.count(s)
	}
}

// Sites calls use with the site of each sample that is there.
func (b *Book) Sites(use func(site uint32)) {
	seen := make(map[uint32]bool)
	for _, s := range b.blocks {
		if s.ended == 0 && !seen[s.Site] {
			seen[s.Site] = true
			use(s.Site)
		}
	}
}

// ordered are the samples in one order: sums of fractions depend on it.
func (b *Book) ordered() []*block {
	all := make([]*block, 0, len(b.blocks))
	for _, id := range slices.Sorted(maps.Keys(b.blocks)) {
		all = append(all, b.blocks[id])
	}
	return all
}
