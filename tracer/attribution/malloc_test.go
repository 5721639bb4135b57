package attribution

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

const mib = 1 << 20

// heapThatGrows is a group that gets 1 MiB larger each second of a minute, all of it
// resident.
func heapThatGrows(k growth.Key) growth.Finding {
	f := growth.Finding{
		Key: k, Label: growth.Leaks, Measure: growth.Resident, From: 6 * time.Second, To: time.Minute, Growth: 54 * mib, Slope: mib, SlopeLow: mib, SlopeHigh: mib,
		Reason: []growth.Note{{Kind: growth.Grew, Size: 54 * mib, Time: 54 * time.Second}, {Kind: growth.NeverShrank}},
	}
	for i := range uint64(61) {
		f.Last = growth.Holding{Resident: i * mib, Mapped: i * mib, Writable: i * mib}
		f.Series = append(f.Series, growth.Point{At: time.Duration(i) * time.Second, Low: f.Last, High: f.Last})
	}
	return f
}

// times are when malloc is read.
var times = []uint64{0, 1, 2, 4, 8, 16, 26, 36, 46, 56, 60}

// read is a malloc that was read at those times.
func read(at func(second uint64) event.Malloc) *mallocs {
	m := newMallocs()
	for _, second := range times {
		m.add(time.Duration(second)*time.Second, at(second))
	}
	return m
}

func holds(arenas ...event.Arena) event.Malloc { return event.Malloc{Arenas: arenas, Complete: true} }

// part of a heap that grows by 1 MiB a second is in use, a part of 16.
func arena(second, used uint64) event.Arena {
	const sixteenth = mib / 16
	return event.Arena{
		State: 1, Main: true, InUse: 5*mib + second*used*sixteenth, Free: second * (16 - used) * sixteenth, Resident: 5*mib + second*mib,
		Trimmable: second * mib / 2,
	}
}

func TestMemoryThatIsFreeInsideMallocIsNoLeak(t *testing.T) {
	t.Parallel()
	heap, arenas, pool := growth.Key{What: growth.Heap}, growth.Key{What: growth.Arena, Name: "7f00-7f01"}, growth.Key{What: growth.Pool, Name: growth.ArenaPool}
	thread := func(a event.Arena, state uint64) event.Arena {
		a.State, a.Main = state, false
		return a
	}
	for _, tt := range []struct {
		name string
		key  growth.Key
		read func(second uint64) event.Malloc
		want growth.Label
	}{
		{"all of it is in use", heap, func(s uint64) event.Malloc { return holds(arena(s, 16)) }, growth.Leaks},
		{"nothing more is in use", heap, func(s uint64) event.Malloc { return holds(arena(s, 0)) }, growth.Retained},
		{"a fifth is in use", heap, func(s uint64) event.Malloc { return holds(arena(s, 3)) }, growth.Retained},
		{"a third is in use", heap, func(s uint64) event.Malloc { return holds(arena(s, 5)) }, growth.Leaks},
		{"it is of threads' arenas that nothing is known", heap, func(s uint64) event.Malloc { return holds(thread(arena(s, 0), 1)) }, growth.Leaks},
		{"it is not malloc's", heap, func(uint64) event.Malloc { return holds(arena(0, 0)) }, growth.Leaks},
		{"not all of it could be read", heap, func(s uint64) event.Malloc {
			return event.Malloc{Arenas: []event.Arena{arena(s, 0)}, Why: "x"}
		}, growth.Leaks},
		{"it could be read in the first half only", heap, func(s uint64) event.Malloc {
			m := holds(arena(s, 0))
			m.Complete = s < 30
			return m
		}, growth.Leaks},
		{"once it could not be read", heap, func(s uint64) event.Malloc {
			m := holds(arena(s, 0))
			m.Complete = s != 26
			return m
		}, growth.Retained},
		{"it was read three times", heap, func(s uint64) event.Malloc {
			m := holds(arena(s, 0))
			m.Complete = s == 8 || s == 36 || s == 60
			return m
		}, growth.Leaks},
		{"what was read is in doubt", heap, func(s uint64) event.Malloc {
			a := arena(s, 0)
			a.Doubt = 8 * mib
			return holds(a)
		}, growth.Leaks},
		{"what is in use goes up and down by more than that", heap, func(s uint64) event.Malloc {
			a := arena(s, 0)
			a.InUse += s / 2 % 3 * 30 * mib
			return holds(a)
		}, growth.Leaks},
		{"once much more was in use", heap, func(s uint64) event.Malloc {
			a := arena(s, 0)
			if s == 26 {
				a.InUse += 30 * mib
			}
			return holds(a)
		}, growth.Retained},
		{"threads' arenas from before", arenas, func(s uint64) event.Malloc {
			return holds(arena(s, 16), thread(arena(s, 0), 2), thread(arena(s, 1), 3))
		}, growth.Retained},
		{"threads' arenas", pool, func(s uint64) event.Malloc {
			return holds(arena(s, 16), thread(arena(s, 0), 2), thread(arena(s, 1), 3))
		}, growth.Retained},
		{"one arena is kept, and another empties", pool, func(s uint64) event.Malloc {
			empties := thread(arena(s, 0), 3)
			empties.InUse = 100*mib - s*mib
			return holds(arena(s, 16), thread(arena(s, 16), 2), thread(arena(s, 0), 4), empties)
		}, growth.Leaks},
		{"an arena that comes late is kept", pool, func(s uint64) event.Malloc {
			late := thread(arena(s, 0), 3)
			if late.InUse = 40 * mib; s < 36 {
				return holds(arena(s, 0), thread(arena(s, 0), 2))
			}
			return holds(arena(s, 0), thread(arena(s, 0), 2), late)
		}, growth.Leaks},
		{"another allocator's", growth.Key{What: growth.Pool, Name: "jemalloc"}, func(s uint64) event.Malloc { return holds(arena(s, 0), thread(arena(s, 0), 2)) }, growth.Leaks},
		{"no heap", growth.Key{What: growth.Anon, Site: 2}, func(s uint64) event.Malloc { return holds(arena(s, 0), thread(arena(s, 0), 2)) }, growth.Leaks},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := heapThatGrows(tt.key)
			read(tt.read).judge(&f)
			if f.Label != tt.want {
				t.Errorf("it %v, want %v: %+v", f.Label, tt.want, f.Reason)
			}
			for _, label := range []growth.Label{growth.Plateau, growth.Steady} {
				f.Label = label
				if read(tt.read).judge(&f); f.Label != label {
					t.Errorf("what is %v became %v", label, f.Label)
				}
			}
		})
	}
}

