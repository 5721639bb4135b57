package tracer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/order"
	"github.com/maptrace/maptrace/tracer/space"
)

const rw = procmaps.Read | procmaps.Write

// pages is a range of pages by their numbers.
func pages(from, to uint64) procmaps.Range { return procmaps.Range{Start: from << 12, End: to << 12} }

func mapping(from, to uint64) space.Row {
	return space.Row{Mapping: procmaps.Mapping{Range: pages(from, to), Mode: rw}}
}

// acted is an Engine of given events, in batches between which it is idle. It spoils what
// it gave before, as engines may, and its clock runs a millisecond each time it is looked at.
type acted struct {
	batches []batch
	clock   atomic.Uint64
	since   uint64      // when the batch began, which its times count from
	rows    []space.Row // those given last
}

// batch is given as soon as it is time.
type batch struct {
	events []Event
	when   func() bool // nil for at once
}

func (a *acted) Next(ev *Event) error {
	if len(a.batches) == 0 {
		return ErrIdle
	}
	b := &a.batches[0]
	if b.when != nil && !b.when() {
		return ErrIdle
	}
	if len(b.events) == 0 {
		a.batches, a.since = a.batches[1:], 0
		return ErrIdle
	}
	if b.when = nil; a.since == 0 {
		a.since = a.Now()
	}
	*ev, b.events = b.events[0], b.events[1:]
	ev.Time += a.since
	ev.Call.Time = ev.Time
	return nil
}

func (a *acted) Now() uint64 { return a.clock.Add(1e6) }

// Look says that there is one mapping; it is called by one goroutine at a time.
func (a *acted) Look(pid int, _ procmaps.Range, _ bool, _ func(int) error) (Look, error) {
	clear(a.rows)
	a.rows = []space.Row{mapping(10, 20)}
	at := a.Now()
	l := Look{Rows: a.rows, At: at, Until: at + 1, Space: 1, Section: 3, HasSection: true}
	if pid != actor.PID {
		l.Space = 3
	}
	return l, nil
}

var actor = Task{PID: 5, Inner: 2, Space: 1, HasSection: true, Section: 3, Comm: "actor", StartTime: 1}

func (*acted) Path(int, uint64, procmaps.Device, uint64) string { return "/lib/libx.so" }
func (*acted) Tasks() ([]Task, error)                           { return []Task{actor}, nil }
func (*acted) Forget(int)                                       {}
func (*acted) Info() Info                                       { return Info{Latency: measured{}, Memory: 1} }
func (*acted) Trace(...int) ([]Task, error)                     { return []Task{actor}, nil }
func (*acted) Untracked() (uint64, error)                       { return 7, nil }
func (*acted) Detach() error                                    { return nil }
func (*acted) Close() error                                     { return nil }

// measured are the latencies of that engine.
type measured struct{}

func (measured) Latencies() ([]Latency, error)           { return []Latency{{Name: "mmap", Call: true}}, nil }
func (measured) TimingCounters() (TimingCounters, error) { return TimingCounters{Dropped: 3}, nil }
func (measured) RaiseWorst(uint64) error                 { return nil }

// diary is a sink that writes down all that it is told, and can ask.
type diary struct {
	s     *Session
	told  map[Kind]bool
	lines []string
}

func (d *diary) Change(c *Change) {
	d.told[c.Kind] = true
	line := fmt.Sprintf("%d: change %d of %d by %d/%d at %d flags %x", d.s.Now(), c.Kind, c.Space, c.TGID, c.TID, c.Time, c.Flags)
	if c.Process != nil {
		line += fmt.Sprintf(" process %+v", *c.Process)
	}
	if c.Call != nil {
		line += fmt.Sprintf(" call %+v", *c.Call)
	}
	if c.Effect != nil {
		line += fmt.Sprintf(" effect %+v", *c.Effect)
	}
	if c.Start != nil {
		line += fmt.Sprintf(" start %+v", *c.Start)
	}
	if c.Timing != nil {
		line += fmt.Sprintf(" timing %+v", *c.Timing)
	}
	line += fmt.Sprintf(" %d %d %v %v %v %q %d", c.Site, c.Child, c.At, c.Found, c.Drift, c.Comm, c.Lost)
	d.lines = append(d.lines, line)
}

func (d *diary) Record(r *event.Record) {
	d.lines = append(d.lines, fmt.Sprintf("%d: record at %d of %d, tree %v: %v", d.s.Now(), r.At, r.Space, r.Tree != nil, r.Body))
	if r.Tree != nil {
		d.lines = append(d.lines, fmt.Sprint(r.Tree.Regions(nil)))
	}
}

func (d *diary) Idle() error {
	d.lines = append(d.lines, fmt.Sprintf("%d: idle %#v", d.s.Now(), d.s.Report()))
	return nil
}

// end writes down what there is when all is over.
func (d *diary) end(t *testing.T) []string {
	t.Helper()
	untracked, err := d.s.Untracked()
	if err != nil {
		t.Fatal(err)
	}
	latencies, err := d.s.Info().Latency.Latencies()
	if err != nil {
		t.Fatal(err)
	}
	counters, err := d.s.Info().Latency.TimingCounters()
	if err != nil {
		t.Fatal(err)
	}
	r := d.s.Report()
	d.lines = append(d.lines, fmt.Sprint(d.s.Now(), d.s.PIDs(), untracked, latencies, counters), fmt.Sprintf("%#v", r))
	for i := range r.Spaces {
		d.lines = append(d.lines, fmt.Sprint(d.s.Tree(r.Spaces[i].Process.Space).Regions(nil)))
	}
	return d.lines
}

