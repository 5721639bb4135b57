package order

import (
	"slices"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// handle handles an event.
func (t *Tracer) handle(sp *addressSpace, ev *Event, late bool) {
	if late {
		t.figures.Late++
	}
	switch {
	case sp.Kept():
	case ev.Kind == model.KindCall:
		t.applyCall(ev, 0, model.Counted)
		return
	case ev.Kind != model.KindFork:
		return
	}
	switch ev.Kind {
	case model.KindCall:
		t.called(sp, ev, late)
	case model.KindFork:
		t.fork(sp, ev, late)
	case KindAnnounce:
		// Without numbers nothing tells when the call itself has come, and where
		// records were lost it may be among them.
		if sp.q.numbered && sp.q.section(ev) >= sp.q.excused {
			sp.announced[ev.Section] = ev.Time
			t.busy[sp] = true
		}
	case KindOther:
		t.figures.Others++
		t.undecoded(sp, ev)
	case KindLayout:
		t.note(sp, ev.Time, model.SetLayout{StartBrk: ev.StartBrk, Brk: ev.Brk, Stack: ev.StartStack})
	case KindStack:
		t.figures.Others++
		t.stack(sp, ev)
	}
}

// undecoded doubts all that a section may have done of which nothing is known.
func (t *Tracer) undecoded(sp *addressSpace, ev *Event) {
	t.note(sp, ev.Time, model.Undecoded{})
	t.doubt(sp, space.All, ev.Time, lookReason{space.OpOther, uint32(ev.TID), ev.NR})
}

// called hands on one call.
func (t *Tracer) called(sp *addressSpace, ev *Event, late bool) {
	expected := t.expected(sp, ev, late)
	if ev.Claimed != 0 {
		if ev.Claimed == KindAnnounce {
			_, known := sp.announced[ev.Section]
			known = known || sp.overdue[ev.Section]
			delete(sp.overdue, ev.Section)
			expected = expected && known
			delete(sp.announced, ev.Section)
		} else {
			t.figures.Others--
		}
	}
	c := &ev.Call
	c.Counted = c.Counted && sp.q.numbered && sp.q.section(ev) >= sp.shownUntil
	if fate, is := t.unlocked(ev); is {
		t.applyCall(ev, 0, fate)
		return
	}
	if (ev.Flags&sp.q.placed() == 0 || !expected) && movesMemory(c) {
		// It had committed before we looked, and if it is stamped then by a page fault
		// since; or its stamp had no place, or it was given up. When it took effect is
		// not known, so what it did is read.
		t.applyCall(ev, 0, model.Counted)
		t.doubt(sp, callRange(c), ev.Time, lookReason{op: space.OpReread})
		return
	}
	if sp.q.numbered && ev.Flags&HasSection == 0 && !c.Failed() && t.needsLock(c) {
		// What changes something has a section: this is not what it seems, or another
		// has its section.
		t.applyCall(ev, 0, model.Counted)
		t.undecoded(sp, ev)
		return
	}
	t.name(sp, ev)
	site := t.site(sp, ev)
	if !changes(sp, ev) {
		t.applyCall(ev, site, model.Refused)
		return
	}
	eff := t.applyCall(ev, site, model.Applied)
	if eff.Violations > 0 {
		t.violated(sp, ev, eff)
	}
	if len(eff.Doubts) > 0 {
		t.want(sp, lookReason{op: space.OpReread})
	}
	if eff.Late {
		t.doubtChildren(sp, c, eff)
	}
	sp.foundLater(ev, eff.Range)
}

// violated handles a call that cannot have happened to the tree as it is, unless something
// was lost, or is missing and may yet come.
func (t *Tracer) violated(sp *addressSpace, ev *Event, eff *space.Effect) {
	if c := &ev.Call; !t.learn() && !sp.q.open() {
		t.note(sp, ev.Time, model.Violations(eff.Violations))
		t.log.Warn("impossible event", "reason", eff.Reason, "space", sp.id, "op", c.Op,
			"range", eff.Range, "from", eff.From, "args", c.Args, "section", ev.Section, "tid", ev.TID)
	}
	if t.world != nil {
		t.note(sp, ev.Time, model.Undecoded{}) // perhaps
		t.doubt(sp, space.All, ev.Time, lookReason{op: space.OpReread})
	}
}

// applyCall hands on a call with what became of it. The effect is that of an applied one.
func (t *Tracer) applyCall(ev *Event, site uint32, fate model.Fate) *space.Effect {
	t.call = model.Call{Call: &ev.Call, Site: site, Fate: fate}
	t.op = model.Operation{
		Time: ev.Time, Space: ev.Space, TGID: ev.TGID, TID: ev.TID, Flags: ev.Flags & told, Body: &t.call,
	}
	return t.emit(&t.op).Effect
}

// expected tells whether a call comes as it should. One that was under way when records
// were lost, and was taken for one of them, does not: a read may have seen what it did,
// though its stamp is later.
func (t *Tracer) expected(sp *addressSpace, ev *Event, late bool) bool {
	return !late || ev.Time < sp.lostAt || !sp.q.numbered || sp.q.section(ev) >= sp.q.excused
}

// site finds the site of a call, which becomes the origin of what it makes.
func (t *Tracer) site(sp *addressSpace, ev *Event) uint32 {
	switch {
	case t.opts.Sites == nil:
		return 0
	case ev.Sample != nil:
		site := t.opts.Sites.Site(ev.TGID, sp.Tree(), ev.Sample)
		ev.Call.Site = uint64(model.MakeBlame(site, ev.Stratum))
		return site
	case ev.Flags&model.Unsampled != 0:
		ev.Call.Site = uint64(model.MakeBlame(0, ev.Stratum))
		t.figures.Unsampled++
	}
	return 0
}

// touched finds the site of a page fault, of a write, or of what was made. Its place in
// the order does not matter.
func (t *Tracer) touched(ev *Event) {
	sp := t.spaces[ev.Space]
	if sp == nil || sp.waits() || !sp.Kept() || t.opts.Sites == nil {
		return
	}
	site := t.opts.Sites.Site(ev.TGID, sp.Tree(), ev.Sample)
	switch ev.Kind {
	case model.KindFault:
		t.by(ev, model.Fault{Addr: ev.Addr, Weight: ev.Weight, Site: site})
	case model.KindWrite:
		t.by(ev, model.Write{Addr: ev.Addr, Site: site})
	case model.KindMade:
		t.by(ev, model.Made{HeldID: ev.Made, Site: site})
	}
}

// timed finds the site of a call that was timed. Its place in the order does not
// matter.
func (t *Tracer) timed(ev *Event) {
	t.by(ev, model.Timed{Call: &ev.Call, Timing: ev.Timing, Site: t.maker(t.spaces[ev.Space], ev)})
}

// maker is the site of a call that makes no memory itself, or that may come at any place in
// the order; 0 if it is not known.
func (t *Tracer) maker(sp *addressSpace, ev *Event) uint32 {
	if sp == nil || !sp.Kept() || ev.Sample == nil || t.opts.Sites == nil {
		return 0
	}
	return t.opts.Sites.Site(ev.TGID, sp.Tree(), ev.Sample)
}

// doubtChildren makes sure of children that were forked before a late call was
// known of, and after it took effect. What it has left in doubt, they may have too.
func (t *Tracer) doubtChildren(sp *addressSpace, c *space.Call, eff *space.Effect) {
	for _, f := range sp.forks {
		child := t.spaces[f.child]
		if c.Time >= f.at || child == nil || child.waits() {
			continue
		}
		for _, r := range append([]procmaps.Range{eff.Range, eff.From}, eff.Doubts...) {
			t.doubt(child, r, f.at, lookReason{op: space.OpReread})
		}
	}
}

// foundLater keeps where a call was completed by what was found in its place after others
// had changed that: it is right in the end, but a child may have been forked in between.
func (sp *addressSpace) foundLater(ev *Event, r procmaps.Range) {
	sp.found = slices.DeleteFunc(sp.found, func(f foundAt) bool { return f.until < sp.q.next })
	if ev.Found == 0 || !sp.q.numbered {
		return
	}
	if until := sp.q.section(&Event{Section: ev.Found}); until > sp.q.section(ev)+1 {
		sp.found = append(sp.found, foundAt{r, until})
	}
}

// foundAt is a range that was looked at before a section.
type foundAt struct {
	procmaps.Range
	until uint64
}

// changes tells whether a call may have changed anything: one that failed and did
// not take the lock for writing has not.
func changes(sp *addressSpace, ev *Event) bool {
	if !ev.Call.Failed() {
		return true
	}
	if sp.q.numbered {
		return ev.Flags&HasSection != 0
	}
	return ev.Flags&Stamped != 0
}

// movesMemory tells whether a call that succeeded has changed what is mapped.
func movesMemory(c *space.Call) bool {
	if c.Failed() {
		return false
	}
	switch c.Op {
	case space.OpMadvise, space.OpMlock, space.OpMbind:
		return false
	}
	return true
}

// callRange is where a call without a stamp may have changed something.
func callRange(c *space.Call) procmaps.Range {
	switch c.Op {
	case space.OpMmap:
		return procmaps.Range{Start: uint64(c.Ret), End: uint64(c.Ret) + c.Args[1]}
	case space.OpMunmap, space.OpMprotect:
		return procmaps.Range{Start: c.Args[0], End: c.Args[0] + c.Args[1]}
	}
	return space.All
}

// stack lets the stack of the main thread grow. If something else may have grown, all is
// read again.
func (t *Tracer) stack(sp *addressSpace, ev *Event) {
	e, ok := sp.Tree().Stack()
	size := uint64(ev.Pages) * t.opts.PageSize
	if !ok || ev.Pages <= 0 || size >= e.Start {
		t.doubt(sp, space.All, ev.Time, lookReason{space.OpStack, uint32(ev.TID), ev.NR})
		return
	}
	op := model.Operation{
		Time: ev.Time, Space: sp.id, TGID: ev.TGID, TID: ev.TID,
		Body: model.Stack{Range: procmaps.Range{Start: e.Start - size, End: e.Start}, Mode: e.Mode, NR: ev.NR},
	}
	if owner := sp.Owner(); ev.Flags&Remote != 0 && owner != nil {
		// A reader of /proc saw it before any thread of the process let go of the
		// lock again: which of them it was is not known.
		op.TGID, op.TID = owner.PID, 0
	}
	t.emit(&op)
}
