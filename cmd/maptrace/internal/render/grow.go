package render

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
)

// Growth is what is to be said of one address space that was watched.
type Growth struct {
	attribution.Process
	Accuracy string // how far its tree can be trusted
	PerfMap  bool   // its JIT compiler gives the names of its functions
}

// GrowthOptions say how a report is written. The zero value has every row of what grows,
// whole stacks, and lines of any length.
type GrowthOptions struct {
	Most   int  // groups that are listed of each process and cgroup; 0 for all
	All    bool // list those that do not grow as well
	Frames int  // of a stack; 0 for all, NoStacks for no stacks
	ASCII  bool // trends without block characters, as nothing else has them but names
	Width  int  // columns of the terminal: text is folded, rows are cut; 0 for neither

	Interrupted bool // somebody has ended the watch, as by ^C
}

// NoStacks leaves out the stacks behind what grows.
const NoStacks = -1

// WriteGrowth writes what grow found: the answer, then process by process, the worst first,
// what there is to see of it, what several processes have together before that. Processes
// in which nothing grows have a line each, or one together if they are many. What is known
// of how the watch went is written by notes, and after it the answer again.
func WriteGrowth(w io.Writer, groups []attribution.Group, all []Growth, o GrowthOptions, notes func(io.Writer) error) error {
	r := &growthReport{GrowthOptions: o}
	said := answer(groups, all, o.Interrupted)
	r.answer(said)
	for i := range groups {
		r.group(&groups[i])
	}
	r.processes(all)
	if _, err := w.Write(r.b); err != nil {
		return err
	}
	if err := notes(w); err != nil {
		return err
	}
	r.b = r.b[:0]
	if len(said) > 0 && slices.ContainsFunc(all, func(g Growth) bool { return g.Grows() }) {
		r.b = append(r.b, '\n')
		r.sentence("next " + said[0].next)
		r.sentence(said[0].sentence)
	}
	_, err := w.Write(r.b)
	return err
}

// fold breaks text into lines of at most width columns, those after the first with an indent;
// with no width it is one line.
func fold(text string, width, indent int) string {
	if width <= 0 {
		return text
	}
	return strings.Join(tui.Wrap(text, width, indent, false), "\n")
}

// growthReport is a report that is being written.
type growthReport struct {
	GrowthOptions
	b []byte
}

func (r *growthReport) printf(format string, args ...any) { r.b = fmt.Appendf(r.b, format, args...) }

// text appends a line, folded to the terminal's width.
func (r *growthReport) text(text string, indent int) {
	r.b = append(append(r.b, fold(text, r.Width, indent)...), '\n')
}

// note appends a line below an empty one.
func (r *growthReport) note(text string) {
	r.b = append(r.b, '\n')
	r.text(text, 0)
}

// answer appends what a person reads first.
func (r *growthReport) answer(all []statement) {
	for i, t := range all[:min(len(all), mostTold)] {
		r.sentence(t.sentence)
		if t.why != "" {
			r.sentence("why " + t.why)
		}
		if i == 0 {
			r.sentence("next " + t.next)
		}
	}
	if n := len(all) - mostTold; n > 0 {
		r.printf("%s and %d more\n", tui.Dots(r.ASCII), n)
	}
}

// sentence appends text whose first word has a column of its own.
func (r *growthReport) sentence(text string) {
	const column = 6
	word, rest, _ := strings.Cut(text, " ")
	r.text(fmt.Sprintf("%-*s %s", column-1, word, rest), column)
}

// processes appends what there is to see of each process.
func (r *growthReport) processes(all []Growth) {
	const few = 3
	quiet, more := 0, int64(0)
	for i := range all {
		if all[i].quiet() {
			quiet++
			more += all[i].more()
		}
	}
	told := 0
	for i := range all {
		g := &all[i]
		if g.quiet() && quiet > few {
			if told++; told == 1 {
				r.printf("\n%s: nothing grew", units.Count(uint64(quiet), otherProcess(quiet < len(all))))
				if more > 0 {
					r.printf(" to the end, but there are %s more than at their first looks", units.Bytes(float64(more)))
				}
				r.b = append(r.b, '\n')
			}
			continue
		}
		if i == 0 || g.Grows() || all[i-1].Grows() {
			r.b = append(r.b, '\n')
		}
		switch head := g.head(); {
		case g.Uncounted != "":
			r.text(head+"; its resident memory cannot be counted: "+table.Escape(g.Uncounted), 2)
		case len(all) > 1 && g.quiet() && g.more() > 0:
			r.text(fmt.Sprintf("%s; nothing grew to the end, but there are %s more than at the first look", head, units.Bytes(float64(g.more()))), 2)
		case len(all) > 1 && g.quiet():
			r.text(head+"; nothing grew", 2)
		default:
			r.text(head, 2)
			r.findings(g)
		}
	}
}