// reuser is a sampler that emits one record again and again, with other contents.
type reuser struct {
	s *Session
	r event.Record
	n event.Resident
	// arenas are those of another record.
	arenas []event.Arena
	p      []heap.Record
}

func (u *reuser) Change(*Change) {}

func (u *reuser) Idle() {
	u.n[0].Bytes++
	u.r = event.Record{At: u.s.Now(), Space: 1, PID: 5, Tree: u.s.Tree(1), Body: u.n}
	u.s.Emit(&u.r)
	u.arenas[0].InUse = u.n[0].Bytes
	u.s.Emit(&event.Record{At: u.s.Now(), Space: 1, PID: 5, Tree: u.s.Tree(1), Body: event.Malloc{Arenas: u.arenas}})
	u.p[0].Allocs++
	u.s.Emit(&event.Record{At: u.s.Now(), Space: 1, PID: 5, Tree: u.s.Tree(1), Body: event.GoHeap{Rate: 1, Records: u.p}})
}

func (u *reuser) Finish() {
	u.n[0].Bytes, u.p[0].Allocs = 99, 99
	u.s.Emit(&event.Record{At: 1, Body: event.Effort{Missing: map[string]uint64{"a": 1}}})
}

func made(pid int, id, at uint64, section uint32, op space.Op, ret int64, args ...uint64) Event {
	ev := Event{
		Kind: KindCall, TGID: pid, TID: pid, Time: at, Space: id, Section: section, Flags: order.Stamped | order.HasSection,
		Call: space.Call{Op: op, Time: at, TID: uint32(pid), Ret: ret},
	}
	copy(ev.Call.Args[:], args)
	return ev
}

func mmaps(pid int, id, at uint64, section uint32, from, to uint64) Event {
	r := pages(from, to)
	return made(pid, id, at, section, space.OpMmap, int64(r.Start), 0, r.Len(), 3, 0x22, ^uint64(0), 0)
}

// story is one of everything, some of it late.
func story(d *diary) []batch {
	fork := Event{
		Kind: KindFork, TGID: 5, TID: 5, Time: 2200, Space: 1, Section: 6, Flags: order.Stamped | order.HasSection,
		Child: 6, Inner: 3, ChildSpace: 2, First: 1, StartTime: 2,
	}
	head := Event{TGID: 6, TID: 6, Time: 2500, Space: 3}
	exec, row, seeded, gone := head, head, head, head
	exec.Kind, exec.Comm, exec.First, exec.Flags = KindExec, "prog", 1, order.HasSection
	row.Kind, row.Row = order.KindRow, mapping(10, 20)
	seeded.Kind, seeded.Pages = order.KindSeeded, 1
	gone.Kind, gone.Space = order.KindGone, 2
	timed := Event{Kind: KindTiming, TGID: 5, TID: 5, Time: 2300, Space: 1, Timing: &Timing{Duration: 5, Name: "mmap"}}
	one := func(events ...Event) batch { return batch{events: events} }
	healed := func() bool { return d.told[KindDrift] && d.told[KindReread] }
	resynced := func() bool { return d.s.Report().Picture.Resyncs > 0 }
	return []batch{
		{},
		one(mmaps(5, 1, 2100, 5, 40, 50), mmaps(5, 1, 2000, 4, 30, 40), mmaps(5, 1, 1900, 3, 60, 61)),
		one(fork, timed, mmaps(6, 2, 2400, 1, 70, 71)),
		one(exec, row, seeded, gone),
		one(Event{Kind: order.KindStack, TGID: 5, TID: 5, Time: 2600, Space: 1, Section: 7, Flags: order.Stamped | order.HasSection, Pages: 1, NR: -1}),
		one(made(5, 1, 2700, 8, space.OpMunmap, 0, pages(35, 45).Start, pages(35, 45).Len()), made(5, 1, 2800, 0, space.OpMmap, -12, 0, 1<<40)),
		{[]Event{{Kind: KindLost, Lost: 9, Time: 2900}}, healed},
		{[]Event{{Kind: KindExit, TGID: 6, TID: 6, Time: 3000, Space: 3, Status: 7 << 8}}, resynced},
		one(Event{Kind: KindExit, TGID: 5, TID: 5, Time: 3100, Space: 1, Flags: NoStatus}),
	}
}

func TestARecordingTellsAgainWhatWasTold(t *testing.T) {
	t.Parallel()
	engine := new(acted)
	engine.clock.Store(3e9)
	s := NewSession(engine, Options{Verify: time.Millisecond})
	if err := s.Trace([]int{5}, nil); err != nil {
		t.Fatal(err)
	}
	var rec Recording
	s.Record(&rec)
	d := &diary{s: s, told: make(map[Kind]bool)}
	engine.batches = story(d)
	sampler := &reuser{s: s, n: event.Resident{{}}, arenas: make([]event.Arena, 1), p: []heap.Record{{ID: 1}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Run(ctx, RunOptions{Sinks: []Sink{d}, Samplers: []Sampler{sampler}, Standing: true}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{KindCall, KindFork, KindExec, KindExit, KindLost, KindTiming, KindBegin, KindReread, KindDrift} {
		if !d.told[k] {
			t.Errorf("no change of kind %d was told", k)
		}
	}
	want := d.end(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	for range 2 {
		again := Replay(&rec)
		d := &diary{s: again, told: make(map[Kind]bool)}
		if err := again.Run(t.Context(), RunOptions{Sinks: []Sink{d}}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.end(t)); diff != "" {
			t.Fatalf("(-live +replayed):\n%s", diff)
		}
	}
}
