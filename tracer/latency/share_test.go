package latency

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestSharesOfASampleAreTheTruth has makers of calls whose durations differ by
// magnitudes; of the calls one in 2^k is sampled, with a k that changes all the time.
func TestSharesOfASampleAreTheTruth(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	typical := []uint64{500, 5_000, 40_000}
	often := []int{70, 25, 5}
	truth := make([]Sums, len(typical))
	parts := make([]Part, len(typical))
	var class Class
	var passed, all Sums
	for i := range 400_000 {
		chance := i / 10_000 % 7
		who, n := 0, rnd.IntN(100)
		for n >= often[who] {
			n -= often[who]
			who++
		}
		d := typical[who] * uint64(50+rnd.IntN(100)) / 100
		call := Sums{1, d, d / 10, d / 2}
		truth[who], all = truth[who].Plus(call), all.Plus(call)
		if rnd.IntN(1<<chance) > 0 {
			passed = passed.Plus(call)
			continue
		}
		class.Add(&parts[who], call, 1<<chance, passed)
		passed = Sums{}
	}
	var sum Sums
	for who := range parts {
		got, want := class.Share(&parts[who]), truth[who]
		for i, p := range [][2]uint64{{got.Calls, want.Calls}, {got.Duration, want.Duration}, {got.Wait, want.Wait}, {got.Hold, want.Hold}} {
			if r := float64(p[0]) / float64(p[1]); math.Abs(r-1) > 0.05 {
				t.Errorf("maker %d, figure %d: %d, want %d", who, i, p[0], p[1])
			}
		}
		sum = sum.Plus(got)
		var h Hist
		h.AddShare(&parts[who], got.Calls, got.Duration)
		if q := float64(h.Quantile(0.5)); h.N != got.Calls || h.Sum != got.Duration || math.Abs(q/float64(typical[who])-1) > 0.1 {
			t.Errorf("maker %d: %d calls, half of them within %g ns", who, h.N, q)
		}
	}
	if sum.Calls > all.Calls || sum.Duration > all.Duration || sum.Wait > all.Wait || sum.Hold > all.Hold {
		t.Errorf("the shares are %+v of %+v", sum, all)
	}
}

func TestACallWhoseMakerIsNotKnownIsNobodys(t *testing.T) {
	t.Parallel()
	var class Class
	var p Part
	class.Add(nil, Sums{Calls: 1, Duration: 100}, 4, Sums{})
	class.Add(&p, Sums{Calls: 1, Duration: 100}, 4, Sums{Calls: 6, Duration: 600})
	if got, want := class.Share(&p), (Sums{Calls: 3, Duration: 399}); got.Calls < 3 || got.Calls > want.Calls+1 || got.Duration < 390 || got.Duration > 400 {
		t.Errorf("got %+v, want about %+v", got, want)
	}
	// All were sampled.
	var whole Class
	var q Part
	whole.Add(&q, Sums{Calls: 1, Duration: 7}, 1, Sums{})
	if got := whole.Share(&q); got != (Sums{Calls: 1, Duration: 7}) {
		t.Errorf("got %+v", got)
	}
}