func TestWhyMemoryIsRetainedIsSaid(t *testing.T) {
	t.Parallel()
	f := heapThatGrows(growth.Key{What: growth.Heap})
	read(func(s uint64) event.Malloc { return holds(arena(s, 2)) }).judge(&f)
	want := []growth.Note{
		{Kind: growth.Grew, Size: 54 * mib, Time: 54 * time.Second}, {Kind: growth.InUseLess, Size: 54 * mib / 8}, {Kind: growth.Trimmable, Size: 30 * mib},
	}
	if d := cmp.Diff(want, f.Reason); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Readings are bounded, and span the watch all the same.
func TestOfManyReadingsSomeAreKept(t *testing.T) {
	t.Parallel()
	for _, arenas := range []int{1, 1000} {
		m := newMallocs()
		for i := range 1000 {
			m.add(time.Duration(i)*time.Second, event.Malloc{Arenas: make([]event.Arena, arenas), Complete: true})
		}
		n := len(m.complete)
		if n > mostReadings || n < fewestReadings || m.bytes() > 2*(mostArenas+2*fewestReadings*arenas)*64 {
			t.Errorf("%d of %d arenas are kept, %d bytes", n, arenas, m.bytes())
		}
		if first, last := m.complete[0].at, m.complete[n-1].at; first != 0 || last != 999*time.Second {
			t.Errorf("they are from %v to %v", first, last)
		}
	}
}

func TestWhoKeepsAHeapIsComparedWithWhatIsInUse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		read func(second uint64) event.Malloc
		want float64 // of what it grows by
	}{
		{"all of it", func(s uint64) event.Malloc { return holds(arena(s, 16)) }, 1},
		{"half of it", func(s uint64) event.Malloc { return holds(arena(s, 8)) }, 0.5},
		{"less and less", func(s uint64) event.Malloc {
			a := arena(s, 0)
			a.InUse = 100*mib - s*mib
			return holds(a)
		}, 0},
		{"what was free before is filled", func(s uint64) event.Malloc {
			a := arena(s, 20)
			a.Free = 100*mib - s*mib/4
			return holds(a)
		}, 1.25},
		{"it hardly gets larger", func(s uint64) event.Malloc {
			a := arena(s, 16)
			a.Resident = 100*mib + s
			return holds(a)
		}, 1.5},
		{"nothing is known", func(uint64) event.Malloc { return event.Malloc{} }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := heapThatGrows(growth.Key{What: growth.Heap})
			a := &Attribution{malloc: read(tt.read)}
			want := growth.Rate{PerSecond: tt.want * mib, Low: tt.want * mib, High: tt.want * mib}
			if d := cmp.Diff(want, a.keptRate(&f)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestAHeapThatIsRetainedIsNobodys has a heap that grows of which every watched word is one
// function's, with what malloc says of it and without.
func TestAHeapThatIsRetainedIsNobodys(t *testing.T) {
	t.Parallel()
	for _, retained := range []bool{false, true} {
		t.Run(fmt.Sprint(retained), func(t *testing.T) {
			t.Parallel()
			const leak = 4
			r := newRun()
			g := NewGrowth(Options{Names: names{}, Interval: time.Second})
			process(g, 1, r.now)
			w := g.spaces[1]
			w.Attribution = r.attr
			r.look()
			for i := range uint64(60) {
				r.brk(heapAt+16*i, heapAt+16*(i+1), blame(leak, 0))
				r.look()
				at, ok := r.tree.At(heapAt * page)
				if !ok {
					t.Fatal("there is no heap")
				}
				r.attr.Change(&model.Change{Kind: model.KindFault, Weight: 10, Site: leak, At: at})
				r.attr.Outcome(&at, leak, leak)
				used := uint64(16)
				if retained {
					used = 0
				}
				a := arena(i, used)
				a.InUse, a.Free, a.Resident = a.InUse/16, a.Free/16, a.Resident/16
				g.Record(&event.Record{At: r.now, Space: 1, PID: 1, Tree: new(space.Space), Body: holds(a)})
			}
			p := g.Processes(r.now)[0]
			f := &p.Findings[0]
			want, blamed := growth.Leaks, names{}.Function(leak)
			if retained {
				want, blamed = growth.Retained, nobody
			}
			if f.What != growth.Heap || f.Label != want || f.Blamed() != blamed || (f.Confidence() > 0) != (blamed != nobody) || !p.Grows() {
				t.Errorf("%v %v, by %q with a confidence of %v; want %v by %q", f.What, f.Label, f.Blamed(), f.Confidence(), want, blamed)
			}
			if p.Malloc == nil || p.Malloc.Arenas != 1 || p.Malloc.Before != 5*mib/16 || (p.Malloc.InUse > p.Malloc.Before) == retained {
				t.Errorf("malloc has %+v", p.Malloc)
			}
			g.Publish(0)
			g.View()
			g.Publish(r.now)
			if worst := g.View().Processes[0].Worst(); worst == nil || worst.Label != want {
				t.Errorf("of what is shown meanwhile the worst is %+v", worst)
			}
		})
	}
}

func TestWhatIsInUseIsEstimatedOnceForEachReading(t *testing.T) {
	t.Parallel()
	m := read(func(s uint64) event.Malloc { return holds(arena(s, 16)) })
	f := heapThatGrows(growth.Key{What: growth.Heap})
	u := m.use(&f)
	if u == nil || m.use(&f) != u {
		t.Fatalf("%+v, and then %+v", u, m.use(&f))
	}
	m.add(61*time.Second, holds(arena(61, 0)))
	if now := m.use(&f); now == nil || now.to != 61*time.Second {
		t.Errorf("after another reading: %+v", now)
	}
	shorter := f
	shorter.From += 20 * time.Second
	if now := m.use(&shorter); now == nil || now.from <= u.from {
		t.Errorf("of a shorter time: %+v", now)
	}
}

// TestWhatIsInUseGrowsByClasses has readings of which one class grows, in the second half.
func TestWhatIsInUseGrowsByClasses(t *testing.T) {
	t.Parallel()
	only := func(class uint8) func(uint8) bool { return func(c uint8) bool { return c == class } }
	m := newMallocs()
	if m.inUse() != nil || (*mallocs)(nil).inUse() != nil {
		t.Error("without a reading it is known")
	}
	for i := range 20 {
		sizes := make([]uint64, 64)
		sizes[3], sizes[4], sizes[5] = 1000, 1000, uint64(5000-10*i)
		if i > 10 {
			sizes[4] += uint64(50 * (i - 10))
		}
		m.add(time.Duration(i)*time.Second, event.Malloc{Arenas: []event.Arena{arena(1, 0)}, Complete: true, Sizes: sizes})
	}
	rate := m.inUse()
	if rate == nil {
		t.Fatal("it is not known")
	}
	for class, want := range map[uint8]float64{3: 0, 4: 50, 5: 0, 6: 0} {
		if got := rate(only(class)); math.Abs(got-want) > 1 {
			t.Errorf("class %d grows by %.1f blocks a second, want %.0f", class, got, want)
		}
	}
	if got := rate(func(uint8) bool { return true }); math.Abs(got-40) > 1 {
		t.Errorf("all grow by %.1f blocks a second, want 40", got)
	}
}
