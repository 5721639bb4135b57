package order

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

func TestReadsHoldNoMoreRowsThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	all := &roster{most: 100, few: 10}
	large, second, small := &place{of: all}, &place{of: all}, &place{of: all}
	for i, c := range []struct {
		p    *place
		n    int
		want error
	}{
		{large, 150, nil}, // alone it may be as large as it is
		{second, 10, nil}, // a small one has a place
		{second, 1, errNoPlace},
		{large, 1, errNoPlace},
		{small, 5, nil},
	} {
		if err := c.p.take(c.n); !errors.Is(err, c.want) {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
	}
	second.leave()
	if second.needs != 11 || all.room(second.needs) {
		t.Errorf("it waits for room for %d rows, want 11, and that there is none yet", second.needs)
	}
	large.leave()
	large.leave()
	if !all.room(second.needs) || all.room(96) {
		t.Errorf("%d rows are held: there is room for %d more, and no others", all.rows, all.most-all.rows)
	}
	if err := second.take(95); err != nil {
		t.Error(err)
	}
	second.leave()
	small.leave()
	if all.rows != 0 || !all.room(1000) {
		t.Errorf("%d rows are held by nobody", all.rows)
	}
}

// crowd is a World of many processes, each of which has so many rows.
type crowd struct {
	*world
	each   int
	places *roster

	crowdMu sync.Mutex
	most    int // that were held
	refused int
}

func (c *crowd) Look(pid int, r procmaps.Range, full bool, take func(int) error) (Look, error) {
	l, err := c.world.Look(pid, r, full, take)
	if err != nil {
		return l, err
	}
	c.crowdMu.Lock()
	defer c.crowdMu.Unlock()
	for range 2 {
		if err == nil {
			err = take(c.each / 2)
		}
	}
	if err != nil {
		c.refused++
		return Look{}, err
	}
	c.places.mu.Lock()
	defer c.places.mu.Unlock()
	c.most = max(c.most, c.places.rows)
	l.Space = uint64(pid)
	return l, nil
}

// Every process is read at last, whatever has to wait, and never more at once than there is
// room for.
func TestReadsThatFindNoPlaceHaveAnotherTurn(t *testing.T) {
	t.Parallel()
	const processes, atOnce = 20, 3
	w := &crowd{world: newWorld(row(10, 20, rw)), each: 100}
	w.tasks = nil
	for i := range processes {
		w.tasks = append(w.tasks, Task{PID: i + 1, Space: uint64(i + 1), Comm: fmt.Sprint("p", i)})
	}
	tr := New(&script{idle: 400}, w, Options{})
	w.places = &tr.looks.places
	w.places.most, w.places.few = atOnce*w.each+w.each/2, 1 // room for a half, which the next gives back
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	// All are begun as if each took long, and answer before anything they hold is used.
	for sp := range tr.busy {
		tr.attend(sp, 0, tr.now())
	}
	now := tr.now()
	for i := range processes {
		now += 2 * slowLook
		tr.beginLooks(now)
		for len(tr.looks.looked) <= i {
			runtime.Gosched()
		}
	}
	w.crowdMu.Lock()
	if w.refused != processes-atOnce {
		t.Errorf("%d reads found no place, want %d", w.refused, processes-atOnce)
	}
	w.crowdMu.Unlock()
	// As long as nobody has left, none of those has another turn.
	tr.collect(now)
	now += 2 * slowLook
	if tr.beginLooks(now); len(tr.looks.reading) != 0 {
		t.Errorf("%d reads have another turn, though there is no room", len(tr.looks.reading))
	}
	known := func() (n int) {
		for _, sp := range tr.spaces {
			if sp.state == known {
				n++
			}
		}
		return n
	}
	for known() < processes {
		tr.idle(tr.now())
		now += 2 * slowLook
		tr.beginLooks(now)
	}
	if w.most > w.places.most || w.places.rows != 0 {
		t.Errorf("%d rows were held at once, and %d are at the end; want %d at most, and 0", w.most, w.places.rows, w.places.most)
	}
	for _, sp := range tr.Report().Spaces {
		if sp.Picture.String() != "exact" {
			t.Errorf("process %d: %s", sp.Process.PID, sp.Picture)
		}
	}
}

// What a read gave is kept until it is used, or nobody is left to use it for.
func TestAReadOfWhoIsGoneLeavesItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	tr := New(&script{idle: -1}, w, Options{})
	if err := tr.Add(w.tasks, true); err != nil {
		t.Fatal(err)
	}
	sp := tr.spaces[1]
	p := &place{of: &tr.looks.places}
	if err := p.take(5); err != nil {
		t.Fatal(err)
	}
	tr.accept(sp, lookResult{
		lookRequest: lookRequest{space: 1, pid: 5, ranges: []procmaps.Range{space.All}},
		looks:       []Look{{Space: 1, At: 1e9, Until: 1e9, Section: 99, HasSection: true}}, place: p,
	})
	tr.arrive(&Event{Kind: model.KindExit, TGID: 5, TID: 5, Time: 2e9, Space: 1})
	if sp.parked != nil || tr.looks.places.rows != 0 {
		t.Errorf("%d rows are held for a process that is gone", tr.looks.places.rows)
	}
}