// quiet tells whether there is nothing to be said of a process.
func (g *Growth) quiet() bool { return g.Uncounted == "" && !g.Grows() && len(g.Refused) == 0 }

// otherProcess is what processes are called that others are listed beside.
func otherProcess(other bool) string {
	if other {
		return "other process"
	}
	return "process"
}

// group appends what several processes have together.
func (r *growthReport) group(g *attribution.Group) {
	if g.Name == "" {
		r.printf("\nAll %s, %d at first", units.Count(uint64(g.Now), "process"), g.Before)
	} else {
		r.printf("\nCgroup %s", table.Escape(g.Name))
	}
	r.printf(": watched for %s, %d looks\n", units.Span(g.Watched), g.Ticks)
	if g.Name != "" {
		r.charges(g)
	}
	if !g.Grows() {
		return
	}
	r.rows(g.Findings)
	if len(g.Files) > 0 {
		r.b = append(r.b, "\nOf files that are open there is more in the page cache:\n"...)
	}
	for _, f := range g.Files {
		r.printf("  %s %s", units.Change(float64(f.Grown)), table.Escape(f.Path))
		if f.Dirty > 0 {
			r.printf(" (%s not written back)", units.Bytes(float64(f.Dirty)))
		}
		r.b = append(r.b, '\n')
	}
	for f := range pointers(g.Findings) {
		r.stacks(f)
	}
}

// rows appends the table of findings, without those that are no more than they were unless
// all are asked for.
func (r *growthReport) rows(all []attribution.Finding) {
	var found []attribution.Finding
	for _, f := range all {
		if r.All || f.Label >= growth.Plateau || f.Label > growth.Steady && f.Growth >= tui.LeastMove {
			found = append(found, f)
		}
	}
	if r.Most > 0 && !r.All && len(found) > r.Most {
		found = found[:r.Most]
	}
	if len(found) > 0 {
		written := make([]tui.Finding, len(found))
		for i := range found {
			written[i] = row(&found[i])
		}
		rows := table.NewAligned(r.columns(found))
		rows.Fit(pointers(written))
		r.b = append(r.b, '\n')
		begin := len(r.b)
		r.b = rows.AppendHeader(r.b)
		for f := range pointers(written) {
			r.b = rows.AppendRow(r.b, f)
		}
		r.cut(begin)
	}
	if n := len(all) - len(found); n > 0 && len(found) > 0 {
		r.printf("%s and %d more, none of them worse (--all)\n", tui.Dots(r.ASCII), n)
	}
}

// cut makes the lines from a place on fit the terminal.
func (r *growthReport) cut(begin int) {
	if r.Width <= 0 {
		return
	}
	var out []byte
	for line := range strings.Lines(string(r.b[begin:])) {
		out = append(append(out, tui.Cut(strings.TrimSuffix(line, "\n"), r.Width, r.ASCII)...), '\n')
	}
	r.b = append(r.b[:begin], out...)
}

// charges appends what a cgroup is charged for, by its kinds.
func (r *growthReport) charges(g *attribution.Group) {
	size := func(n uint64) string { return units.Bytes(float64(n)) }
	b := fmt.Appendf(nil, "%s are charged to it, %s at first", size(g.Last.Used), size(g.First.Used))
	if g.Last.Max != procmaps.Unlimited {
		b = fmt.Appendf(b, ", of %s", size(g.Last.Max))
	}
	b = appendKinds(b, ":", []charge{
		{"anonymous", g.First.Anon, g.Last.Anon},
		{"page cache", g.First.File, g.Last.File},
		{"shared memory and tmpfs", g.First.Shmem, g.Last.Shmem},
		{"kernel", g.First.Kernel, g.Last.Kernel},
		{"sockets", g.First.Sock, g.Last.Sock},
	})
	if g.First.Swap+g.Last.Swap > 0 {
		b = fmt.Appendf(b, "; swapped out %s (%s)", size(g.Last.Swap), units.Change(float64(g.Last.Swap)-float64(g.First.Swap)))
	}
	r.text(string(b), 2)
	if n := g.Elsewhere.Anon; n > 0 {
		r.text(fmt.Sprintf("%s of the anonymous memory are of none of the processes that are watched", size(n)), 2)
	}
	if n := g.Elsewhere.Shmem; n > 0 {
		r.text(fmt.Sprintf("%s of the shared memory and tmpfs are of none of the processes that are watched, as files are that none has mapped or open", size(n)), 2)
	}
}

