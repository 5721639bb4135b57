package render

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
)

// Growth is what is to be said of one address space that was watched.
type Growth struct {
	attribution.Process
	Accuracy string // how far its tree can be trusted
}

// Sentence is what a person reads first of a finding.
func Sentence(f *attribution.Finding) string {
	var b strings.Builder
	b.WriteString(subject(f))
	if f.Keeper().Full != "" {
		fmt.Fprintf(&b, " (confidence %s)", units.Percent(f.Confidence()))
	}
	if k := f.LastWriter(); k != nil {
		fmt.Fprintf(&b, ", last written by %s (%s, by %d words that stayed),", k.By.Short, units.Percent(k.Share), f.Words)
	} else if who, share := f.Toucher(); who.Full != "" {
		fmt.Fprintf(&b, ", touched by %s (%s),", who.Short, units.Percent(share))
	}
	if f.SplitBy.Full != "" {
		fmt.Fprintf(&b, ", split by %s,", f.SplitBy.Short)
	}
	fmt.Fprintf(&b, " %s: %s", reason(&f.Finding), f.Label)
	if f.Limit != nil && f.Label >= growth.Retained {
		b.WriteString("; " + limit(f.Limit))
	}
	if unknownKeeper(f) {
		b.WriteString("; who keeps it is not known: " + decided(f))
	}
	return table.Escape(b.String())
}

// limit says which limit is reached, and when.
func limit(r *attribution.Reached) string { return fmt.Sprintf("%s in %s", r.Name, units.Span(r.In)) }

// subject is what the memory is, and who is blamed for it.
func subject(f *attribution.Finding) string {
	switch {
	case f.Blamed().Full == "":
		return f.Subject
	case f.Shared:
		return f.Subject + " kept by " + f.Blamed().Short
	}
	return f.Subject + " from " + f.Blamed().Short
}

// unknownKeeper tells whether memory grows that many share, and nobody can be named.
func unknownKeeper(f *attribution.Finding) bool {
	return f.Shared && f.Label >= growth.Grows && f.Blamed().Full == "" && !f.ByKernel() && f.Measure.OfMemory()
}

// decided is how much is known of who keeps memory that many share.
func decided(f *attribution.Finding) string {
	if f.BySample() {
		return sampled(f.Heap)
	}
	if f.Decided == 0 {
		return "no watched word of it was decided"
	}
	said := fmt.Sprintf("of %s %d stayed", units.Count(f.Decided, "watched word"), f.Words)
	if f.Moved > 0 {
		said += fmt.Sprintf(", %d of them moved by a garbage collector", f.Moved)
	}
	return said
}

// fewLooks is how many looks are too few for every verdict, the warm-up counted.
const fewLooks = 15

// sparkWidth is how many characters a trend has.
const sparkWidth = 20

// trend is the course of a finding's measure.
func trend(f *attribution.Finding, ascii bool) string {
	values := make([]float64, len(f.Series))
	for i, p := range f.Series {
		values[i] = p.High.Of(f.Measure)
	}
	return sparkline(values, sparkWidth, ascii)
}

// NoStacks leaves out the stacks behind what grows.
const NoStacks = -1

