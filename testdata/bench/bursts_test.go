//go:build linux && (amd64 || arm64)

package main

import "testing"

func TestWhatIsSlowIsMeasuredByCPUTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		cpu, ops []float64
		want     float64
	}{
		{"all alike", []float64{100, 100, 100, 100}, []float64{10, 10, 11, 9}, 0},
		{"one of four pieces", []float64{100, 100, 100, 100}, []float64{10, 10, 3, 10}, 0.25},
		{"a long piece is not slow", []float64{100, 100, 700, 100}, []float64{10, 10, 70, 10}, 0},
		{"three times is not more", []float64{100, 100, 300}, []float64{10, 10, 10}, 0},
		{"no operation in half of the time", []float64{100, 100, 200}, []float64{10, 10, 0}, 0.5},
	} {
		if got := slowShare(tt.cpu, tt.ops); got != tt.want {
			t.Errorf("%s: %g, want %g", tt.name, got, tt.want)
		}
	}
}
