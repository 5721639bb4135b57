//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// spread is the middle and the quartiles of some figures.
type spread struct{ q1, median, q3 float64 }

// spreadOf interpolates between neighbours. It gives NaN for no figures.
func spreadOf(figures []float64) spread {
	s := slices.Sorted(slices.Values(figures))
	at := func(q float64) float64 {
		if len(s) == 0 {
			return math.NaN()
		}
		i, rest := math.Modf(q * float64(len(s)-1))
		v := s[int(i)]
		if rest > 0 {
			v += rest * (s[int(i)+1] - v)
		}
		return v
	}
	return spread{at(0.25), at(0.5), at(0.75)}
}

// course is how figures taken one after the other change: the medians of their second
// sixth, for the first is warming up, and of their last. It is not ok for too few.
func course(figures []float64) (early, late float64, ok bool) {
	sixth := len(figures) / 6
	if sixth == 0 {
		return 0, 0, false
	}
	return spreadOf(figures[sixth : 2*sixth]).median, spreadOf(figures[len(figures)-sixth:]).median, true
}

// ratio prints a spread of ratios: "1.13 [1.10..1.17]".
func (s spread) ratio() string {
	return fmt.Sprintf("%s [%s..%s]", ratio(s.median), ratio(s.q1), ratio(s.q3))
}

func ratio(r float64) string {
	if r >= 10 {
		return fmt.Sprintf("%.1f", r)
	}
	return fmt.Sprintf("%.2f", r)
}

// compared is what came of dividing each figure by its neighbours.
type compared struct {
	base  spread // the figures without
	ratio spread // of each figure with to the mean of its neighbours without
	added spread // the differences
}

// compare takes figures measured in turn: without[0], with[0], without[1], …
// and so one more without than with.
func compare(without, with []float64) compared {
	ratios, added := make([]float64, len(with)), make([]float64, len(with))
	for i, w := range with {
		beside := (without[i] + without[i+1]) / 2
		ratios[i], added[i] = w/beside, w-beside
	}
	return compared{spreadOf(without), spreadOf(ratios), spreadOf(added)}
}

// table is printed as Markdown, with its columns aligned.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var s strings.Builder
	line := func(row []string) {
		for i, cell := range row {
			s.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + " ")
		}
		s.WriteString("|\n")
	}
	line(t.head)
	for i, width := range widths {
		// The first column is words, the others are figures.
		rule := strings.Repeat("-", width)
		if i > 0 {
			rule = strings.Repeat("-", width-1) + ":"
		}
		s.WriteString("| " + rule + " ")
	}
	s.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// grouped prints a whole number with a comma every three digits.
func grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
