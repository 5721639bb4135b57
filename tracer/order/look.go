package order

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// lookRequest asks for the mappings of a process.
type lookRequest struct {
	space  uint64
	pid    int
	ranges []procmaps.Range
	full   bool
	audit  bool
	alone  bool // an audit of what those of everything could not compare
	reason lookReason
	needs  int // rows that it found no place for, and waits for; 0 for none
}

// lookResult is the answer. It waits until every event that is older than its
// end has been handled: what it then shows otherwise, no event has told of.
type lookResult struct {
	lookRequest
	number int    // of the read
	looks  []Look // one for each range
	err    error
	since  uint64 // when it came, to bound the waiting
	place  *place // of its rows
}

func (r *lookResult) until() uint64 { return r.looks[len(r.looks)-1].Until }

// looks are the reads of /proc that are under way. They are made beside the loop: reading
// smaps of a large process may take longer than the ring can hold events, and reading
// anything of one whose mmap lock is held takes as long as its holder likes. Such a read
// is left to itself; whenever it comes, it is of use.
type looks struct {
	asked   []lookRequest // not begun yet
	reading map[int]begunLook
	begun   int // how many were, to number them
	looked  chan lookResult
	over    chan struct{} // closed at the end: nobody takes what comes later
	places  roster
}

// begunLook is a read that is under way.
type begunLook struct {
	space uint64
	since uint64
}

const (
	// Reads go one at a time, not to take the CPUs of those who are traced, but one that
	// takes longer does not keep the others waiting.
	slowLook = 200 * uint64(time.Millisecond)
	// What takes longer at the end is not waited for.
	stalledLook = uint64(500 * time.Millisecond)
	// mostAsked may wait for their turn; whoever finds no room asks again.
	mostAsked = 64
	// mostReading may be under way: each takes a thread.
	mostReading = 64
)

func newLooks() *looks {
	return &looks{
		reading: make(map[int]begunLook), looked: make(chan lookResult, mostReading), over: make(chan struct{}),
		places: roster{most: mostRows, few: fewRows},
	}
}

// underway is how many answers are to come.
func (l *looks) underway() int { return len(l.asked) + len(l.reading) }

// open tells whether an answer is to come that is worth waiting for.
func (l *looks) open(now uint64) bool {
	stalled := 0
	for _, b := range l.reading {
		if now-b.since > stalledLook {
			stalled++
		}
	}
	return len(l.reading) > stalled || len(l.asked) > 0 && stalled < mostReading
}

// stalled tells whether a space is being read for so long that nobody waits.
func (l *looks) stalled(id, now uint64) bool {
	for _, b := range l.reading {
		if b.space == id && now-b.since > stalledLook {
			return true
		}
	}
	return false
}

// next takes the next request whose turn has come.
func (l *looks) next(now uint64) (req lookRequest, n int, ok bool) {
	if len(l.asked) == 0 || len(l.reading) == mostReading {
		return req, 0, false
	}
	for _, b := range l.reading {
		if now-b.since < slowLook {
			return req, 0, false
		}
	}
	at := slices.IndexFunc(l.asked, func(r lookRequest) bool { return l.places.room(r.needs) })
	if at < 0 {
		return req, 0, false
	}
	req = l.asked[at]
	l.asked = slices.Delete(l.asked, at, at+1)
	l.begun++
	l.reading[l.begun] = begunLook{req.space, now}
	return req, l.begun, true
}

// beginLooks begins the reads whose turn has come.
func (t *Tracer) beginLooks(now uint64) {
	l := t.looks
	for {
		req, n, ok := l.next(now)
		if !ok {
			return
		}
		if !t.prepare(&req) {
			delete(l.reading, n)
			continue
		}
		p := &place{of: &l.places}
		t.opts.Calls.Begin()
		go func() {
			res := t.look(req, p)
			t.opts.Calls.Finish()
			res.number = n
			select {
			case l.looked <- res:
			case <-l.over:
			}
		}()
	}
}

