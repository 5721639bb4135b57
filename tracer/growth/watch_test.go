package growth

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/budget"
)

func replay(opts Options, tape []call) *Watch {
	w := NewWatch(opts)
	for _, c := range tape {
		c.apply(w)
	}
	return w
}

// programs are runs of each shape, with their names.
func programs(ticks int, seeds uint64) iter.Seq2[string, *program] {
	return func(yield func(string, *program) bool) {
		for _, s := range shapes {
			for seed := range seeds {
				p := newProgram(seed, ticks)
				s.run(p)
				if !yield(fmt.Sprintf("%s, seed %d", s.name, seed), p) {
					return
				}
			}
		}
	}
}

func TestVerdictsDoNotDependOnTheUnitOfTime(t *testing.T) {
	t.Parallel()
	for name, p := range programs(60, 3) {
		const scale = 8
		slow := slices.Clone(p.tape)
		for i := range slow {
			slow[i].at *= scale
			slow[i].born *= scale
		}
		f, g := p.w.Findings()[0], replay(Options{}, slow).Findings()[0]
		if f.Label != g.Label || f.Measure != g.Measure || f.Growth != g.Growth || f.AliveShare != g.AliveShare {
			t.Errorf("%s: %s by %g %s, but slower %s by %g %s", name, f.Label, f.Growth, f.Measure, g.Label, g.Growth, g.Measure)
		}
		near(t, name+": the slope", g.Slope*scale, f.Slope, 1e-9*math.Abs(f.Slope))
		if (f.MedianAge*scale - g.MedianAge).Abs() > scale { // of the nanoseconds that halving drops
			t.Errorf("%s: median age %v became %v", name, f.MedianAge, g.MedianAge)
		}
	}
}

func TestVerdictsDoNotDependOnTheUnitOfSize(t *testing.T) {
	t.Parallel()
	for name, p := range programs(60, 3) {
		const scale = 16
		large := slices.Clone(p.tape)
		for i, c := range large {
			large[i].bytes *= scale
			large[i].holdings = make(map[Key]Holding)
			for k, h := range c.holdings {
				large[i].holdings[k] = Holding{Mapped: h.Mapped * scale, Writable: h.Writable * scale, Resident: h.Resident * scale, Mappings: h.Mappings}
			}
		}
		f := p.w.Findings()[0]
		g := replay(Options{MinGrowth: scale * 256 << 10}, large).Findings()[0]
		if f.Label != g.Label || f.Measure != g.Measure {
			t.Errorf("%s: %s (%+v) became %s (%+v)", name, f.Label, f.Measure, g.Label, g.Measure)
		}
		if f.Measure != Mappings && math.Abs(f.Slope*scale-g.Slope) > 1e-9*math.Abs(g.Slope) {
			t.Errorf("%s: slope %g became %g", name, f.Slope, g.Slope)
		}
	}
}

func TestOrderWithinATickDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for name, p := range programs(60, 3) {
		mixed := slices.Clone(p.tape)
		begin := 0
		for i, c := range mixed {
			if c.what != 'o' {
				continue
			}
			tick := mixed[begin:i]
			r.Shuffle(len(tick), func(i, j int) { tick[i], tick[j] = tick[j], tick[i] })
			slices.SortStableFunc(tick, func(a, b call) int { return int(a.what) - int(b.what) }) // births first
			begin = i + 1
		}
		if d := cmp.Diff(p.w.Findings(), replay(Options{}, mixed).Findings()); d != "" {
			t.Errorf("%s, in another order (-told +mixed):\n%s", name, d)
		}
	}
}

func TestFindingsLeaveTheWatchAsItWas(t *testing.T) {
	t.Parallel()
	p := newProgram(1, 60)
	shapes[0].run(p)
	first := p.w.Findings()
	if d := cmp.Diff(first, p.w.Findings()); d != "" {
		t.Errorf("the second time (-first +second):\n%s", d)
	}
}

