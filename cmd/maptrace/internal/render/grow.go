package render

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/ledger"
)

// Growth is what is to be said of one address space that was watched.
type Growth struct {
	PID      int
	NSPID    int // in the process' own pid namespace, where it is another
	Comm     string
	Exited   bool
	Watched  time.Duration
	Looks    int
	Picture  string // how far the tree can be trusted
	Findings []Grown
	// Estimated: some calls had no stack, so what they made is shared out among the
	// sites, whose figures are estimates.
	Estimated bool
	Unsampled uint64 // bytes that such calls made
	// Uncounted says why resident memory could not be counted, if so: then nothing
	// was found.
	Uncounted string
	// Unwatched says why no words were watched, or from some time on no more, if so:
	// who keeps the memory of heaps that many share is not known, or not for the end.
	Unwatched string
}

// Grown is a finding with its names.
type Grown struct {
	ledger.Finding
	Subject string        // what the memory is: "[ anon ]", a path
	From    string        // who made it, where that is known: "leak (server.c:88)"
	Made    []Stack       // the stacks that made most of what came and is still there
	Touched []Stack       // the functions whose page faults were sampled in it
	Kept    []Stack       // those that were the last to write to its watched words that stayed
	Settle  time.Duration // for how long those were left alone, at least
	Limit   string        // which limit is reached first, and when; empty if none is
}

// Stack is a stack and its part in something.
type Stack struct {
	By     string  // the function that is blamed, of Kept; empty if it is not known
	Share  float64 // from 0 to 1
	Bytes  uint64
	Frames []string // innermost first
	End    string   // why there are no more frames; empty if it is whole
}

// Sentence is what a person reads first.
func (g *Grown) Sentence() string {
	var b strings.Builder
	b.WriteString(g.subject())
	if k := g.lastWriter(); k != nil {
		fmt.Fprintf(&b, ", last written by %s (%.0f %%, by %d words that stayed),", k.By, 100*k.Share, g.Words)
	} else if who, share := g.toucher(); who != "" {
		fmt.Fprintf(&b, ", touched by %s (%.0f %%),", who, 100*share)
	}
	fmt.Fprintf(&b, " %s: %s", g.Reason, g.Label)
	if g.Limit != "" && g.Label >= growth.Grows {
		b.WriteString("; " + g.Limit)
	}
	return table.Escape(b.String())
}

// subject is what the memory is, and who is blamed for it.
func (g *Grown) subject() string {
	switch keeper := g.Keeper(); {
	case keeper != "" && keeper != g.From:
		return g.Subject + " kept by " + keeper
	case g.From == "":
		return g.Subject
	case keeper == "" && g.Shared:
		return g.Subject + " grown by " + g.From // which says nothing of who keeps it
	}
	return g.Subject + " from " + g.From
}

// Keeper is who keeps memory that many share: the last to write to clearly more of the
// watched words that stayed than any other, by their weight; "" if that cannot be told.
// Two standard deviations of the difference are asked for.
func (g *Grown) Keeper() string {
	if len(g.Kept) == 0 || !g.Shared {
		return ""
	}
	first, second := g.Kept[0].Share*g.Effective, 0.0
	if len(g.Kept) > 1 {
		second = g.Kept[1].Share * g.Effective
	}
	if d := first - second; d*d < 4*(first+second)-0.5 { // four words of one are enough
		return ""
	}
	return g.Kept[0].By
}

// Blamed is the function that the sentence names, "" if it names none.
func (g *Grown) Blamed() string { return cmp.Or(g.Keeper(), g.From) }

// lastWriter is who wrote most of the words that stayed, where that is somebody else
// than who is blamed, and there is reason to tell: a word or two say less than a sample
// of page faults.
func (g *Grown) lastWriter() *Stack {
	const most, fewest = 0.5, 4
	if len(g.Kept) == 0 || g.Words < fewest || g.Kept[0].Share < most || g.Kept[0].By == "" || g.Kept[0].By == g.Blamed() {
		return nil
	}
	return &g.Kept[0]
}

