// Package export gives findings the forms that other tools read.
package export

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/site"
)

// Growth are the findings of a watch, with the sites that are behind them.
type Growth struct {
	Processes []attribution.Process
	Sites     *site.Sites
	At        time.Time // the moment that they are of
}

// WriteProfile writes what each stack holds and has made as a profile that go
// tool pprof reads: bytes in use (mapped, writable, resident), and in total the
// bytes and the calls since the watch began; and what each has allocated on malloc
// heaps in that time and keeps there, by samples of blocks. The one is of the stacks that
// made memory for the process, the other of those that share it, so they must not be added.
//
// It is of one moment, as the heap profiles of Go are, and so has no duration: those
// who collect profiles take one with a duration for what was added in it.
func (g *Growth) WriteProfile(out io.Writer) error {
	p := &profile{
		sampleTypes: []valueType{
			{"mapped_space", "bytes"},
			{"writable_space", "bytes"},
			{"inuse_space", "bytes"}, // resident: pprof shows this one first
			{"alloc_space", "bytes"},
			{"alloc_objects", "count"},
			{"heap_alloc_space", "bytes"},
			{"kept_space", "bytes"},
		},
		defaultSampleType: "inuse_space",
		// Every byte that a sample stands for is in its values.
		periodType: valueType{"space", "bytes"},
		period:     1,
		timeNanos:  g.At.UnixNano(),
		comments: []string{
			"maptrace grow: memory by the calls that mapped it",
			"alloc_space and alloc_objects: of the last " + g.watched().Round(time.Millisecond).String(),
			"heap_alloc_space and kept_space: what was allocated on malloc heaps in that time and stays, estimated by samples of blocks",
		},
	}
	b := newProfileBuilder(p, g.Sites)
	for _, part := range g.parts() {
		b.sample(part.Site, part.subject,
			int64(part.Now.Mapped), int64(part.Now.Writable), int64(part.Now.Resident), int64(part.Born), int64(part.BornCount), 0, 0)
	}
	for _, h := range g.heapSites() {
		b.sample(h.Site, h.subject, 0, 0, 0, 0, 0, int64(h.Allocated), int64(h.Kept))
	}
	b.finish(g.mainBinary())
	return p.write(out)
}

// mainBinary is the executable of the process that has the most resident memory in
// the profile, "" if it is not known.
func (g *Growth) mainBinary() string {
	var found *attribution.Process
	var most uint64
	for i := range g.Processes {
		p := &g.Processes[i]
		var sum uint64
		for _, f := range p.Findings {
			for _, part := range f.Parts {
				if part.Site != 0 {
					sum += part.Now.Resident
				}
			}
		}
		switch {
		case p.Exe == "":
		case found == nil, sum > most, sum == most && p.PID < found.PID:
			found, most = p, sum
		}
	}
	if found == nil {
		return ""
	}
	return found.Exe
}

// namedPart is a part with the memory it is of.
type namedPart struct {
	attribution.Part
	subject string
}

// parts are the parts of all processes that have a site, in a fixed order.
func (g *Growth) parts() []namedPart {
	var out []namedPart
	for i := range g.Processes {
		for _, f := range g.Processes[i].Findings {
			for _, p := range f.Parts {
				if p.Site != 0 {
					out = append(out, namedPart{p, f.Subject})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b namedPart) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), strings.Compare(a.subject, b.subject))
	})
	return out
}

// heapSite is what a site allocates and keeps of a heap.
type heapSite struct {
	heap.SiteEstimate
	subject string
}

// heapSites are those of all processes, in a fixed order.
func (g *Growth) heapSites() (out []heapSite) {
	for i := range g.Processes {
		for _, f := range g.Processes[i].Findings {
			if f.Heap == nil {
				continue
			}
			for _, s := range f.Heap.Sites {
				out = append(out, heapSite{s, f.Subject})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b heapSite) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), strings.Compare(a.subject, b.subject))
	})
	return out
}

// watched is for how long the first process was watched.
func (g *Growth) watched() (most time.Duration) {
	for i := range g.Processes {
		most = max(most, g.Processes[i].Watched)
	}
	return most
}

type mappingKey struct {
	module *site.Module
	start  uint64
}

type functionKey struct {
	name, symbol, file string
	line               int
}

// profileBuilder makes the tables of a profile.
type profileBuilder struct {
	p         *profile
	sites     *site.Sites
	mappings  map[mappingKey]*mapping
	locations map[site.Frame]*location // JIT code of two processes may be at one address
	functions map[functionKey]*function
}

