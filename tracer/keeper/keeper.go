// Package keeper finds out which code keeps memory that many share: blocks of a
// malloc heap, of a runtime's. Who asks the kernel for such memory, and who is the
// first to touch a page of it, need not be who keeps what ends up there: what
// allocates the most is mostly first, even if it gives all of it back.
//
// It watches single words of memory, by the debug registers of the CPU, from before
// their page is touched for the first time: no write to them is missed, or that it may
// have been is known, for writes are counted, and so are threads that begin, as debug
// registers belong to threads that are there. (Devices and other processes write unseen.)
// What is used again and again is written again and again; a word that is left alone for
// long is part of something that stays, and who wrote it last is, most likely, who put
// that there.
//
// The words are a sample, and few, for a CPU has few debug registers. So that most of
// them are not spent on who touches the most, they are taken in equal numbers from each
// of those who are the first to write: what is to be known of each is which part of
// what it touches first stays, and with whom (a stratified sample).
//
// A Keeper has one owner; none of its methods may be called at the same time as
// another.
package keeper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
)

// What a [Target] may answer.
var (
	// ErrEnded says that there is no such thread any more.
	ErrEnded = errors.New("the thread has ended")
	// ErrBusy says that a thread has no debug register left: others use them.
	ErrBusy = errors.New("no debug register is free")
)

// Target is an address space and the threads that use it.
type Target interface {
	// Now is the clock of writes, in ns.
	Now() uint64
	// Threads lists the threads.
	Threads() ([]int, error)
	// Births is how many threads have begun, and Switches how often threads began to
	// run on a CPU, since moments that do not change.
	Births() (uint64, error)
	Switches() (uint64, error)
	// Watch watches the next writes, most of them, of a thread to a word; they are
	// told to [Keeper.Wrote]. Its errors may be ErrEnded and ErrBusy.
	Watch(tid int, addr uint64, most int) (Point, error)
	// Count counts what is resident, as [procmaps.Residency.Count].
	Count(ranges []procmaps.Range, out []procmaps.Resident) error
}

// Point is a thread that watches a word.
type Point interface {
	// Writes is how many writes there were, of those that are to be told.
	Writes() (uint64, error)
	Close() error
}

// Options of a Keeper. The zero value is usable.
type Options struct {
	// Words is how many are watched at once; 0 means DefaultWords.
	Words int
	// Settle is for how long a word must be left alone to count; 0 means 5 s.
	Settle time.Duration
	// Threads is how many the target may have at most; 0 means 128. A debug register
	// belongs to a thread, so each takes descriptors and time.
	Threads int
	// Page is the size of a page; 0 means 4 KiB.
	Page uint64
	// Seed makes the choice of words another.
	Seed uint64
	// Group returns a number that sites of one function share; nil if none do.
	Group func(site uint32) uint32
}

// DefaultWords are as many as x86 has debug registers.
const DefaultWords = 4

// Every is the time between two looks.
const Every = 250 * time.Millisecond

func (o Options) withDefaults() Options {
	if o.Words == 0 {
		o.Words = DefaultWords
	}
	if o.Settle == 0 {
		o.Settle = 5 * time.Second
	}
	if o.Threads == 0 {
		o.Threads = 128
	}
	if o.Page == 0 {
		o.Page = 4 << 10
	}
	if o.Group == nil {
		o.Group = func(site uint32) uint32 { return site }
	}
	return o
}

// Keeper watches words of one address space.
type Keeper struct {
	target Target
	opts   Options
	rand   *rand.Rand
	words  []*word
	strata map[uint32]*stratum // by the group that writes first
	firsts uint64              // of all of them
	settle uint64              // ns; longer than words are seen to wait for their next writer
	placed uint64              // when the last was chosen
	due    uint64              // when to look at them again
	births uint64              // of threads, at the last look
	born   bool                // some were since
	err    error
	stats  event.Words

	// Until rest, room words are watched and no more, because of why.
	rest uint64
	room int
	why  error

	counted  uint64 // when switches were counted
	switches uint64

	threads  []int // nil if they are to be listed again
	pages    []procmaps.Range
	resident []procmaps.Resident
}

