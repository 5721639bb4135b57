package render

import (
	"fmt"
	"strings"

	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/growth"
)

// reason puts into words what a verdict rests on.
func reason(f *growth.Finding) string {
	var b strings.Builder
	for i, n := range f.Reason {
		words, aside := noteWords(f, n)
		switch {
		case aside:
			fmt.Fprintf(&b, " (%s)", words)
			continue
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(words)
	}
	return b.String()
}

// noteWords are the words of one note; aside tells whether they stand in brackets.
func noteWords(f *growth.Finding, n growth.Note) (words string, aside bool) {
	count := func(what string) string { return units.Count(uint64(n.Count), what) }
	size := func() string { return amount(f.Measure, n.Size) }
	switch n.Kind {
	case growth.Grew:
		return "grew " + size() + " in " + units.Length(n.Time), false
	case growth.Shrank:
		return "shrank by " + size() + " in " + units.Length(n.Time), false
	case growth.Churned:
		return fmt.Sprintf("mapped %s in %s and unmapped %s, without lasting growth",
			units.Bytes(float64(f.Born)), units.Count(f.BornCount, "piece"), units.Bytes(float64(f.Died))), false
	case growth.Wavered:
		return "moved within " + size() + ", without a trend", false
	case growth.StillAlive:
		return units.Percent(f.AliveShare) + " still alive", false
	case growth.InSteps:
		return "in " + count("step"), false
	case growth.Once:
		return "but only once, " + units.Length(n.Time) + " before the end", false
	case growth.FewSteps:
		return "but in " + count("step") + " only", false
	case growth.Stopped:
		return "but not in the last " + units.Length(n.Time), false
	case growth.Late:
		return "nearly all of it in the last " + units.Length(n.Time), false
	case growth.GaveBack:
		return "but gave back up to " + size(), false
	case growth.Bounded:
		return "but can by no more than " + size() + " further", false
	case growth.KernelHuge:
		return size() + " of it huge pages that the kernel made without a page fault (khugepaged or MADV_COLLAPSE)", false
	case growth.LazilyFreed:
		return "but up to " + size() + " of it were given back with MADV_FREE: the kernel takes them where memory is needed", false
	case growth.UntilCollected:
		return "but such a heap fills up to its limit before garbage is collected", false
	case growth.FellBack:
		return "fell back " + often(uint64(n.Count)) + " by up to " + size(), false
	case growth.FallsBack:
		return "falls back by up to " + size() + " all the time", false
	case growth.Young:
		return "but it has been there for " + units.Length(n.Time) + " only", false
	case growth.TooShort:
		return "too short to tell: " + count("observation") + " after the warm-up", false
	case growth.ResidentLess:
		return fmt.Sprintf("%s; resident grew only %s", f.Measure, size()), true
	case growth.Unevictable:
		return "of which the kernel cannot drop " + size() + " (locked, or on ramfs)", false
	case growth.SwappedOut:
		return size() + " of it swapped out", false
	case growth.InUseLess:
		return "but " + moreInUse(n.Size) + " in use: the rest is free inside malloc", false
	case growth.Trimmable:
		if n.Size < leastTrim {
			return "malloc_trim would give hardly any of it back", true
		}
		return "malloc_trim would give back " + size(), true
	case growth.Together:
		return fmt.Sprintf("all that had no place of its own: %d groups lost theirs, for they held nothing or memory was short; at most %d at once held something without one",
			n.Count, n.Other), true
	}
	return plainNotes[n.Kind], false
}

// plainNotes are the words of the notes that have no numbers.
var plainNotes = map[growth.NoteKind]string{
	growth.Unobserved:     "not observed yet",
	growth.DidNotGrow:     "did not grow",
	growth.NeverShrank:    "never shrank",
	growth.Replaces:       "with mappings that take the place of smaller ones",
	growth.Settled:        "what outlives the first moments stays",
	growth.LessEachTime:   "but less each time",
	growth.OneStep:        "in one step",
	growth.Bursts:         "but in bursts with long pauses",
	growth.Slowing:        "but is slowing down",
	growth.Unsteady:       "but unsteadily",
	growth.Restless:       "but moves up and down at every turn",
	growth.LowsRise:       "to lows that rise",
	growth.LowsStay:       "to lows that do not rise",
	growth.Droppable:      "but they are pages of the file, which the kernel can drop",
	growth.AsNeeded:       "as what was touched needs them",
	growth.WithMappings:   "but they go with the mappings that they are for",
	growth.AfterFork:      "but no more than what was shared since a fork",
	growth.CanBeDropped:   "but the kernel can drop what of it is written back",
	growth.CanShrink:      "but most of it are dentries, inodes and the like, which the kernel can drop",
	growth.MayShrink:      "and the kernel can drop it if it is dentries and inodes, which is not known",
	growth.OfFiles:        "but no more than what is mapped of them",
	growth.HasName:        "but it is a file with a name, and goes when that is removed",
	growth.MostUnmapped:   "though most of what is mapped goes again",
	growth.SomeUnmapped:   "though some of what is mapped goes again",
	growth.PerhapsChance:  "which may be chance",
	growth.TooShortThis:   "too short to tell",
	growth.TooShortMore:   "too short to tell more",
	growth.InsideMappings: "inside mappings that stay as large",
}

// moreInUse is by how much what is in use has grown.
func moreInUse(v float64) string {
	if v < 1<<10 { // blocks come and go
		return "no more is"
	}
	return units.Bytes(v) + " more are"
}

// amount is a size in the unit of a measure.
func amount(m growth.Measure, v float64) string {
	switch m {
	case growth.Mappings:
		return units.Count(uint64(v+0.5), "mapping")
	case growth.Reserved:
		return units.Bytes(v) + " of address space without access"
	}
	return units.Bytes(v)
}

// often is a number of times.
func often(n uint64) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return units.Count(n, "time")
}
