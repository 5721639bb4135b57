package order

import (
	"time"

	"github.com/maptrace/maptrace/tracer/model"
)

// paced is a Source that knows when there may be something to read.
type paced interface {
	// Due is how long it is until then.
	Due() time.Duration
}

// polled takes a look that the Source has taken. The first is what a process
// begins with.
func (t *Tracer) polled(ev *Event) {
	if ev.Look == nil {
		t.figures.Looks++
		return
	}
	sp := t.spaces[ev.Space]
	if sp == nil {
		return
	}
	if ev.Look.Err != nil {
		t.note(sp, ev.Time, model.Approximate("it was not seen at every look: "+ev.Look.Err.Error()))
		return
	}
	if sp.waits() {
		if sp.Tree() == nil {
			t.lay(sp, model.Layout{})
		}
		t.seed(sp, ev.Look)
		return
	}
	t.by(ev, model.Seen{Rows: ev.Look.Rows, Began: ev.Look.At, Ended: ev.Look.Until})
}
