package latency_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer/latency"
)

func TestBucketsFollowEachOther(t *testing.T) {
	t.Parallel()
	next := uint64(0)
	for i := range latency.Buckets {
		from, to := latency.Bounds(i)
		if from != next || to <= from {
			t.Fatalf("bucket %d is [%d, %d), after one that ends at %d", i, from, to, next)
		}
		if from >= 8 && (to-from)*8 > from {
			t.Errorf("bucket %d, [%d, %d), is wider than an eighth", i, from, to)
		}
		for _, v := range []uint64{from, from + (to-from)/2, to - 1} {
			if got := latency.Bucket(v); got != i {
				t.Errorf("%d is in bucket %d, want %d", v, got, i)
			}
		}
		next = to
	}
	for _, v := range []uint64{next, math.MaxUint64} {
		if got := latency.Bucket(v); got != latency.Buckets-1 {
			t.Errorf("%d is in bucket %d, want the last", v, got)
		}
	}
}

// TestTheKernelSideHasTheSameBuckets compiles the C function of the BPF programs
// and asks it for both ends of each bucket, and beyond.
func TestTheKernelSideHasTheSameBuckets(t *testing.T) {
	t.Parallel()
	gcc := tool.Need(t, "gcc")
	header, err := filepath.Abs("../../bpf/maptrace.h")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	src := fmt.Sprintf(`#include <linux/types.h>
#include <stdio.h>
#include %q
int main(void)
{
	unsigned long long v;

	printf("%%d\n", MM_LAT_BUCKETS);
	while (scanf("%%llu", &v) == 1)
		printf("%%u\n", mm_lat_bucket(v));
	return 0;
}
`, header)
	if err = os.WriteFile(filepath.Join(dir, "b.c"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "b")
	out, err := exec.CommandContext(t.Context(), gcc, "-o", bin, filepath.Join(dir, "b.c")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var in strings.Builder
	want := []string{fmt.Sprint(latency.Buckets)}
	ask := func(v uint64) {
		fmt.Fprintln(&in, v)
		want = append(want, fmt.Sprint(latency.Bucket(v)))
	}
	for i := range latency.Buckets {
		from, to := latency.Bounds(i)
		ask(from)
		ask(to - 1)
	}
	for e := range 64 {
		ask(1 << e)
		ask(1<<e - 1)
	}
	ask(math.MaxUint64)
	cmd := exec.CommandContext(t.Context(), bin)
	cmd.Stdin = strings.NewReader(in.String())
	if out, err = cmd.Output(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, strings.Fields(string(out))); diff != "" {
		t.Errorf("buckets (-Go +C):\n%s", diff)
	}
}

// exact is the nearest-rank percentile of sorted values.
func exact(sorted []uint64, q float64) uint64 {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// TestPercentilesAreWithinTheStatedError compares with the exact percentiles of
// random values of many shapes.
func TestPercentilesAreWithinTheStatedError(t *testing.T) {
	t.Parallel()
	const stated = 0.0625
	last, _ := latency.Bounds(latency.Buckets - 1) // whose values go by the maximum
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 400 {
		mean, spread := r.Float64()*22, r.Float64()*5
		values := make([]uint64, 1+r.IntN(3000))
		var h latency.Hist
		var sum uint64
		for i := range values {
			values[i] = uint64(math.Exp(max(0, mean+spread*r.NormFloat64())))
			values[i] = min(values[i], last-1)
			h.Add(values[i], 1, values[i])
			sum += values[i]
		}
		slices.Sort(values)
		if h.N != uint64(len(values)) || h.Sum != sum || h.Max != values[len(values)-1] {
			t.Fatalf("seed %d, round %d: %d, sum %d, max %d, want %d, %d, %d", seed, round, h.N, h.Sum, h.Max,
				len(values), sum, values[len(values)-1])
		}
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
			got, want := h.Quantile(q), exact(values, q)
			if off := math.Abs(float64(got) - float64(want)); off > stated*float64(want) {
				t.Errorf("seed %d, round %d: of %d values p%v is %d, want %d", seed, round, len(values), 100*q, got, want)
			}
		}
		var n uint64
		for _, o := range h.Octaves() {
			n += o.N
		}
		if n != h.N {
			t.Errorf("seed %d, round %d: %d in octaves, want %d", seed, round, n, h.N)
		}
	}
}

func TestOfNothingThereIsNothing(t *testing.T) {
	t.Parallel()
	var h latency.Hist
	h.Add(5, 0, 0)
	if h.Quantile(0.5) != 0 || h.Mean() != 0 || h.Octaves() != nil || h.N != 0 || h.Max != 0 {
		t.Errorf("got %+v", h)
	}
}

func TestOctavesArePowersOfTwo(t *testing.T) {
	t.Parallel()
	var h latency.Hist
	for _, v := range []uint64{4, 7, 8, 40, 63, 63} {
		h.Add(v, 1, v)
	}
	want := []latency.Octave{{4, 8, 2}, {8, 16, 1}, {16, 32, 0}, {32, 64, 3}}
	if diff := cmp.Diff(want, h.Octaves()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h = latency.Hist{}
	h.Add(0, 3, 0)
	h.Add(1, 4, 4)
	h.Add(3, 1, 3)
	if diff := cmp.Diff([]latency.Octave{{0, 2, 7}, {2, 4, 1}}, h.Octaves()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatIsLongerThanTheLastBucketHasItsMaximum(t *testing.T) {
	t.Parallel()
	var h latency.Hist
	h.Add(1<<50, 1, 1<<50)
	if got := h.Quantile(0.5); got != 1<<50 {
		t.Errorf("got %d", got)
	}
}

// TestWeightsCountAsOftenAsTheySay gives one call the weight of those it stands for.
func TestWeightsCountAsOftenAsTheySay(t *testing.T) {
	t.Parallel()
	var one, many latency.Hist
	one.Add(1000, 99, 99_000)
	one.Add(1_000_000, 1, 1_000_000)
	for range 99 {
		many.Add(1000, 1, 1000)
	}
	many.Add(1_000_000, 1, 1_000_000)
	for _, q := range []float64{0.5, 0.99, 1} {
		if one.Quantile(q) != many.Quantile(q) {
			t.Errorf("p%v: %d weighted, %d counted", q*100, one.Quantile(q), many.Quantile(q))
		}
	}
	if one.Mean() != many.Mean() || one.N != many.N {
		t.Errorf("%+v, want %+v", one, many)
	}
}

func TestCountsOfTheKernelSideAreTakenOver(t *testing.T) {
	t.Parallel()
	count := make([]uint64, latency.Buckets+3)
	count[latency.Bucket(500)] = 4
	count[latency.Bucket(9000)] = 1
	h := latency.Of(11_000, 9000, count)
	if h.N != 5 || h.Mean() != 2200 || h.Quantile(1) > 9000 || h.Quantile(0.5) < 480 || h.Quantile(0.5) > 520 {
		t.Errorf("%d, mean %d, p50 %d, p100 %d", h.N, h.Mean(), h.Quantile(0.5), h.Quantile(1))
	}
}
