package render

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Sentence is what a person reads first of a finding: the verdict, what grows and how
// fast, who is blamed and how sure that is, and the limit that is reached first.
func Sentence(f *attribution.Finding) string { return said(f, "") }

// said is the sentence on a finding, with whose memory it is after the verdict.
func said(f *attribution.Finding, whose string) string {
	var b strings.Builder
	b.WriteString(verdict(f.Label) + whose + " ")
	if f.Label < growth.Retained {
		b.WriteString(f.Subject + " " + reason(&f.Finding))
		return table.Escape(b.String())
	}
	b.WriteString(claim(f))
	if who, share := toucher(f); who != "" {
		fmt.Fprintf(&b, ", touched by %s, %s of it", who, units.Percent(share))
	}
	if f.SplitBy.Full != "" {
		b.WriteString(", split by " + f.SplitBy.Short)
	}
	if f.Limit != nil {
		b.WriteString("; " + limit(f.Limit))
	}
	if unknownKeeper(f) {
		yet := " yet"
		if collected(f) {
			yet = "" // nor will it be
		}
		b.WriteString("; who keeps it is not known" + yet + ": " + decided(f))
	}
	return table.Escape(b.String())
}

// verdict is the word that a sentence begins with.
func verdict(l growth.Label) string {
	if l == growth.Leaks {
		return "LEAK"
	}
	return strings.ToUpper(l.String())
}

// claim is what grows, how fast, and who is blamed.
func claim(f *attribution.Finding) string {
	b := f.Subject + " " + rate(f)
	switch {
	case f.Blamed().Full == "":
		return b
	case !f.Shared:
		return b + ", " + doer(f)
	}
	return b + ", " + doer(f) + fmt.Sprintf(", %s of it, %s sure", units.Percent(f.KeptShare()), units.Percent(f.Confidence()))
}

// doer is who is blamed, after what for; "" if nobody is.
func doer(f *attribution.Finding) string {
	switch {
	case f.Blamed().Full == "":
		return ""
	case f.Shared:
		return "kept by " + f.Blamed().Short + called(f)
	}
	return doing(f) + " " + f.Blamed().Short
}

// called is the nearest function with a name that a keeper without one calls; "" of others.
func called(f *attribution.Finding) string {
	if !f.BySample() || hasName(f.Keeper().Short) {
		return ""
	}
	frames := f.Keepers[0].Frames
	for i := slices.Index(frames, f.Keeper()) - 1; i >= 0; i-- {
		if hasName(frames[i].Short) {
			return " (a caller of " + frames[i].Short + ")"
		}
	}
	return ""
}

// doing is what is said of who makes memory that it has to itself.
func doing(f *attribution.Finding) string {
	switch f.What {
	case growth.Processes:
		return "forked by"
	case growth.File, growth.Tmpfs:
		return "mapped by"
	}
	return "allocated by"
}

// subject is what the memory is, and who is blamed for it.
func subject(f *attribution.Finding) string {
	if who := doer(f); who != "" {
		return f.Subject + " " + who
	}
	return f.Subject
}

// toucher is who touches, or was the last to write, most of memory that another has
// allocated.
func toucher(f *attribution.Finding) (who string, share float64) {
	if k := f.LastWriter(); k != nil {
		return k.By.Short, k.Share
	}
	name, share := f.Toucher()
	return name.Short, share
}

// rate is how fast it grows: by how much it did, where most of the time it did not.
func rate(f *attribution.Finding) string {
	amount := func(n float64) string {
		switch f.Measure {
		case growth.Mappings:
			return fmt.Sprintf("%+.0f mappings", n)
		case growth.Reserved:
			return units.Change(n) + " of address space"
		}
		return units.Change(n)
	}
	perMinute := f.Slope * 60
	if perMinute < 1 {
		return amount(f.Growth)
	}
	b := amount(perMinute) + "/min"
	const worth = 1 << 20
	if memory := f.Rates[growth.Resident].PerSecond * 60; f.Measure == growth.Mappings && memory >= worth {
		b += ", " + units.Change(memory) + "/min resident"
	}
	return b
}