func TestThinningKeepsTheVerdictAndTheExtremes(t *testing.T) {
	t.Parallel()
	for name, p := range programs(600, 1) {
		few := replay(Options{MaxPoints: 128}, p.tape)
		if len(few.times) > 128 {
			t.Errorf("%s: %d points", name, len(few.times))
		}
		f, g := p.w.Findings()[0], few.Findings()[0]
		if f.First != g.First || f.Last != g.Last || f.Peak != g.Peak || f.Born != g.Born || f.Died != g.Died {
			t.Errorf("%s: %+v became %+v", name, f, g)
		}
		if (f.Label == Leaks) != (g.Label == Leaks) {
			t.Errorf("%s: %s (%+v) became %s (%+v)", name, f.Label, f.Reason, g.Label, g.Reason)
		}
		var low, high uint64 = math.MaxUint64, 0
		for _, q := range g.Series {
			low, high = min(low, q.Low.Resident), max(high, q.High.Resident)
		}
		var wantLow uint64 = math.MaxUint64
		for _, c := range p.tape {
			if c.what == 'o' {
				wantLow = min(wantLow, c.holdings[p.key].Resident)
			}
		}
		if low != wantLow || high != f.Peak.Resident {
			t.Errorf("%s: series from %d to %d, want %d to %d", name, low, high, wantLow, f.Peak.Resident)
		}
	}
}

func TestDeathsInPiecesLowerTheShareOfTheirCohortOnly(t *testing.T) {
	t.Parallel()
	w := NewWatch(Options{})
	k := Key{What: Anon}
	sec := func(s float64) time.Duration { return time.Duration(s * 1e9) }
	for i := range 21 {
		w.Observe(sec(float64(i)), map[Key]Holding{k: {Mapped: mib, Mappings: 1}}, nil)
		switch i {
		case 5, 10:
			w.Born(k, sec(float64(i)+0.5), 100*kib, 1)
		case 12:
			w.Died(k, sec(5.5), 30*kib, 1)
			w.Died(k, sec(5.5), 20*kib, 1)
			w.Died(k, -1, 500*kib, 1) // from before the watch
		case 19:
			w.Born(k, sec(19.5), mib, 1) // too late to count
		}
	}
	f := w.Findings()[0]
	if f.AliveOf != 200*kib || f.AliveShare != 0.75 {
		t.Errorf("%g of %d alive, want 0.75 of %d", f.AliveShare, f.AliveOf, 200*kib)
	}
	if f.Born != 200*kib+mib || f.Died != 550*kib || f.BornCount != 3 || f.DiedCount != 3 {
		t.Errorf("born %d in %d, died %d in %d", f.Born, f.BornCount, f.Died, f.DiedCount)
	}
	if f.MedianAge != sec(0.5) {
		t.Errorf("median age %v, want 0.5 s: most is from the last second", f.MedianAge)
	}
}

func TestObservationsThatAreNotLaterAreIgnored(t *testing.T) {
	t.Parallel()
	w := NewWatch(Options{})
	k := Key{What: Heap}
	w.Observe(time.Second, map[Key]Holding{k: {Resident: 5}}, nil)
	w.Observe(time.Second, map[Key]Holding{k: {Resident: 6}}, nil)
	w.Observe(0, map[Key]Holding{k: {Resident: 7}}, nil)
	if f := w.Findings()[0]; w.Ticks() != 1 || f.Last.Resident != 5 {
		t.Errorf("%d ticks, last %+v", w.Ticks(), f.Last)
	}
}

