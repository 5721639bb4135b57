package growth

import (
	"math"
	"slices"
)

// maxBlocks bounds the number of points that trends are computed of, whose cost
// is quadratic. Longer series are cut into blocks, each with its median.
const maxBlocks = 60

// trend is what is known of the direction of a series.
type trend struct {
	slope, low, high float64 // Theil-Sen, and its confidence interval
	s                int     // Kendall's S: pairs that rise less pairs that fall
	z                float64 // S over its standard error, corrected for autocorrelation; 0 if not above chance
	p                float64 // one-sided: of as much rise (s > 0) or fall (s < 0) without a trend
}

// trendOf computes a trend. The times ascend.
//
// The slope is the median of the slopes of all pairs, its interval that of Sen
// 1968 (Estimates of the regression coefficient based on Kendall's tau). The
// test is Mann-Kendall's with ties in y taken into account, and the variance
// widened as in Hamed and Rao 1998 (A modified Mann-Kendall trend test for
// autocorrelated data). Up to 10 points without ties or autocorrelation the
// distribution of S is exact.
func trendOf(t, y []float64, confidence float64) trend {
	t, y = blocks(t, y, maxBlocks)
	n := len(y)
	if n < 2 {
		return trend{p: 1}
	}
	slopes := make([]float64, 0, n*(n-1)/2)
	s := 0
	for j := 1; j < n; j++ {
		for i := range j {
			d := y[j] - y[i]
			if d > 0 {
				s++
			} else if d < 0 {
				s--
			}
			if dt := t[j] - t[i]; dt > 0 {
				slopes = append(slopes, d/dt)
			}
		}
	}
	slices.Sort(slopes)
	tr := trend{slope: medianSorted(slopes), s: s}
	v, ties := kendallVariance(y)
	inflation := 1.0
	if v > 0 {
		inflation = hamedRao(t, y, tr.slope)
	}
	sigma := math.Sqrt(v * inflation)
	tr.low, tr.high = senInterval(slopes, sigma, confidence)
	switch {
	case v == 0 || s == 0:
		tr.p = 0.5
	case n <= exactKendall && !ties && inflation == 1:
		tr.z = (math.Abs(float64(s)) - 1) / sigma
		tr.p = kendallTail(n, max(s, -s))
	default:
		tr.z = (math.Abs(float64(s)) - 1) / sigma
		tr.p = normalTail(tr.z)
	}
	if s < 0 {
		tr.z = -tr.z
	}
	return tr
}

// RateOf is the direction of a series, a value at each time in seconds, which ascend: the
// median of the slopes of all pairs (Theil-Sen), with its interval. Of few points that is
// between the least and the greatest of all slopes.
func RateOf(t, y []float64) Rate {
	tr := trendOf(t, y, Options{}.withDefaults().Confidence)
	return Rate{tr.slope, tr.low, tr.high}
}

// blocks cuts a long series into at most limit blocks of equal length and gives
// the middle of the times and the median of the values of each.
func blocks(t, y []float64, limit int) (bt, by []float64) {
	size := (len(y) + limit - 1) / limit
	if size <= 1 {
		return t, y
	}
	n := (len(y) + size - 1) / size
	bt, by = make([]float64, 0, n), make([]float64, 0, n)
	scratch := make([]float64, size)
	for i := 0; i < len(y); i += size {
		end := min(i+size, len(y))
		block := scratch[:copy(scratch, y[i:end])]
		slices.Sort(block)
		bt, by = append(bt, (t[i]+t[end-1])/2), append(by, medianSorted(block))
	}
	return bt, by
}

// kendallVariance returns the variance of S for a series without a trend and
// without autocorrelation, and whether there are ties in it.
func kendallVariance(y []float64) (v float64, ties bool) {
	sorted := slices.Sorted(slices.Values(y))
	term := func(n int) float64 { m := float64(n); return m * (m - 1) * (2*m + 5) }
	v = term(len(y))
	for i := 0; i < len(sorted); {
		j := i + 1
		for j < len(sorted) && sorted[j] == sorted[i] {
			j++
		}
		if j-i > 1 {
			v, ties = v-term(j-i), true
		}
		i = j
	}
	return v / 18, ties
}

