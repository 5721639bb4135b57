package order

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// mapped are so many calls that map one page each, beginning with section 3 and page 100, at
// times after from.
func mapped(pid int, id, from uint64, n int) (events []Event) {
	for i := range uint64(n) {
		events = append(events, mmap(pid, id, from+i, 3+uint32(i), 100+2*i, 101+2*i))
	}
	return events
}

// slowWorld is a World whose reads of a process take until they are let go on.
type slowWorld struct {
	*world
	began, goOn chan struct{}
}

func (w *slowWorld) Look(pid int, r procmaps.Range, full bool, take func(int) error) (Look, error) {
	l, err := w.world.Look(pid, r, full, take)
	w.began <- struct{}{}
	<-w.goOn
	return l, err
}

// What waits for the first read of a space is bounded. Beyond, it is lost, which is told of
// that space, and a read shows it: one that began before is followed by another.
func TestEventsThatAreTooManyToWaitAreALossThatIsHealed(t *testing.T) {
	t.Parallel()
	const n, room = 500, 100
	for _, early := range []bool{false, true} {
		w := &slowWorld{newWorld(row(10, 20, rw)), make(chan struct{}, 9), make(chan struct{}, 9)}
		w.clock = 3e9
		lost := uint64(0)
		tr := New(&script{}, w, Options{OnChange: func(c *model.Change) {
			if c.Kind == model.KindLost {
				lost += c.Lost
				if c.Space != 1 || c.Process == nil || c.Process.PID != 5 {
					t.Errorf("the loss is told of space %d, process %v", c.Space, c.Process)
				}
			}
		}})
		tr.mostStoredOfOne = room * (&Event{}).bytes()
		if err := tr.Add(w.tasks, false); err != nil {
			t.Fatal(err)
		}
		if early {
			tr.idle(0)
			<-w.began
		}
		for _, ev := range mapped(5, 1, 5e9, n) {
			tr.arrive(&ev)
			if b := tr.stored.Used(); b > tr.mostStoredOfOne {
				t.Fatalf("%d bytes wait, want %d at most", b, tr.mostStoredOfOne)
			}
		}
		w.become(3 + n)
		w.mu.Lock()
		w.rows, w.clock = []space.Row{row(10, 20, rw)}, 6e9
		want := "10-20"
		for i := range uint64(n) {
			w.rows = append(w.rows, row(100+2*i, 101+2*i, rw))
			want += fmt.Sprintf(" %d-%d", 100+2*i, 101+2*i)
		}
		w.mu.Unlock()
		close(w.goOn)
		healed := func() bool {
			rep := tr.Report()
			return len(rep.Spaces) > 0 && rep.Picture.String() == "resynced" && len(tr.busy) == 0
		}
		for !healed() {
			tr.idle(tr.now())
		}
		rep := tr.Report()
		if got := pages(tr, 5); got != want || rep.Stats.Violations+rep.Stats.Missed > 0 {
			t.Errorf("early %t: stats %+v, regions %s", early, rep.Stats.Figures, got)
		}
		if lost == 0 || lost >= n || lost != rep.Stats.Lost || (rep.Stats.Rereads > 0) != early {
			t.Errorf("early %t: %d of %d were told to be lost, %d counted; %d re-reads", early, lost, n, rep.Stats.Lost, rep.Stats.Rereads)
		}
	}
}

// Who waits with little keeps it, however much others want.
func TestOnlyTheSpaceThatTakesTooMuchLosesWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.tasks = append(w.tasks, Task{PID: 6, Space: 2, Comm: "small", Section: 3, HasSection: true})
	var lost []uint64
	tr := New(&script{}, w, Options{OnChange: func(c *model.Change) {
		if c.Kind == model.KindLost {
			lost = append(lost, c.Space)
		}
	}})
	tr.stored = budget.New(100 * (&Event{}).bytes())
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	few := mapped(6, 2, 2e9, 20)
	for _, ev := range slices.Concat(few, mapped(5, 1, 2e9, 500)) {
		tr.arrive(&ev)
		if used := tr.stored.Used(); used > tr.stored.Most() {
			t.Fatalf("%d bytes wait, more than %d", used, tr.stored.Most())
		}
	}
	if got := len(tr.spaces[2].backlog.events); got != len(few) || len(lost) == 0 || slices.Contains(lost, 2) {
		t.Errorf("%d events of the small one wait, want %d; lost by %v", got, len(few), lost)
	}
}