// stratum is the words that one group is the first to write to.
type stratum struct {
	firsts   uint64 // of all words
	latest   uint64 // how many first writes of all strata there were at its last
	followed uint64
	missed   uint64 // of which nothing came to be known
}

const (
	wordBytes = 8
	// most writes are told between two looks; more would cost the target much.
	most = 16
	// mostSpent is how often a word may be written to more than that.
	mostSpent = 8
	// What a word may take, in times to settle: to be written to, and to be left alone.
	patience, lifetime = 3, 2
	// between is the least time between two choices.
	between = 50 * time.Millisecond
	// near is how many pages from where memory is touched now a word may be that waits
	// for its first write, if there is no room for another.
	near = 32
	// elsewhere is how long one in another mapping than that may wait.
	elsewhere = time.Second
	// rare is the part of all first writes below which a stratum is not waited for.
	rare = 0.03
	// silent is how many times longer than it mostly takes a stratum may stay away
	// before it is not waited for either: it was of a time that is over.
	silent = 3
	// longest is how many times longer than asked for settling may take.
	longest = 4
	// resting is how long it is before what was refused is tried again.
	resting = 30 * time.Second
	// mostSwitches is how often a second the threads may begin to run.
	mostSwitches = 10_000
	// ahead is within how many pages of one that was just touched the next are looked
	// for: some touch much at once, or a huge page.
	ahead = 1024
)

// New returns a Keeper that watches nothing yet.
func New(t Target, opts Options) *Keeper {
	opts = opts.withDefaults()
	return &Keeper{
		target: t, opts: opts, rand: rand.New(rand.NewPCG(opts.Seed, 0)),
		strata: make(map[uint32]*stratum), settle: uint64(opts.Settle),
	}
}

// Err says why no words are watched; nil if some are, or may be.
func (k *Keeper) Err() error {
	never := k.stats.Watched == 0 && len(k.words) == 0
	if k.err == nil && (never || k.room == 0 && k.target.Now() < k.rest) {
		return k.why
	}
	return k.err
}

// Stats says what became of the words so far.
func (k *Keeper) Stats() event.Words { return k.stats }

// Close stops watching. What is watched at that moment is not in the Stats.
func (k *Keeper) Close() error {
	var errs []error
	for _, w := range k.words {
		errs = append(errs, w.close())
	}
	k.words, k.opts.Words = nil, 0
	return errors.Join(errs...)
}

// Touched is told of a page of an extent that was touched for the first time, at a
// time in ns. It watches words of some of the next, as far as there is room; reach is
// where they may be, the extent or more.
func (k *Keeper) Touched(in *space.Extent, reach procmaps.Range, addr, now uint64) {
	if k.err != nil || now < k.placed+uint64(between) {
		return
	}
	k.sweep()
	room := k.opts.Words
	if now < k.rest {
		room = k.room
	}
	useless := k.useless(in, addr, now)
	if len(k.words) >= room && (useless < 0 || room == 0) {
		return
	}
	k.placed, k.threads = now, nil
	absent := k.fresh(reach, addr)
	if len(absent) > 0 && len(k.words) >= room {
		k.stats.Watched++
		k.stats.Unwritten++
		k.refused(k.words[useless].close())
		k.words = slices.Delete(k.words, useless, useless+1)
	}
	free := max(room-len(k.words), 0)
	for range min(free, len(absent)) {
		// Some are near, for memory that grows slowly; some are farther off, for what
		// has gone on by the time they are watched, and for what comes after it.
		i := k.rand.IntN(min(2<<len(k.words), len(absent)))
		err := k.place(in, absent[i], addr, now)
		if err != nil && !errors.Is(err, errTouched) {
			k.refused(err)
			return
		}
		if absent = slices.Delete(absent, i, i+1); len(absent) == 0 {
			return
		}
	}
}

