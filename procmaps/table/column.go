// Package table prints mappings as tables: a column model over rows of any type,
// a writer of aligned text, and pmap's own layouts as instances of them.
package table

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Value is one cell before it is printed: what a text, JSON or CSV writer shows,
// and what sorting and sums work on. The zero value stands for "not known".
type Value struct {
	kind kind
	num  uint64 // of kindInt and kindFloat: their bits
	text string
}

type kind uint8

const (
	kindNone kind = iota
	kindUint
	kindInt
	kindFloat
	kindText
)

// Uint is a number that is never negative.
func Uint(v uint64) Value { return Value{kind: kindUint, num: v} }

// Int is a number that may be negative, such as a change.
func Int(v int64) Value { return Value{kind: kindInt, num: uint64(v)} }

// Float is a number with a fraction, such as a rate.
func Float(v float64) Value { return Value{kind: kindFloat, num: math.Float64bits(v)} }

// Text is a string, shown as it is: escape it before if a traced program chose it.
func Text(s string) Value { return Value{kind: kindText, text: s} }

// Known reports whether v is not the zero value.
func (v Value) Known() bool { return v.kind != kindNone }

// Uint64 returns the number of a Uint, and 0 for everything else.
func (v Value) Uint64() uint64 {
	if v.kind != kindUint {
		return 0
	}
	return v.num
}

// Int64 returns the number of an Int, and 0 for everything else.
func (v Value) Int64() int64 {
	if v.kind != kindInt {
		return 0
	}
	return int64(v.num)
}

// Append appends the plain form: decimal numbers, text as it is, and nothing for
// a value that is not known.
func (v Value) Append(dst []byte) []byte {
	switch v.kind {
	case kindUint:
		return strconv.AppendUint(dst, v.num, 10)
	case kindInt:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case kindFloat:
		return strconv.AppendFloat(dst, math.Float64frombits(v.num), 'f', 1, 64)
	}
	return append(dst, v.text...)
}

// Compare orders values: unknown ones first, then numbers by size, then text.
func (v Value) Compare(o Value) int {
	a, b := v.class(), o.class()
	switch {
	case a != b:
		return a - b
	case a == 2:
		return cmp.Compare(v.text, o.text)
	case v.kind == o.kind && v.kind == kindUint:
		return cmp.Compare(v.num, o.num)
	case v.kind == o.kind && v.kind == kindInt:
		return cmp.Compare(int64(v.num), int64(o.num))
	}
	return cmp.Compare(v.float(), o.float())
}

// class is 0 for unknown, 1 for numbers and 2 for text.
func (v Value) class() int {
	switch v.kind {
	case kindNone:
		return 0
	case kindText:
		return 2
	}
	return 1
}

// float returns the nearest float of a number.
func (v Value) float() float64 {
	switch v.kind {
	case kindUint:
		return float64(v.num)
	case kindInt:
		return float64(int64(v.num))
	case kindFloat:
		return math.Float64frombits(v.num)
	}
	return 0
}

// add returns the sum of two values of one column; unknown ones add nothing.
func (v Value) add(o Value) Value {
	switch {
	case o.class() != 1:
		return v
	case v.class() != 1:
		return o
	case v.kind == kindFloat || o.kind == kindFloat:
		return Float(v.float() + o.float())
	case v.kind == kindInt || o.kind == kindInt:
		return Int(int64(v.num) + int64(o.num))
	}
	return Uint(v.num + o.num)
}

// Align says on which side of a column the shorter cells leave room.
type Align uint8

// The alignments.
const (
	Left Align = iota
	Right
)

// FormatChange formats an Int with its sign, and "-" for none.
func FormatChange(dst []byte, v Value) []byte {
	n := v.Int64()
	if n == 0 {
		return append(dst, '-')
	}
	if n > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, n, 10)
}

// Column is one column of a table with rows of type R. Every writer (text, JSON,
// CSV) and every ordering uses the same Value.
type Column[R any] struct {
	Name  string // heading of text tables
	Key   string // stable name in machine-readable output
	Align Align
	Width int // of text tables, at least; in characters
	// Value returns the cell of a row. It must not keep or change the row.
	Value func(r R) Value
	// Format appends the cell's text where a table should not show the plain form
	// of Value.Append; nil for the plain form. It is not asked for unknown values.
	Format func(dst []byte, v Value) []byte
	// Sum says that totals of this column mean something.
	Sum bool
}

// append appends the text of a cell.
func (c *Column[R]) append(dst []byte, v Value) []byte {
	if c.Format != nil && v.Known() {
		return c.Format(dst, v)
	}
	return v.Append(dst)
}

// Aligned prints rows as columns of text with one space between them. Widths are
// least widths: a longer cell pushes the rest of its line to the right. Where
// that is not wanted, Fit the columns to the rows first. The last column is not
// padded. It is not safe for concurrent use.
type Aligned[R any] struct {
	columns []Column[R]
	widths  []int
	sums    []Value
	cell    []byte
	// keepSpaces leaves the spaces after an empty last cell.
	keepSpaces bool
}

// NewAligned returns a writer for the columns. Lines never end in a space.
func NewAligned[R any](columns []Column[R]) *Aligned[R] {
	a := &Aligned[R]{columns: columns, widths: make([]int, len(columns)), sums: make([]Value, len(columns))}
	for i := range columns {
		a.widths[i] = columns[i].Width
	}
	return a
}

