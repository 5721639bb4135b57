package render

import (
	"math"
	"testing"
	"unicode/utf8"
)

func TestSparkline(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		values []float64
		width  int
		ascii  bool
		want   string
	}{
		{"a ramp has all levels", []float64{0, 1, 2, 3, 4, 5, 6, 7}, 8, false, "▁▂▃▄▅▆▇█"},
		{"without block characters", []float64{0, 1, 2, 3, 4, 5, 6, 7}, 8, true, "_.-=+*#@"},
		{"the lowest is at the bottom", []float64{1 << 40, 1<<40 + 1}, 8, false, "▁█"},
		{"below 0", []float64{-3, -1, -2}, 8, false, "▁█▅"},
		{"constant", []float64{5, 5, 5}, 8, false, "▁▁▁"},
		{"a peak among many values", []float64{0, 0, 0, 0, 9, 0, 0, 0, 0}, 3, false, "▁█▁"},
		{"as wide as asked for", []float64{0, 0, 1, 1, 2, 2, 3}, 3, false, "▁▃█"},
		{"gaps", []float64{1, math.NaN(), 2, math.Inf(1)}, 8, false, "▁ █ "},
		{"the largest numbers", []float64{-math.MaxFloat64, math.MaxFloat64}, 8, false, "▁█"},
		{"nothing", nil, 8, false, ""},
		{"no room", []float64{1, 2}, 0, false, ""},
		{"less than no room", []float64{1, 2}, -1, false, ""},
	} {
		if got := sparkline(c.values, c.width, c.ascii); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	many := make([]float64, 1000)
	for i := range many {
		many[i] = math.Sin(float64(i))
	}
	for width := range 1001 {
		if n := utf8.RuneCountInString(sparkline(many, width, false)); n != width {
			t.Fatalf("%d characters for a width of %d", n, width)
		}
	}
}
