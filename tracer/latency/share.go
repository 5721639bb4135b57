package latency

import "math/bits"

// Sums is a number of calls and what they took together, in ns.
type Sums struct{ Calls, Duration, Wait, Hold uint64 }

// Plus is the sum of both.
func (s Sums) Plus(o Sums) Sums {
	return Sums{s.Calls + o.Calls, s.Duration + o.Duration, s.Wait + o.Wait, s.Hold + o.Hold}
}

// Class is a kind of calls of which a random sample was sent, and the others were
// counted. The zero value is empty.
type Class struct {
	passed Sums // calls that were counted only
	weight weights
}

// weights are sums of sampled calls, each as often as it stands for others: of calls
// that were taken with the probability 1/w, w-1.
type weights struct{ calls, duration, wait, hold float64 }

func (w *weights) add(call Sums, others float64) {
	w.calls += others * float64(call.Calls)
	w.duration += others * float64(call.Duration)
	w.wait += others * float64(call.Wait)
	w.hold += others * float64(call.Hold)
}

// Part is what one of those who make the calls of a class has of it. The zero value is
// empty.
type Part struct {
	Known  Sums // of its sampled calls
	weight weights
	shape  Hist // of the durations, by weight
}

// Add adds a sampled call that was taken with the probability 1/weight, and the calls
// that were counted since the one before it, to the class, and to the part of the one
// who made it; nil if that is not known.
func (c *Class) Add(p *Part, call Sums, weight uint64, passed Sums) {
	c.passed = c.passed.Plus(passed)
	others := float64(weight - 1)
	c.weight.add(call, others)
	if p == nil {
		return
	}
	p.Known = p.Known.Plus(call)
	p.weight.add(call, others)
	p.shape.Add(call.Duration, weight, call.Duration)
}

// Share is a part's calls, the sampled ones and its share in those that were only
// counted: an estimate. The shares of all parts add up to no more than there were.
func (c *Class) Share(p *Part) Sums {
	return p.Known.Plus(Sums{
		share(c.passed.Calls, p.weight.calls, c.weight.calls),
		share(c.passed.Duration, p.weight.duration, c.weight.duration),
		share(c.passed.Wait, p.weight.wait, c.weight.wait),
		share(c.passed.Hold, p.weight.hold, c.weight.hold),
	})
}

// share is the part of n that a is of all, rounded down.
func share(n uint64, a, all float64) uint64 {
	if all <= 0 {
		return 0
	}
	return uint64(float64(n) * min(a/all, 1) * (1 - 1e-12)) // not above n by rounding
}

// AddShare adds n times of the durations of a part, which took sum together.
func (h *Hist) AddShare(p *Part, n, sum uint64) {
	if p.shape.N == 0 {
		return
	}
	for len(h.count) < len(p.shape.count) {
		h.count = append(h.count, 0)
	}
	// Rounded so that the counts add up to n.
	var seen, given uint64
	for i, k := range p.shape.count {
		seen += k
		hi, lo := bits.Mul64(n, seen)
		to, _ := bits.Div64(hi, lo, p.shape.N)
		h.count[i] += to - given
		given = to
	}
	h.N += n
	h.Sum += sum
	h.Max = max(h.Max, p.shape.Max)
}