func TestTooManyGroupsGoToOther(t *testing.T) {
	t.Parallel()
	w := NewWatch(Options{MaxGroups: 10})
	const ticks, each = 40, 8
	born, died := uint64(0), uint64(0)
	for i := range ticks {
		at := time.Duration(i) * time.Second
		h := make(map[Key]Holding)
		for j := range each {
			k := Key{What: Anon, Site: uint32(i*each + j)} // a new site each time
			w.Born(k, at, mib, 1)
			born += mib
			h[k] = Holding{Mapped: mib, Mappings: 1}
			if i > 0 {
				old := Key{What: Anon, Site: uint32((i-1)*each + j)}
				w.Died(old, at-time.Second, mib, 1)
				died += mib
			}
		}
		w.Observe(at, h, nil)
		if n := len(w.groups); n > 10 {
			t.Fatalf("%d groups", n)
		}
		var mapped uint64
		for _, f := range w.Findings() {
			mapped += f.Last.Mapped
		}
		if mapped != each*mib {
			t.Fatalf("tick %d: groups hold %d bytes, want %d", i, mapped, each*mib)
		}
	}
	var gotBorn, gotDied, mapped uint64
	var other []Note
	for _, f := range w.Findings() {
		gotBorn += f.Born
		gotDied += f.Died
		mapped += f.Last.Mapped
		if f.What == Other {
			other = f.Reason
		}
	}
	if gotBorn != born || gotDied != died {
		t.Errorf("born %d, died %d, want %d, %d", gotBorn, gotDied, born, died)
	}
	evicted, outside := w.Crowd()
	if evicted == 0 || outside == 0 || len(other) == 0 || other[len(other)-1] != (Note{Kind: Together, Count: evicted, Other: outside}) {
		t.Errorf("%d evicted, %d outside: %+v", evicted, outside, other)
	}
	if mapped != each*mib {
		t.Errorf("the groups hold %d, want %d", mapped, each*mib)
	}
}

func TestASmallLeakComesBeforeALargeInnocent(t *testing.T) {
	t.Parallel()
	w := NewWatch(Options{})
	leak, cache, fast := Key{What: Anon, Site: 1}, Key{What: Anon, Site: 2}, Key{What: Heap}
	for i := range uint64(60) {
		w.Observe(time.Duration(i)*time.Second, map[Key]Holding{
			leak:  {Mapped: i * 16 * kib, Resident: i * 16 * kib},
			cache: {Mapped: 8 << 30, Resident: min(i, 30) * 100 * mib},
			fast:  {Mapped: i * mib, Resident: i * mib},
		}, nil)
	}
	f := w.Findings()
	if f[0].Key != fast || f[1].Key != leak || f[2].Key != cache || f[1].Label != Leaks || f[2].Label != Plateau {
		for _, f := range f {
			t.Errorf("%v: %s: %+v", f.Key, f.Label, f.Reason)
		}
	}
}

// about compares the numbers of notes to a hundredth and to a second.
var about = cmp.Options{
	cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 0.01*max(a, b) }),
	cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < time.Second }),
}