// more is by how much the process has grown by the kernel's figures, 0 if that is little.
func (g *Growth) more() int64 {
	const least, part = 1 << 20, 100
	if a := g.Account; a != nil && a.Grown >= max(least, int64(a.First.Total())/part) {
		return a.Grown
	}
	return 0
}

// head says which process it is, and how well it was watched.
func (g *Growth) head() string {
	ended := ""
	if g.Exited {
		ended = ", ended"
	}
	return fmt.Sprintf("Process %d%s (%s)%s: watched for %s, %d looks, accuracy: %s",
		g.PID, inside(g.NSPID), table.Escape(g.Name()), ended, units.Span(g.Watched), g.Ticks, table.Escape(g.Accuracy))
}

// findings appends what there is to see of a process: its account, the groups that grow, and
// the stacks behind them.
func (r *growthReport) findings(g *Growth) {
	r.account(g.Account)
	r.malloc(g.Malloc)
	r.rows(g.Findings)
	for i := range g.Refused {
		r.refused(&g.Refused[i])
	}
	listed := g.Findings
	if r.Most > 0 && len(listed) > r.Most {
		listed = listed[:r.Most]
	}
	for f := range pointers(listed) {
		if r.All || !f.Minor(&g.Findings[0]) { // as sentences are told
			r.stacks(f)
		}
	}
	unknown := slices.ContainsFunc(g.Findings, func(f attribution.Finding) bool { return unknownKeeper(&f) })
	if unknown && g.Unwatched != "" {
		to := ""
		if slices.ContainsFunc(g.Findings, func(f attribution.Finding) bool { return f.Words > 0 }) {
			to = " to the end"
		}
		r.note(fmt.Sprintf("Who keeps memory that many share was not watched%s: %s", to, table.Escape(g.Unwatched)))
	}
	if unknown && g.HeapUnsampled != "" {
		r.note("Blocks of heaps were not sampled: " + table.Escape(g.HeapUnsampled))
	}
	if g.Estimated {
		r.note(fmt.Sprintf("Of so many calls, stacks were taken of a random sample: %s came without. What is there of it was counted, and is shared out among the sites of calls like them.",
			units.Bytes(float64(g.Unsampled))))
	}
}

// pointers yields the address of each element.
func pointers[T any](all []T) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range all {
			if !yield(&all[i]) {
				return
			}
		}
	}
}

// columns are those of the table of findings: of swap only if there is some, and on a
// narrow terminal without those that explain least.
func (r *growthReport) columns(found []attribution.Finding) []table.Column[*tui.Finding] {
	column := func(name string, align table.Align, value func(*tui.Finding) string) table.Column[*tui.Finding] {
		return table.Column[*tui.Finding]{Name: name, Align: align, Value: func(f *tui.Finding) table.Value { return table.Text(value(f)) }}
	}
	const long, short = 20, 8 // of a trend
	width, narrow := long, r.Width > 0 && r.Width < tui.Broad
	if narrow {
		width = short
	}
	columns := []table.Column[*tui.Finding]{
		column("VERDICT", table.Left, func(f *tui.Finding) string { return f.Verdict }),
		column("GREW", table.Right, func(f *tui.Finding) string { return f.Grew }),
		column("PER MIN", table.Right, func(f *tui.Finding) string { return f.PerMinute }),
		column("RESIDENT", table.Right, func(f *tui.Finding) string { return f.Resident }),
	}
	if slices.ContainsFunc(found, func(f attribution.Finding) bool { return f.Peak.Swapped > 0 }) {
		columns = append(columns, column("SWAPPED", table.Right, func(f *tui.Finding) string { return f.Swapped }))
	}
	if !narrow {
		columns = append(columns,
			column("MAPPED", table.Right, func(f *tui.Finding) string { return f.Mapped }),
			column("ALIVE", table.Right, func(f *tui.Finding) string { return f.Alive }))
	}
	return append(columns,
		column("TREND", table.Left, func(f *tui.Finding) string { return f.Trend(width, r.ASCII) }),
		column("WHAT", table.Left, func(f *tui.Finding) string { return table.Escape(f.What) }))
}