// limit says which limit is reached, and when.
func limit(r *attribution.Reached) string { return fmt.Sprintf("%s in %s", r.Name, units.Span(r.In)) }

// unknownKeeper tells whether memory grows that many share, and nobody can be named.
func unknownKeeper(f *attribution.Finding) bool {
	return f.Shared && f.Label >= growth.Grows && f.Blamed().Full == "" && !f.ByKernel() && f.Measure.OfMemory()
}

// decided is how much is known of who keeps memory that many share.
func decided(f *attribution.Finding) string {
	const noName, notSure = "the code that keeps it has no name", "of no function is it sure that it keeps the most"
	switch {
	case f.UntilCollected():
		return "a garbage collector moves its objects"
	case f.BySample() && (f.Heap.Alive == 0 || len(f.Keepers) == 0):
		return sampled(f.Heap)
	case f.Disputed:
		return disputed
	case f.BySample() && f.Heap.Confidence >= attribution.Sure:
		return noName
	case f.BySample():
		return cmp.Or(unsure(f, likeliest(f), "what its functions keep explains"), notSure+" ("+confident(f.Heap.Confidence)+")")
	case pooled(f) && f.Separation < attribution.Sure:
		return "its blocks may be handed out in pieces, and " + notSure
	case f.Decided == 0:
		return "no watched word of it was decided"
	case collected(f):
		return fmt.Sprintf("a garbage collector moves it (%d of %s that stayed)", f.Moved, units.Count(f.Words, "watched word"))
	case f.Words == 0:
		return watched(f)
	case f.Separation < attribution.Sure:
		return watched(f) + ", and " + notSure
	}
	return watched(f) + ", but " + noName
}

// disputed is why nobody is named where two kinds of evidence disagree.
const disputed = "a sample of its blocks and watched words say that different functions do"

// collected tells whether a garbage collector was the last to write most of what stays, by
// words that were watched.
func collected(f *attribution.Finding) bool {
	return f.UntilCollected() || !f.BySample() && 2*f.Moved > f.Words
}

// pooled tells whether who asks for the blocks that stay need not be who keeps what is in them.
func pooled(f *attribution.Finding) bool {
	return f.Heap != nil && len(f.Keepers) > 0 && f.Keepers[0].Pools
}

// asker is who asks for more than half of the blocks that stay, and for more than any other
// by their intervals; "" if nobody is.
func asker(f *attribution.Finding) string {
	const most = 0.5
	if k := &f.Keepers[0]; k.Share <= most || len(f.Keepers) > 1 && k.Low <= f.Keepers[1].High {
		return ""
	}
	return f.Keepers[0].By.Short
}

// likeliest is what the function is called that keeps the most by a sample that names nobody:
// by its name only if the most is more than half.
func likeliest(f *attribution.Finding) string {
	const most = 0.5
	if k := &f.Keepers[0]; k.Share > most && k.By.Short != "" {
		return k.By.Short
	}
	return "the likeliest function"
}

// watched is how many of the words that were watched stayed.
func watched(f *attribution.Finding) string {
	return fmt.Sprintf("of %s %d stayed", units.Count(f.Decided, "watched word"), f.Words)
}

// why is what a verdict rests on.
func why(f *attribution.Finding) string {
	b := reason(&f.Finding)
	switch {
	case unknownKeeper(f) && f.BySample() && len(f.Keepers) > 0:
		b += "; " + sampled(f.Heap)
	case unknownKeeper(f) && pooled(f) && f.Decided > 0:
		b += "; " + watched(f)
	case f.Keeper().Full == "":
	case f.BySample():
		k := &f.Keepers[0]
		b += fmt.Sprintf("; %d of %s of what it allocates stayed", k.Alive, units.Count(uint64(k.Samples), "sample"))
		if f.Heap.Source == heap.ByProfile { // which knows it, and the rest is what is not collected yet
			b += fmt.Sprintf("; by the profile live objects grow %s/min", units.Change(60*f.Heap.Kept))
		}
	default:
		b += fmt.Sprintf("; it was the last to write to most of %s that stayed", units.Count(f.Words, "watched word"))
	}
	return table.Escape(b)
}