// Copies of stacks take the most, and only who made something is lost with them.
func TestStacksAreGivenUpBeforeEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.clock = 1e6
	tr := New(&script{idle: 40}, w, Options{Sites: noSites{}})
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	const n = 50
	tr.mostStoredOfOne = (n + 1) * (&Event{}).bytes()
	for _, ev := range mapped(5, 1, 5e9, n) {
		ev.Sample = &stack.Sample{Stack: make([]byte, 16<<10)}
		tr.arrive(&ev)
	}
	sp := tr.spaces[1]
	if b := &sp.backlog; len(b.events) != n || b.bytes > tr.mostStoredOfOne {
		t.Errorf("%d events wait, of %d bytes", len(b.events), b.bytes)
	}
	for sp.waits() {
		tr.idle(tr.now())
	}
	if s := tr.Report().Stats; s.Calls != n || s.Lost > 0 || s.Unsampled != n {
		t.Errorf("%d calls, %d lost, %d without a stack; want %d, 0 and %[1]d", s.Calls, s.Lost, s.Unsampled, n)
	}
}

type noSites struct{}

func (noSites) Site(int, *space.Space, *stack.Sample) uint32 { return 1 }

// Ends are not lost with the rest, and children whose fork is have their mappings read.
func TestEndsAndChildrenOutliveTheLossOfWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.clock = 6e9
	tr := New(&script{idle: 40}, w, Options{})
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	tr.mostStoredOfOne = 20 * (&Event{}).bytes()
	fork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 4e9, Space: 1, Section: 3, Flags: Stamped | HasSection,
		Child: 6, ChildSpace: 2, First: 1,
	}
	shares := Event{Kind: model.KindFork, TGID: 5, TID: 5, Time: 4e9, Space: 1, Flags: model.SharesSpace, Child: 7, ChildSpace: 1}
	for _, ev := range slices.Concat([]Event{fork, shares, exit(7, 1, 4e9)}, mapped(5, 1, 5e9, 100)) {
		if ev.Kind == model.KindCall {
			ev.Section++
		}
		tr.arrive(&ev)
	}
	child := tr.spaces[2]
	if child.state != seeding || tr.figures.Lost == 0 {
		t.Fatalf("the child is %d, %d lost", child.state, tr.figures.Lost)
	}
	w.space = 2
	for child.waits() {
		tr.idle(tr.now())
	}
	if got, picture := pages(tr, 6), child.Picture().String(); got != "10-20" || picture != "resynced" {
		t.Errorf("the child has %s, %s", got, picture)
	}
	w.mu.Lock()
	w.space = 1
	w.mu.Unlock()
	for tr.spaces[1].waits() {
		tr.idle(tr.now())
	}
	if tr.model.Process(7) != nil || tr.model.Process(5) == nil {
		t.Error("the end of a process was lost")
	}
}

// What waits for a section that does not come is bounded, too: it is missing then.
func TestWhatWaitsForASectionIsBounded(t *testing.T) {
	t.Parallel()
	const n, room = 500, 100
	tr := New(&script{}, nil, Options{})
	tr.mostStoredOfOne = room * (&Event{}).bytes()
	for _, ev := range slices.Concat(image(5, 1, 100, 3), mapped(5, 1, 200, n)[1:]) {
		tr.arrive(&ev)
		if b := tr.stored.Used(); b > tr.mostStoredOfOne {
			t.Fatalf("%d bytes wait, more than %d", b, tr.mostStoredOfOne)
		}
	}
	if s := tr.Stats(); s.Calls != n-1 || s.Missed != 1 {
		t.Errorf("%d calls, %d missed; want %d and 1", s.Calls, s.Missed, n-1)
	}
}

// What is held while mappings are read is bounded as well.
func TestWhatIsHeldDuringAReadIsBounded(t *testing.T) {
	t.Parallel()
	const n, room = 500, 100
	tr := New(&script{}, nil, Options{})
	tr.mostStoredOfOne = room * (&Event{}).bytes()
	for _, ev := range image(5, 1, 100, 3) {
		tr.arrive(&ev)
	}
	sp := tr.spaces[1]
	sp.held.on, sp.held.after = true, 150
	most := 0
	for _, ev := range mapped(5, 1, 200, n) {
		tr.arrive(&ev)
		most = max(most, tr.stored.Used())
	}
	if most > tr.mostStoredOfOne+(&Event{}).bytes() || most == 0 || sp.held.on {
		t.Errorf("%d bytes were held, want %d at most", most, tr.mostStoredOfOne)
	}
	want := []uint64{n, 0}
	if diff := cmp.Diff(want, []uint64{tr.Stats().Calls, uint64(tr.stored.Used())}); diff != "" {
		t.Errorf("calls, and bytes that are held (-want +got):\n%s", diff)
	}
}