// toucher is who touches most of what grows, where it is not who made it: of a heap
// that many share, who makes it larger is not always who keeps what is in it.
func (g *Grown) toucher() (who string, share float64) {
	if g.Measure != growth.Resident || g.Keeper() != "" || len(g.Touched) == 0 || len(g.Touched[0].Frames) == 0 {
		return "", 0
	}
	const most = 0.3
	if t := &g.Touched[0]; t.Frames[0] != g.From && (g.From == "" || t.Share >= most) {
		return t.Frames[0], t.Share
	}
	return "", 0
}

// Bytes is an amount for people: "12.0 MiB".
func Bytes(n float64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for n >= 1023.95 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return sign + strconv.FormatFloat(n, 'f', 0, 64) + " B"
	}
	return sign + strconv.FormatFloat(n, 'f', 1, 64) + " " + units[i]
}

// Span is a time for people: "41 min".
func Span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + " s"
	case d < 2*time.Hour:
		return strconv.FormatFloat(d.Minutes(), 'f', 0, 64) + " min"
	case d < 48*time.Hour:
		return strconv.FormatFloat(d.Hours(), 'f', 0, 64) + " h"
	}
	return strconv.FormatFloat(d.Hours()/24, 'f', 0, 64) + " days"
}

// change is an amount with its sign.
func change(n float64) string {
	if n > 0 {
		return "+" + Bytes(n)
	}
	return Bytes(n)
}

// fewLooks is how many looks are too few for every verdict, the warm-up counted.
const fewLooks = 15

// sparkWidth is how many characters a trend has.
const sparkWidth = 20

// trend is the course of a finding's measure.
func (g *Grown) trend(ascii bool) string {
	values := make([]float64, len(g.Series))
	for i, p := range g.Series {
		values[i] = p.High.Of(g.Measure)
	}
	return Sparkline(values, sparkWidth, ascii)
}

// grows tells whether anything was found to grow.
func (g *Growth) grows() bool {
	return len(g.Findings) > 0 && g.Findings[0].Label >= growth.Grows
}

