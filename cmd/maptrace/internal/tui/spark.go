package tui

import (
	"math"
	"strings"
)

// The levels of a trend, from the lowest to the highest; and what is drawn where nothing
// moves.
const (
	sparkBlocks, flatBlock = "▁▂▃▄▅▆▇█", "·"
	sparkASCII, flatASCII  = "_.-=+*#@", "."
)

// LeastMove is how many bytes memory moves by at least, or it is flat.
const LeastMove = 64 << 10

// partOfMoved is the part of the most that all moves by at least, or it is flat.
const partOfMoved = 256

// trend draws values as a line of at most so many characters; of more values than these,
// each shows the most of its share. What moves by less than least is flat. It is drawn to a
// scale on which little movement looks little: from the lowest to the highest, but at least a
// quarter of that.
func trend(values []float64, columns int, least float64, ascii bool) string {
	levels, flat := []rune(sparkBlocks), flatBlock
	if ascii {
		levels, flat = []rune(sparkASCII), flatASCII
	}
	n := min(columns, len(values))
	if n <= 0 {
		return ""
	}
	most := make([]float64, n)
	low, high := math.Inf(1), math.Inf(-1)
	for i := range most {
		most[i] = math.Inf(-1)
		for _, v := range values[i*len(values)/n : (i+1)*len(values)/n] {
			most[i] = max(most[i], v)
		}
		low, high = min(low, most[i]), max(high, most[i])
	}
	if moved := high - low; moved < max(least, high/partOfMoved) {
		return strings.Repeat(flat, n)
	}
	const part = 4
	scale := max(high-low, high/part)
	var b strings.Builder
	for _, v := range most {
		b.WriteRune(levels[min(int((v-low)/scale*float64(len(levels))), len(levels)-1)])
	}
	return b.String()
}