func TestVerdictsSayWhatTheyRestOn(t *testing.T) {
	t.Parallel()
	const n = 61
	for _, c := range []struct {
		name  string
		label Label
		alive string // percent of what was mapped, where the notes mention it
		want  []Note
		run   func(p *program)
	}{
		{"leak", Leaks, "100", []Note{{Kind: Grew, Size: 10.4 * mib, Time: 53 * time.Second}, {Kind: StillAlive}, {Kind: NeverShrank}}, func(p *program) {
			p.each(func() { p.mmap(200*kib, 200*kib) })
		}},
		{"old mapping", Leaks, "", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: NeverShrank}, {Kind: InsideMappings}}, func(p *program) {
			p.base(1<<30, 0)
			p.each(func() { p.touch(float64(p.now) * mib) })
		}},
		{"thread stacks", Leaks, "100", []Note{{Kind: Grew, Size: 48.0 * mib, Time: 47 * time.Second}, {Kind: StillAlive}, {Kind: NeverShrank}, {Kind: InSteps, Count: 6}, {Kind: ResidentLess, Size: 96 * kib}}, func(p *program) {
			p.each(func() {
				if p.every(8) {
					p.mmap(8*mib, 16*kib)
				}
			})
		}},
		{"copied vector", Leaks, "", []Note{{Kind: Grew, Size: 54.0 * mib, Time: 54 * time.Second}, {Kind: NeverShrank}, {Kind: Replaces}}, func(p *program) {
			p.mmap(mib, 0)
			p.each(func() {
				for p.touch(float64(p.now) * mib); p.h.Mapped < p.h.Resident; p.munmap(0) {
					p.mmap(2*float64(p.h.Mapped), 0)
				}
			})
		}},
		{"one in ten", Leaks, "11", []Note{{Kind: Grew, Size: 6.0 * mib, Time: 53 * time.Second}, {Kind: StillAlive}, {Kind: NeverShrank}, {Kind: InSteps, Count: 6}, {Kind: Settled}}, func(p *program) {
			p.each(func() {
				if p.mmap(mib, mib); p.now%10 != 0 {
					p.munmap(len(p.blocks) - 1)
				}
			})
		}},
		{"once", Plateau, "", []Note{{Kind: Grew, Size: 64.0 * mib, Time: 53 * time.Second}, {Kind: Once, Time: 30 * time.Second}}, func(p *program) {
			p.base(mib, mib)
			p.each(func() {
				if p.now == 30 {
					p.mmap(64*mib, 64*mib)
				}
			})
		}},
		{"ring", Churns, "", []Note{{Kind: Churned}}, func(p *program) {
			p.each(func() {
				if p.mmap(mib, mib); len(p.blocks) > 4 {
					p.munmap(0)
				}
			})
		}},
		{"garbage collector", Sawtooth, "", []Note{{Kind: FellBack, Count: 5, Size: 9.0 * mib}, {Kind: LowsStay}}, func(p *program) {
			p.base(1<<30, 0)
			p.each(func() { p.touch(float64(p.now%10) * mib) })
		}},
		{"file", Grows, "", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: NeverShrank}, {Kind: Droppable}, {Kind: InsideMappings}}, func(p *program) {
			p.key = Key{What: File, Name: "/x"}
			p.base(1<<30, 0)
			p.h.Writable = 0
			p.each(func() { p.touch(float64(p.now) * mib) })
		}},
		{"shared buffers", Grows, "", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: NeverShrank}, {Kind: Bounded, Size: 40.0 * mib}, {Kind: InsideMappings}}, func(p *program) {
			p.key = Key{What: Shm}
			p.base(100*mib, 0)
			p.each(func() { p.touch(float64(p.now) * mib) })
		}},
		{"stacks that are there", Grows, "", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: NeverShrank}, {Kind: Bounded, Size: 40.0 * mib}, {Kind: InsideMappings}}, func(p *program) {
			p.key = Key{What: ThreadStack}
			p.base(100*mib, 0)
			p.each(func() { p.touch(float64(p.now) * mib) })
		}},
		{"database in a file", Grows, "", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: NeverShrank}, {Kind: Bounded, Size: 964.0 * mib}, {Kind: InsideMappings}}, func(p *program) {
			p.key = Key{What: File, Name: "/x"}
			p.base(1<<30, 0)
			p.each(func() { p.touch(float64(p.now) * mib) })
		}},
		{"shared memory, more and more", Leaks, "", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: StillAlive}, {Kind: NeverShrank}}, func(p *program) {
			p.key = Key{What: Shm}
			p.each(func() { p.mmap(mib, mib) })
		}},
		{"late", Grows, "100", []Note{{Kind: Grew, Size: 15.0 * mib, Time: 15 * time.Second}, {Kind: StillAlive}, {Kind: NeverShrank}, {Kind: Young, Time: 15 * time.Second}}, func(p *program) {
			p.each(func() {
				if p.now >= 44 {
					p.mmap(mib, mib)
				}
			})
		}},
		{"ages", Grows, "77", []Note{{Kind: Grew, Size: 53.0 * mib, Time: 53 * time.Second}, {Kind: StillAlive}, {Kind: NeverShrank}, {Kind: SomeUnmapped}}, func(p *program) {
			p.each(func() {
				p.mmap(4*mib, mib)
				if p.now%2 == 0 && p.now > 20 {
					p.mmap(mib, mib)
					p.munmap(0)
				}
			})
		}},
		{"split", Leaks, "", []Note{{Kind: Grew, Size: 530, Time: 53 * time.Second}, {Kind: NeverShrank}}, func(p *program) {
			p.base(1<<30, 1<<30)
			p.each(func() { p.h.Mappings += 10 })
		}},
		{"few mappings", Steady, "", []Note{{Kind: DidNotGrow}}, func(p *program) {
			p.base(1<<30, 1<<30)
			p.each(func() {})
		}},
	} {
		p := newProgram(1, n)
		c.run(p)
		f := p.w.Findings()[0]
		if f.Label != c.label {
			t.Errorf("%s: %s, want %s", c.name, f.Label, c.label)
		}
		if d := cmp.Diff(c.want, f.Reason, about); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		if got := fmt.Sprintf("%.0f", 100*f.AliveShare); c.alive != "" && got != c.alive {
			t.Errorf("%s: %s %% alive, want %s", c.name, got, c.alive)
		}
	}
}