// place watches a word of a page.
func (k *Keeper) place(in *space.Extent, page, addr, now uint64) error {
	// Where in its page the first write was tells where others may be; of memory that
	// is written all over, each word is as good.
	offset := addr % k.opts.Page
	if k.rand.IntN(4) == 0 {
		offset = k.rand.Uint64N(k.opts.Page)
	}
	w := &word{addr: page + offset&^(wordBytes-1), in: *in, since: now, points: make(map[int]Point)}
	err := k.arm(w)
	if err == nil && !k.absent(page) {
		err = errTouched // before it was watched
	}
	if err == nil && len(w.points) > 0 {
		k.words = append(k.words, w)
		return nil
	}
	return errors.Join(err, w.close())
}

// useless returns the index of a word that waits where nobody comes, while memory is
// touched at addr; -1 if there is none.
func (k *Keeper) useless(in *space.Extent, addr, now uint64) int {
	here := procmaps.Range{Start: addr, End: addr + near*k.opts.Page}
	return slices.IndexFunc(k.words, func(w *word) bool {
		age := time.Duration(now - min(w.since, now))
		if w.in.Range == in.Range {
			return w.first == 0 && age > Every && !here.Contains(w.addr)
		}
		return w.first == 0 && age > elsewhere
	})
}

// sweep makes room for other words than those of which there are enough.
func (k *Keeper) sweep() {
	k.words = slices.DeleteFunc(k.words, func(w *word) bool {
		if !w.passed {
			return false
		}
		k.stats.Passed++
		k.refused(w.close())
		return true
	})
}

var errTouched = errors.New("touched")

// refused draws the consequences of a word that cannot be watched.
func (k *Keeper) refused(err error) {
	switch {
	case err == nil, errors.Is(err, procmaps.ErrGone):
	case errors.Is(err, ErrBusy):
		k.pause(err, len(k.words))
	default:
		k.err = err
	}
}

// pause lets some words be enough for a while.
func (k *Keeper) pause(why error, room int) {
	k.rest, k.room, k.why = k.target.Now()+uint64(resting), room, why
}

// tooBusy stops watching where threads begin to run too often: the kernel writes the
// debug registers each time: 1 to 2.5 µs more were measured on a virtual machine.
func (k *Keeper) tooBusy(now uint64) error {
	if now < k.counted+uint64(time.Second) {
		return nil
	}
	n, err := k.target.Switches()
	if err != nil {
		return err
	}
	rate := float64(n-min(k.switches, n)) / time.Duration(now-k.counted).Seconds()
	first := k.counted == 0
	if k.counted, k.switches = now, n; first || rate <= mostSwitches {
		return nil
	}
	k.pause(fmt.Errorf("its threads begin to run %.0f times a second, and each time would cost more by it", rate), 0)
	var errs []error
	for _, w := range k.words {
		k.stats.Watched++
		k.stats.Missed++
		errs = append(errs, w.close())
	}
	k.words = nil
	return errors.Join(errs...)
}

// fresh are the next pages that were not touched yet.
func (k *Keeper) fresh(in procmaps.Range, addr uint64) []uint64 {
	from := addr&^(k.opts.Page-1) + k.opts.Page
	absent := k.absentIn(procmaps.Range{Start: from, End: min(from+ahead*k.opts.Page, in.End)})
	return slices.DeleteFunc(absent, k.watched)
}

// watched tells whether a word of a page is watched.
func (k *Keeper) watched(page uint64) bool {
	return slices.ContainsFunc(k.words, func(w *word) bool { return w.addr&^(k.opts.Page-1) == page })
}

// absentIn returns the pages of r that are not there, nor swapped out.
func (k *Keeper) absentIn(r procmaps.Range) []uint64 {
	k.pages = k.pages[:0]
	for at := r.Start; at < r.End; at += k.opts.Page {
		k.pages = append(k.pages, procmaps.Range{Start: at, End: at + k.opts.Page})
	}
	k.resident = slices.Grow(k.resident[:0], len(k.pages))[:len(k.pages)]
	clear(k.resident)
	if len(k.pages) == 0 || k.target.Count(k.pages, k.resident) != nil {
		return nil // the process is gone, or will tell why when it is looked at
	}
	var absent []uint64
	for i, p := range k.pages {
		if k.resident[i].Bytes+k.resident[i].SwapBytes == 0 {
			absent = append(absent, p.Start)
		}
	}
	return absent
}