// next is what to do about a finding of the process.
func (g *Growth) next(f *attribution.Finding) string {
	return cmp.Or(g.hint(f), g.narrow(f), next(f, g.longer(), g.HeapUnsampled))
}

// narrow says why nobody is named in a program of 32 bits; "" of others.
func (g *Growth) narrow(f *attribution.Finding) string {
	if !g.Narrow || f.Blamed().Full != "" {
		return ""
	}
	return "it is a 32-bit program: what its calls do is seen, and not the code that makes them"
}

// flat is what has grown far more than anything that still does, but is flat by now: what
// most of the growth was; nil if there is nothing like that.
func (g *Growth) flat() *attribution.Finding {
	const worth = 16 << 20
	if most := g.largest(); most != nil && most.Label == growth.Plateau && most.Growth >= worth && g.Grows() && g.Findings[0].Minor(most) {
		return most
	}
	return nil
}

// next is what to do about a finding; longer is how to watch for longer, unsampled why
// blocks of the heap were not sampled.
func next(f *attribution.Finding, longer, unsampled string) string {
	switch {
	case f.Label == growth.Retained && untrimmable(f):
		return "it is free between blocks that are in use, where malloc_trim(3) does not help: allocate what lives long apart from what does not, or try another malloc"
	case f.Label == growth.Retained:
		return "it is free inside malloc: see malloc_trim(3), and MALLOC_ARENA_MAX and MALLOC_TRIM_THRESHOLD_ in mallopt(3)"
	case f.Blamed().Full != "" && !hasLine(f.Blamed().Short) && !hasName(f.Blamed().Short):
		return "names of functions take the program's symbols: maptrace help stacks"
	case f.Blamed().Full != "" && f.What == growth.Processes:
		return "children that " + table.Escape(f.Blamed().Short) + " starts do not end, or are not waited for"
	case f.Blamed().Full != "" && f.Label == growth.Leaks && f.AliveOf > 0 && f.AliveShare < nearlyAll && !f.Shared:
		return fmt.Sprintf("%s of what %s allocates is not freed: for whom is below; a profile: --pprof FILE", units.Percent(f.AliveShare), table.Escape(f.Blamed().Short))
	case f.Blamed().Full != "" && f.Label == growth.Leaks:
		does := "allocates"
		if f.Shared {
			does = "keeps"
		}
		return fmt.Sprintf("see who should free what %s %s; if it may be a cache that still fills: %s", table.Escape(f.Blamed().Short), does, longer)
	case f.Blamed().Full == "" && untabled(f):
		return "the stacks of its calls end in code that has no unwind tables, as musl's: maptrace help stacks"
	case unknownKeeper(f) && unsampled != "":
		return "a longer watch may tell: " + longer + "; a sample of what it allocates would, but: " + table.Escape(unsampled)
	case unknownKeeper(f) && pooled(f) && asker(f) != "":
		return "most of it is asked for by " + table.Escape(asker(f)) + ", for others perhaps; a longer watch may tell: " + longer
	case unknownKeeper(f) && len(f.Keepers) > 0:
		return "who may keep it is below; a longer watch may tell: " + longer
	case unknownKeeper(f):
		return "a longer watch may tell: " + longer
	case f.ByKernel(), f.What.Charged():
		return "maptrace help growth says what that is, and what bounds it"
	case f.Blamed().Full == "" && f.Site == 0 && f.What == growth.Anon:
		return "it was mapped before the watch; who does that shows if it is traced from its start: maptrace grow -- COMMAND"
	}
	return "a longer watch tells whether that ends: " + longer
}

// untrimmable tells whether malloc can give back hardly anything of what it retains.
func untrimmable(f *attribution.Finding) bool {
	return slices.ContainsFunc(f.Reason, func(n growth.Note) bool { return n.Kind == growth.Trimmable && n.Size < leastTrim })
}