// What was as high for a moment at the beginning has not stopped to grow since.
func TestAnEarlyPeakIsNotTheEndOfGrowth(t *testing.T) {
	t.Parallel()
	p := newProgram(1, 600)
	p.base(1<<30, 0)
	p.each(func() {
		if height := float64(p.now) * mib / 10; p.now >= 70 && p.now < 76 {
			p.touch(60 * mib)
		} else {
			p.touch(height)
		}
	})
	f := p.w.Findings()[0]
	for _, n := range f.Reason {
		if n.Kind == Stopped {
			t.Errorf("%v, but not in the last %v", f.Label, n.Time)
		}
	}
	if f.Label != Grows {
		t.Errorf("%s of %+v, want %s", f.Label, f.Reason, Grows)
	}
}

func TestTeethShorterThanAPointAreSeen(t *testing.T) {
	t.Parallel()
	p := newProgram(1, 600)
	p.base(1<<30, 0)
	p.each(func() { p.touch(float64(p.now%3+1) * mib) })
	f := replay(Options{MaxPoints: 64}, p.tape).Findings()[0]
	if f.Label != Sawtooth {
		t.Errorf("%s, want %s", f.Label, Sawtooth)
	}
	if d := cmp.Diff([]Note{{Kind: FallsBack, Size: 2 * mib}, {Kind: LowsStay}}, f.Reason, about); d != "" {
		t.Error(d)
	}
}

func TestShortWatchesSayThatTheyAreShort(t *testing.T) {
	t.Parallel()
	for n := range 14 {
		p := newProgram(1, n)
		p.base(1<<30, 0)
		p.each(func() { p.touch(float64(p.now) * mib) })
		found := p.w.Findings()
		if n == 0 {
			if len(found) != 0 {
				t.Errorf("without an observation: %+v", found)
			}
			p.w.Born(Key{What: Anon}, 0, mib, 1)
			if d := cmp.Diff([]Note{{Kind: Unobserved}}, p.w.Findings()[0].Reason); d != "" {
				t.Error(d)
			}
			continue
		}
		f := found[0]
		short := slices.ContainsFunc(f.Reason, func(n Note) bool { return TooShort <= n.Kind && n.Kind <= TooShortMore })
		switch {
		case f.Label == Leaks:
			t.Errorf("%d ticks: leaks: %+v", n, f.Reason)
		case n > 4 && !short, f.Label != Steady && f.SlopeLow <= 0:
			t.Errorf("%d ticks: %s from %g: %+v", n, f.Label, f.SlopeLow, f.Reason)
		}
	}
}

func TestAnotherWarmupIsKept(t *testing.T) {
	t.Parallel()
	w := NewWatch(Options{Warmup: 20 * time.Second})
	k := Key{What: Heap}
	for i := range 61 {
		w.Observe(time.Duration(i)*time.Second, map[Key]Holding{k: {Resident: uint64(min(i, 20)) * mib}}, nil)
	}
	if f := w.Findings()[0]; f.From != 20*time.Second || f.To != time.Minute || f.Label != Steady {
		t.Errorf("from %v to %v: %s", f.From, f.To, f.Label)
	}
}