// row is a finding as it is written.
func row(f *attribution.Finding) tui.Finding {
	size := func(n uint64) string { return units.Bytes(float64(n)) }
	row := tui.Finding{
		Verdict: f.Label.String(), Style: style(f.Label),
		Grew: units.Change(f.Growth), PerMinute: units.Change(f.Slope * 60),
		Resident: size(f.Last.Resident), Swapped: size(f.Last.Swapped), Mapped: size(f.Last.Mapped), Alive: "-",
		What: subject(f), Least: tui.LeastMove,
	}
	if f.Measure == growth.Mappings {
		row.Grew, row.PerMinute, row.Least = fmt.Sprintf("%+.0f maps", f.Growth), fmt.Sprintf("%+.0f maps", f.Slope*60), 1
	}
	if f.Label == growth.Plateau { // what it grew by in all says nothing of now
		row.PerMinute = "-"
	}
	if f.Label == growth.Steady {
		row.Least = math.Inf(1) // of what is steady there is no course
	}
	if f.AliveOf > 0 {
		row.Alive = units.Percent(f.AliveShare)
	}
	for _, p := range f.Series {
		row.Series = append(row.Series, p.High.Of(f.Measure))
	}
	return row
}

// charge is how much of a kind is charged, at first and at last, in bytes.
type charge struct {
	name        string
	first, last uint64
}

// appendKinds appends those kinds of which there is or was some, after what begins the list.
func appendKinds(b []byte, of string, kinds []charge) []byte {
	for _, kind := range kinds {
		if kind.first == 0 && kind.last == 0 {
			continue
		}
		b = fmt.Appendf(b, "%s %s %s", of, kind.name, units.Bytes(float64(kind.last)))
		if kind.last != kind.first {
			b = fmt.Appendf(b, " (%s)", units.Change(float64(kind.last)-float64(kind.first)))
		}
		of = ","
	}
	return b
}

// account appends what a process is charged for.
func (r *growthReport) account(a *attribution.Account) {
	if a == nil {
		return
	}
	first, last := kinds(attribution.ChargesOf(&a.First)), kinds(attribution.ChargesOf(&a.Last))
	var all []charge
	for i, name := range kindNames {
		all = append(all, charge{name, first[i], last[i]})
	}
	b := appendKinds(nil, "", all)
	const worth = 256 << 10 // bytes: the kernel's own figures are not more exact
	if a.Grown >= worth || a.Grown <= -worth {
		b = fmt.Appendf(b, "; of %s in all the rows explain %s", units.Change(float64(a.Grown)), units.Change(float64(a.Explained)))
	}
	if a.Last.Partial {
		b = append(b, "; not all of its descriptors were looked at"...)
	}
	r.text(string(bytes.TrimSpace(b)), 2)
}

// refusal says which calls were refused memory, who has made them, and by which limit.
func refusal(r *attribution.Refused) string {
	var b strings.Builder
	b.WriteString(r.Op.String())
	if r.Bytes > 0 {
		b.WriteString(" of " + units.Bytes(float64(r.Bytes)))
	}
	fmt.Fprintf(&b, " was refused %s (ENOMEM)", often(r.Calls))
	if r.By.Full != "" {
		b.WriteString(", asked for by " + r.By.Short)
	}
	if len(r.Limits) == 0 {
		b.WriteString(": no limit is known to be reached")
	}
	for i, l := range r.Limits {
		before := ": reached is "
		if i > 0 {
			before = ", or "
		}
		b.WriteString(before + l.Name + ", " + used(&l))
	}
	return table.Escape(b.String())
}

// used is how much of a limit is used.
func used(l *growth.Limit) string {
	if l.Measure == growth.Mappings {
		return fmt.Sprintf("%d of %d", l.Used, l.Max)
	}
	return units.Bytes(float64(l.Used)) + " of " + units.Bytes(float64(l.Max))
}
