package order

import (
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maptrace/maptrace/tracer/model"
)

// collector is what a queue delivers.
type collector struct {
	sections []uint32
	late     []bool
	kinds    []model.Kind
	claimed  []model.Kind
}

func (c *collector) deliver(ev *Event, late bool) {
	c.sections = append(c.sections, ev.Section)
	c.late = append(c.late, late)
	c.kinds = append(c.kinds, ev.Kind)
	c.claimed = append(c.claimed, ev.Claimed)
}

func sectioned(kind model.Kind, section uint32) *Event {
	return &Event{Kind: kind, Section: section, Flags: Stamped | HasSection, Time: uint64(section) + 1}
}

func TestAnyOrderOfArrivalIsDeliveredBySection(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		// The kernel's counter may wrap on the way.
		first := rng.Uint32N(1 << 31)
		if rng.IntN(2) == 0 {
			first = 1<<31 - 50
		}
		var q queue
		q.start(first)
		order := rng.Perm(100)
		var got collector
		for _, i := range order {
			q.push(sectioned(model.KindCall, (first+uint32(i))&(1<<31-1)), got.deliver)
		}
		for i, s := range got.sections {
			if want := (first + uint32(i)) & (1<<31 - 1); s != want || got.late[i] {
				t.Fatalf("seed %d, first %d: delivered %d as number %d, late %v; arrival %v", seed, first, s, i, got.late[i], order)
			}
		}
		if len(got.sections) != 100 || q.missed != 0 || q.passed != 100 || q.blocked() {
			t.Fatalf("seed %d: delivered %d, passed %d, missed %d", seed, len(got.sections), q.passed, q.missed)
		}
	}
}

func TestAHoleIsMissedUntilItsEventComes(t *testing.T) {
	var q queue
	var got collector
	q.start(10)
	for _, s := range []uint32{10, 13, 15} {
		q.push(sectioned(model.KindCall, s), got.deliver)
	}
	if !slices.Equal(got.sections, []uint32{10}) || !q.blocked() {
		t.Fatalf("delivered %v before the hole was given up", got.sections)
	}
	q.advance(1000, 0, got.deliver)
	q.advance(1000, 0, got.deliver)
	if !slices.Equal(got.sections, []uint32{10, 13, 15}) || q.missed != 3 || q.passed != 6 {
		t.Fatalf("delivered %v, missed %d, passed %d", got.sections, q.missed, q.passed)
	}
	if q.unsettled(999) || !q.unsettled(1000) || q.unsettled(1000) {
		t.Error("holes are to be settled once, when they are old enough")
	}
	q.push(sectioned(model.KindCall, 12), got.deliver)
	q.push(sectioned(model.KindCall, 14), got.deliver)
	if q.missed != 1 || !slices.Equal(got.late, []bool{false, false, false, true, true}) {
		t.Errorf("missed %d, late %v after two of three came", q.missed, got.late)
	}
	q.push(sectioned(model.KindCall, 11), got.deliver)
	if q.missed != 0 || q.passed != 6 {
		t.Errorf("missed %d, passed %d after all came", q.missed, q.passed)
	}
}

func TestAnExcuseMakesHolesLost(t *testing.T) {
	var q queue
	var got collector
	q.start(0)
	q.push(sectioned(model.KindCall, 5), got.deliver)
	q.advance(1, 0, got.deliver)
	q.excuse(20)
	if q.missed != 0 || q.lost != 5 {
		t.Errorf("missed %d, lost %d: the hole was there when the loss was", q.missed, q.lost)
	}
	q.push(sectioned(model.KindCall, 30), got.deliver)
	q.advance(2, 0, got.deliver)
	if q.lost != 5+14 || q.missed != 10 {
		t.Errorf("missed %d, lost %d: only sections before 20 are excused", q.missed, q.lost)
	}
}

func TestWhatIsExcusedIsNotWaitedFor(t *testing.T) {
	var q queue
	var got collector
	q.start(0)
	q.push(sectioned(model.KindCall, 0), got.deliver)
	q.excuse(20)
	if !q.short() || q.blocked() {
		t.Fatal("the last sections were lost, and nothing tells that they are short")
	}
	q.advance(1, 0, got.deliver)
	if q.short() || q.lost != 19 || q.missed != 0 {
		t.Errorf("short %v, missed %d, lost %d: all up to 20 are excused", q.short(), q.missed, q.lost)
	}
	q.push(sectioned(model.KindCall, 20), got.deliver)
	if !slices.Equal(got.sections, []uint32{0, 20}) || q.blocked() {
		t.Errorf("delivered %v, want what follows the loss at once", got.sections)
	}
}