// TestAddressSpaceThatIsReservedGrows has memory without access made all the time, beside what
// is used, and wants its end told.
func TestAddressSpaceThatIsReservedGrows(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		name  string
		step  uint64
		label Label
		reach bool
	}{
		{"fast", 4 * gib, Leaks, true},
		{"as runtimes do", 64 * mib, Churns, false},
	} {
		w := NewWatch(Options{})
		k := Key{What: Anon, Site: 1}
		for i := range uint64(61) {
			w.Born(k, time.Duration(i)*time.Second, mib, 1)
			w.Died(k, time.Duration(i)*time.Second, mib, 1) // what had access has gone
			w.Observe(time.Duration(i)*time.Second, map[Key]Holding{k: {Mapped: mib, Reserved: i * c.step, Resident: mib, Mappings: 2}}, nil)
		}
		f := w.Findings()[0]
		if f.Label != c.label || f.Label == Leaks && f.Measure != Reserved {
			t.Errorf("%s: %s by %s: %v", c.name, f.Label, f.Measure, f.Reason)
		}
		rs := Readings{{At: time.Minute, Limits: Limits{{Name: AddressSpace, Measure: Mapped, Used: 28 << 40, Max: 128 << 40}}}}
		l, in, ok := rs.Soonest(f)
		if want := 25_600 * time.Second; ok != c.reach || ok && (l.Name != AddressSpace || (in-want).Abs() > time.Second) {
			t.Errorf("%s: %q in %v (%t)", c.name, l.Name, in, ok)
		}
	}
	slow := Finding{Label: Leaks, Rates: [measures]Rate{Mapped: {PerSecond: mib, Low: mib, High: mib}}}
	if in, ok := timeTo(slow, Limit{Name: AddressSpace, Measure: Mapped, Max: 128 << 40}, 0); ok {
		t.Errorf("a leak of 1 MiB/s is at the end of the address space in %v", in)
	}
}

func TestTimeToALimit(t *testing.T) {
	t.Parallel()
	w := NewWatch(Options{})
	k := Key{What: Anon, Site: 1}
	for i := range uint64(61) {
		w.Observe(time.Duration(i)*time.Second, map[Key]Holding{
			k:                           {Mapped: (1 + i) * 2 * mib, Resident: (1 + i) * mib, Mappings: int(2 + 2*i)},
			{What: File, Name: "/idle"}: {Mapped: mib},
		}, nil)
	}
	f := w.Findings()[0]
	limits := Limits{
		{Name: "memory.max", Measure: Resident, Used: 100 * mib, Max: 160 * mib},
		{Name: "RLIMIT_AS", Measure: Mapped, Used: 100 * mib, Max: 200 * mib},
		{Name: "vm.max_map_count", Measure: Mappings, Used: 30, Max: 65530},
	}
	if in, ok := timeTo(f, limits[2], 0); ok {
		t.Errorf("mappings that the kernel does not count any faster reach their limit in %v", in)
	}
	// The kernel joins every second one to its neighbour.
	for i, want := range []time.Duration{60 * time.Second, 50 * time.Second, 65500 * time.Second} {
		got, ok := timeTo(f, limits[i], 1)
		if !ok || (got-want).Abs() > time.Millisecond {
			t.Errorf("%s in %v (%t), want %v", limits[i].Name, got, ok, want)
		}
	}
	retained := f
	retained.Label = Retained
	if in, ok := timeTo(retained, limits[0], 1); !ok || in.Round(time.Second) != time.Minute {
		t.Errorf("what malloc retains reaches memory.max in %v (%t)", in, ok)
	}
	now := Readings{{At: time.Minute, Limits: limits}}
	if l, in, ok := now.Soonest(f); !ok || l.Name != "RLIMIT_AS" || in.Round(time.Second) != 50*time.Second {
		t.Errorf("first %q in %v (%t)", l.Name, in, ok)
	}
	if in, ok := timeTo(f, Limit{Name: "full", Measure: Resident, Used: 5, Max: 5}, 0); !ok || in != 0 {
		t.Errorf("a limit that is reached comes in %v (%t)", in, ok)
	}
	for name, c := range map[string]struct {
		f Finding
		l Limit
	}{
		"a group that is steady": {w.Findings()[1], limits[0]},
		"a limit without bound":  {f, Limit{Name: "max", Measure: Resident, Max: math.MaxUint64}},
		"an unknown measure":     {f, Limit{Name: "?", Measure: 99, Max: 5}},
	} {
		if in, ok := timeTo(c.f, c.l, 1); ok {
			t.Errorf("%s: in %v", name, in)
		}
	}
	if _, _, ok := now.Soonest(Finding{Label: Leaks}); ok {
		t.Error("a finding without a rate reaches a limit")
	}
	if _, _, ok := Readings(nil).Soonest(f); ok {
		t.Error("limits that were not read are reached")
	}
}