// Fit widens every column to its heading, its longest cell and its total.
func (a *Aligned[R]) Fit(rows iter.Seq[R]) {
	a.fitHeader()
	// The last column is never padded.
	a.fitCells(rows, 0, len(a.columns)-1)
	a.fitTotals(rows)
}

func (a *Aligned[R]) fitHeader() {
	for i := range a.columns {
		a.widths[i] = max(a.widths[i], utf8.RuneCountInString(a.columns[i].Name))
	}
}

// fitCells widens the columns from first to before end.
func (a *Aligned[R]) fitCells(rows iter.Seq[R], first, end int) {
	for r := range rows {
		for i := first; i < end; i++ {
			a.widen(i, a.columns[i].Value(r))
		}
	}
}

func (a *Aligned[R]) fitTotals(rows iter.Seq[R]) {
	for i, v := range Sums(a.columns, rows) {
		a.widen(i, v)
	}
}

func (a *Aligned[R]) widen(i int, v Value) {
	a.cell = a.columns[i].append(a.cell[:0], v)
	a.widths[i] = max(a.widths[i], utf8.RuneCount(a.cell))
}

// AppendHeader appends the line of headings.
func (a *Aligned[R]) AppendHeader(dst []byte) []byte {
	first := len(dst)
	for i := range a.columns {
		a.cell = append(a.cell[:0], a.columns[i].Name...)
		dst = a.place(dst, i, len(a.columns)-1)
	}
	return a.endLine(dst, first)
}

// AppendRow appends the line of a row, and adds the row to the totals.
func (a *Aligned[R]) AppendRow(dst []byte, r R) []byte {
	first, last := len(dst), len(a.columns)-1
	for i := range a.columns {
		c := &a.columns[i]
		v := c.Value(r)
		if c.Sum {
			a.sums[i] = a.sums[i].add(v)
		}
		// The common cases need no second copy.
		if c.Align == Left {
			start := len(dst)
			dst = c.append(dst, v)
			if i < last {
				dst = append(appendSpaces(dst, a.widths[i]-utf8.RuneCount(dst[start:])), ' ')
			}
			continue
		}
		a.cell = c.append(a.cell[:0], v)
		dst = a.place(dst, i, last)
	}
	return a.endLine(dst, first)
}

// AppendTotals appends a line with label in the first column and the sums of the
// rows so far below their columns. It ends with the last column that has a sum.
func (a *Aligned[R]) AppendTotals(dst []byte, label string) []byte {
	first, last := len(dst), a.lastSum()
	for i := range last + 1 {
		a.cell = a.cell[:0]
		switch {
		case a.columns[i].Sum:
			a.cell = a.columns[i].append(a.cell, a.Total(i))
		case i == 0:
			a.cell = append(a.cell, label...)
		}
		dst = a.place(dst, i, last)
	}
	return a.endLine(dst, first)
}

// AppendRule appends a line of dashes as wide as the columns, up to the last one
// that has a sum.
func (a *Aligned[R]) AppendRule(dst []byte) []byte {
	first := len(dst)
	for i := range a.lastSum() + 1 {
		for range a.widths[i] {
			dst = append(dst, '-')
		}
		dst = append(dst, ' ')
	}
	return a.endLine(dst, first)
}

// Total returns the sum of the i-th column over the rows appended so far.
func (a *Aligned[R]) Total(i int) Value {
	if !a.sums[i].Known() {
		return Uint(0)
	}
	return a.sums[i]
}

// ResetTotals starts new totals.
func (a *Aligned[R]) ResetTotals() { clear(a.sums) }

func (a *Aligned[R]) lastSum() int {
	for i, c := range slices.Backward(a.columns) {
		if c.Sum {
			return i
		}
	}
	return -1
}

// place appends a.cell as the i-th cell of a line that ends with column last.
func (a *Aligned[R]) place(dst []byte, i, last int) []byte {
	room := a.widths[i] - utf8.RuneCount(a.cell)
	if a.columns[i].Align == Right {
		dst = appendSpaces(dst, room)
		room = 0
	}
	dst = append(dst, a.cell...)
	if i < last {
		dst = append(appendSpaces(dst, room), ' ')
	}
	return dst
}

func (a *Aligned[R]) endLine(dst []byte, first int) []byte {
	if !a.keepSpaces {
		for len(dst) > first && dst[len(dst)-1] == ' ' {
			dst = dst[:len(dst)-1]
		}
	}
	return append(dst, '\n')
}

func appendSpaces(dst []byte, n int) []byte {
	const spaces = "                                "
	for n > len(spaces) {
		dst = append(dst, spaces...)
		n -= len(spaces)
	}
	return append(dst, spaces[:max(n, 0)]...)
}

// Sums adds the columns with Sum over rows, in the order of columns. Those of the
// others, and of columns of which no row has a value, are not known.
func Sums[R any](columns []Column[R], rows iter.Seq[R]) []Value {
	sums := make([]Value, len(columns))
	for r := range rows {
		for i := range columns {
			if columns[i].Sum {
				sums[i] = sums[i].add(columns[i].Value(r))
			}
		}
	}
	return sums
}
