package order

import (
	"errors"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// lose handles a loss: every tree may be wrong, and processes may have come
// and gone unseen. If programs were skipped it need not have been ours that was lost:
// where the kernel numbers the sections, they tell.
func (t *Tracer) lose(ev *Event) {
	skipped := ev.Kind == KindSkipped
	if skipped {
		t.figures.Skipped += ev.Lost
		for _, sp := range t.spaces {
			sp.q.explain()
		}
		if t.stopAt != 0 {
			return // what the processes have done since is not looked at
		}
	} else {
		t.figures.Lost += ev.Lost
		t.by(ev, model.Lost(ev.Lost))
		t.lostAt = ev.Time
	}
	if t.world == nil {
		for _, sp := range t.spaces {
			t.note(sp, ev.Time, model.Approximate("events were lost"))
		}
		return
	}
	tasks, err := t.list()
	for _, sp := range t.spaces {
		if sp.skips = skipped && sp.q.numbered; !sp.skips {
			t.staleSince(sp, ev.Time)
			continue
		}
		sp.lostAt, t.busy[sp] = ev.Time, true
	}
	lives := make(map[uint64]bool)
	for _, task := range tasks {
		lives[task.Space] = true
		if sp := t.spaces[task.Space]; sp != nil && task.HasSection {
			sp.q.excuse(task.Section)
		}
	}
	for id, sp := range t.spaces {
		if err == nil && !lives[id] {
			sp.q.excuseAll()
		}
	}
}

// list compares the processes with those that there are.
func (t *Tracer) list() ([]Task, error) {
	t.unlisted = false
	tasks, err := t.world.Tasks()
	if err != nil {
		t.log.Error("list processes after a loss", "error", err)
	}
	living := make(map[int]bool)
	for _, task := range tasks {
		living[task.PID] = true
		t.relist(task)
	}
	for p := range t.model.Processes() {
		if _, is := t.missing[p.PID]; !is && !living[p.PID] && err == nil {
			t.missing[p.PID] = t.now()
		}
	}
	return tasks, err
}

// learn asks the Source for losses that it has not told of yet, and tells whether there
// was one. It comes before anything is said to be missed or impossible: what may have been
// lost is not.
func (t *Tracer) learn() (lost bool) {
	src, is := t.src.(Lossy)
	if !is {
		return false
	}
	for {
		var ev Event
		err := src.Loss(&ev)
		if err != nil {
			if !errors.Is(err, ErrIdle) {
				t.log.Error("ask for losses", "error", err) // Next will say it again
			}
			return lost
		}
		t.figures.Records++
		t.lose(&ev)
		lost = true
	}
}

// explore marks a tree as wrong if programs were skipped, and sections are lost by that.
func (t *Tracer) explore(sp *addressSpace, now uint64) {
	if sp.skips && sp.q.lost > sp.counted {
		t.staleSince(sp, now)
	}
	sp.counted = sp.q.lost
}

// unmiss gives up on the processes that a listing had not, and whose end nobody has told
// of since. began is a time from which on nothing older was still to be read.
func (t *Tracer) unmiss(began uint64) {
	for pid, at := range t.missing {
		p := t.model.Process(pid)
		switch {
		case p == nil:
			delete(t.missing, pid)
		case began > at+patience:
			delete(t.missing, pid)
			t.vanish(p, at)
		}
	}
}

// relist takes over what a listing says of one process.
func (t *Tracer) relist(task Task) {
	if p := t.model.Process(task.PID); p != nil && p.Space == task.Space {
		return
	}
	sp := t.spaces[task.Space]
	if sp == nil {
		sp = t.adopt(task)
	}
	t.settle(&task, sp)
}

// vanish notes the end of a process whose last event was lost.
func (t *Tracer) vanish(p *model.Process, at uint64) {
	if sp := t.spaces[p.Space]; sp != nil {
		t.note(sp, at, model.Approximate("events were lost and the process is gone"))
		t.unread(sp, at) // it may have had children since
	}
	t.exit(&Event{Kind: model.KindExit, Flags: model.NoStatus, Time: at, TGID: p.PID, TID: p.PID, Space: p.Space})
}

// losesSince tells whether it is known that records were lost after a time, and when that was
// known last: what begins with a record that is older, and was in the ring until now, may have
// lost others. Its end may be one of them: the processes are listed once more.
func (t *Tracer) losesSince(at uint64) (bool, uint64) {
	if t.world == nil || t.lostAt == 0 || t.lostAt < at {
		return false, 0
	}
	t.unlisted = true
	return true, t.lostAt
}

// staleSince marks a tree as wrong from a moment on.
func (t *Tracer) staleSince(sp *addressSpace, at uint64) {
	if sp.state == gone || sp.Inhabitants() == 0 {
		if (sp.waits() || sp.endedAt >= t.wholeAt) && !sp.whole { // the last that it did may be what was lost
			t.note(sp, at, model.Approximate("events were lost and the process is gone"))
		}
		return
	}
	sp.stale, sp.lostAt = true, at
	clear(sp.announced) // the calls themselves may be among what was lost
	clear(sp.overdue)
	if sp.waits() {
		// Its first state, or the fork that would bring it, may be what was lost.
		if sp.Tree() == nil {
			t.lay(sp, model.Layout{})
		}
		sp.state, t.busy[sp] = seeding, true
		return
	}
	t.doubt(sp, space.All, at, lookReason{op: space.OpReread})
}
