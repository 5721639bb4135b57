// Package latency keeps how long things took: numbers by bucket, as the kernel
// side counts them, and the percentiles and pictures that follow from them.
//
// A bucket is never wider than an eighth of its least value, so that a
// percentile, for which the middle of its bucket stands, is at most 6.25 % off.
// Sums, numbers and maxima are exact.
package latency

import (
	"math"
	"math/bits"
)

// The buckets, as bpf/maptrace.h has them: below sub ns each is one value; above,
// sub of equal width make an octave.
const (
	subBits = 3
	sub     = 1 << subBits
	top     = 39 // the last octave's power of two

	// Buckets is how many there are. The last also holds whatever is longer.
	Buckets = (top - subBits + 2) * sub
)

// Bucket is the bucket of a number of ns.
func Bucket(ns uint64) int {
	if ns < sub {
		return int(ns)
	}
	e := bits.Len64(ns) - 1
	if e > top {
		return Buckets - 1
	}
	return (e-subBits+1)*sub + int(ns>>(e-subBits)&(sub-1))
}

// Bounds are the least value of a bucket and the least above it.
//
// Preconditions: 0 <= i < Buckets.
func Bounds(i int) (from, to uint64) {
	if i < sub {
		return uint64(i), uint64(i) + 1
	}
	e := i/sub - 1 // of the width
	from = uint64(sub+i%sub) << e
	return from, from + 1<<e
}

// Hist is a histogram of durations in ns. The zero value is empty.
type Hist struct {
	N, Sum, Max uint64
	count       []uint64 // by bucket, as far as there are any
}

// Of makes a histogram of what the kernel side counted. It keeps count.
func Of(sum, most uint64, count []uint64) Hist {
	h := Hist{Sum: sum, Max: most, count: count[:min(len(count), Buckets)]}
	for _, n := range h.count {
		h.N += n
	}
	return h
}

// Add adds n times of a length that took sum together; n of 0 adds none.
func (h *Hist) Add(ns, n, sum uint64) {
	if n == 0 {
		return
	}
	b := Bucket(ns)
	for len(h.count) <= b {
		h.count = append(h.count, 0)
	}
	h.count[b] += n
	h.N += n
	h.Sum += sum
	h.Max = max(h.Max, ns)
}

// Mean is the average, 0 of nothing.
func (h *Hist) Mean() uint64 {
	if h.N == 0 {
		return 0
	}
	return h.Sum / h.N
}

// Quantile is the value that a share q of all does not exceed (nearest rank), in
// ns: the middle of its bucket, and no more than Max. It is 0 of nothing.
func (h *Hist) Quantile(q float64) uint64 {
	if h.N == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.N)))
	rank = min(max(rank, 1), h.N)
	for i, n := range h.count {
		if rank > n {
			rank -= n
			continue
		}
		if i == Buckets-1 {
			break
		}
		from, to := Bounds(i)
		return min(from+(to-from-1)/2, h.Max)
	}
	return h.Max
}

// Octave is how many there are from a power of two to below the next; From is 0
// where it is about nothing and one ns.
type Octave struct {
	From, To uint64
	N        uint64
}

// Octaves are the counts by power of two, from the first to the last that has
// any. The last also holds whatever is longer.
func (h *Hist) Octaves() []Octave {
	var out []Octave
	for i, n := range h.count {
		from, _ := Bounds(i)
		o := Octave{To: 2}
		if from >= 2 {
			o.From = 1 << (bits.Len64(from) - 1)
			o.To = o.From << 1
		}
		last := len(out) - 1
		switch {
		case last >= 0 && out[last].From == o.From:
			out[last].N += n
		case n > 0 || last >= 0:
			o.N = n
			out = append(out, o)
		}
	}
	for len(out) > 0 && out[len(out)-1].N == 0 {
		out = out[:len(out)-1]
	}
	return out
}
