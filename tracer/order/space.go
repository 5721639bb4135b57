package order

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// state is what is known of what an address space holds.
//
//	            rows, fork
//	waiting ───────────────────▶ known ────────▶ gone
//	  ▲  │                       ▲   │             ▲
//	  │  │ rows or fork lost     │   │ read fails  │
//	  │  ▼                read   │   ▼             │
//	  │ seeding ─────────────────┘  unreadable ────┘
//	  │    └──────── read fails ───────▲
//	  └─ exec, from any of them
type state uint8

const (
	waiting    state = iota // what brings its mappings is on the way: its fork, or the rows of its image
	seeding                 // they are read from /proc
	known                   // they are known, and can be read again
	unreadable              // they are known as far as events tell: nobody is left to be asked, or who is refuses
	gone                    // there is no such address space any more
)

// addressSpace is one tree of the model, and the queue before it.
type addressSpace struct {
	*model.Space
	id      uint64
	state   state
	q       queue
	deliver func(*Event, bool)

	backlog backlog        // what arrived while it waited
	rows    []space.Row    // of a new image, so far
	stored  *budget.Holder // of all its events that wait, and
	stores  int            // how many bytes these are

	blocked    uint64            // since when the queue has been blocked; 0 if it is not
	blockedAt  uint64            // q.next when it was found blocked
	announced  map[uint32]uint64 // calls that have committed and are yet to come: when, by section
	overdue    map[uint32]bool   // those that are waited for no more: what they did was read
	held       held              // what came in its turn since the look was asked for
	completeAt uint64            // the section from which on the tree is known to hold everything; 0 if it does
	shownUntil uint64            // the first section that no look can have shown before its stamp
	forks      []forkStamp       // the latest
	found      []foundAt         // what calls were completed by, as long as forks before it may come

	looking bool
	parked  *lookResult // what a look gave, until it can be used
	reason  lookReason
	failed  int // looks in a row that found nobody
	audits  audits

	stale   bool   // events were lost
	lostAt  uint64 // when that was known last
	endedAt uint64 // when its last process, or it, came to its end
	whole   bool   // all that it did until then has come, or is known not to have
	skips   bool   // programs were skipped since: what the queue finds lost makes it stale
	counted uint64 // how much the queue had found lost when that was looked at
}

// waits tells whether what happens to it has to wait for its mappings.
func (sp *addressSpace) waits() bool { return sp.state == waiting || sp.state == seeding }

// readable tells whether its mappings can be read.
func (sp *addressSpace) readable() bool {
	return sp.Inhabitants() > 0 && sp.Kept() && sp.state != unreadable && sp.state != gone
}

// doubtful tells whether something of its tree is in doubt.
func (sp *addressSpace) doubtful() bool { return !sp.waits() && sp.Tree().Doubtful() }

// forkStamp is when a child got its copy of a tree.
type forkStamp struct{ child, at uint64 }

// lookReason says why a tree must be read again, and what its changes are called.
type lookReason struct {
	op  space.Op
	tid uint32
	nr  int16
}

// add adds another reason. The first stays, but growth of the stack gives way to any other,
// and all give way to a re-read, which may find whatever there was.
func (l *lookReason) add(o lookReason) {
	if o.op != 0 && (l.op == 0 || l.op == space.OpStack || o.op == space.OpReread) {
		*l = o
	}
}

// doubt marks a range as unknown since a stamp, to be read again.
func (t *Tracer) doubt(sp *addressSpace, r procmaps.Range, at uint64, why lookReason) {
	if r.Empty() {
		return
	}
	t.note(sp, at, model.Doubt(r))
	t.want(sp, why)
}

// want asks for a look at what is in doubt.
func (t *Tracer) want(sp *addressSpace, why lookReason) {
	sp.reason.add(why)
	t.busy[sp] = true
}