// A full ring takes a record whenever the reader has made room for one.
func TestAllGapsBeforeAnExcuseAreSkippedAtOnce(t *testing.T) {
	var q queue
	var got collector
	q.start(0)
	for s := uint32(1); s < 200; s += 2 {
		q.push(sectioned(model.KindCall, s), got.deliver)
	}
	q.push(sectioned(model.KindCall, 210), got.deliver)
	q.excuse(200)
	q.advance(1, 0, got.deliver)
	if len(got.sections) != 100 || q.lost != 100 || q.missed != 0 || q.short() {
		t.Fatalf("%d delivered, %d lost, %d missed", len(got.sections), q.lost, q.missed)
	}
	q.advance(2, 0, got.deliver)
	if len(got.sections) != 101 || q.lost != 100 || q.missed != 10 || q.passed != 211 {
		t.Errorf("%d delivered, %d lost, %d missed, %d passed", len(got.sections), q.lost, q.missed, q.passed)
	}
}

func TestWhatHasNotComeAtTheEndIsMissed(t *testing.T) {
	var q queue
	var got collector
	q.start(10)
	q.push(sectioned(model.KindCall, 10), got.deliver)
	if q.end(11, 1) || q.missed != 0 {
		t.Errorf("%d missed of none", q.missed)
	}
	if !q.end(14, 1) || q.missed != 3 || q.passed != 4 {
		t.Errorf("missed %d, passed %d of sections 10 to 13", q.missed, q.passed)
	}
	q.explain()
	if q.missed != 0 || q.lost != 3 || q.passed != 4 {
		t.Errorf("missed %d, lost %d after the kernel owned up to it", q.missed, q.lost)
	}
	if unnumbered := (queue{}); unnumbered.end(14, 1) {
		t.Error("without numbers something is missed")
	}
}

func TestAClaimIsTakenOverByTheOwner(t *testing.T) {
	for _, c := range []struct {
		name    string
		kinds   []model.Kind // of events with one section
		kindOut []model.Kind
		claimed []model.Kind
	}{
		{"stack, then the owner", []model.Kind{KindStack, model.KindCall}, []model.Kind{KindStack, model.KindCall}, []model.Kind{0, KindStack}},
		{"the owner, then a stack", []model.Kind{model.KindCall, KindStack}, []model.Kind{model.KindCall}, []model.Kind{0}},
		{"two stacks", []model.Kind{KindStack, KindStack}, []model.Kind{KindStack}, []model.Kind{0}},
		{"announced, then made", []model.Kind{KindAnnounce, model.KindCall}, []model.Kind{KindAnnounce, model.KindCall}, []model.Kind{0, KindAnnounce}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var q queue
			var got collector
			q.start(7)
			for _, k := range c.kinds {
				q.push(sectioned(k, 7), got.deliver)
			}
			if !slices.Equal(got.kinds, c.kindOut) || !slices.Equal(got.claimed, c.claimed) {
				t.Errorf("delivered %v claimed %v, want %v %v", got.kinds, got.claimed, c.kindOut, c.claimed)
			}
			// What is held back behaves the same.
			q, got = queue{}, collector{}
			q.start(6)
			for _, k := range c.kinds {
				q.push(sectioned(k, 7), got.deliver)
			}
			q.push(sectioned(model.KindCall, 6), got.deliver)
			if len(got.kinds) != 1+len(c.kindOut) {
				t.Errorf("delivered %v from the heap", got.kinds)
			}
			if q.passed != 2 || q.missed != 0 {
				t.Errorf("passed %d, missed %d", q.passed, q.missed)
			}
		})
	}
}

func TestTheSectionUnderWayAtTheStartIsOptional(t *testing.T) {
	var q queue
	var got collector
	q.start(10)
	q.push(sectioned(KindOther, 9), got.deliver)
	q.push(sectioned(model.KindCall, 10), got.deliver)
	if !slices.Equal(got.sections, []uint32{9, 10}) || q.missed != 0 {
		t.Errorf("delivered %v, missed %d", got.sections, q.missed)
	}
}

