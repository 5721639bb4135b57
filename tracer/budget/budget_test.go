package budget

import (
	"math/rand/v2"
	"testing"
)

func TestWhoHasLessThanAnEqualPartGivesUpNothing(t *testing.T) {
	t.Parallel()
	s := New(800)
	large, small := s.Join(), s.Join()
	large.Hold(600)
	small.Hold(100)
	if a, b := large.Excess(), small.Excess(); a != 0 || b != 0 {
		t.Errorf("all fits, and %d and %d are too much", a, b)
	}
	small.Hold(300)
	if a, b := large.Excess(), small.Excess(); a != 200 || b != 0 {
		t.Errorf("the large one is to give up %d, the small one %d; want 200, 0", a, b)
	}
	for range 14 {
		s.Join()
	}
	if a, b := large.Excess(), small.Excess(); a != 200 || b != 200 {
		t.Errorf("of sixteen, they are to give up %d and %d", a, b)
	}
	large.Leave()
	if b := small.Excess(); b != 0 || s.Used() != 300 || s.Peak() != 900 || s.Most() != 800 {
		t.Errorf("alone, it is to give up %d; %+v", b, s)
	}
	large.Hold(1000)
	large.Leave()
	if large.Excess() != 0 || s.Used() != 300 {
		t.Errorf("one that has left still holds something: %+v", s)
	}
}

func TestWithoutABudgetNothingIsTooMuch(t *testing.T) {
	t.Parallel()
	var s *Share
	h := s.Join()
	h.Hold(1 << 40)
	if h.Excess() != 0 {
		t.Errorf("%d are too much", h.Excess())
	}
	h.Leave()
}

// Whoever adds something gives up what is too much in its turn: that all give up theirs
// is enough.
func TestWhatAllGiveUpIsEnough(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	const most = 1 << 20
	s := New(most)
	var holders []*Holder
	for i := range 10_000 {
		switch n := len(holders); {
		case n == 0 || rnd.IntN(100) == 0:
			holders = append(holders, s.Join())
		case n > 1 && rnd.IntN(150) == 0:
			at := rnd.IntN(n)
			holders[at].Leave()
			holders = append(holders[:at], holders[at+1:]...)
		default:
			h := holders[rnd.IntN(n)]
			h.Hold(h.bytes + rnd.IntN(most/64))
		}
		sum := 0
		for _, h := range holders {
			h.Hold(h.bytes - h.Excess())
			sum += h.bytes
		}
		if s.Used() != sum || sum > most-most/8 {
			t.Fatalf("seed %d, step %d: %d are used, %d held", seed, i, s.Used(), sum)
		}
	}
}

// Half of the memory is for garbage; rows are beside what is divided, and have room for some
// large processes however little there is.
func TestWhatIsDividedIsWhatThereIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bytes       uint64
		trace, grow int // rows
	}{
		{1 << 20, 167772, 111848},
		{16 << 20, 167772, 111848},
		{256 << 20, 503316, 335544}, // as docs/accuracy.md has it
		{1 << 30, 2013265, 1342177},
	} {
		g, tr := Of(c.bytes), OfTrace(c.bytes)
		if sum := g.Stacks + 2*g.Extents + g.Series.Most() + g.Parts.Most(); sum != int(c.bytes/2) {
			t.Errorf("grow keeps %d of %d bytes, want half", sum, c.bytes)
		}
		if sum := tr.Stacks + tr.Extents; sum != int(c.bytes/2) {
			t.Errorf("trace keeps %d of %d bytes, want half", sum, c.bytes)
		}
		if g.Rows != c.grow || tr.Rows != c.trace {
			t.Errorf("of %d bytes: %d rows with grow, %d with trace; want %d and %d", c.bytes, g.Rows, tr.Rows, c.grow, c.trace)
		}
	}
}
