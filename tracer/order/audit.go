package order

import (
	"cmp"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// audits is what the audits of one address space have come to. An audit reads all of its
// mappings and compares what it can: what changes meanwhile may differ, and then it cannot.
// What several in a row could not compare gets an audit of its own, which takes microseconds
// instead of milliseconds and compares it with each state it had meanwhile. What not even
// that could compare is told.
//
//	compared ◀──────────────── any audit that can ──────────────────┐
//	   │                                                            │
//	   │ an audit cannot              enough in a row               │
//	   └──────────────────▶ passed ──────────────────▶ alone ───────┤
//	                           ▲                         │ cannot   │
//	                           └──────── told ◀──────────┘ ─────────┘
type audits struct {
	due   bool      // everything is to be audited as soon as nothing is in doubt
	alone bool      // and what has been passed over for long, by itself
	over  []stretch // what was passed over, in address order, disjoint

	// Without numbers: since when each audit has found a difference.
	suspects map[difference]uint64
	// How much had been skipped when an audit found nothing, or what it found was put down
	// to that.
	explained uint64
	said      bool // that something was compared
	told      bool // that something is not
}

// stretch is a range that audits could not compare.
type stretch struct {
	procmaps.Range
	since uint64 // the first of them
	row   int    // how many in a row
	tried bool   // one of its own could not either
}

// patientAudits is how many audits in a row may pass over something before it gets one of
// its own.
const patientAudits = 3

// pass notes what an audit at a moment has passed over, which is sorted and disjoint: what
// all the last ones have is what is left of what the last but one had.
func (a *audits) pass(over []procmaps.Range, at uint64) {
	var now []stretch
	add := func(s stretch) {
		if s.Empty() {
			return
		}
		if n := len(now); n > 0 && now[n-1].End == s.Start {
			if last := now[n-1]; last.since == s.since && last.row == s.row && last.tried == s.tried {
				now[n-1].End = s.End
				return
			}
		}
		now = append(now, s)
	}
	before := a.over
	for _, r := range over {
		for len(before) > 0 && before[0].End <= r.Start {
			before = before[1:]
		}
		addr := r.Start
		for _, b := range before {
			if b.Start >= r.End {
				break
			}
			again := b.Intersect(r)
			add(stretch{Range: procmaps.Range{Start: addr, End: again.Start}, since: at, row: 1})
			b.Range, b.row = again, b.row+1
			add(b)
			addr = again.End
		}
		add(stretch{Range: procmaps.Range{Start: addr, End: r.End}, since: at, row: 1})
	}
	a.over = now
	a.alone = false
	for i := range a.over {
		if s := &a.over[i]; s.row >= patientAudits {
			// To read nearly everything by itself takes as long as an audit.
			s.tried = s.tried || s.wide()
			a.alone = a.alone || !s.wide()
		}
	}
}

func (s *stretch) wide() bool { return s.Len() >= 1<<40 }

// tried notes that an audit of these ranges by themselves could compare all but some.
func (a *audits) tried(ranges, but []procmaps.Range) {
	var now []stretch
	for _, s := range a.over {
		in := func(rs []procmaps.Range) bool {
			return slices.ContainsFunc(rs, func(r procmaps.Range) bool { return r.Overlaps(s.Range) })
		}
		if in(ranges) {
			if !in(but) {
				continue
			}
			s.tried = true
		}
		now = append(now, s)
	}
	a.over = now
}

// auditSoon has a space audited as soon as nothing of it is in doubt.
func (t *Tracer) auditSoon(sp *addressSpace) {
	if sp.state == known && sp.readable() {
		sp.audits.due, t.busy[sp] = true, true
	}
}

// auditAgain does so when it is time again. If the last one has not even begun because
// something was in doubt all the time, that has passed over everything.
func (t *Tracer) auditAgain(sp *addressSpace, now uint64) {
	if sp.audits.due && sp.state == known && !sp.looking && sp.parked == nil && (sp.doubtful() || sp.q.open()) {
		t.unaudited(sp, &lookResult{}, now)
	}
	t.auditSoon(sp)
}

// audit asks for everything, to compare.
func (t *Tracer) audit(sp *addressSpace) bool {
	if sp.state != known || sp.looking || sp.parked != nil || sp.doubtful() || sp.q.open() {
		return false
	}
	return t.ask(sp, lookRequest{ranges: []procmaps.Range{space.All}, audit: true})
}

// auditAlone asks for what has been passed over for long.
func (t *Tracer) auditAlone(sp *addressSpace) bool {
	const many = 64
	var ranges, again []procmaps.Range
	for _, s := range sp.audits.over {
		switch {
		case s.row < patientAudits || s.wide():
		case s.tried:
			again = append(again, s.Range)
		default:
			ranges = append(ranges, s.Range)
		}
	}
	ranges = append(ranges, again...)
	ranges = ranges[:min(len(ranges), many)]
	return len(ranges) == 0 || t.ask(sp, lookRequest{ranges: ranges, audit: true, alone: true})
}

// unaudited notes that an audit has compared nothing: calls that it may have seen are yet to
// come, or something is in doubt.
func (t *Tracer) unaudited(sp *addressSpace, res *lookResult, at uint64) {
	t.figures.AuditsUnfinished++
	if res.alone {
		sp.audits.tried(res.ranges, res.ranges)
	} else {
		sp.audits.pass([]procmaps.Range{space.All}, at)
	}
	t.tellAudit(sp, at, false)
}

// uncertain tells whether nothing can be said about a look: a call that it may have seen is
// missing, or has come late and waits behind others, or the tree has had to forget what has
// changed since.
func (sp *addressSpace) uncertain(l *Look) bool {
	return sp.Tree().Doubtful() || sp.stale || sp.q.open() || sp.held.anyLate() || l.At < sp.Tree().Horizon()
}

// compare is the audit of everything.
func (t *Tracer) compare(sp *addressSpace, res *lookResult) {
	l := &res.looks[0]
	if sp.uncertain(l) {
		t.unaudited(sp, res, l.At)
		return
	}
	t.figures.Audits++
	drift, over := sp.Tree().Verify(l.mappings(), space.All, l.At)
	suspect := t.judge(sp, drift, l, func(r procmaps.Range) bool { return !overlaps(over, r) })
	if len(drift) == 0 {
		sp.audits.explained = t.figures.Skipped
	}
	over = append(over, suspect...)
	sp.audits.pass(sorted(over), l.At)
	t.tellAudit(sp, l.At, true)
}

// compareAlone is the audit of ranges that change all the time, each looked at by itself.
// Each row shows what was there at one moment between the beginning and the end of the look:
// it is compared with all that the tree has been in that time.
func (t *Tracer) compareAlone(sp *addressSpace, res *lookResult) {
	var over []procmaps.Range
	compared := false
	for i := range res.looks {
		l, r := &res.looks[i], res.ranges[i]
		t.letInUntil(sp, l.At)
		rows, until, open := l.mappings(), sp.seenUntil(l), []procmaps.Range{r}
		// Where the tree has gone on already, it is not known what it was.
		drift, ahead := sp.Tree().Verify(rows, r, l.At)
		for {
			drift = drift[:0]
			for _, o := range open {
				differs, _ := sp.Tree().Verify(rows, o, ^uint64(0))
				drift = append(drift, differs...)
			}
			open = open[:0]
			for j := range drift {
				open = append(open, drift[j].Range)
			}
			if len(open) == 0 || !t.letInNext(sp, until) {
				break
			}
		}
		if sp.uncertain(l) {
			over = append(over, r)
			continue
		}
		compared = true
		drift = slices.DeleteFunc(drift, func(d space.Drift) bool {
			if overlaps(ahead, d.Range) {
				over = append(over, d.Range)
				return true
			}
			return false
		})
		over = append(over, t.judge(sp, drift, l, r.Covers)...)
	}
	if compared {
		t.figures.Audits++
	} else {
		t.figures.AuditsUnfinished++
	}
	sp.audits.tried(res.ranges, over)
	t.tellAudit(sp, res.looks[0].At, compared)
}

// judge handles the differences that an audit has found. It returns those that may come of
// what is not known yet. Compared tells of a range whether the audit has compared it.
func (t *Tracer) judge(sp *addressSpace, drift []space.Drift, l *Look, compared func(procmaps.Range) bool) (suspect []procmaps.Range) {
	if len(sp.announced) > 0 {
		// A call that has committed and goes on for long may have made any of them, and
		// none of what is equal.
		return rangesOf(drift)
	}
	if !sp.q.numbered {
		drift, suspect = sp.audits.lasting(drift, l.At, compared)
	}
	if len(drift) == 0 {
		return suspect
	}
	if t.learn() && sp.stale {
		return append(suspect, rangesOf(drift)...)
	}
	if t.figures.Skipped > sp.audits.explained {
		// The kernel owns up to what may have been this.
		sp.audits.explained = t.figures.Skipped
		t.staleSince(sp, l.Until)
		return append(suspect, rangesOf(drift)...)
	}
	pid := sp.Owner().PID
	t.emit(&model.Operation{Time: l.At, Space: sp.id, TGID: pid, TID: pid, Body: model.Drift(drift)})
	t.note(sp, l.Until, model.Approximate("drift was found"))
	t.doubt(sp, space.All, l.Until, lookReason{op: space.OpReread})
	return suspect
}

// tellAudit hands on what an audit has come to, where that is new.
func (t *Tracer) tellAudit(sp *addressSpace, at uint64, compared bool) {
	var told []model.Unverified
	for _, s := range sp.audits.over {
		if s.tried {
			told = append(told, model.Unverified{Range: s.Range, Since: s.since})
		}
	}
	if len(told) > 0 || sp.audits.told || compared && !sp.audits.said {
		t.note(sp, at, model.Audit{Compared: compared, Unverified: told})
	}
	sp.audits.said, sp.audits.told = sp.audits.said || compared, len(told) > 0
}

// mappings are the rows of a look, without what only smaps shows.
func (l *Look) mappings() []procmaps.Mapping {
	rows := make([]procmaps.Mapping, len(l.Rows))
	for i := range l.Rows {
		rows[i] = l.Rows[i].Mapping
	}
	return rows
}

// difference is what an audit has found, as the next one will find it again.
type difference struct {
	procmaps.Range
	what space.What
}

// lasting returns the differences that each audit has found for long, and where the others
// are. Without numbers a call that has committed and not returned is not known of, and its
// thread may have to wait for a CPU.
func (a *audits) lasting(drift []space.Drift, at uint64, compared func(procmaps.Range) bool) (last []space.Drift, others []procmaps.Range) {
	before := a.suspects
	a.suspects = make(map[difference]uint64)
	for d, since := range before {
		if !compared(d.Range) {
			a.suspects[d] = since
		}
	}
	for i := range drift {
		d := difference{drift[i].Range, drift[i].What}
		since, again := before[d]
		if !again {
			since = at
		}
		a.suspects[d] = since
		if at-since < settle {
			others = append(others, d.Range)
		} else {
			last = append(last, drift[i])
		}
	}
	return last, others
}

func rangesOf(drift []space.Drift) (out []procmaps.Range) {
	for i := range drift {
		out = append(out, drift[i].Range)
	}
	return out
}

func overlaps(ranges []procmaps.Range, r procmaps.Range) bool {
	return slices.ContainsFunc(ranges, r.Overlaps)
}

// sorted puts disjoint ranges into address order.
func sorted(ranges []procmaps.Range) []procmaps.Range {
	slices.SortFunc(ranges, func(a, b procmaps.Range) int { return cmp.Compare(a.Start, b.Start) })
	return ranges
}