// prepare makes the space of a request ready for the read, and tells whether there is still
// something to read. What is in doubt is read as of now, and not as of when it was asked for:
// that may be long ago, and the doubts have grown since.
func (t *Tracer) prepare(req *lookRequest) bool {
	sp := t.spaces[req.space]
	if sp == nil {
		return false
	}
	switch {
	case req.audit && (sp.doubtful() || sp.q.open()):
		req.ranges = nil // nothing can be compared with what is in doubt: that is read first
		sp.audits.due, sp.audits.alone = sp.audits.due || !req.alone, sp.audits.alone || req.alone
	case !req.full && !req.audit:
		req.ranges = t.doubted(sp)
		req.reason.add(sp.reason)
		sp.reason = lookReason{}
	}
	if len(req.ranges) == 0 || !sp.readable() {
		sp.looking, t.busy[sp] = false, true
		return false
	}
	// From before it begins: what is handled meanwhile, the look need not show. Before a
	// seed nothing is let in anyway.
	sp.held.on, sp.held.after = !req.full, t.now()
	return true
}

// stopLooking takes no more answers. Reads that go on may be at it for as long as the
// process likes.
func (t *Tracer) stopLooking() {
	if t.looks != nil {
		close(t.looks.over)
		t.looks = nil // what is in doubt from now on stays so
	}
}

// look answers one request. It runs beside the loop and uses only the World.
func (t *Tracer) look(req lookRequest, p *place) lookResult {
	res := lookResult{lookRequest: req, place: p}
	for _, r := range req.ranges {
		l, err := t.world.Look(req.pid, r, req.full, p.take)
		if err != nil {
			res.err, res.looks = err, nil
			p.leave()
			break
		}
		res.looks = append(res.looks, l)
	}
	return res
}

// ask sends a request, unless too many are under way.
func (t *Tracer) ask(sp *addressSpace, req lookRequest) bool {
	if sp.Inhabitants() == 0 || t.looks == nil || len(t.looks.asked) == mostAsked {
		return false
	}
	req.space, req.pid = sp.id, sp.Owner().PID
	t.looks.asked = append(t.looks.asked, req)
	sp.looking = true
	return true
}

// idle does what is due when all that has arrived was handled. began is a time
// from which on nothing older was still to be read.
func (t *Tracer) idle(began uint64) {
	now := t.now()
	t.collect(now)
	if t.unlisted && t.world != nil {
		_, _ = t.list() // an error was told
	}
	t.unmiss(began)
	for sp := range t.busy {
		if t.attend(sp, began, now) {
			delete(t.busy, sp)
		}
	}
	if t.looks != nil {
		t.beginLooks(now)
	}
	if t.world != nil && t.opts.Verify > 0 && now >= t.nextVerify {
		t.nextVerify = now + uint64(t.opts.Verify)
		for _, sp := range t.spaces {
			t.auditAgain(sp, now)
		}
	}
	if now >= t.nextPrune {
		t.nextPrune = now + uint64(1e9)
		for _, sp := range t.spaces {
			t.prune(sp, began)
		}
	}
}

// collect takes the answers that have come.
func (t *Tracer) collect(now uint64) {
	for t.looks != nil {
		select {
		case res := <-t.looks.looked:
			delete(t.looks.reading, res.number)
			sp := t.spaces[res.space]
			if sp == nil {
				res.place.leave()
				continue
			}
			if errors.Is(res.err, errNoPlace) {
				res.needs = res.place.needs
				t.looks.asked = append(t.looks.asked, res.lookRequest)
				t.letIn(sp)
				continue
			}
			sp.looking = false
			res.since = now
			t.accept(sp, res)
		default:
			return
		}
	}
}

// accept decides what an answer is good for.
func (t *Tracer) accept(sp *addressSpace, res lookResult) {
	if res.err == nil && res.looks[len(res.looks)-1].Space == sp.id {
		if last := &res.looks[len(res.looks)-1]; sp.stale && last.HasSection {
			sp.q.excuse(last.Section)
		}
		sp.parked, sp.failed = &res, 0
		t.busy[sp] = true
		sp.held.after = res.looks[0].At
		t.letInUntil(sp, sp.held.after)
		return
	}
	now := res.since
	t.letIn(sp)
	res.place.leave()
	// The process is gone or has another image by now. Another may live here;
	// of the rest the events tell.
	if res.err != nil && !errors.Is(res.err, procmaps.ErrGone) {
		t.refused(sp, now, "its mappings cannot be read: "+res.err.Error()) // as it would be again
		return
	}
	if res.audit {
		return
	}
	t.busy[sp] = true
	sp.failed++
	if sp.failed < 3 {
		return
	}
	t.abandoned(sp, now)
}

