package order

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// mover is a Source of a process that moves the same two pages to and fro without
// end, several times between two turns of the loop.
type mover struct {
	w     *world
	on    bool
	first []Event
	turn  int
	at    uint64
	real  space.Row // what the kernel has there
}

func (m *mover) Next(ev *Event) error {
	if !m.on {
		return ErrIdle
	}
	if m.turn++; m.turn%4 == 0 {
		return ErrIdle
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.clock += 1e6
	if len(m.first) > 0 {
		*ev, m.first = m.first[0], m.first[1:]
		ev.Time, ev.Section = m.w.clock, m.w.next
	} else {
		from := m.at
		m.at = 30 + (from-30+10)%20
		*ev = call(5, 1, m.w.clock, m.w.next, space.OpMremap, int64(m.at<<12), from<<12, 2<<12, 2<<12, 3, m.at<<12)
	}
	m.w.next++
	m.w.tasks[0].Section = m.w.next
	m.w.rows = []space.Row{row(10, 20, rw), row(m.at, m.at+2, m.real.Mode)}
	return nil
}

// moving runs a tracer on a mover until done says so.
func moving(t *testing.T, opts Options, real space.Row, first []Event, done func(*model.Change, model.Report) bool) *Tracer {
	t.Helper()
	w := newWorld()
	w.become(3, row(10, 20, rw), row(30, 32, rw))
	w.clock = 3e9
	src := &mover{w: w, first: first, at: 30, real: real}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var tr *Tracer
	opts.OnChange = func(c *model.Change) {
		src.on = src.on || c.Kind == model.KindBegin
		if done(c, tr.Report()) {
			cancel()
		}
	}
	tr = New(src, w, opts)
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	if err := tr.loop(ctx); err != nil {
		t.Fatal(err)
	}
	tr.stopLooking()
	if t.Context().Err() == nil && ctx.Err() == context.DeadlineExceeded {
		t.Fatalf("it never came to that: %+v", tr.Report().Stats)
	}
	return tr
}

func TestADoubtIsSettledThoughItsMemoryMovesOn(t *testing.T) {
	t.Parallel()
	other := Event{Kind: KindOther, TGID: 5, TID: 5, Space: 1, Flags: Stamped | HasSection, NR: 206}
	tr := moving(t, Options{}, row(30, 32, rw), []Event{other}, func(_ *model.Change, rep model.Report) bool {
		return rep.Stats.Others == 1 && len(rep.Spaces) == 1 && rep.Spaces[0].Picture.Why == ""
	})
	if s := tr.Report().Stats; s.Rereads == 0 || s.Rereads > 5 {
		t.Errorf("%d re-reads, want very few", s.Rereads)
	}
}

func TestAnAuditSeesWhatHasMovedSince(t *testing.T) {
	t.Parallel()
	tr := moving(t, Options{Verify: 1}, row(30, 32, rw|4), nil, func(c *model.Change, _ model.Report) bool { return c.Kind == model.KindDrift })
	if s := tr.Report().Stats; s.Drift == 0 {
		t.Errorf("%d differences in %d audits, though the kernel has another mode there", s.Drift, s.Audits)
	}
}

func TestWhatHasNoSectionKeepsNothingThatIsOlder(t *testing.T) {
	t.Parallel()
	tr := New(&script{}, nil, Options{})
	sp := tr.newSpace(1)
	tr.lay(sp, model.Layout{})
	sp.state = known
	sp.q.start(3)
	sp.held.on = true
	advice := call(5, 1, 9e9, 0, space.OpMadvise, 0, 30<<12, 1<<12, 4)
	advice.Flags &^= HasSection
	for _, ev := range []Event{advice, mmap(5, 1, 4e9, 3, 30, 32), mmap(5, 1, 8e9, 4, 40, 42)} {
		tr.deliver(sp, &ev, false)
	}
	var got []uint64
	for _, until := range []uint64{3e9, 5e9, 7e9, 8e9} {
		tr.letInUntil(sp, until)
		got = append(got, sp.Tree().Totals().Mapped>>12)
	}
	if diff := cmp.Diff([]uint64{0, 2, 2, 4}, got); diff != "" {
		t.Errorf("pages mapped (-want +got):\n%s", diff)
	}
}

// A thread that gets no CPU between its commit and the end of its call is given up on. An
// audit that shows what it did must not take that for drift.
func TestAnAuditWaitsForCallsThatComeLate(t *testing.T) {
	t.Parallel()
	tr := New(&script{}, nil, Options{})
	sp := tr.newSpace(1)
	tr.lay(sp, model.Layout{})
	sp.state = known
	sp.q.start(3)
	deliver := func(ev *Event, late bool) { tr.deliver(sp, ev, late) }
	push := func(ev Event) { sp.q.push(&ev, deliver) }
	look := Look{At: 5e9, Until: 5e9, Rows: []space.Row{row(30, 32, rw), row(40, 42, rw)}, Section: 5, HasSection: true}
	compare := func() { tr.letInSeen(sp, &look); tr.compare(sp, &lookResult{looks: []Look{look}}) }
	var got [][2]uint64
	note := func() { got = append(got, [2]uint64{tr.figures.Audits, tr.figures.AuditsUnfinished}) }

	push(mmap(5, 1, 4.1e9, 4, 40, 42))
	sp.q.advance(4.5e9, 0, deliver)
	compare()
	note() // the call of section 3 is missing
	sp.held.on = true
	push(mmap(5, 1, 6e9, 5, 50, 52))
	push(mmap(5, 1, 4e9, 3, 30, 32))
	compare()
	note() // it has come, and waits
	tr.letIn(sp)
	look.At, look.Until, look.Section, look.Rows = 7e9, 7e9, 6, append(look.Rows, row(50, 52, rw))
	compare()
	note()
	if diff := cmp.Diff([][2]uint64{{0, 1}, {0, 2}, {1, 2}}, got); diff != "" || tr.Report().Stats.Drift != 0 {
		t.Errorf("audits, and those unfinished (-want +got):\n%s%d differences", diff, tr.Report().Stats.Drift)
	}
}