func newProfileBuilder(p *profile, sites *site.Sites) *profileBuilder {
	return &profileBuilder{
		p: p, sites: sites, mappings: make(map[mappingKey]*mapping),
		locations: make(map[site.Frame]*location), functions: make(map[functionKey]*function),
	}
}

// sample adds what a site has of some memory. Of one whose stack is no longer known
// there is nothing to be shown.
func (b *profileBuilder) sample(id uint32, memory string, values ...int64) {
	frames, _ := b.sites.Frames(id)
	if len(frames) == 0 {
		return
	}
	s := &sample{values: values, memory: memory}
	for i := range frames {
		s.locations = append(s.locations, b.location(&frames[i]))
	}
	b.p.samples = append(b.p.samples, s)
}

// location makes the location of a frame. Its address is that of the call, or in it,
// and not where it returns to, which may be in another function. A function without a
// name is left out, for others to find it by the address: an invented name would be
// taken for known.
func (b *profileBuilder) location(f *site.Frame) *location {
	if l := b.locations[*f]; l != nil {
		return l
	}
	addr, in, offset := f.Memory()
	l := &location{id: uint64(len(b.p.locations) + 1), mapping: b.mapping(f.Module, in, offset), address: addr}
	named := true
	for _, at := range b.sites.Lines(nil, f) {
		if at.Unnamed {
			named = false
			continue
		}
		l.lines = append(l.lines, line{b.function(at), int64(at.Line)})
		l.mapping.hasFilenames = l.mapping.hasFilenames && at.File != ""
		l.mapping.hasLineNumbers = l.mapping.hasLineNumbers && at.Line != 0
	}
	if len(l.lines) > 1 {
		l.mapping.hasInlineFrames = true
	}
	if !named {
		l.mapping.hasFunctions, l.mapping.hasFilenames, l.mapping.hasLineNumbers = false, false, false
	}
	b.p.locations = append(b.p.locations, l)
	b.locations[*f] = l
	return l
}

func (b *profileBuilder) function(l site.Line) *function {
	key := functionKey{l.Function, cmp.Or(l.Linkage, l.Function), l.File, l.Start}
	if f := b.functions[key]; f != nil {
		return f
	}
	f := &function{
		id: uint64(len(b.p.functions) + 1), name: key.name, systemName: key.symbol, filename: key.file, startLine: int64(key.line),
	}
	b.p.functions = append(b.p.functions, f)
	b.functions[key] = f
	return f
}

// mapping makes the mapping of a module's code. What it says of names holds until a
// location shows that it does not: readers look names up by themselves where it says
// that not all are there.
func (b *profileBuilder) mapping(m *site.Module, in procmaps.Range, offset uint64) *mapping {
	key := mappingKey{m, in.Start}
	if pm := b.mappings[key]; pm != nil {
		return pm
	}
	pm := &mapping{
		start: in.Start, limit: in.End, offset: offset,
		hasFunctions: true, hasFilenames: true, hasLineNumbers: true,
	}
	if m != nil {
		pm.file, pm.buildID = m.Path, m.BuildID()
	} else {
		pm.file, pm.limit = "[jit]", ^uint64(0) // it may be anywhere
	}
	b.p.mappings = append(b.p.mappings, pm)
	b.mappings[key] = pm
	return pm
}

// finish puts the main binary first, which is what readers take the first mapping
// for, and numbers the mappings.
func (b *profileBuilder) finish(main string) {
	if main != "" {
		at := slices.IndexFunc(b.p.mappings, func(m *mapping) bool { return m.file == main })
		first := &mapping{file: main, hasFunctions: true} // unless a stack leads through it
		if at >= 0 {
			first = b.p.mappings[at]
			b.p.mappings = slices.Delete(b.p.mappings, at, at+1)
		}
		b.p.mappings = slices.Insert(b.p.mappings, 0, first)
	}
	for i, m := range b.p.mappings {
		m.id = uint64(i + 1)
	}
}

// WriteFolded writes what each stack has mapped and is still there, one stack a
// line, outermost function first, as flame graphs want them.
func (g *Growth) WriteFolded(out io.Writer) error {
	b := bufio.NewWriter(out)
	plain := strings.NewReplacer(";", ":", "\n", " ")
	for _, part := range g.parts() {
		lines, _ := g.Sites.Stack(part.Site)
		if len(lines) == 0 || part.Now.Mapped == 0 {
			continue
		}
		names := make([]string, 0, len(lines))
		for _, l := range slices.Backward(lines) {
			names = append(names, plain.Replace(table.Escape(l.Function)))
		}
		fmt.Fprintf(b, "%s %d\n", strings.Join(names, ";"), part.Now.Mapped)
	}
	return b.Flush()
}
