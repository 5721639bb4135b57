package render

import (
	"fmt"
	"strconv"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
)

// Who is a process as one is named beside others.
func Who(pid int, name string) string { return strconv.Itoa(pid) + " " + table.Escape(name) }

// LiveGrowth makes what is seen of grow of a view, while it watches; nil is one that there
// is not yet. It is for one watch, and keeps how what is charged has changed from one view
// to the next.
type LiveGrowth struct {
	courses map[uint64]*course // by address space
}

// course are the charges of an address space, one of each view.
type course struct {
	values [classes][]float64
	view   *attribution.View // the last
}

// classes is how many kinds there are that memory is charged as.
const classes = 6

// longestCourse is how many values are kept of a course, each of as many views as needed.
const longestCourse = 512

// kinds are the kinds of memory that are charged, as [attribution.Charges] has them.
func kinds(c attribution.Charges) [classes]uint64 {
	return [...]uint64{c.Anon, c.File, c.Shmem, c.Swapped, c.PageTables, c.Hugetlb}
}

var kindNames = [classes]string{"anonymous", "files", "shared memory", "swapped out", "page tables", "hugetlb"}

func (c *course) add(charges *attribution.Charges) {
	for i, v := range kinds(*charges) {
		values := append(c.values[i], float64(v))
		if len(values) > longestCourse {
			for k := range len(values) / 2 {
				values[k] = max(values[2*k], values[2*k+1])
			}
			values = values[:len(values)/2]
		}
		c.values[i] = values
	}
}

// Look takes a view.
func (l *LiveGrowth) Look(head tui.Head, v *attribution.View) *tui.Grow {
	g := &tui.Grow{Head: head, Sentence: "watching; what grows is seen after a few seconds"}
	if v == nil || len(v.Processes) == 0 {
		return g
	}
	l.keep(v)
	worst := &v.Processes[0]
	g.Sentence, g.Style = SoFar(worst)
	if len(v.Processes) > 1 {
		g.Sentence = Who(worst.PID, worst.Name) + ": " + g.Sentence
	}
	g.Account = l.account(worst)
	for i := range worst.Findings {
		if f := &worst.Findings[i]; f.Label >= growth.Plateau {
			g.Findings = append(g.Findings, row(f))
		}
	}
	for i := range v.Processes[1:] {
		p := &v.Processes[1+i]
		other := tui.Process{Name: Who(p.PID, p.Name), Finding: tui.Finding{Verdict: growth.Steady.String(), PerMinute: "-"}}
		if p.Exited {
			other.Name += ", ended"
		}
		if f := p.Worst(); f != nil && f.Label >= growth.Plateau {
			other.Finding = row(f)
		}
		g.Others = append(g.Others, other)
	}
	return g
}

// keep adds a view to the courses, and forgets those of what is not there any more.
func (l *LiveGrowth) keep(v *attribution.View) {
	if l.courses == nil {
		l.courses = make(map[uint64]*course)
	}
	for i := range v.Processes {
		p := &v.Processes[i]
		if p.Last == (attribution.Charges{}) {
			continue
		}
		c := l.courses[p.Space]
		if c == nil {
			c = new(course)
			l.courses[p.Space] = c
		}
		if c.view != v {
			c.view = v
			c.add(&p.Last)
		}
	}
	for id, c := range l.courses {
		if c.view != v {
			delete(l.courses, id)
		}
	}
}

// account are the kinds of which there is or was some.
func (l *LiveGrowth) account(p *attribution.ProcessView) (out []tui.Class) {
	first, last := kinds(p.First), kinds(p.Last)
	for i := range classes {
		if first[i] == 0 && last[i] == 0 {
			continue
		}
		c := tui.Class{Name: kindNames[i], Bytes: last[i], Grown: int64(last[i]) - int64(first[i])}
		if course := l.courses[p.Space]; course != nil {
			c.Series = append(c.Series, course.values[i]...) // it goes on
		}
		out = append(out, c)
	}
	return out
}

// SoFar is what is to be said of a process while it is watched, and how bad that is.
func SoFar(p *attribution.ProcessView) (string, tui.Style) {
	if f := p.Worst(); f != nil && f.Label >= growth.Plateau {
		return Sentence(f), style(f.Label)
	}
	var grown int64
	first, last := kinds(p.First), kinds(p.Last)
	for i := range classes {
		grown += int64(last[i]) - int64(first[i])
	}
	more := ""
	if grown > 0 {
		more = fmt.Sprintf("%s more than %s ago: ", units.Bytes(float64(grown)), units.Span(p.Watched))
	}
	switch {
	case p.Ticks < fewLooks:
		return more + "too short to judge", tui.Plain
	case grown > 0:
		return more + "none of it goes on growing", tui.Plain
	}
	return "nothing has grown so far", tui.Plain
}

// style is how bad a verdict is.
func style(l growth.Label) tui.Style {
	switch l {
	case growth.Leaks:
		return tui.Bad
	case growth.Grows, growth.Retained:
		return tui.Warn
	}
	return tui.Plain
}