// untabled tells whether most of what made memory was called through code that cannot be
// unwound.
func untabled(f *attribution.Finding) bool {
	const most = 0.5
	share := 0.0
	for i := range f.Made {
		if f.Made[i].End == stack.EndNoFDE.String() {
			share += f.Made[i].Share
		}
	}
	return share > most
}

// nearlyAll is the share of what somebody allocates that stays from which on all of it does.
const nearlyAll = 0.9

// hasLine tells whether a name has a file and a line.
func hasLine(name string) bool {
	return strings.HasSuffix(name, ")") && strings.Contains(path.Base(name), ":")
}

// hasName tells whether a name is one, and not an offset in a module.
func hasName(name string) bool { return !strings.Contains(name, "+0x") }

// longer is a longer time than one that something was watched for, as an option.
func longer(watched time.Duration) string {
	const times, least = 5, time.Minute
	if d := times * watched; d > least {
		return fmt.Sprintf("--for %dm", (d+least-1)/least)
	}
	return "--for 1m"
}

// longer is how to watch a process for longer.
func (g *Growth) longer() string {
	if g.Exited {
		return "let it run for longer"
	}
	return fmt.Sprintf("maptrace grow %s %d", longer(g.Watched), g.PID)
}

// fewLooks is how many looks are too few for every verdict, the warm-up counted.
const fewLooks = 15

// calm is the sentence on a process of which nothing grows to the end, and what to do. What
// it has more than at first is told all the same.
func (g *Growth) calm() (sentence, next string) {
	worst, early := g.largest(), g.early()
	more, short := g.more(), g.Ticks < fewLooks
	if more == 0 && worst != nil && worst.Label > growth.Steady {
		more = int64(worst.Growth)
	}
	switch in := units.Length(g.Watched); {
	case short && more > 0:
		sentence = fmt.Sprintf("SHORT grew %s in %s", units.Bytes(float64(more)), in)
		if worst != nil && worst.Growth >= float64(more)/2 {
			sentence += ", most of it " + worst.Subject
		}
	case short:
		sentence = fmt.Sprintf("SHORT watched for %s, with %s", in, units.Count(uint64(g.Ticks), "look"))
	case worst != nil && worst.Label > growth.Steady:
		return Sentence(worst), "what climbs more slowly shows in a longer watch: " + g.longer()
	case more > 0 && early != nil && gained(early) >= float64(more)/2:
		return table.Escape(fmt.Sprintf("PLATEAU %s grew %s at the beginning of the watch, and not since", early.Subject, units.Bytes(gained(early)))),
			"what climbs more slowly shows in a longer watch: " + g.longer()
	case more > 0:
		return fmt.Sprintf("GROWS +%s in %s, of no mapping in particular", units.Bytes(float64(more)), in), "a longer watch tells more: " + g.longer()
	default:
		return "STEADY nothing grew in " + in, "what climbs more slowly shows in a longer watch: " + g.longer()
	}
	return table.Escape(sentence + ": too short to judge"), "watch for longer: " + g.longer() + ", or look more often (--interval)"
}

// largest is the finding that grew the most and may be told beside others' absence: what is
// steady only if there is nothing else; nil if nothing is more than at first.
func (g *Growth) largest() *attribution.Finding {
	var most *attribution.Finding
	for f := range pointers(g.Findings) {
		if f.Measure.OfMemory() && f.Growth > 0 && f.Label < growth.Retained && (most == nil || cmp.Or(cmp.Compare(f.Label, most.Label), cmp.Compare(f.Growth, most.Growth)) > 0) {
			most = f
		}
	}
	return most
}

// early is the finding that holds the most that was not there at first, the warm-up included;
// nil if none does.
func (g *Growth) early() *attribution.Finding {
	var most *attribution.Finding
	for f := range pointers(g.Findings) {
		if gained(f) > 0 && (most == nil || gained(f) > gained(most)) {
			most = f
		}
	}
	return most
}

// gained is how much more a finding holds than at first, swap included.
func gained(f *attribution.Finding) float64 {
	return f.Last.Of(growth.Resident) - f.First.Of(growth.Resident)
}

