package attribution

import (
	"maps"
	"slices"
	"time"
	"unsafe"

	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
)

// What glibc's malloc holds.
//
// A heap grows by what is in use, or by what is not: memory that was freed stays with
// malloc, in holes that fit nothing new. Readings of it from outside tell the two apart. How
// fast what is in use grows is estimated as all growth is, with an interval; arena by arena,
// so that one in which blocks are kept does not hide behind one that empties.

// Malloc is what glibc's malloc of a process holds, all arenas together, in bytes.
type Malloc struct {
	InUse     uint64 // by blocks that were not freed and are in no mapping of their own
	Before    uint64 // InUse at the first complete reading; 0 if there was none but the last
	Free      uint64 // what was freed, and is kept
	Top       uint64 // what of it is at the ends of the arenas
	Trimmable uint64 // what malloc_trim would give back
	Arenas    int
	Mapped    uint64 // blocks that have mappings of their own
	Complete  bool
	Why       string        // what is missing if it is not complete
	Age       time.Duration // for how long no other reading was complete
}

// mallocs are the readings of one malloc.
type mallocs struct {
	last     event.Malloc    // the last complete one, or the last of all while none is
	at       time.Duration   // when that was
	complete []reading       // some of them, with the first and the last
	uses     map[judged]*use // what was estimated by these, nil where it is not known
}

// judged is what a verdict is about: some arenas, in a part of the watch.
type judged struct {
	side     side
	from, to time.Duration
}

// reading is a complete one.
type reading struct {
	at     time.Duration
	arenas []event.Arena
	sizes  []uint64
}

const (
	// mostReadings are kept, of mostArenas arenas in all.
	mostReadings, mostArenas = 64, 8192
	// fewestReadings are needed to tell what grows.
	fewestReadings = 4
)

func newMallocs() *mallocs { return &mallocs{uses: make(map[judged]*use)} }

func (m *mallocs) add(at time.Duration, b event.Malloc) {
	if b.Complete || !m.last.Complete {
		m.last, m.at = b, at
	}
	if !b.Complete {
		return
	}
	clear(m.uses)
	arenas := len(b.Arenas)
	for i := range m.complete {
		arenas += len(m.complete[i].arenas)
	}
	for n := len(m.complete); n >= mostReadings || arenas > mostArenas && n > 2*fewestReadings; n = len(m.complete) {
		kept := m.complete[:0] // the first, and every second
		for i, r := range m.complete {
			if i%2 == 0 {
				kept = append(kept, r)
			} else {
				arenas -= len(r.arenas)
			}
		}
		clear(m.complete[len(kept):])
		m.complete = kept
	}
	m.complete = append(m.complete, reading{at, b.Arenas, b.Sizes})
}

// bytes is what is kept, about.
func (m *mallocs) bytes() (n int) {
	if m == nil {
		return 0
	}
	for i := range m.complete {
		n += cap(m.complete[i].arenas)*int(unsafe.Sizeof(event.Arena{})) + cap(m.complete[i].sizes)*int(unsafe.Sizeof(uint64(0)))
	}
	return n + cap(m.complete)*int(unsafe.Sizeof(reading{}))
}

// figures are what is shown of it at a time.
func (m *mallocs) figures(now time.Duration) *Malloc {
	if m == nil {
		return nil
	}
	f := Malloc{Age: max(now-m.at, 0), Mapped: m.last.Mapped, Arenas: len(m.last.Arenas), Complete: m.last.Complete, Why: m.last.Why}
	for i := range m.last.Arenas {
		a := &m.last.Arenas[i]
		f.InUse += a.InUse
		f.Free += a.Free
		f.Top += a.Top
		f.Trimmable += a.Trimmable
	}
	if len(m.complete) > 1 {
		for i := range m.complete[0].arenas {
			f.Before += m.complete[0].arenas[i].InUse
		}
	}
	return &f
}

// inUse gives by how many blocks of some classes in use grows a second, at most, in the second
// half of what was read; nil where that is not known.
func (m *mallocs) inUse() heap.InUse {
	if m == nil {
		return nil
	}
	n := len(m.complete)
	if n == 0 {
		return nil
	}
	half := (m.complete[0].at + m.complete[n-1].at) / 2
	late := slices.DeleteFunc(slices.Clone(m.complete), func(r reading) bool { return r.at < half || r.sizes == nil })
	if len(late) < fewestReadings {
		return nil
	}
	times := make([]float64, len(late))
	for i, r := range late {
		times[i] = r.at.Seconds()
	}
	return func(classes func(uint8) bool) float64 {
		blocks := make([]float64, len(late))
		for i, r := range late {
			for class, n := range r.sizes {
				if classes(uint8(class)) {
					blocks[i] += float64(n)
				}
			}
		}
		return max(growth.RateOf(times, blocks).High, 0)
	}
}

// side is which arenas a group's memory is of.
type side uint8

const (
	noArena side = iota
	mainArena
	otherArenas // those of threads: one group may have parts of several, and one arena be of several groups
)

func sideOf(k growth.Key) side {
	switch {
	case k.What == growth.Heap:
		return mainArena
	case k.What == growth.Arena, k.What == growth.Pool && k.Name == growth.ArenaPool:
		return otherArenas
	}
	return noArena
}