// abandoned gives up on a space of which nobody can be asked any more.
func (t *Tracer) abandoned(sp *addressSpace, now uint64) {
	t.note(sp, now, model.Approximate("gone before its mappings could be read"))
	t.unread(sp, now)
}

// refused gives up on a space whose mappings cannot be read.
func (t *Tracer) refused(sp *addressSpace, now uint64, why string) {
	t.log.Warn("read mappings", "pid", sp.Owner().PID, "error", why)
	t.note(sp, now, model.Approximate(why))
	t.unread(sp, now)
	t.note(sp, now, model.Complete(false))
}

// unread gives up on reading a space. One that waits for something else than a read does
// so still.
func (t *Tracer) unread(sp *addressSpace, now uint64) {
	switch sp.state {
	case seeding:
		t.begin(sp, now, unreadable)
	case known:
		sp.state = unreadable
	case waiting, unreadable, gone:
	}
}

// attend looks after one space, and tells whether it needs no more attention.
func (t *Tracer) attend(sp *addressSpace, began, now uint64) bool {
	t.unblock(sp, began, now)
	t.explore(sp, now)
	if began > settle && sp.q.overdue(began-settle) {
		t.learn()
	}
	if began > settle && sp.q.unsettled(began-settle) {
		t.note(sp, now, model.Missed{})
		t.doubt(sp, space.All, now, lookReason{op: space.OpReread})
	}
	t.waitNoMore(sp, began, now)
	t.unpark(sp, began)
	if sp.state == seeding && sp.Inhabitants() == 0 && !sp.looking && sp.parked == nil {
		t.abandoned(sp, now) // who lived in it has another image by now
	}
	if !sp.looking && sp.parked == nil && sp.readable() {
		switch {
		case sp.state == seeding:
			t.ask(sp, lookRequest{ranges: []procmaps.Range{space.All}, full: true})
		case sp.doubtful():
			t.ask(sp, lookRequest{})
		case sp.audits.due:
			sp.audits.due = !t.audit(sp)
		case sp.audits.alone:
			sp.audits.alone = !t.auditAlone(sp)
		}
	}
	// Of a space that nobody lives in nothing is read, and what it waits for may never come.
	short := sp.q.short() && sp.Inhabitants() > 0
	open := sp.q.blocked() || short || sp.q.open()
	wants := sp.readable() && (sp.state == seeding || sp.audits.due || sp.audits.alone || sp.doubtful())
	return !open && !sp.looking && sp.parked == nil && !wants && (len(sp.announced) == 0 || !sp.readable())
}

// waitNoMore has what calls did read that have committed long ago and have not returned: one
// that populates memory of a file may be at it for as long as who serves the file likes, and
// what it has mapped is used meanwhile.
func (t *Tracer) waitNoMore(sp *addressSpace, began, now uint64) {
	if sp.waits() || !sp.readable() {
		return
	}
	for section, at := range sp.announced {
		if began < settle || at > began-settle {
			continue
		}
		delete(sp.announced, section)
		sp.overdue[section] = true
		t.doubt(sp, space.All, now, lookReason{op: space.OpReread})
	}
}

// unblock gives up on events that others have waited for too long.
func (t *Tracer) unblock(sp *addressSpace, began, now uint64) {
	switch {
	case sp.waits():
	case !sp.q.numbered:
		if began > reorder {
			sp.q.advance(now, began-reorder, sp.deliver)
		}
	case !sp.q.blocked() && !sp.q.short():
		sp.blocked = 0
	case sp.blocked == 0 || sp.blockedAt != sp.q.next:
		sp.blocked, sp.blockedAt = now, sp.q.next
	case began > sp.blocked && began-sp.blocked >= patience:
		t.advance(sp, now, 0)
	}
}

// advance waits no more for what others wait for.
func (t *Tracer) advance(sp *addressSpace, now, horizon uint64) {
	if sp.q.gap() && t.learn() && sp.waits() {
		return
	}
	sp.q.advance(now, horizon, sp.deliver)
	sp.blocked = 0
}

// hurry does so for as long as those that wait are too many.
func (t *Tracer) hurry(sp *addressSpace) {
	for t.crowded(sp) && sp.q.blocked() && !sp.waits() {
		t.advance(sp, t.now(), sp.q.waiting[0].key)
	}
}