// What the kernel counts may rise at other times than our groups: what it rose by at the
// time that was judged tells when its limit is reached.
func TestTheLimitOfMappingsIsReachedAsTheKernelCounts(t *testing.T) {
	t.Parallel()
	const every = 10 * time.Second
	grows := func(from, to time.Duration, perSecond float64) Finding {
		f := Finding{Label: Leaks, From: from, To: to}
		f.Rates[Mappings] = Rate{PerSecond: perSecond, Low: perSecond, High: perSecond}
		return f
	}
	read := func(to time.Duration, used func(at time.Duration) uint64) (rs Readings) {
		for at := time.Duration(0); at <= to; at += every {
			rs.Add(Reading{At: at, Limits: Limits{{Name: "vm.max_map_count", Measure: Mappings, Used: used(at), Max: 65530}}})
		}
		return rs
	}
	day, hour := 24*time.Hour, time.Hour
	late := read(day+hour, func(at time.Duration) uint64 { return 100 + uint64(10*max(0, at-day).Seconds()) })
	if len(late) > 64 {
		t.Errorf("%d readings are kept", len(late))
	}
	for i, r := range late[1:] {
		if gap := r.At - late[i].At; gap > 4*late[len(late)-1].At/64 {
			t.Errorf("nothing is kept from %v to %v", late[i].At, r.At)
		}
	}
	if _, in, ok := late.Soonest(grows(day, day+hour, 10)); !ok || (in-49*time.Minute).Abs() > 5*time.Minute {
		t.Errorf("after a day of quiet it is reached in %v (%t), want 49 min", in, ok)
	}
	// In steps, at each full hour: between two of them nothing rises.
	steps := read(day-every, func(at time.Duration) uint64 { return 100 + 1800*uint64(at/hour) })
	if _, in, ok := steps.Soonest(grows(0, day, 1)); !ok || (in-13*hour).Abs() > 2*hour {
		t.Errorf("in steps of an hour it is reached in %v (%t), want 13 h", in, ok)
	}
	if _, in, ok := steps.Soonest(grows(12*hour, day, 1)); !ok || (in-13*hour).Abs() > 2*hour {
		t.Errorf("in steps of an hour, by those of 12 h, it is reached in %v (%t), want 13 h", in, ok)
	}
	early := read(5*time.Minute, func(at time.Duration) uint64 { return min(30+uint64(500*at.Seconds()), 5030) })
	if _, in, ok := early.Soonest(grows(20*time.Second, 5*time.Minute, 2)); ok {
		t.Errorf("after a start it is reached in %v, though the kernel counts no more", in)
	}
}

func TestNamesOfNumbersOutOfRange(t *testing.T) {
	t.Parallel()
	got := []string{What(200).String(), Measure(200).String(), Label(200).String(), Heap.String(), Mappings.String(), Leaks.String()}
	if d := cmp.Diff([]string{"what(200)", "measure(200)", "label(200)", "heap", "mappings", "leaks"}, got); d != "" {
		t.Error(d)
	}
}

