package growth

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s is %g, want %g within %g", what, got, want, tolerance)
	}
}

// The example of Sen 1968, section 6: slope 4, and (26/7, 35/8) at a confidence
// of 93 %.
func TestSlopeIsThatOfTheExampleOfSen(t *testing.T) {
	t.Parallel()
	x := []float64{1, 2, 3, 4, 10, 12, 18}
	y := []float64{9, 15, 19, 20, 45, 55, 78}
	tr := trendOf(x, y, 0.93)
	near(t, "slope", tr.slope, 4, 1e-12)
	near(t, "lower bound", tr.low, 26.0/7, 1e-12)
	near(t, "upper bound", tr.high, 35.0/8, 1e-12)
}

// Table A.21 of Kendall 1975, also A18 of Gilbert 1987 (Statistical Methods
// for Environmental Pollution Monitoring).
func TestTailOfKendallsSIsThatOfTheTables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, s int
		p    float64
	}{
		{4, 0, 0.625},
		{4, 2, 0.375},
		{4, 4, 0.167},
		{4, 6, 0.042},
		{5, 0, 0.592},
		{5, 4, 0.242},
		{5, 6, 0.117},
		{5, 8, 0.042},
		{5, 10, 0.0083},
		{6, 1, 0.5},
		{6, 7, 0.136},
		{6, 9, 0.068},
		{6, 11, 0.028},
		{6, 13, 0.0083},
		{6, 15, 0.0014},
		{7, 5, 0.281},
		{7, 9, 0.119},
		{7, 13, 0.035},
		{7, 15, 0.015},
		{8, 8, 0.199},
		{8, 12, 0.089},
		{8, 16, 0.031},
		{8, 20, 0.0071},
	} {
		got := kendallTail(c.n, c.s)
		if math.Abs(got-c.p) > 0.0006 {
			t.Errorf("n=%d: P(S >= %d) is %.4f, want %.4f", c.n, c.s, got, c.p)
		}
	}
}

func TestVarianceOfKendallsSTakesTiesIntoAccount(t *testing.T) {
	t.Parallel()
	plain := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	v, ties := kendallVariance(plain)
	if v != 125 || ties { // 10*9*25/18
		t.Errorf("variance of 10 values is %g (ties %t), want 125", v, ties)
	}
	// Gilbert 1987, p. 212: two groups of 2 and one of 3 ties take
	// 2*18 + 66 off; here of n = 10.
	tied := []float64{1, 1, 2, 3, 3, 4, 5, 5, 5, 6}
	v, ties = kendallVariance(tied)
	if want := (10.0*9*25 - 2*2*1*9 - 3*2*11) / 18; v != want || !ties {
		t.Errorf("variance with ties is %g (ties %t), want %g", v, ties, want)
	}
	if v, _ = kendallVariance([]float64{3, 3, 3, 3}); v != 0 {
		t.Errorf("variance of a constant is %g", v)
	}
}

// TestTrendAgreesWithTheDefinition compares with pairs counted one by one.
func TestTrendAgreesWithTheDefinition(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		n := 2 + r.IntN(maxBlocks-1)
		x, y := make([]float64, n), make([]float64, n)
		for i := range x {
			x[i] = float64(i) + 0.5*r.Float64()
			y[i] = float64(r.IntN(20)) + float64(i)*r.Float64()*float64(r.IntN(2))
		}
		var slopes []float64
		s := 0
		for i := range n {
			for j := range n {
				if i != j { // each pair twice
					slope := (y[i] - y[j]) / (x[i] - x[j])
					slopes = append(slopes, slope)
					switch {
					case slope > 0:
						s++
					case slope < 0:
						s--
					}
				}
			}
		}
		slices.Sort(slopes)
		want := (slopes[len(slopes)/2-1] + slopes[len(slopes)/2]) / 2
		tr := trendOf(x, y, 0.95)
		if math.Abs(tr.slope-want) > 1e-9 || tr.s != s/2 {
			t.Fatalf("%v: slope %g, S %d, want %g, %d", y, tr.slope, tr.s, want, s/2)
		}
		if tr.low > tr.slope || tr.high < tr.slope {
			t.Fatalf("slope %g is outside of %g to %g", tr.slope, tr.low, tr.high)
		}
	}
}