// absent tells whether a page is surely not there.
func (k *Keeper) absent(page uint64) bool {
	return len(k.absentIn(procmaps.Range{Start: page, End: page + k.opts.Page})) > 0
}

// Wrote is told of a write to a word, by a site, at a time in ns.
func (k *Keeper) Wrote(addr uint64, site uint32, at uint64) {
	i := slices.IndexFunc(k.words, func(w *word) bool { return w.addr == addr })
	if i < 0 {
		return
	}
	w := k.words[i]
	if at < w.since {
		return // it was watched before, and this is a write of that time
	}
	w.told++
	if at < w.last {
		return // one CPU's record came before another's
	}
	if w.first == 0 {
		w.first, w.by = at, k.opts.Group(site)
		w.passed = !k.follow(w.by)
	} else {
		// What comes round again within some time does not stay.
		const times = 2
		k.settle = min(max(k.settle, times*(at-w.last)), longest*uint64(k.opts.Settle))
	}
	if w.last = at; at > w.gap {
		w.site = site
	}
}

// follow tells whether another word of a stratum is to be followed: it does not have
// half of all places, and there are no fewer of another one that is waited for.
func (k *Keeper) follow(group uint32) bool {
	st := k.strata[group]
	if st == nil {
		st = new(stratum)
		k.strata[group] = st
	}
	st.firsts++
	k.firsts++
	st.latest = k.firsts
	here := 0
	for _, w := range k.words {
		if w.first != 0 && w.by == group && !w.passed {
			here++ // this one too
		}
	}
	if here > max(k.opts.Words/2, 1) {
		return false
	}
	for _, o := range k.strata {
		if o.followed < st.followed && k.awaited(o) {
			return false
		}
	}
	st.followed++
	return true
}

// awaited tells whether more words of a stratum can be expected soon.
func (k *Keeper) awaited(st *stratum) bool {
	part := float64(st.firsts) / float64(k.firsts)
	return part >= rare && float64(k.firsts-st.latest)*part <= silent
}

// unknown is told of a word that was followed, and of which nothing is known. Another
// is followed in its place, but not always: of some all words are missed, and the
// others are not to wait for them for ever.
func (st *stratum) unknown() {
	if st.missed++; st.missed%2 == 1 {
		st.followed--
	}
}

// Look sees what became of the words, unless it has done so within Every, and returns
// what was decided since. Mapped tells whether there is memory at an address.
func (k *Keeper) Look(now uint64, mapped func(addr uint64) bool) []event.Outcome {
	if now < k.due {
		return nil
	}
	k.due, k.threads = now+uint64(Every), nil
	k.sweep()
	if err := k.tooBusy(now); err != nil {
		k.refused(err)
		return nil
	}
	if len(k.words) == 0 {
		return nil
	}
	// Before the threads are listed: who begins after that is in the next number.
	births, err := k.target.Births()
	k.refused(err)
	k.born, k.births = births != k.births, births
	var outcomes []event.Outcome
	k.words = slices.DeleteFunc(k.words, func(w *word) bool {
		outcome, err := k.judge(w, now, mapped)
		if err == nil && outcome == nil {
			return false
		}
		if err != nil {
			outcome = &k.stats.Missed
			k.refused(err)
		}
		*outcome++
		k.stats.Watched++
		switch {
		case outcome == &k.stats.Stayed:
			outcomes = append(outcomes, event.Outcome{In: w.in, First: w.by, Site: w.site})
		case w.first != 0 && outcome != &k.stats.Missed:
			outcomes = append(outcomes, event.Outcome{In: w.in, First: w.by})
		case w.first != 0:
			k.strata[w.by].unknown()
		}
		k.refused(w.close())
		return true
	})
	return outcomes
}