// use is how what arenas hold has changed.
type use struct {
	from, to time.Duration // the first and the last reading of it
	inUse    growth.Rate   // of all of them
	most     float64       // what in any of them may have come to be in use, a second
	free     float64       // what came to be free, a second
	resident float64       // what came to be resident, a second
	trim     float64       // what malloc_trim would give back of them now
}

// use is how it has changed in the part of the watch that a finding is about, nil if that is
// not known. It is estimated once.
func (m *mallocs) use(f *growth.Finding) *use {
	j := judged{sideOf(f.Key), f.From, f.To}
	if m == nil || j.side == noArena {
		return nil
	}
	u, ok := m.uses[j]
	if !ok {
		u = m.estimate(j)
		m.uses[j] = u
	}
	return u
}

// estimate estimates it from the readings of that part; the last may come after its end. It
// is nil if they are too few.
func (m *mallocs) estimate(j judged) *use {
	var all []reading
	for _, r := range m.complete {
		if r.at >= j.from {
			all = append(all, r)
		}
	}
	n := len(all)
	if n < fewestReadings || all[n-1].at-all[0].at < (j.to-j.from)/2 {
		return nil
	}
	u := use{from: all[0].at, to: all[n-1].at}
	times, inUse, free, resident := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	each := make(map[uint64][]float64)
	doubt := make(map[uint64]float64)
	for i, r := range all {
		times[i] = r.at.Seconds()
		for k := range r.arenas {
			a := &r.arenas[k]
			if a.Main != (j.side == mainArena) {
				continue
			}
			if each[a.State] == nil {
				each[a.State] = make([]float64, n) // one that was not there yet held nothing
			}
			each[a.State][i] = float64(a.InUse)
			doubt[a.State] = max(doubt[a.State], float64(a.Doubt))
			inUse[i] += float64(a.InUse)
			free[i] += float64(a.Free)
			resident[i] += float64(a.Resident)
			if i == n-1 {
				u.trim += float64(a.Trimmable)
			}
		}
	}
	u.inUse, u.free = growth.RateOf(times, inUse), growth.RateOf(times, free).PerSecond
	u.resident = growth.RateOf(times, resident).PerSecond
	for _, state := range slices.Sorted(maps.Keys(each)) {
		u.most += max(growth.RateOf(times, each[state]).High, 0) + 2*doubt[state]/(u.to-u.from).Seconds()
	}
	if len(each) == 0 {
		return nil
	}
	return &u
}

const (
	// retains is the part of a group's growth that what came to be in use explains at most
	// where the rest is retained, and frees the part that what came to be free explains at
	// least.
	retains, frees = 0.25, 0.5
)

// findings are the verdicts, worst first, with what else is known that speaks against them.
func (a *Attribution) findings() []growth.Finding {
	found := a.watch.Findings()
	if a.malloc != nil {
		clear(a.malloc.uses) // of the last judging
	}
	for i := range found {
		f := &found[i]
		if a.malloc != nil {
			a.malloc.judge(f)
		}
		a.judgeHuge(f)
		a.judgeFreed(f)
	}
	a.judgeJava(found)
	judgeTables(found)
	growth.Sort(found)
	return found
}

// judge takes back the verdict on what malloc keeps though the program has freed it.
func (m *mallocs) judge(f *growth.Finding) {
	if f.Label < growth.Grows || !f.Measure.OfMemory() {
		return
	}
	u := m.use(f)
	if u == nil {
		return
	}
	seconds := (u.to - u.from).Seconds()
	grown := residentBetween(f.Series, u.from, u.to)
	if grown < f.Growth/2 || u.most*seconds >= retains*grown || u.free*seconds < frees*grown {
		return
	}
	f.Label = growth.Retained
	f.Reason = []growth.Note{
		f.Reason[0],
		{Kind: growth.InUseLess, Size: u.inUse.PerSecond * (f.To - f.From).Seconds()},
		{Kind: growth.Trimmable, Size: min(u.trim, float64(f.Last.Resident))},
	}
}

// residentBetween is by how much resident memory has grown between two moments, at least.
func residentBetween(series []growth.Point, from, to time.Duration) float64 {
	point := func(at time.Duration) *growth.Point {
		i := slices.IndexFunc(series, func(p growth.Point) bool { return p.At >= at })
		if i < 0 {
			i = len(series) - 1
		}
		return &series[i]
	}
	if len(series) == 0 {
		return 0
	}
	return point(to).Low.Of(growth.Resident) - point(from).High.Of(growth.Resident)
}

// keptRate is what who keeps a group is compared with, a second: what it grows by, or, of a
// malloc heap of which that is known, by what of it is in use. A heap with much free memory
// grows inside before it gets larger, and one that falls to pieces gets larger all the same.
func (a *Attribution) keptRate(f *growth.Finding) growth.Rate {
	rate := growth.Rate{PerSecond: f.Slope, Low: f.SlopeLow, High: f.SlopeHigh}
	const most = 1.5
	u := a.malloc.use(f)
	if u == nil || !f.Measure.OfMemory() || u.resident <= 0 {
		return rate
	}
	of := func(inUse float64) float64 { return f.Slope * min(max(inUse/u.resident, 0), most) }
	return growth.Rate{PerSecond: of(u.inUse.PerSecond), Low: of(u.inUse.Low), High: of(u.inUse.High)}
}
