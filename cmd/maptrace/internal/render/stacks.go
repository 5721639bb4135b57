package render

import (
	"cmp"
	"fmt"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// stacks appends the stacks behind a finding that grows. Of memory that many share, who
// made it larger and who touched it first is told only if nobody is known to keep it.
func (r *growthReport) stacks(g *attribution.Finding) {
	if r.Frames == NoStacks || g.Label < growth.Grows || len(g.Made)+len(g.Touched)+len(g.Kept)+len(g.Keepers)+len(g.Split) == 0 {
		return
	}
	r.printf("\n%s\n", table.Escape(subject(g)))
	if unknownKeeper(g) {
		r.text("  nobody is named: "+nobody(g), 2)
	}
	r.heap(g)
	for i, s := range g.Kept {
		if i == 0 {
			r.text(fmt.Sprintf("  last written, by %s then left alone for %s and more, by", units.Count(g.Words, "watched word"), units.Span(g.Settle)), 2)
		}
		r.caller(&s)
	}
	if !g.Shared || g.Keeper().Full == "" {
		r.makers(g)
	}
	for i, s := range g.Split {
		if i == 0 {
			r.b = append(r.b, "  mappings are split, by a sample of such calls, by\n"...)
		}
		r.caller(&s)
	}
}

// makers appends who allocated memory, and who touches it.
func (r *growthReport) makers(g *attribution.Finding) {
	made, touched := doing(g), "touched"
	if g.Shared { // neither says who keeps it
		made, touched = "was added when it was full, for", "touched first, to keep it or not"
	}
	for _, s := range g.Made {
		r.printf("  %5s", units.Percent(s.Share))
		if s.Bytes > 0 {
			r.printf(" (%s)", units.Bytes(float64(s.Bytes)))
		}
		r.printf(" %s\n", made)
		r.stack(s.Frames, s.End)
	}
	for i, s := range g.Touched {
		if i == 0 {
			r.printf("  %s, by a sample of %d page faults, by\n", touched, g.Faults)
		}
		who := attribution.UnknownPlace
		if len(s.Frames) > 0 {
			who = s.Frames[0].Short
		}
		r.printf("  %5s %s\n", units.Percent(s.Share), table.Escape(who))
	}
}

// caller appends a function's share, with its stack.
func (r *growthReport) caller(s *attribution.Stack) {
	r.printf("  %5s %s\n", units.Percent(s.Share), table.Escape(cmp.Or(s.By.Short, attribution.UnknownPlace)))
	r.stack(s.Frames, s.End)
}

func (r *growthReport) stack(frames []stack.Name, end string) {
	r.b = appendFrames(r.b, frames, end, r.Frames, r.ASCII)
}

// appendFrames appends most frames of a stack, all with 0, and why there are no more.
func appendFrames(b []byte, frames []stack.Name, end string, most int, ascii bool) []byte {
	for i, f := range frames {
		if most > 0 && i == most && len(frames) > most+1 {
			b = fmt.Appendf(b, "        %s %d more\n", tui.Dots(ascii), len(frames)-most)
			break
		}
		b = fmt.Appendf(b, "        %s\n", table.Escape(f.Short))
	}
	if end != "" {
		b = fmt.Appendf(b, "        (the stack ends here: %s)\n", end)
	}
	return b
}

// refused appends the stacks of calls that were refused memory.
func (r *growthReport) refused(c *attribution.Refused) {
	if r.Frames == NoStacks {
		return
	}
	for i, s := range c.Asked {
		if i == 0 {
			r.printf("\n%s was refused, by a sample of such calls, to\n", c.Op)
		}
		r.caller(&s)
	}
}

// nobody is why nobody is named, and what would tell more.
func nobody(g *attribution.Finding) string {
	confidence, stayed, more := g.Separation, g.Words > 0, "follows more words"
	if g.BySample() {
		confidence, stayed, more = g.Heap.Confidence, len(g.Keepers) > 0, "samples more"
	}
	var b string
	switch {
	case confidence >= attribution.Sure:
		return "the code that keeps it has no name that is known (see maptrace help stacks)"
	case g.BySample() && !stayed:
		b = sampled(g.Heap)
	case !stayed:
		b = "no watched word of it stayed"
	case g.BySample() && g.Keepers[0].Unsure:
		b = "the samples do not tell whether the first of these keeps it, or some of its callers"
	case g.BySample() && g.Keepers[0].Dies:
		b = "what the first of these makes still goes when it is old: it may be a cache"
	case g.BySample() && g.Heap.Short():
		b = fmt.Sprintf("these explain %s of the growth at most", units.Percent(g.Heap.High/g.Heap.Growth))
	case g.BySample() && g.Keepers[0].Alive < heap.Fewest:
		b = fmt.Sprintf("of the first of these %s stayed, and a name takes %d", units.Count(uint64(g.Keepers[0].Alive), "sample"), heap.Fewest)
	case g.BySample() && g.Keepers[0].Times < heap.Fewest:
		b = fmt.Sprintf("of the first of these what stayed was seen to be made %s, and a name takes %d times",
			often(uint64(g.Keepers[0].Times)), heap.Fewest)
	default: // which need not be the first of these, where a collector has moved the most
		b = fmt.Sprintf("that one of these keeps more than any other has a confidence of %d %%, and a name takes %s",
			int(100*confidence), units.Percent(attribution.Sure)) // what is less than that is not rounded to it
	}
	return b + "; a longer watch (--for) " + more
}
