package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/space"
)

// liveRow is a row of the table of a live tree.
type liveRow struct {
	space.Region
	delta int64
	gone  bool
}

// liveColumns are pmap's, with what changed since the start.
func liveColumns(paths bool) []table.Column[liveRow] {
	return []table.Column[liveRow]{
		{Name: "Address", Width: 16, Value: func(r liveRow) table.Value {
			return table.Text(fmt.Sprintf("%016x", r.Start))
		}},
		{Name: "Kbytes", Align: table.Right, Width: 8, Sum: true, Value: func(r liveRow) table.Value {
			if r.gone {
				return table.Uint(0)
			}
			return table.Uint(r.Len() >> 10)
		}},
		{Name: "Delta", Align: table.Right, Width: 8, Sum: true, Value: func(r liveRow) table.Value {
			return table.Int(r.delta >> 10)
		}, Format: table.FormatChange},
		{Name: "Ops", Align: table.Right, Width: 6, Value: func(r liveRow) table.Value {
			return table.Uint(r.Ops)
		}},
		{Name: "Mode", Width: 5, Value: func(r liveRow) table.Value {
			return table.Text(r.Mode.String())
		}},
		{Name: "Mapping", Value: func(r liveRow) table.Value {
			name := Name(r.Name, paths)
			if r.gone {
				name += " (gone)"
			}
			return table.Text(name)
		}},
	}
}

// TableOptions say how a table is written. The zero value has the rows that have changed.
type TableOptions struct {
	Paths bool // whole paths instead of their last element
	All   bool // the rows that are as at first, too
	Brief bool // a line for a table in which nothing has changed
}

// WriteTable writes the pmap-style table of one address space, from its tree:
// what is mapped, what of that was not when tracing it began, and what is gone. Rows that
// are as they were then are only counted, unless all are asked for.
func WriteTable(w io.Writer, r *tracer.SpaceReport, tree *space.Space, clock Clock, o TableOptions) error {
	snap := tree.Snapshot()
	diff := space.Diff(r.Start.Snapshot(), snap)
	rows := make([]liveRow, 0, len(snap.Regions)+len(diff.Gone))
	for i, m := range snap.Regions {
		if m.Kind == 0 {
			continue
		}
		rows = append(rows, liveRow{Region: m, delta: int64(diff.New[i])})
	}
	for _, m := range diff.Gone {
		m.Ops = 0
		rows = append(rows, liveRow{Region: m, delta: -int64(m.Len()), gone: true})
	}
	slices.SortStableFunc(rows, func(a, b liveRow) int { return cmp.Compare(a.Start, b.Start) })

	var b []byte
	b = fmt.Appendf(b, "%d%s:   %s", r.Process.PID, inside(r.Process.Inner), table.Escape(r.Process.Comm))
	if r.Process.Exited {
		b = fmt.Appendf(b, " (exited, %s)", r.Process.ExitText())
	}
	b = fmt.Appendf(b, "  since %s, %s\n", clock.Text(r.Began), table.Escape(r.Picture.Line(clock.Text)))
	head := len(b)
	a := table.NewAligned(liveColumns(o.Paths))
	b = a.AppendHeader(b)
	began := make(map[procmaps.Mapping]bool)
	for _, m := range r.Start.Snapshot().Regions {
		began[m.Mapping] = true
	}
	same := uint64(0)
	for _, row := range rows {
		end := len(b)
		b = a.AppendRow(b, row) // the totals are of all
		if !o.All && !row.gone && row.delta == 0 && began[row.Mapping] {
			b = b[:end]
			same++
		}
	}
	if n := uint64(len(rows)); o.Brief && n > 0 && n == same {
		b = fmt.Appendf(b[:head], "%s, %s in all, are as at first: --all lists them\n", units.Count(n, "row"), units.Bytes(float64(snap.Totals.Mapped)))
		_, err := w.Write(b)
		return err
	}
	b = a.AppendRule(b)
	b = a.AppendTotals(b, "total kB")
	if same > 0 {
		b = fmt.Appendf(b, "%s as at first: --all lists them\n", isOrAre(same, "row"))
	}
	_, err := w.Write(b)
	return err
}

// isOrAre is a number of things that something is said of.
func isOrAre(n uint64, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return units.Count(n, what) + " are"
}

// WriteSummary writes the figures of a run, in the words that docs/figures.md explains.
func WriteSummary(w io.Writer, r *tracer.Report, untracked uint64, clock Clock) error {
	s := &r.Stats
	var b strings.Builder
	fmt.Fprintf(&b, "events %d", s.Calls+s.Polled)
	for i, c := range s.ByOp() {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s %d", sep, c.Name, c.N)
	}
	fmt.Fprintf(&b, "\nfailed %d, fork %d, exec %d, exit %d, processes %d\n", s.Failed, s.Forks, s.Execs, s.Exits, s.Processes)
	if r.Polling > 0 {
		fmt.Fprintf(&b, "looks %d\n", s.Looks)
	} else {
		fmt.Fprintf(&b, "sections %d, missed %d, other %d, late %d, re-reads %d, audits %d\n",
			s.Sections, s.Missed, s.Others, s.Late, s.Rereads, s.Audits)
		fmt.Fprintf(&b, "lost %d, drift %d, violations %d\n", s.Lost, s.Drift, s.Violations)
	}
	if s.Unverified > 0 {
		fmt.Fprintf(&b, "unverified %d: address spaces that audits could not compare all of%s\n", s.Unverified, unverified(r))
	}
	if s.Unaudited > 0 {
		fmt.Fprintf(&b, "unaudited %d: address spaces that no audit has compared: they ended too soon\n", s.Unaudited)
	}
	if s.Suppressed > 0 {
		fmt.Fprintf(&b, "suppressed %d: further calls, which seccomp gave a result without executing them\n", s.Suppressed)
	}
	if s.Skipped > 0 {
		fmt.Fprintf(&b, "skipped %d: runs of maptrace's programs that the kernel left out, for any process\n", s.Skipped)
	}
	if untracked > 0 {
		fmt.Fprintf(&b, "untracked %d: processes or address spaces beyond what the kernel side holds\n", untracked)
	}
	if s.Unkept > 0 {
		fmt.Fprintf(&b, "unkept %d: address spaces of which nothing is known, as all have too many mappings: --memory was reached\n", s.Unkept)
	}
	if s.Coarsened > 0 {
		fmt.Fprintf(&b, "coarsened %d: address spaces with so many extents that neighbours were made one: --memory was reached\n", s.Coarsened)
	}
	if r.NotKept > 0 {
		fmt.Fprintf(&b, "%d exited processes are counted here, but their tables were not kept\n", r.NotKept)
	}
	ordering := "commit, by time (this kernel does not number sections: no proof that none was missed)"
	switch r.Ordering {
	case "section":
		ordering = "commit, by section of the mmap lock"
	case "polling":
		ordering = tracer.Unseen(r.Polling)
	}
	fmt.Fprintf(&b, "ordering: %s\naccuracy: %s\n", ordering, table.Escape(r.Picture.Line(clock.Text)))
	_, err := io.WriteString(w, b.String())
	return err
}

// unverified says which memory audits could not compare, of those address spaces that
// there is a table of.
func unverified(r *tracer.Report) string {
	var b strings.Builder
	for i := range r.Spaces {
		if sp := &r.Spaces[i]; sp.Unverified.Bytes > 0 {
			fmt.Fprintf(&b, "\n  %d%s (%s): %s", sp.Process.PID, inside(sp.Process.Inner), table.Escape(sp.Process.Comm), sp.Unverified)
		}
	}
	return b.String()
}