// WriteGrowthReports writes what grow found, process by process, the worst first.
// Most bounds the findings that are listed of each, frames those of a stack; 0 for
// no bound, and [NoStacks] for no stacks. Of several processes, those where nothing grows
// have a line each, or one together if they are many. With ascii, trends are drawn without
// block characters, and nothing else but names from the process has others either. What
// several processes have together comes first.
func WriteGrowthReports(w io.Writer, groups []attribution.Group, all []Growth, most, frames int, ascii bool) error {
	var b []byte
	for i := range groups {
		b = append(appendGroup(b, &groups[i], most, frames, ascii), '\n')
	}
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
			if told++; told > 1 {
				continue
			}
			if i > 0 {
				b = append(b, '\n')
			}
			b = fmt.Appendf(b, "%s: nothing was seen to grow in any of them", units.Count(uint64(quiet), otherProcess(quiet < len(all))))
			if more > 0 {
				b = fmt.Appendf(b, " to the end, but there are %s more than at their first looks", units.Bytes(float64(more)))
			}
			b = append(b, '\n')
			continue
		}
		if i > 0 && (g.Grows() || all[i-1].Grows()) {
			b = append(b, '\n')
		}
		b = g.appendHead(b)
		if g.Uncounted != "" {
			b = fmt.Appendf(b, ": nothing can be said, as its resident memory cannot be counted: %s\n", table.Escape(g.Uncounted))
			continue
		}
		if len(all) > 1 && g.quiet() {
			b = append(b, ": nothing was seen to grow\n"...)
			continue
		}
		b = g.appendFindings(append(b, "\n\n"...), most, frames, ascii)
	}
	if len(all) == 0 {
		b = append(b, "No process was there for long enough to be looked at.\n"...)
	}
	_, err := w.Write(b)
	return err
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

// appendGroup appends what several processes have together.
func appendGroup(b []byte, g *attribution.Group, most, frames int, ascii bool) []byte {
	if g.Name == "" {
		b = fmt.Appendf(b, "All %s, %d at first", units.Count(uint64(g.Now), "process"), g.Before)
	} else {
		b = fmt.Appendf(b, "Cgroup %s", table.Escape(g.Name))
	}
	b = fmt.Appendf(b, ": watched for %s, %d looks\n", units.Span(g.Watched), g.Ticks)
	if g.Name != "" {
		b = append(appendCharges(b, g), '\n')
	}
	if g.Grows() {
		b = append(b, '\n')
	}
	found := g.Findings
	if most > 0 && len(found) > most {
		found = found[:most]
	}
	for i := range found {
		if found[i].Label >= growth.Retained {
			b = append(append(b, Sentence(&found[i])...), '\n')
		}
	}
	if !g.Grows() {
		return b
	}
	b = appendRows(append(b, '\n'), found, ascii)
	if len(g.Files) > 0 {
		b = append(b, "\nOf files that are open there is more in the page cache:\n"...)
	}
	for _, f := range g.Files {
		b = fmt.Appendf(b, "  %s %s", units.Change(float64(f.Grown)), table.Escape(f.Path))
		if f.Dirty > 0 {
			b = fmt.Appendf(b, " (%s not written back)", units.Bytes(float64(f.Dirty)))
		}
		b = append(b, '\n')
	}
	for f := range pointers(found) {
		b = appendStacks(b, f, frames, ascii)
	}
	return b
}

// appendRows appends the table of findings.
func appendRows(b []byte, found []attribution.Finding, ascii bool) []byte {
	rows := table.NewAligned(growthColumns(found, ascii))
	rows.Fit(pointers(found))
	b = rows.AppendHeader(b)
	for f := range pointers(found) {
		b = rows.AppendRow(b, f)
	}
	return b
}

// appendCharges appends what a cgroup is charged for, by its kinds.
func appendCharges(b []byte, g *attribution.Group) []byte {
	size := func(n uint64) string { return units.Bytes(float64(n)) }
	b = fmt.Appendf(b, "%s are charged to it, %s at first", size(g.Last.Used), size(g.First.Used))
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
	if n := g.Elsewhere.Anon; n > 0 {
		b = fmt.Appendf(b, "\n%s of the anonymous memory are of none of the processes that are watched", size(n))
	}
	if n := g.Elsewhere.Shmem; n > 0 {
		b = fmt.Appendf(b, "\n%s of the shared memory and tmpfs are of none of the processes that are watched, as files are that none has mapped or open", size(n))
	}
	return b
}

// WriteCulprit writes the code to blame for the worst of what grows in each process, in
// a line of its own; nothing where it is not known.
func WriteCulprit(w io.Writer, all []Growth) error {
	var b []byte
	for i := range all {
		if g := &all[i]; g.Grows() && g.Findings[0].Blamed().Full != "" {
			b = fmt.Appendf(b, "\nCulprit: %s\n", table.Escape(g.Findings[0].Blamed().Short))
		}
	}
	_, err := w.Write(b)
	return err
}