// statement is one sentence of an answer, what it rests on, and what to do.
type statement struct {
	sentence, why, next string
	label               growth.Label // the worst come first
	of                  *Growth      // the process that it is about; nil if it is about several, or a cgroup
}

// verdict is what a statement begins with, in the words that findings have.
func (s *statement) verdict() string {
	word, _, _ := strings.Cut(s.sentence, " ")
	if word == verdict(growth.Leaks) {
		return growth.Leaks.String()
	}
	return strings.ToLower(word)
}

// mostTold is how many sentences an answer has.
const mostTold = 3

// answer is what is to be said of all, the worst first. Interrupted says that somebody has
// ended the watch.
func answer(groups []attribution.Group, all []Growth, interrupted bool) (out []statement) {
	for i := range groups {
		for f := range pointers(groups[i].Findings) {
			if f.Label >= growth.Retained {
				whose := ""
				if groups[i].Name != "" {
					whose = " cgroup " + groups[i].Name + ":"
				}
				out = append(out, statement{said(f, whose), why(f), next(f, longer(groups[i].Watched), ""), f.Label, nil})
			}
		}
	}
	for i := range all {
		g := &all[i]
		whose := ""
		if len(all) > 1 {
			whose = fmt.Sprintf(" %s[%d]:", g.Name(), g.PID)
		}
		for r := range pointers(g.Refused) {
			const worst = growth.Leaks + 1
			out = append(out, statement{"REFUSED" + table.Escape(whose) + " " + refusal(r), "", "maptrace trace --failed --stack shows each of these calls as it is made", worst, g})
		}
		if g.Uncounted != "" && !g.Grows() {
			out = append(out, statement{table.Escape("UNKNOWN" + whose + " its resident memory cannot be counted: " + g.Uncounted), "", "maptrace doctor says what is missing", 0, g})
		}
		if f := g.flat(); f != nil { // with its reason in the sentence
			out = append(out, statement{said(f, whose), "", g.next(f), g.Findings[0].Label, g})
		}
		for f := range pointers(g.Findings) {
			if f.Label >= growth.Retained && !f.Minor(&g.Findings[0]) {
				out = append(out, statement{said(f, whose), why(f), g.next(f), f.Label, g})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b statement) int { return cmp.Compare(b.label, a.label) })
	switch {
	case len(out) > 0:
		return out
	case len(all) == 1:
		sentence, next := all[0].calm()
		return []statement{{sentence: sentence, next: next, of: &all[0]}}
	case len(all) > 1:
		return []statement{quietTogether(all)}
	case interrupted:
		return []statement{{sentence: "SHORT ended before the first look: too short to judge", next: "let it watch for some seconds at least"}}
	}
	return []statement{{sentence: "UNKNOWN no process was there for long enough to be looked at", next: "look more often (--interval 10ms), or have it run for longer"}}
}

// quietTogether is the sentence on several processes of which nothing grows to the end.
func quietTogether(all []Growth) statement {
	more, looks := int64(0), 0
	watched := time.Duration(0)
	for i := range all {
		looks, watched = max(looks, all[i].Ticks), max(watched, all[i].Watched)
	}
	for i := range all {
		if g := &all[i]; g.more() > 0 { // it is this one that was seen too seldom, if any
			more += g.more()
			looks = min(looks, g.Ticks)
		}
	}
	processes, in := units.Count(uint64(len(all)), "process"), units.Length(watched)
	again := "watch for longer: " + longer(watched)
	switch {
	case looks < fewLooks && more > 0:
		return statement{sentence: fmt.Sprintf("SHORT grew %s in %s: too short to judge", units.Bytes(float64(more)), in), next: again}
	case looks < fewLooks:
		return statement{sentence: fmt.Sprintf("SHORT watched %s for %s, with %s: too short to judge", processes, in, units.Count(uint64(looks), "look")), next: again}
	case more > 0:
		return statement{sentence: fmt.Sprintf("GROWS +%s in %s, in %s together, but in none of them to the end", units.Bytes(float64(more)), in, processes), next: again}
	}
	return statement{sentence: fmt.Sprintf("STEADY nothing grew in %s, in any of %s", in, processes), next: again}
}
