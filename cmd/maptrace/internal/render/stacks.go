package render

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// leastShare is the share from which on who keeps memory is told.
const leastShare = 0.02

// indent is that of what is said of a function, where its name is too long for a line.
const indent = 8

// leastTouched is the share from which on who touches memory is told: what is less is
// rounded to nothing.
const leastTouched = 0.005

// stacks appends the stacks behind a finding that grows. Of memory that many share, who
// made it larger and who touched it first is told only if nobody is known to keep it, nor
// blocks tell who may.
func (r *growthReport) stacks(g *attribution.Finding) {
	if r.Frames == NoStacks || g.Label < growth.Grows || len(g.Made)+len(g.Touched)+len(g.Kept)+len(g.Keepers)+len(g.Split) == 0 {
		return
	}
	r.note(table.Escape(subject(g)))
	if unknownKeeper(g) {
		r.text("  nobody is named: "+nobody(g), 2)
	}
	r.heap(g)
	blocks := g.BySample() && len(g.Keepers) > 0 // tell who keeps it, or who may
	for i, s := range g.Kept {
		if blocks || collected(g) || i > 0 && s.Share < leastShare {
			break // words say less than blocks, and nothing where a collector wrote them last
		}
		if i == 0 {
			r.text(fmt.Sprintf("  last written, by %s then left alone for %s and more, by", units.Count(g.Words, "watched word"), units.Span(g.Settle)), 2)
		}
		r.caller(&s)
	}
	if !g.Shared || !blocks && g.Keeper().Full == "" {
		r.makers(g, len(g.Keepers)+len(g.Kept) == 0)
	}
	for i, s := range g.Split {
		if i == 0 {
			r.b = append(r.b, "  mappings are split, by a sample of such calls, by\n"...)
		}
		r.caller(&s)
	}
}

// makers appends who allocated memory, and who touches it. For whom memory that many share
// was added says little, and is told where nothing else is known.
func (r *growthReport) makers(g *attribution.Finding, nothing bool) {
	made, touched := doing(g), "touched"
	if g.Shared { // neither says who keeps it
		made, touched = "was added when it was full, for", "touched first, to keep it or not"
	}
	for _, s := range g.Made {
		if g.Shared && !nothing {
			break
		}
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
		if i > 0 && s.Share < leastTouched {
			break
		}
		who := attribution.UnknownPlace
		if len(s.Frames) > 0 {
			who = s.Frames[0].Short
		}
		r.text(fmt.Sprintf("  %5s %s", units.Percent(s.Share), table.Escape(who)), indent)
	}
}

// caller appends a function's share, with its stack.
func (r *growthReport) caller(s *attribution.Stack) {
	r.text(fmt.Sprintf("  %5s %s", units.Percent(s.Share), table.Escape(cmp.Or(s.By.Short, attribution.UnknownPlace))), indent)
	r.stack(s.Frames, s.End)
}

func (r *growthReport) stack(frames []stack.Name, end string) {
	for line := range strings.Lines(string(appendFrames(nil, frames, end, r.Frames, r.ASCII))) {
		r.text(strings.TrimSuffix(line, "\n"), indent+2)
	}
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
	b := ""
	switch {
	case g.UntilCollected():
		return "a garbage collector moves what stays: who wrote it last tells nothing"
	case g.Disputed:
		return disputed
	case confidence >= attribution.Sure:
		return "the code that keeps it has no name that is known (see maptrace help stacks)"
	case collected(g):
		return "a garbage collector moves what stays: who wrote it last tells nothing"
	case pooled(g) && !g.BySample():
		b = "who asks for blocks may hand them out in pieces, and watched words do not tell who keeps those (" + confident(confidence) + ")"
	case g.BySample() && !stayed:
		b = sampled(g.Heap)
	case !stayed:
		b = "no watched word of it stayed"
	case g.BySample():
		b = unsure(g, "the first of these", "these explain")
	}
	if b == "" { // which need not be the first of these, where a collector has moved the most
		b = "that one of these keeps more than any other has a confidence of " + confident(confidence)
	}
	return b + "; a longer watch (--for) " + more
}

// confident is a confidence that is too small, beside what a name takes: what is less than
// that is not rounded to it.
func confident(confidence float64) string {
	return fmt.Sprintf("%d %%, and a name takes %s", int(100*confidence), units.Percent(attribution.Sure))
}

// unsure is why a sample of blocks that stayed names nobody, but that others may keep as
// much; "" if it is only that. First is what the function is called that keeps the most, and
// all how it begins what they explain together.
func unsure(g *attribution.Finding, first, all string) string {
	switch k := &g.Keepers[0]; {
	case k.Unsure:
		return "the samples do not tell whether " + first + " keeps it, or some of its callers"
	case k.Dies:
		return "what " + first + " makes still goes when it is old: it may be a cache"
	case k.Replaces:
		return "of what " + first + " made before as much may be freed as it makes: it may be a cache"
	case k.First:
		return first + " comes first among calls that were too many to be seen all"
	case g.Heap.Beyond:
		return all + " far more than the growth: that estimate is wrong"
	case g.Heap.Short():
		return fmt.Sprintf("%s %s of the growth at most", all, units.Percent(g.Heap.High/g.Heap.Growth))
	case k.Alive < heap.Fewest:
		return fmt.Sprintf("of %s %s stayed, and a name takes %d", first, units.Count(uint64(k.Alive), "sample"), heap.Fewest)
	case k.Times < heap.Fewest:
		return fmt.Sprintf("of %s what stayed was seen to be made %s, and a name takes %d times", first, often(uint64(k.Times)), heap.Fewest)
	}
	return ""
}
