package render

import (
	"math"
	"strings"
)

// The levels of a sparkline, from the lowest value to the highest.
var (
	sparkBlocks = []rune("▁▂▃▄▅▆▇█")
	sparkASCII  = []rune("_.-=+*#@")
)

// sparkline draws values as a line of at most width characters. Where there are
// more values than that, each character shows the highest of its share, so that
// no peak is lost. The lowest value is at the bottom and the highest at the top; if
// all are equal, at the bottom. Values that are not numbers leave a gap. With
// ascii, it does without block characters.
func sparkline(values []float64, width int, ascii bool) string {
	levels := sparkBlocks
	if ascii {
		levels = sparkASCII
	}
	n := min(width, len(values))
	if n <= 0 {
		return ""
	}
	columns := make([]float64, n)
	low, high := math.Inf(1), math.Inf(-1)
	for i := range columns {
		columns[i] = math.NaN()
		for _, v := range values[i*len(values)/n : (i+1)*len(values)/n] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			if math.IsNaN(columns[i]) || v > columns[i] {
				columns[i] = v
			}
		}
		if !math.IsNaN(columns[i]) {
			low, high = min(low, columns[i]), max(high, columns[i])
		}
	}
	var b strings.Builder
	for _, v := range columns {
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case high == low:
			b.WriteRune(levels[0])
		default:
			// Halves, as the difference of two large numbers may overflow.
			part := (v/2 - low/2) / (high/2 - low/2)
			b.WriteRune(levels[min(int(part*float64(len(levels))), len(levels)-1)])
		}
	}
	return b.String()
}