// doubted are the ranges to be read of what is in doubt.
func (t *Tracer) doubted(sp *addressSpace) []procmaps.Range {
	const many = 8 // beyond, one read of everything is cheaper
	ranges := sp.Tree().Doubts()
	if len(ranges) > many {
		return []procmaps.Range{space.All}
	}
	for i, r := range ranges {
		if r.Len() >= space.All.Len()/2 {
			return []procmaps.Range{space.All}
		}
		// A neighbour may be part of the same mapping.
		page := t.opts.PageSize
		ranges[i] = procmaps.Range{Start: r.Start &^ (page - 1), End: (r.End + page - 1) &^ (page - 1)}
	}
	return ranges
}

// unpark uses an answer whose time has come: every event up to its end is there, and no
// call is under way that could have had a part in what it saw.
func (t *Tracer) unpark(sp *addressSpace, began uint64) {
	res := sp.parked
	if res == nil {
		return
	}
	if sp.waits() && !res.isSeed() { // it was asked for what was believed before
		sp.parked = nil
		res.place.leave()
		return
	}
	last := &res.looks[len(res.looks)-1]
	var ready bool
	if last.HasSection && sp.q.numbered {
		ready = int32((uint32(sp.q.next)-last.Section)<<1) >= 0
	} else {
		ready = began > res.until() && (!sp.q.blocked() || sp.q.oldest() > res.until())
	}
	overdue := began > res.since && began-res.since > auditWait
	if !ready && !overdue && !res.isSeed() {
		return
	}
	sp.parked = nil
	defer res.place.leave()
	switch {
	case !sp.Kept():
	case res.isSeed():
		if sp.state == seeding {
			t.seed(sp, last)
			t.resynced(sp, last.At)
		}
	case !res.audit:
		t.apply(sp, res)
	case !ready:
		t.unaudited(sp, res, res.looks[0].At)
	case res.alone:
		t.compareAlone(sp, res)
	default:
		t.letInSeen(sp, last)
		t.compare(sp, res)
	}
	t.letIn(sp)
}

func (r *lookResult) isSeed() bool { return r.full }

// apply puts what was read into the tree.
func (t *Tracer) apply(sp *addressSpace, res *lookResult) {
	t.figures.Rereads++
	if res.reason.op == 0 {
		res.reason.op = space.OpReread
	}
	for i, l := range res.looks {
		t.letInSeen(sp, &l)
		sp.sees(&l)
		// A call that was announced may have shown itself to the read, though its
		// stamp is later.
		ended := l.Until
		for _, at := range sp.announced {
			ended = max(ended, at)
		}
		r := res.ranges[i]
		// Rows reach beyond what was asked for: a stack has grown down.
		if len(l.Rows) > 0 {
			r.Start = min(r.Start, l.Rows[0].Start)
			r.End = max(r.End, l.Rows[len(l.Rows)-1].End)
		}
		t.emit(&model.Operation{
			Time: l.At, Space: sp.id, TGID: res.pid, TID: int(res.reason.tid),
			Body: model.Reread{Range: r, Rows: l.Rows, Ended: ended, Op: res.reason.op, NR: res.reason.nr},
		})
	}
	t.resynced(sp, res.looks[0].At)
}

// sees notes up to where a look may have shown what calls did whose stamps are later: an
// unmapping lets others read before it lets go of the lock.
func (sp *addressSpace) sees(l *Look) {
	if l.HasSection && sp.q.numbered {
		sp.shownUntil = max(sp.shownUntil, sp.q.section(&Event{Section: l.Section}))
	}
}

// resynced notes that a tree which had lost events is right again.
func (t *Tracer) resynced(sp *addressSpace, at uint64) {
	if !sp.stale && !sp.Picture().Missed || sp.Tree().Doubtful() {
		return
	}
	sp.stale = false
	t.note(sp, at, model.Resynced{})
	t.complete(sp)
}

// prune lets a tree forget what no straggler can be older than.
func (t *Tracer) prune(sp *addressSpace, now uint64) {
	if sp.waits() || now < remember {
		return
	}
	before := now - remember
	for _, at := range sp.announced {
		before = min(before, at)
	}
	if sp.parked != nil {
		before = min(before, sp.parked.looks[0].At)
	}
	if sp.q.blocked() {
		before = min(before, sp.q.oldest())
	}
	if sp.looking {
		return
	}
	t.note(sp, before, model.Prune{})
	sp.forks = slices.DeleteFunc(sp.forks, func(f forkStamp) bool { return f.at < before })
}