func TestWithoutSectionsTimeOrders(t *testing.T) {
	var q queue
	var got collector
	push := func(section uint32, at uint64, flags model.Flags) {
		q.push(&Event{Kind: model.KindCall, Section: section, Time: at, Flags: flags}, got.deliver)
	}
	push(3, 300, Stamped)
	push(1, 100, Stamped)
	push(0, 999, 0) // no stamp: delivered at once
	push(2, 200, Stamped)
	q.advance(0, 250, got.deliver)
	push(9, 150, Stamped)
	q.advance(0, 400, got.deliver)
	if want := []uint32{0, 1, 2, 9, 3}; !slices.Equal(got.sections, want) {
		t.Errorf("delivered %v, want %v", got.sections, want)
	}
	if want := []bool{false, false, false, true, false}; !slices.Equal(got.late, want) {
		t.Errorf("late %v, want %v", got.late, want)
	}
	push(4, 5000, Stamped)
	q.flush(0, got.deliver)
	if q.blocked() || got.sections[len(got.sections)-1] != 4 {
		t.Error("flush left something behind")
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, true)
	f.Add([]byte{5, 0x81, 1, 0x42, 200}, true)
	f.Add([]byte{9, 8, 7}, false)
	f.Fuzz(func(t *testing.T, data []byte, numbered bool) {
		var q queue
		if numbered {
			q.start(100)
		}
		delivered := 0
		deliver := func(*Event, bool) { delivered++ }
		for i, b := range data {
			kind := []model.Kind{model.KindCall, model.KindCall, KindStack, KindAnnounce}[b>>6]
			q.push(sectioned(kind, 90+uint32(b&63)), deliver)
			if i%7 == 6 {
				q.advance(uint64(i), uint64(i)*10, deliver)
			}
		}
		q.flush(1, deliver)
		if q.blocked() || delivered > len(data) {
			t.Fatalf("delivered %d of %d, blocked %v", delivered, len(data), q.blocked())
		}
		holes := uint64(0)
		for i, h := range q.holes {
			if h.from >= h.to || i > 0 && q.holes[i-1].to > h.from {
				t.Fatalf("holes %v", q.holes)
			}
			holes += h.to - h.from
		}
		if holes != q.missed || q.missed > q.passed {
			t.Fatalf("missed %d, holes %d, passed %d", q.missed, holes, q.passed)
		}
	})
}

// flood is a Source that always has another event, all of them after one that never comes.
type flood struct {
	left  int
	setup []Event
	at    uint64
	step  uint64
	flags model.Flags
	first uint32
	seen  func()
}

func (f *flood) Next(ev *Event) error {
	if len(f.setup) > 0 {
		*ev, f.setup = f.setup[0], f.setup[1:]
		return nil
	}
	if f.left == 0 {
		return io.EOF
	}
	f.left--
	f.at += f.step
	f.first++
	*ev = mmap(5, 1, f.at, f.first, 30, 31)
	ev.Flags = f.flags
	f.seen()
	return nil
}

// What a flood has to wait for is given up on all the same: it may have been lost, and the
// records that tell so come when it is over.
func TestAFloodDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	const events, step = 100_000, uint64(10_000)
	for _, numbered := range []bool{true, false} {
		src := &flood{left: events, setup: image(5, 1, 1e9, 3), at: 1e9, step: step, first: 3, flags: Stamped | HasSection}
		within := patience
		if !numbered {
			src.setup[0].Flags &^= HasSection
			src.flags, within = Stamped, reorder
		}
		tr := New(src, nil, Options{})
		most := 0
		src.seen = func() { most = max(most, len(tr.spaces[1].q.waiting)) }
		if err := tr.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if rep := tr.Report(); rep.Stats.Calls != events || most > int(within/step)+2*batch || most == 0 {
			t.Errorf("numbered %v: %d calls, %d events waited at once", numbered, rep.Stats.Calls, most)
		}
	}
}

// A section that nobody decoded is remembered until its owner must have come. That is paid
// for once in a while: a program may make hundreds of thousands of them a second.
func TestManyClaimsAreForgottenManyAtATime(t *testing.T) {
	t.Parallel()
	q := queue{}
	q.start(0)
	ev := Event{Kind: KindOther, Flags: Stamped | HasSection}
	const many = 1 << 20
	most, turns := 0, 0
	for section := range uint32(many) {
		before := len(q.claims)
		ev.Section = section
		q.push(&ev, func(*Event, bool) {})
		most = max(most, len(q.claims))
		if len(q.claims) <= before {
			turns++ // which go through all that is remembered
		}
		if most > 1<<18 || turns > many>>15 {
			t.Fatalf("of %d up to %d were remembered, and some forgotten %d times", section, most, turns)
		}
	}
}