func TestIntervalHoldsTheTrueSlope(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	const runs, slope = 2000, 0.3
	inside := 0
	for range runs {
		x, y := make([]float64, 40), make([]float64, 40)
		for i := range x {
			x[i] = float64(i)
			y[i] = slope*x[i] + 4*r.NormFloat64()
		}
		if tr := trendOf(x, y, 0.95); tr.low <= slope && slope <= tr.high {
			inside++
		}
	}
	if share := float64(inside) / runs; share < 0.93 || share > 0.98 {
		t.Errorf("the interval of 95 %% holds the slope in %.1f %% of the runs", 100*share)
	}
}

// Without the correction, 13 and 26 % of the autocorrelated series would rise.
func TestAutocorrelationIsNotTakenForATrend(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct{ rho, least, most float64 }{{0, 0.005, 0.05}, {0.5, 0.005, 0.08}, {0.8, 0.005, 0.16}} {
		const runs = 1000
		rising := 0
		for range runs {
			x, y, v := make([]float64, 60), make([]float64, 60), 0.0
			for i := range 160 {
				v = c.rho*v + r.NormFloat64()
				if i >= 100 {
					x[i-100], y[i-100] = float64(i), v
				}
			}
			if tr := trendOf(x, y, 0.95); tr.s > 0 && tr.p < 0.025 {
				rising++
			}
		}
		if share := float64(rising) / runs; share < c.least || share > c.most {
			t.Errorf("autocorrelation %g: %.1f %% rise, want %g to %g", c.rho, 100*share, 100*c.least, 100*c.most)
		}
	}
}

// From the tables of Student's distribution.
func TestNormalValueOfStudentsT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		t    float64
		df   int
		want float64
	}{{2.228, 10, 1.960}, {3.169, 10, 2.576}, {3.850, 20, 3.291}, {6.869, 5, 3.291}, {-2.042, 30, -1.960}} {
		near(t, "the normal value", normalOfStudent(c.t, c.df), c.want, 0.03)
	}
	if z := normalOfStudent(math.Inf(1), 5); !math.IsInf(z, 1) {
		t.Errorf("without scatter the value is %g", z)
	}
}

func TestRanksOfEqualValuesAreTheMeanOfTheirs(t *testing.T) {
	t.Parallel()
	if got, want := ranks([]float64{5, 1, 5, 2, 5}), []float64{4, 1, 4, 2, 4}; !slices.Equal(got, want) {
		t.Errorf("ranks are %v, want %v", got, want)
	}
}

func TestSmoothingKeepsWhatNeverFalls(t *testing.T) {
	t.Parallel()
	up := []float64{1, 1, 2, 7, 7, 8, 20}
	if got := median3(up); !slices.Equal(got, up) {
		t.Errorf("%v became %v", up, got)
	}
	if got, want := median3([]float64{1, 9, 2, 3, 0, 4}), []float64{1, 2, 3, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("spikes became %v, want %v", got, want)
	}
}

func TestTroughsLieBetweenHeights(t *testing.T) {
	t.Parallel()
	y := []float64{5, 8, 2, 9, 10, 3, 4, 3.5, 9, 1}
	found, path := troughs(y, 3)
	if want := []int{2, 5}; !slices.Equal(found, want) {
		t.Errorf("troughs at %v, want %v", found, want)
	}
	near(t, "the path", path, 3+6+8+7+6+8, 1e-12)
}

func TestARateOfFewPointsIsBetweenItsSteepestAndItsFlattestPair(t *testing.T) {
	t.Parallel()
	got := RateOf([]float64{1, 2, 4}, []float64{10, 20, 22})
	if want := (Rate{PerSecond: 4, Low: 1, High: 10}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