// finish settles what can be settled while the processes live: what is in
// doubt is read, and everything is audited if audits were asked for.
func (t *Tracer) finish() error {
	t.opts.Calls.End()
	began := t.now()
	end := began + uint64(max(0, t.opts.Calls.Left()-time.Duration(toSample)))
	deadline := min(began+toSettle, end)
	if t.opts.Verify > 0 {
		deadline = began + toVerify
		end = deadline + toVerified
		t.nextVerify = ^uint64(0) // from here on each space is audited once
		for _, sp := range t.spaces {
			t.auditSoon(sp)
		}
	}
	for t.now() < deadline {
		n, err := t.drain(batch)
		if err != nil {
			return err
		}
		now := t.now()
		open := t.looks.open(now) || len(t.missing) > 0
		for sp := range t.busy {
			open = open || sp.pending() && !t.looks.stalled(sp.id, now)
		}
		if !open {
			break
		}
		if n < batch {
			t.pause(context.Background(), pollBusy)
		}
	}
	t.giveUpLooks()
	if err := t.stop(max(end, t.now()+toReturn)); err != nil {
		return err
	}
	t.giveUpWaits()
	return nil
}

// tooLate says why nothing is known of what a process has mapped.
const tooLate = "the end came before its mappings were read"

// giveUpWaits reports the spaces that still wait for their first state when nothing comes any
// more: that their mappings are not known.
func (t *Tracer) giveUpWaits() {
	now := t.now()
	for found := true; found; {
		found = false
		for _, sp := range t.spaces { // letting in what waits for one may make others
			if sp.waits() && sp.Inhabitants() > 0 {
				found, sp.state = true, seeding // it has waited for something else until now
				t.refused(sp, now, tooLate)
			}
		}
	}
}

// giveUpLooks says of which spaces the mappings are not known at the end, because a read
// of them has not returned, or the first has not come to its turn. One that has not had the
// time to return makes nothing worse of a tree: what is in doubt there is said anyway.
func (t *Tracer) giveUpLooks() {
	now := t.now()
	for _, sp := range t.spaces {
		switch {
		case !sp.pending():
		case sp.looking && t.looks.stalled(sp.id, now):
			t.refused(sp, now, "its mappings cannot be read: the read has not returned: its mmap lock may be held")
			sp.looking = false
		case sp.state == seeding:
			t.refused(sp, now, tooLate)
			sp.looking = false
		default:
			t.log.Warn("mappings were still in doubt at the end", "pid", sp.Owner().PID)
		}
	}
}

// pending tells whether something of a space is still to be read. Threads that are in
// the midst of a call are another matter: some always are.
func (sp *addressSpace) pending() bool {
	return sp.readable() &&
		(sp.q.open() || sp.looking || sp.parked != nil || sp.waits() || sp.doubtful() || sp.audits.due || sp.audits.alone)
}

// What is waited for at the end, whatever comes or does not: a flood must not keep us, nor
// one who does not answer. All of it ends toSample before the deadline of all waits, at
// [await.Grace].
const (
	toSettle   = uint64(300 * time.Millisecond) // what is in doubt to be read
	toReturn   = uint64(100 * time.Millisecond) // at least, calls that have committed to return
	toSample   = uint64(100 * time.Millisecond) // the last look of samplers
	toVerify   = uint64(3 * time.Second)        // with the last audits, which calls keep waiting
	toVerified = uint64(time.Second)            // after them, what has committed to be read
)

// stop draws the line: what has taken effect by now is still waited for, since a
// call may have committed and not returned; what comes later is not looked at.
func (t *Tracer) stop(deadline uint64) error {
	t.stopAt = t.now()
	for t.now() < deadline {
		began := t.now()
		n, err := t.drain(batch)
		if err != nil {
			return err
		}
		open := n == batch || began < t.stopAt
		for sp := range t.busy {
			open = open || sp.q.blocked() || sp.q.short()
		}
		if !open {
			break
		}
		if n < batch {
			t.pause(context.Background(), pollBusy)
		}
	}
	return nil
}
