package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/site"
)

// writeProfile writes what each stack holds and has made as a profile that go
// tool pprof reads: bytes in use (mapped, writable, resident), and in total the
// bytes and the calls since the watch began.
func (g *growRun) writeProfile(out io.Writer) error {
	p := &profile.Profile{
		SampleType: []*profile.ValueType{
			{Type: "mapped_space", Unit: "bytes"},
			{Type: "writable_space", Unit: "bytes"},
			{Type: "inuse_space", Unit: "bytes"}, // resident: pprof shows this one first
			{Type: "alloc_space", Unit: "bytes"},
			{Type: "alloc_objects", Unit: "count"},
		},
		DefaultSampleType: "inuse_space",
		TimeNanos:         g.clock.Time(g.began()).UnixNano(),
		DurationNanos:     int64(g.watched()),
		Comments:          []string{"maptrace grow: memory by the calls that mapped it"},
	}
	b := profileBuilder{
		p: p, sites: g.sites, mappings: make(map[*site.Module]*profile.Mapping),
		locations: make(map[locationKey]*profile.Location), functions: make(map[functionKey]*profile.Function),
	}
	for _, part := range g.parts() {
		frames, _ := g.sites.Frames(part.Site)
		if len(frames) == 0 {
			continue
		}
		s := &profile.Sample{Value: []int64{
			int64(part.Now.Mapped), int64(part.Now.Writable), int64(part.Now.Resident),
			int64(part.Born), int64(part.BornCount),
		}, Label: map[string][]string{"memory": {part.subject}}}
		for i := range frames {
			s.Location = append(s.Location, b.location(&frames[i]))
		}
		p.Sample = append(p.Sample, s)
	}
	if err := p.CheckValid(); err != nil {
		return fmt.Errorf("make profile: %w", err)
	}
	return p.Write(out)
}

// namedPart is a part with the memory it is of.
type namedPart struct {
	attribution.Part
	subject string
}

// parts are the parts of all processes that have a site, in a fixed order.
func (g *growRun) parts() []namedPart {
	var out []namedPart
	for i := range g.results {
		for _, f := range g.results[i].Findings {
			for _, p := range f.Parts {
				if p.Site != 0 {
					out = append(out, namedPart{p, f.Subject})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b namedPart) int {
		if a.Site != b.Site {
			return int(a.Site) - int(b.Site)
		}
		return strings.Compare(a.subject, b.subject)
	})
	return out
}

// began is when the first process was there, and watched how long ago that is.
func (g *growRun) began() uint64 { return g.Now() - uint64(g.watched()) }

func (g *growRun) watched() (most time.Duration) {
	for i := range g.results {
		most = max(most, g.results[i].Watched)
	}
	return most
}

type locationKey struct {
	mapping *profile.Mapping
	addr    uint64
}

type functionKey struct{ name, file string }

// profileBuilder makes the tables of a profile.
type profileBuilder struct {
	p         *profile.Profile
	sites     *site.Sites
	mappings  map[*site.Module]*profile.Mapping
	locations map[locationKey]*profile.Location
	functions map[functionKey]*profile.Function
}

func (b *profileBuilder) location(f *site.Frame) *profile.Location {
	m := b.mapping(f.Module)
	key := locationKey{m, f.Addr}
	if l := b.locations[key]; l != nil {
		return l
	}
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Mapping: m, Address: f.Addr}
	for _, line := range b.sites.Lines(nil, f) {
		l.Line = append(l.Line, profile.Line{Function: b.function(line), Line: int64(line.Line)})
	}
	b.p.Location = append(b.p.Location, l)
	b.locations[key] = l
	return l
}

func (b *profileBuilder) function(l site.Line) *profile.Function {
	key := functionKey{l.Function, l.File}
	if f := b.functions[key]; f != nil {
		return f
	}
	f := &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: l.Function, SystemName: l.Function, Filename: l.File}
	b.p.Function = append(b.p.Function, f)
	b.functions[key] = f
	return f
}

func (b *profileBuilder) mapping(m *site.Module) *profile.Mapping {
	if pm := b.mappings[m]; pm != nil {
		return pm
	}
	pm := &profile.Mapping{
		ID: uint64(len(b.p.Mapping) + 1), Limit: ^uint64(0),
		HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
	}
	if m != nil {
		pm.File, pm.BuildID = m.Path, m.BuildID()
	} else {
		pm.File = "[jit]"
	}
	b.p.Mapping = append(b.p.Mapping, pm)
	b.mappings[m] = pm
	return pm
}

// writeFolded writes what each stack has mapped and is still there, one stack a
// line, outermost function first, as flame graphs want them.
func (g *growRun) writeFolded(out io.Writer) error {
	b := bufio.NewWriter(out)
	plain := strings.NewReplacer(";", ":", "\n", " ")
	for _, part := range g.parts() {
		lines, _ := g.sites.Stack(part.Site)
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