// FuzzWatch feeds arbitrary calls: nothing panics, no byte gets lost between
// the groups, and shares are shares.
func FuzzWatch(f *testing.F) {
	f.Add([]byte("o1b2345678d2345678o2b999o3"), uint8(3), uint8(0))
	f.Add([]byte(strings.Repeat("o\x01\x00\x00\x00b\x02\x00\x10\x00d\x02\x00\x08\x00", 60)), uint8(2), uint8(1))
	f.Add([]byte(strings.Repeat("o\x0b\x00\x00\x00b\x02\x00\x10\x00o\x17\x08\x00\x00", 60)), uint8(15), uint8(39))
	f.Fuzz(func(t *testing.T, data []byte, groups, points uint8) {
		opts := Options{MaxGroups: 1 + int(groups%8), MaxPoints: int(points % 40)}
		if groups&8 != 0 {
			opts.Share = budget.New(4 << 10)
		}
		w := NewWatch(opts)
		var born, died, bornCount, diedCount uint64
		var now time.Duration
		var mapped uint64
		for len(data) >= 5 {
			op, word := data[0], binary.LittleEndian.Uint32(data[1:])
			data = data[5:]
			k := Key{What: What(int(word) % len(whatNames)), Site: word >> 3 % 16}
			bytes := uint64(word) << (word % 24)
			at := now + time.Duration(int32(word))
			switch op % 3 {
			case 0:
				w.Born(k, at, bytes, 1)
				born, bornCount = born+bytes, bornCount+1
			case 1:
				w.Died(k, at, bytes, 1)
				died, diedCount = died+bytes, diedCount+1
			default:
				h := make(map[Key]Holding)
				sum := uint64(0)
				for i := range word % 12 {
					k.Site = i * word % 16
					h[k] = Holding{Mapped: bytes, Writable: bytes / 2, Resident: bytes / uint64(i+1), Mappings: int(word)}
				}
				for _, v := range h {
					sum += v.Mapped
				}
				if next := now + time.Duration(int32(word)); next > now || w.Ticks() == 0 {
					now, mapped = next, sum
				}
				w.Observe(now, h, nil)
			}
		}
		var got Finding
		for _, f := range w.Findings() {
			got.Born += f.Born
			got.Died += f.Died
			got.BornCount += f.BornCount
			got.DiedCount += f.DiedCount
			got.Last.Mapped += f.Last.Mapped
			if f.AliveShare < 0 || f.AliveShare > 1 || f.Monotone < 0 || f.Monotone > 1 || math.IsNaN(f.Slope+f.Score) {
				t.Errorf("alive %g, monotone %g, slope %g", f.AliveShare, f.Monotone, f.Slope)
			}
			if len(f.Series) > maxSeries || len(f.Reason) == 0 {
				t.Errorf("%d points, reason %+v", len(f.Series), f.Reason)
			}
		}
		if got.Born != born || got.Died != died || got.BornCount != bornCount || got.DiedCount != diedCount {
			t.Errorf("groups born %d in %d, died %d in %d; want %d in %d, %d in %d", got.Born, got.BornCount,
				got.Died, got.DiedCount, born, bornCount, died, diedCount)
		}
		if w.Ticks() > 0 && got.Last.Mapped != mapped {
			t.Errorf("groups hold %d, want %d", got.Last.Mapped, mapped)
		}
	})
}

func manyGroups(i, groups int) map[Key]Holding {
	h := make(map[Key]Holding, groups)
	for j := range groups {
		size := uint64(i*j) * 16 * kib
		h[Key{What: Anon, Site: uint32(j)}] = Holding{Mapped: size, Writable: size, Resident: size * 7 / 8, Mappings: i}
	}
	return h
}

func BenchmarkObserve1000Groups(b *testing.B) {
	h := manyGroups(5, 1000)
	w := NewWatch(Options{})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.Observe(time.Duration(i)*time.Second, h, nil)
	}
}

func BenchmarkFindings1000GroupsOf600Ticks(b *testing.B) {
	w := NewWatch(Options{})
	for i := range 600 {
		w.Observe(time.Duration(i)*time.Second, manyGroups(i, 1000), nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Findings()
	}
}

func BenchmarkBornAndDied(b *testing.B) {
	w := NewWatch(Options{})
	for i := range 600 {
		w.Observe(time.Duration(i)*time.Second, manyGroups(i, 10), nil)
	}
	k := Key{What: Anon, Site: 5}
	b.ReportAllocs()
	for b.Loop() {
		w.Born(k, 601*time.Second, mib, 1)
		w.Died(k, 601*time.Second, mib, 1)
	}
}
