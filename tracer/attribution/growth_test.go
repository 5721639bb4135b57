package attribution

import (
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// names are those of no program.
type names struct{ pairs }

func (names) Function(site uint32) stack.Name {
	if site == 0 {
		return nobody
	}
	return stack.Plain("f" + string(rune('a'+site%26)))
}

// inVfork is a site whose stack is cut in code that serves others.
const inVfork = 70

func (n names) Path(site uint32) []heap.Place {
	if site == inVfork {
		return []heap.Place{{Function: "vfork", Serves: true}, {Cut: true}}
	}
	return n.pairs.Path(site)
}

func (n names) PlaceName(site uint32, depth int) stack.Name {
	return stack.Plain(n.Path(site)[depth].Function)
}

func (n names) StackNames(site uint32) ([]stack.Name, string) {
	return []stack.Name{n.Function(site)}, ""
}

// process has a process begin, in an address space of the same number.
func process(g *Growth, pid int, at uint64) {
	g.Change(&model.Change{
		Kind: model.KindBegin, Space: uint64(pid), Time: at,
		Process: &model.Process{PID: pid}, Start: &space.Packed{},
	})
}

// observed has it observed so often, once a second.
func observed(g *Growth, pid, ticks int) {
	tree := space.New(space.Options{PageSize: page})
	for i := range ticks {
		at := uint64(time.Second) * uint64(i+1)
		g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Tree: tree, Body: event.Counting{}})
		g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Tree: tree, Body: event.Resident{}})
	}
}

func exits(g *Growth, pid int, at uint64) {
	g.Change(&model.Change{Kind: model.KindExit, Space: uint64(pid), TGID: pid, Time: at})
}

func TestProcessesThatHaveEndedAreBounded(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	observed(g, 1, fewestTicks-1)
	exits(g, 1, 5e9)
	if len(g.spaces) != 0 || len(g.living) != 0 {
		t.Error("a process that was observed twice is kept")
	}
	process(g, 2, 1)
	observed(g, 2, fewestTicks)
	for pid := 10; pid < 10+3*mostEnded; pid++ {
		process(g, pid, 1)
		observed(g, pid, fewestTicks)
		exits(g, pid, 7e9)
	}
	if n := len(g.spaces); n != mostEnded+1 || len(g.living) != 1 {
		t.Errorf("%d are kept, want %d and the one that lives", n, mostEnded)
	}
	for _, p := range g.Processes(90e9) {
		if p.Exited != (p.PID != 2) || p.Exited && p.Watched != 7*time.Second-1 {
			t.Errorf("process %d, ended %v, was watched for %v", p.PID, p.Exited, p.Watched)
		}
	}
}

func TestProcessesThatHaveEndedGiveTheirMemoryBack(t *testing.T) {
	t.Parallel()
	memory := budget.Of(16 << 20)
	g := NewGrowth(Options{Names: names{}, Interval: time.Second, Memory: memory})
	for pid := range 1000 {
		process(g, pid, 1)
		observed(g, pid, pid%2*fewestTicks)
		if pid%3 == 0 {
			process(g, pid, 5e9) // it begins again
		}
		exits(g, pid, 7e9)
	}
	if n := len(g.spaces); n != mostEnded {
		t.Fatalf("%d are kept", n)
	}
	for id := range g.spaces {
		g.drop(id)
	}
	if series, parts := memory.Series.Used(), memory.Parts.Used(); series != 0 || parts != 0 {
		t.Errorf("of those that are not kept, series have %d bytes and parts %d", series, parts)
	}
	if memory.Series.Peak() == 0 { // they have no mappings, so no parts
		t.Error("no series was ever held")
	}
}

// A process that was found amid its exec begins twice.
func TestAProcessMayBeginAgain(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	observed(g, 1, 5)
	process(g, 1, 6e9)
	if n := g.spaces[1].Ticks(); n != 0 {
		t.Errorf("it was observed %d times before it began", n)
	}
	// What is of another image than it has now is not its.
	g.Change(&model.Change{
		Kind: model.KindBegin, Space: 7, Time: 8e9,
		Process: &model.Process{PID: 1}, Start: &space.Packed{},
	})
	if g.spaces[1] != nil || g.spaces[7] == nil || g.living[1] != 7 {
		t.Error("the image before the exec, which was never observed, is kept")
	}
}

func TestRecordsOfUnknownSpacesAreIgnored(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}})
	for _, b := range []event.Body{event.Threads{}, event.Limits{}, event.Counting{}, event.Resident{{Bytes: 1}}, event.Uncounted("x"), event.Outcome{}, event.Unwatched("x")} {
		g.Record(&event.Record{Space: 9, Body: b})
	}
	process(g, 1, 1)
	g.Record(&event.Record{Space: 1, At: 2, Body: event.Resident{{Bytes: 1}, {Bytes: 2}, {Bytes: 3}}}) // of no extents that it knows
	if g.spaces[1].Ticks() != 0 || len(g.spaces) != 1 {
		t.Errorf("%d spaces, observed %d times", len(g.spaces), g.spaces[1].Ticks())
	}
	g.Record(&event.Record{Body: event.Effort{Faults: 5}})
	if g.Effort().Faults != 5 {
		t.Errorf("effort %+v", g.Effort())
	}
}

// What an address space held is not looked at any more once it is not kept: nothing has gone.
func TestWhatIsNotKeptIsNotObserved(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	tree := space.New(space.Options{})
	tree.Reread(space.Read{Range: space.All, Began: 1, Op: space.OpSeed, Rows: []space.Row{
		{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0x1000, End: 0x3000}, Mode: procmaps.Read | procmaps.Write}},
	}})
	look := func(at uint64) {
		g.Record(&event.Record{Space: 1, At: at, Tree: tree, Body: event.Counting{}})
		g.Record(&event.Record{Space: 1, At: at, Body: event.Resident{{Bytes: 4096}}})
	}
	look(1e9)
	g.Record(&event.Record{Space: 1, At: 2e9, Tree: tree, Body: event.Counting{}})
	g.Record(&event.Record{Space: 1, At: 2e9, Body: event.Uncounted("not kept")})
	g.Change(&model.Change{Kind: model.KindUnkept, Space: 1, TGID: 1, Time: 2e9})
	g.Record(&event.Record{Space: 1, At: 2e9, Body: event.Resident{{Bytes: 4096}}}) // which was under way
	w := g.spaces[1]
	if w.Ticks() != 1 || w.pieces != nil || w.stakes != nil {
		t.Errorf("%d looks, %d pieces of %d stakes are kept", w.Ticks(), len(w.pieces), len(w.stakes))
	}
	if got := g.Processes(3e9); len(got) != 1 || got[0].Uncounted != "not kept" {
		t.Errorf("told of %+v", got)
	}
}