// senInterval returns the slopes between which the true one lies.
func senInterval(sorted []float64, sigma, confidence float64) (low, high float64) {
	n := len(sorted)
	if n == 0 {
		return 0, 0
	}
	c := normalQuantile(confidence) * sigma
	lo := int(math.Floor((float64(n)-c)/2)) - 1
	hi := int(math.Ceil((float64(n) + c) / 2))
	return sorted[min(max(lo, 0), n-1)], sorted[max(min(hi, n-1), 0)]
}

// hamedRao is the factor, at least 1, by which autocorrelation widens the
// variance of S: of the ranks of what is left without the trend, with the lags
// that are significant.
func hamedRao(t, y []float64, slope float64) float64 {
	n := len(y)
	rest := make([]float64, n)
	for i := range y {
		rest[i] = y[i] - slope*t[i]
	}
	r := ranks(rest)
	m := float64(n)
	sum := 0.0
	for lag := 1; lag < n-1; lag++ {
		rho, k := autocorrelation(r, lag), float64(lag)
		if math.Abs(rho) >= 1.96/math.Sqrt(m) {
			sum += (m - k) * (m - k - 1) * (m - k - 2) * rho
		}
	}
	return max(1, 1+2*sum/(m*(m-1)*(m-2)))
}

// autocorrelation is the correlation of a series with itself, later by lag; 0
// if it is constant.
func autocorrelation(y []float64, lag int) float64 {
	mean := 0.0
	for _, v := range y {
		mean += v / float64(len(y))
	}
	var sq, c float64
	for i, v := range y {
		sq += (v - mean) * (v - mean)
		if i >= lag {
			c += (v - mean) * (y[i-lag] - mean)
		}
	}
	if sq == 0 {
		return 0
	}
	return c / sq
}

// ranks returns the ranks from 1, equal values sharing the mean of theirs.
func ranks(y []float64) []float64 {
	order := make([]int, len(y))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case y[a] < y[b]:
			return -1
		case y[a] > y[b]:
			return 1
		default:
			return a - b
		}
	})
	r := make([]float64, len(y))
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && y[order[j]] == y[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			r[k] = float64(i+j+1) / 2
		}
		i = j
	}
	return r
}

// exactKendall is the longest series of which the distribution of S is computed.
const exactKendall = 10

// kendallTail returns the probability that S of n values in random order is at
// least s.
func kendallTail(n, s int) float64 {
	// The number of orders of n values by their number of inversions.
	counts := []float64{1}
	for m := 2; m <= n; m++ {
		next := make([]float64, len(counts)+m-1)
		for i, c := range counts {
			for j := range m {
				next[i+j] += c
			}
		}
		counts = next
	}
	var tail, all float64
	for inversions, c := range counts {
		if n*(n-1)/2-2*inversions >= s {
			tail += c
		}
		all += c
	}
	return tail / all
}

// normalTail is the probability of a standard normal value of at least z.
func normalTail(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }

// normalQuantile is the z that bounds the given middle share of values.
func normalQuantile(confidence float64) float64 { return math.Sqrt2 * math.Erfinv(confidence) }

// normalOfStudent returns the standard normal value that is as rare as a value
// of Student's t with df degrees of freedom, after Wallace 1959 (Bounds on
// normal approximations to Student's and the chi-square distributions).
func normalOfStudent(t float64, df int) float64 {
	v := float64(df)
	z := (8*v + 1) / (8*v + 3) * math.Sqrt(v*math.Log1p(t*t/v))
	return math.Copysign(z, t)
}

func median(y []float64) float64 { return medianSorted(slices.Sorted(slices.Values(y))) }

func medianSorted(y []float64) float64 {
	switch n := len(y); {
	case n == 0:
		return 0
	case n%2 == 1:
		return y[n/2]
	default:
		return (y[n/2-1] + y[n/2]) / 2
	}
}

// median3 smooths away what lasts for one point only; a series that never
// falls stays as it is.
func median3(y []float64) []float64 {
	out := slices.Clone(y)
	for i := 1; i+1 < len(y); i++ {
		a, b, c := y[i-1], y[i], y[i+1]
		out[i] = max(min(a, b), min(max(a, b), c))
	}
	return out
}