// more is by how much the process has grown by the kernel's figures, 0 if that is little.
func (g *Growth) more() int64 {
	const least, part = 1 << 20, 100
	if a := g.Account; a != nil && a.Grown >= max(least, int64(a.First.Total())/part) {
		return a.Grown
	}
	return 0
}

func (g *Growth) appendHead(b []byte) []byte {
	b = fmt.Appendf(b, "Process %d%s (%s)", g.PID, inside(g.NSPID), table.Escape(g.Comm))
	if g.Exited {
		b = append(b, ", ended"...)
	}
	return fmt.Appendf(b, ": watched for %s, %d looks, tree %s", units.Span(g.Watched), g.Ticks, table.Escape(g.Accuracy))
}

func (g *Growth) appendFindings(b []byte, most, frames int, ascii bool) []byte {
	found := g.Findings
	if most > 0 && len(found) > most {
		found = found[:most]
	}
	for i := range g.Refused {
		b = append(append(b, refusal(&g.Refused[i])...), '\n')
	}
	if !g.Grows() {
		if more := g.more(); more > 0 {
			b = fmt.Appendf(b, "Nothing was seen to grow to the end, but there are %s more than at the first look.\n", units.Bytes(float64(more)))
		} else {
			b = append(b, "Nothing was seen to grow.\n"...)
		}
		if g.Ticks < fewLooks {
			b = fmt.Appendf(b, "But %d looks are few to judge by: watch for longer (--for), or look more often (--interval).\n", g.Ticks)
		}
	}
	for i := range found {
		if found[i].Label >= growth.Retained {
			b = append(append(b, Sentence(&found[i])...), '\n')
		}
	}
	b = appendRows(append(b, '\n'), found, ascii)
	if n := len(g.Findings) - len(found); n > 0 {
		b = fmt.Appendf(b, "%s and %d more, none of them worse\n", dots(ascii), n)
	}
	b = appendAccount(b, g.Account)
	b = appendMalloc(b, g.Malloc)
	for i := range g.Refused {
		b = appendRefused(b, &g.Refused[i], frames, ascii)
	}
	for i := range found {
		b = appendStacks(b, &found[i], frames, ascii)
	}
	if g.Unwatched != "" {
		to := ""
		if slices.ContainsFunc(g.Findings, func(f attribution.Finding) bool { return f.Words > 0 }) {
			to = " to the end"
		}
		b = fmt.Appendf(b, "\nWho keeps memory that many share was not watched%s: %s\n", to, table.Escape(g.Unwatched))
	}
	if g.HeapUnsampled != "" && slices.ContainsFunc(g.Findings, func(f attribution.Finding) bool { return unknownKeeper(&f) }) {
		b = fmt.Appendf(b, "\nBlocks of heaps were not sampled: %s\n", table.Escape(g.HeapUnsampled))
	}
	if g.Estimated {
		b = fmt.Appendf(b, "\nOf so many calls, stacks were taken of a random sample: %s came without. What is there of it was counted, and is shared out among the sites of calls like them.\n",
			units.Bytes(float64(g.Unsampled)))
	}
	return b
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

// growthColumns are the columns of the table of findings: of swap only if there is some.
func growthColumns(found []attribution.Finding, ascii bool) []table.Column[*attribution.Finding] {
	right := func(name string, value func(*attribution.Finding) string) table.Column[*attribution.Finding] {
		return table.Column[*attribution.Finding]{Name: name, Align: table.Right, Value: func(g *attribution.Finding) table.Value { return table.Text(value(g)) }}
	}
	left := func(name string, value func(*attribution.Finding) string) table.Column[*attribution.Finding] {
		return table.Column[*attribution.Finding]{Name: name, Value: func(g *attribution.Finding) table.Value { return table.Text(value(g)) }}
	}
	columns := []table.Column[*attribution.Finding]{
		left("VERDICT", func(g *attribution.Finding) string { return g.Label.String() }),
		right("GREW", func(g *attribution.Finding) string {
			if g.Measure == growth.Mappings {
				return fmt.Sprintf("%+.0f maps", g.Growth)
			}
			return units.Change(g.Growth)
		}),
		right("PER MIN", func(g *attribution.Finding) string {
			if g.Measure == growth.Mappings {
				return fmt.Sprintf("%+.0f maps", g.Slope*60)
			}
			return units.Change(g.Slope * 60)
		}),
		right("RESIDENT", func(g *attribution.Finding) string { return units.Bytes(float64(g.Last.Resident)) }),
		right("MAPPED", func(g *attribution.Finding) string { return units.Bytes(float64(g.Last.Mapped)) }),
		right("ALIVE", func(g *attribution.Finding) string {
			if g.AliveOf == 0 {
				return "-"
			}
			return units.Percent(g.AliveShare)
		}),
		left("TREND", func(g *attribution.Finding) string { return trend(g, ascii) }),
		left("WHAT", func(g *attribution.Finding) string { return table.Escape(subject(g)) }),
	}
	if slices.ContainsFunc(found, func(f attribution.Finding) bool { return f.Peak.Swapped > 0 }) {
		const beforeMapped = 4
		columns = slices.Insert(columns, beforeMapped, right("SWAPPED", func(g *attribution.Finding) string { return units.Bytes(float64(g.Last.Swapped)) }))
	}
	return columns
}

// dots stand for what is left out.
func dots(ascii bool) string {
	if ascii {
		return "..."
	}
	return "…"
}

// appendStacks appends the stacks behind a finding that grows.
func appendStacks(b []byte, g *attribution.Finding, frames int, ascii bool) []byte {
	if frames == NoStacks || g.Label < growth.Grows || len(g.Made)+len(g.Touched)+len(g.Kept)+len(g.Keepers)+len(g.Split) == 0 {
		return b
	}
	b = fmt.Appendf(b, "\n%s\n", table.Escape(subject(g)))
	b = appendUnknown(b, g)
	b = appendHeap(b, g, frames, ascii)
	for i, s := range g.Kept {
		if i == 0 {
			b = fmt.Appendf(b, "  last written, by %s then left alone for %s and more, by\n", units.Count(g.Words, "watched word"), units.Span(g.Settle))
		}
		b = appendCaller(b, &s, frames, ascii)
	}
	made, touched := "made by", "touched"
	if g.Shared { // neither says who keeps it
		made, touched = "was added when it was full, for", "touched first, to keep it or not"
	}
	for _, s := range g.Made {
		b = fmt.Appendf(b, "  %5s", units.Percent(s.Share))
		if s.Bytes > 0 {
			b = fmt.Appendf(b, " (%s)", units.Bytes(float64(s.Bytes)))
		}
		b = fmt.Appendf(b, " %s\n", made)
		b = appendFrames(b, &s, frames, ascii)
	}
	for i, s := range g.Split {
		if i == 0 {
			b = append(b, "  mappings are split, by a sample of such calls, by\n"...)
		}
		b = appendCaller(b, &s, frames, ascii)
	}
	for i, s := range g.Touched {
		if i == 0 {
			b = fmt.Appendf(b, "  %s, by a sample of %d page faults, by\n", touched, g.Faults)
		}
		who := attribution.UnknownPlace
		if len(s.Frames) > 0 {
			who = s.Frames[0].Short
		}
		b = fmt.Appendf(b, "  %5s %s\n", units.Percent(s.Share), table.Escape(who))
	}
	return b
}

// appendCaller appends a function's share, with its stack.
func appendCaller(b []byte, s *attribution.Stack, frames int, ascii bool) []byte {
	b = fmt.Appendf(b, "  %5s %s\n", units.Percent(s.Share), table.Escape(cmp.Or(s.By.Short, attribution.UnknownPlace)))
	return appendFrames(b, s, frames, ascii)
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

// appendAccount appends what a process is charged for.
func appendAccount(b []byte, a *attribution.Account) []byte {
	if a == nil {
		return b
	}
	b = appendKinds(b, "\nthe kernel's figures:", []charge{
		{"anonymous", a.First.Anon, a.Last.Anon},
		{"files", a.First.File, a.Last.File},
		{"shared memory", a.First.Shmem, a.Last.Shmem},
		{"swapped out", a.First.Swapped, a.Last.Swapped},
		{"page tables", a.First.PageTables, a.Last.PageTables},
		{"hugetlb", a.First.Hugetlb, a.Last.Hugetlb},
	})
	const worth = 256 << 10 // bytes: the kernel's own figures are not more exact
	if a.Grown >= worth || a.Grown <= -worth {
		b = fmt.Appendf(b, "; of %s in all the groups explain %s", units.Change(float64(a.Grown)), units.Change(float64(a.Explained)))
	}
	if a.Last.Partial {
		b = append(b, "; not all of its descriptors were looked at"...)
	}
	return append(b, '\n')
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

// appendRefused appends the stacks of calls that were refused memory.
func appendRefused(b []byte, r *attribution.Refused, frames int, ascii bool) []byte {
	if frames == NoStacks {
		return b
	}
	for i, s := range r.Asked {
		if i == 0 {
			b = fmt.Appendf(b, "\n%s was refused, by a sample of such calls, to\n", r.Op)
		}
		b = appendCaller(b, &s, frames, ascii)
	}
	return b
}

// appendUnknown appends why nobody is named, and what would tell more.
func appendUnknown(b []byte, g *attribution.Finding) []byte {
	if !unknownKeeper(g) {
		return b
	}
	b = append(b, "  nobody is named: "...)
	confidence, stayed, more := g.Separation, g.Words > 0, "follows more words"
	if g.BySample() {
		confidence, stayed, more = g.Heap.Confidence, len(g.Keepers) > 0, "samples more"
	}
	switch {
	case confidence >= attribution.Sure:
		return append(b, "the code that keeps it has no name that is known (see maptrace help stacks)\n"...)
	case g.BySample() && !stayed:
		b = append(b, sampled(g.Heap)...)
	case !stayed:
		b = append(b, "no watched word of it stayed"...)
	case g.BySample() && g.Keepers[0].Unsure:
		b = append(b, "the samples do not tell whether the first of these keeps it, or some of its callers"...)
	case g.BySample() && g.Keepers[0].Dies:
		b = append(b, "what the first of these makes still goes when it is old: it may be a cache"...)
	case g.BySample() && g.Heap.Short():
		b = fmt.Appendf(b, "these explain %s of the growth at most", units.Percent(g.Heap.High/g.Heap.Growth))
	case g.BySample() && g.Keepers[0].Alive < heap.Fewest:
		b = fmt.Appendf(b, "of the first of these %s stayed, and a name takes %d", units.Count(uint64(g.Keepers[0].Alive), "sample"), heap.Fewest)
	case g.BySample() && g.Keepers[0].Times < heap.Fewest:
		b = fmt.Appendf(b, "of the first of these what stayed was seen to be made %s, and a name takes %d times",
			often(uint64(g.Keepers[0].Times)), heap.Fewest)
	default: // which need not be the first of these, where a collector has moved the most
		b = fmt.Appendf(b, "that one of these keeps more than any other has a confidence of %d %%, and a name takes %s",
			int(100*confidence), units.Percent(attribution.Sure)) // what is less than that is not rounded to it
	}
	return fmt.Appendf(b, "; a longer watch (--for) %s\n", more)
}

func appendFrames(b []byte, s *attribution.Stack, most int, ascii bool) []byte {
	for i, f := range s.Frames {
		if most > 0 && i == most && len(s.Frames) > most+1 {
			b = fmt.Appendf(b, "        %s %d more\n", dots(ascii), len(s.Frames)-most)
			break
		}
		b = fmt.Appendf(b, "        %s\n", table.Escape(f.Short))
	}
	if s.End != "" {
		b = fmt.Appendf(b, "        (the stack ends here: %s)\n", s.End)
	}
	return b
}