// WriteGrowthReports writes what grow found, process by process, the worst first.
// Most bounds the findings that are listed of each, frames those of a stack; 0 for
// no bound. Of several processes, those where nothing grows have a line each. With
// ascii, trends are drawn without block characters, and nothing else but names
// from the process has others either.
func WriteGrowthReports(w io.Writer, all []Growth, most, frames int, ascii bool) error {
	var b []byte
	for i := range all {
		g := &all[i]
		if i > 0 && (g.grows() || all[i-1].grows()) {
			b = append(b, '\n')
		}
		b = g.appendHead(b)
		if g.Uncounted != "" {
			b = fmt.Appendf(b, ": nothing can be said, as its resident memory cannot be counted: %s\n", table.Escape(g.Uncounted))
			continue
		}
		if len(all) > 1 && !g.grows() {
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

func (g *Growth) appendHead(b []byte) []byte {
	b = fmt.Appendf(b, "Process %d%s (%s)", g.PID, inside(g.NSPID), table.Escape(g.Comm))
	if g.Exited {
		b = append(b, ", ended"...)
	}
	return fmt.Appendf(b, ": watched for %s, %d looks, tree %s", Span(g.Watched), g.Looks, table.Escape(g.Picture))
}

func (g *Growth) appendFindings(b []byte, most, frames int, ascii bool) []byte {
	found := g.Findings
	if most > 0 && len(found) > most {
		found = found[:most]
	}
	if !g.grows() {
		b = append(b, "Nothing was seen to grow.\n"...)
		if g.Looks < fewLooks {
			b = fmt.Appendf(b, "But %d looks are few to judge by: watch for longer (--for), or look more often (--interval).\n", g.Looks)
		}
	}
	for i := range found {
		if found[i].Label >= growth.Grows {
			b = append(append(b, found[i].Sentence()...), '\n')
		}
	}
	b = append(b, '\n')
	rows := table.NewAligned(growthColumns(ascii))
	rows.Fit(pointers(found))
	b = rows.AppendHeader(b)
	for f := range pointers(found) {
		b = rows.AppendRow(b, f)
	}
	if n := len(g.Findings) - len(found); n > 0 {
		b = fmt.Appendf(b, "%s and %d more, none of them worse\n", dots(ascii), n)
	}
	for i := range found {
		b = appendStacks(b, &found[i], frames, ascii)
	}
	if g.Unwatched != "" {
		to := ""
		if slices.ContainsFunc(g.Findings, func(f Grown) bool { return f.Words > 0 }) {
			to = " to the end"
		}
		b = fmt.Appendf(b, "\nWho keeps memory that many share was not watched%s: %s\n", to, table.Escape(g.Unwatched))
	}
	if g.Estimated {
		b = fmt.Appendf(b, "\nOf so many calls, stacks were taken of a random sample: %s came without. What is there of it was counted, and is shared out among the sites of calls like them.\n",
			Bytes(float64(g.Unsampled)))
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

// growthColumns are the columns of the table of findings.
func growthColumns(ascii bool) []table.Column[*Grown] {
	right := func(name string, value func(*Grown) string) table.Column[*Grown] {
		return table.Column[*Grown]{Name: name, Align: table.Right, Value: func(g *Grown) table.Value { return table.Text(value(g)) }}
	}
	left := func(name string, value func(*Grown) string) table.Column[*Grown] {
		return table.Column[*Grown]{Name: name, Value: func(g *Grown) table.Value { return table.Text(value(g)) }}
	}
	return []table.Column[*Grown]{
		left("VERDICT", func(g *Grown) string { return g.Label.String() }),
		right("GREW", func(g *Grown) string {
			if g.Measure == growth.Mappings {
				return fmt.Sprintf("%+.0f maps", g.Growth)
			}
			return change(g.Growth)
		}),
		right("PER MIN", func(g *Grown) string {
			if g.Measure == growth.Mappings {
				return fmt.Sprintf("%+.0f maps", g.Slope*60)
			}
			return change(g.Slope * 60)
		}),
		right("RESIDENT", func(g *Grown) string { return Bytes(float64(g.Last.Resident)) }),
		right("MAPPED", func(g *Grown) string { return Bytes(float64(g.Last.Mapped)) }),
		right("ALIVE", func(g *Grown) string {
			if g.AliveOf == 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f %%", 100*g.AliveShare)
		}),
		left("TREND", func(g *Grown) string { return g.trend(ascii) }),
		left("WHAT", func(g *Grown) string { return table.Escape(g.subject()) }),
	}
}

// unknownPlace is code of which no frame is known.
const unknownPlace = "an unknown place"

// dots stand for what is left out.
func dots(ascii bool) string {
	if ascii {
		return "..."
	}
	return "…"
}

// appendStacks appends the stacks behind a finding that grows.
func appendStacks(b []byte, g *Grown, frames int, ascii bool) []byte {
	if g.Label < growth.Grows || len(g.Made)+len(g.Touched)+len(g.Kept) == 0 {
		return b
	}
	b = fmt.Appendf(b, "\n%s\n", table.Escape(g.subject()))
	for i, s := range g.Kept {
		if i == 0 {
			b = fmt.Appendf(b, "  last written, by %d watched words that were then left alone for %s and more, by\n", g.Words, Span(g.Settle))
		}
		b = fmt.Appendf(b, "  %3.0f %% %s\n", 100*s.Share, table.Escape(cmp.Or(s.By, unknownPlace)))
		b = appendFrames(b, &s, frames, ascii)
	}
	for _, s := range g.Made {
		b = fmt.Appendf(b, "  %3.0f %% (%s) made by\n", 100*s.Share, Bytes(float64(s.Bytes)))
		b = appendFrames(b, &s, frames, ascii)
	}
	for i, s := range g.Touched {
		if i == 0 {
			b = fmt.Appendf(b, "  touched, by a sample of %d page faults, by\n", g.Faults)
		}
		who := unknownPlace
		if len(s.Frames) > 0 {
			who = s.Frames[0]
		}
		b = fmt.Appendf(b, "  %3.0f %% %s\n", 100*s.Share, table.Escape(who))
	}
	return b
}

func appendFrames(b []byte, s *Stack, most int, ascii bool) []byte {
	for i, f := range s.Frames {
		if most > 0 && i == most && len(s.Frames) > most+1 {
			b = fmt.Appendf(b, "        %s %d more\n", dots(ascii), len(s.Frames)-most)
			break
		}
		b = fmt.Appendf(b, "        %s\n", table.Escape(f))
	}
	if s.End != "" {
		b = fmt.Appendf(b, "        (the stack ends here: %s)\n", s.End)
	}
	return b
}
