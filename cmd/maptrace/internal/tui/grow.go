package tui

import (
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps/units"
)

// Grow is what grow has found so far.
type Grow struct {
	Head
	// Sentence is the worst of it, or why there is nothing to be said yet, and Style how bad
	// that is.
	Sentence string
	Style    Style
	Account  []Class // what the worst process is charged for
	Findings []Finding
	Others   []Process // all but the worst
}

// Head is the first line of a screen and its last.
type Head struct {
	Command string // "maptrace grow"
	About   string // "4711 server"
	Time    string // "12 s of 1 min"
	Foot    string // what ^C does
}

// Class is a kind of memory.
type Class struct {
	Name   string
	Bytes  uint64
	Grown  int64     // bytes, since the first look
	Series []float64 // bytes, over time
}

// Finding is a row of the table of what was found.
type Finding struct {
	Verdict string
	Style   Style
	// What it grew by, in all and in a minute, what of it is resident, swapped out and
	// mapped, and how much of what came is there, as they are written.
	Grew, PerMinute, Resident, Swapped, Mapped, Alive string

	Series []float64
	Least  float64 // what the series moves by at least, or it is flat
	What   string
}

// Trend is its course.
func (f *Finding) Trend(columns int, ascii bool) string {
	return trend(f.Series, columns, f.Least, ascii)
}

// Process is one of many, with the worst that was found of it.
type Process struct {
	Name string // "4711 server"
	Finding
}

// narrow is a screen that has room for what matters most.
const narrow = 60

// Broad is a terminal from which on there is room for all columns of what was found.
const Broad = 100

// first is the first line: whose screen it is, and on the right how far it is.
func (h *Head) first(f Form) Line {
	const margin = 4
	time := f.clean(h.Time)
	left, room := h.Command+"   "+h.About, f.Width-margin-width(time)
	if f.Width < narrow {
		left, room = strings.TrimPrefix(h.Command, "maptrace ")+" "+h.About, f.Width-1-width(time)
	}
	left = Cut(f.clean(left), room-1, f.ASCII)
	return Line{{Text: left}, {Text: strings.Repeat(" ", max(room-width(left), 1)) + time, Style: Dim}}
}

// screen puts a body between the first line and the last. What does not fit is left out, and
// that is said, but its last lines are kept, so many of them.
func (h *Head) screen(f Form, body []Line, keep int) []Line {
	const around = 3 // the first line, one that is empty and the last
	if room := f.Height - around; len(body) > room {
		at := max(room-1-keep, 0)
		left := len(body) - at - keep
		more := Line{{Text: Dots(f.ASCII) + " " + units.Count(uint64(left), "more line"), Style: Dim}}
		body = slices.Concat(body[:at], []Line{more}, body[len(body)-min(keep, len(body)):])
	}
	lines := append([]Line{h.first(f)}, body...)
	for len(lines) < f.Height-1 {
		lines = append(lines, nil)
	}
	return append(lines, Line{{Text: h.Foot, Style: Dim}})[:f.Height]
}

// Lines implements [View].
func (g *Grow) Lines(f Form) []Line {
	const indent, margin = "  ", 4
	var body []Line
	for _, s := range Wrap(f.clean(g.Sentence), f.Width-margin, 0, true) {
		body = append(body, Line{{Text: indent}, {Text: s, Style: g.Style}})
	}
	if len(g.Account) > 0 {
		body = append(body, nil)
	}
	for i := range g.Account {
		body = append(body, g.Account[i].line(f))
	}
	if len(g.Findings) > 0 {
		body = append(append(body, nil), findings(f, g.Findings)...)
	}
	if len(g.Others) > 0 {
		body = append(append(body, nil), others(f, g.Others)...)
	}
	return g.screen(f, body, 0)
}

func (c *Class) line(f Form) Line {
	const name, amount, course = 13, 12, 16
	size := amount
	if f.Width < narrow {
		size--
	}
	s := padRight(c.Name, name) + padLeft(units.Bytes(float64(c.Bytes)), size) + padLeft(units.Change(float64(c.Grown)), size)
	if f.Width >= narrow {
		s += "   " + trend(c.Series, course, LeastMove, f.ASCII)
	}
	return Text(s)
}

// column is one of a table.
type column[R any] struct {
	name  string
	right bool // aligned to the right
	cell  func(*R) Span
}

// rowsOf draws rows below the names of their columns.
func rowsOf[R any](f Form, columns []column[R], rows []R) []Line {
	lines := make([]Line, len(rows)+1)
	for i, c := range columns {
		cells := make([]Span, len(rows))
		room := width(c.name)
		for k := range rows {
			cells[k] = c.cell(&rows[k])
			cells[k].Text = f.clean(cells[k].Text)
			room = max(room, width(cells[k].Text))
		}
		for k, cell := range slices.Concat([]Span{{Text: c.name, Style: Dim}}, cells) {
			switch {
			case c.right:
				cell.Text = padLeft(cell.Text, room)
			case i < len(columns)-1:
				cell.Text = padRight(cell.Text, room)
			}
			if i > 0 {
				lines[k] = append(lines[k], Span{Text: " "})
			}
			lines[k] = append(lines[k], cell)
		}
	}
	return lines
}

func findings(f Form, rows []Finding) []Line {
	const short, long = 8, 16
	columns := []column[Finding]{
		{"VERDICT", false, func(r *Finding) Span { return Span{r.Verdict, r.Style} }},
		{"GREW", true, func(r *Finding) Span { return Span{Text: r.Grew} }},
		{"PER MIN", true, func(r *Finding) Span { return Span{Text: r.PerMinute} }},
		{"RESIDENT", true, func(r *Finding) Span { return Span{Text: r.Resident} }},
		{"MAPPED", true, func(r *Finding) Span { return Span{Text: r.Mapped} }},
		{"ALIVE", true, func(r *Finding) Span { return Span{Text: r.Alive} }},
		{"TREND", false, func(r *Finding) Span { return Span{Text: r.Trend(long, f.ASCII)} }},
		{"WHAT", false, func(r *Finding) Span { return Span{Text: r.What} }},
	}
	switch {
	case f.Width >= Broad:
	case f.Width >= narrow:
		columns = slices.Delete(columns, 4, 6) // MAPPED, ALIVE
		columns[4].cell = func(r *Finding) Span { return Span{Text: r.Trend(short, f.ASCII)} }
	default:
		columns = []column[Finding]{columns[0], columns[2], columns[7]}
	}
	return rowsOf(f, columns, rows)
}

func others(f Form, rows []Process) []Line {
	columns := []column[Process]{
		{"PROCESS", false, func(r *Process) Span { return Span{Text: r.Name} }},
		{"VERDICT", false, func(r *Process) Span { return Span{r.Verdict, r.Style} }},
		{"PER MIN", true, func(r *Process) Span { return Span{Text: r.PerMinute} }},
		{"WHAT", false, func(r *Process) Span { return Span{Text: r.What} }},
	}
	if f.Width < narrow {
		columns = columns[:3]
	}
	return rowsOf(f, columns, rows)
}

func padRight(s string, n int) string { return s + strings.Repeat(" ", max(n-width(s), 0)) }

func padLeft(s string, n int) string { return strings.Repeat(" ", max(n-width(s), 0)) + s }
