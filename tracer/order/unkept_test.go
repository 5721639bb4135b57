package order

import (
	"slices"
	"testing"

	"github.com/maptrace/maptrace/tracer/model"
)

// Of an address space that is given up calls are counted, and nothing of it is read any more,
// whatever happens to it; a child of it is read by itself.
func TestASpaceThatIsGivenUpIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw), row(20, 21, 1), row(21, 22, rw), row(22, 23, 1), row(23, 24, rw))
	w.clock = 3e9
	tr := New(&script{idle: -1}, w, Options{Rows: 6, Verify: 1})
	if err := tr.Add(w.tasks, true); err != nil {
		t.Fatal(err)
	}
	sp := tr.spaces[1]
	if sp.Kept() || sp.waits() {
		t.Fatalf("kept %t, state %d", sp.Kept(), sp.state)
	}
	looks := w.looks
	other := Event{Kind: KindOther, TGID: 5, TID: 5, Space: 1, Section: 3, Flags: Stamped | HasSection, Time: 4e9, NR: 206}
	fork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 5e9, Space: 1, Section: 6, Flags: Stamped | HasSection,
		Child: 6, ChildSpace: 2, First: 1,
	}
	lost := Event{Kind: model.KindLost, Lost: 1, Time: 4e9}
	for _, ev := range []Event{other, munmap(5, 1, 4e9, 4, 12, 14), mmap(5, 1, 4e9, 9, 30, 31), lost} {
		tr.arrive(&ev)
	}
	for range 50 { // and for as long as something is to be done
		tr.idle(tr.now())
	}
	for len(tr.busy) > 0 {
		tr.idle(tr.now())
	}
	if w.looks != looks {
		t.Errorf("its mappings were read %d times", w.looks-looks)
	}
	const why = "approximate: its mappings are not kept: memory budget reached"
	if rep := tr.Report(); pictureOf(&rep, 5) != why || pages(tr, 5) != "" || rep.Stats.Calls != 2 || rep.Stats.Violations+rep.Stats.Drift > 0 {
		t.Errorf("picture %q, regions %s, stats %+v", pictureOf(&rep, 5), pages(tr, 5), rep.Stats)
	}

	w.mu.Lock()
	w.space, w.rows = 2, w.rows[:1]
	w.mu.Unlock()
	tr.arrive(&fork)
	child := tr.spaces[2]
	if !slices.Contains([]state{waiting, seeding}, child.state) {
		t.Fatalf("the child is %d before it is read", child.state)
	}
	for child.waits() {
		tr.idle(tr.now())
	}
	if got := pages(tr, 6); got != "10-20" || !child.Kept() || child.Picture().String() != "exact" {
		t.Errorf("the child has %s, %s", got, child.Picture())
	}
}
