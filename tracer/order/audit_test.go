package order

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// rangeOf is a range of pages.
func rangeOf(from, to uint64) procmaps.Range { return procmaps.Range{Start: from << 12, End: to << 12} }

func (s stretch) text() string {
	out := fmt.Sprintf("%d-%d since %d, %d", s.Start>>12, s.End>>12, s.since, s.row)
	if s.tried {
		out += " tried"
	}
	return out
}

func TestOnlyWhatEveryAuditHasPassedOverCounts(t *testing.T) {
	t.Parallel()
	var a audits
	for i, c := range []struct {
		pass, tried, but []procmaps.Range
		want             []string
		alone            bool
	}{
		{pass: []procmaps.Range{rangeOf(10, 20), rangeOf(30, 40)}, want: []string{"10-20 since 1, 1", "30-40 since 1, 1"}},
		{
			pass: []procmaps.Range{rangeOf(5, 12), rangeOf(15, 35), rangeOf(50, 51)},
			want: []string{"5-10 since 2, 1", "10-12 since 1, 2", "15-20 since 1, 2", "20-30 since 2, 1", "30-35 since 1, 2", "50-51 since 2, 1"},
		},
		{pass: []procmaps.Range{rangeOf(11, 16)}, want: []string{"11-12 since 1, 3", "12-15 since 3, 1", "15-16 since 1, 3"}, alone: true},
		{
			tried: []procmaps.Range{rangeOf(11, 12), rangeOf(15, 16)}, but: []procmaps.Range{rangeOf(15, 16)},
			want: []string{"12-15 since 3, 1", "15-16 since 1, 3 tried"}, alone: true,
		},
		{pass: []procmaps.Range{rangeOf(15, 16)}, want: []string{"15-16 since 1, 4 tried"}, alone: true},
		{pass: nil},
		{pass: []procmaps.Range{space.All}, want: []string{fmt.Sprintf("0-%d since 7, 1", space.All.End>>12)}},
		{pass: []procmaps.Range{rangeOf(10, 20), rangeOf(20, 30)}, want: []string{"10-30 since 7, 2"}},
		{pass: []procmaps.Range{rangeOf(12, 14)}, want: []string{"12-14 since 7, 3"}, alone: true},
	} {
		if c.tried != nil {
			a.tried(c.tried, c.but)
		} else {
			a.pass(c.pass, uint64(i+1))
		}
		var got []string
		for _, s := range a.over {
			got = append(got, s.text())
		}
		if diff := cmp.Diff(c.want, got); diff != "" || a.alone != c.alone {
			t.Errorf("step %d: alone %v (-want +got):\n%s", i+1, a.alone, diff)
		}
	}
}

// audited is a tracer of one address space whose events and looks a test gives by hand.
type audited struct {
	*Tracer
	sp      *addressSpace
	section uint32 // the next
	after   uint32 // how many there have been since the look
	drift   []string
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{section: 3}
	a.Tracer = New(&script{}, nil, Options{Verify: time.Second, OnChange: func(c *model.Change) {
		for _, d := range c.Drift {
			a.drift = append(a.drift, fmt.Sprintf("%s %d-%d", d.What, d.Range.Start>>12, d.Range.End>>12))
		}
	}})
	a.sp = a.newSpace(1)
	a.lay(a.sp, model.Layout{})
	a.join(5, a.sp, model.Join{Comm: "prog"})
	a.sp.q.start(a.section)
	a.seed(a.sp, &Look{Rows: []space.Row{row(10, 20, rw)}, At: 1e9, Until: 1e9})
	return a
}

// happens delivers what a call did to pages up to 32.
func (a *audited) happens(event func(pid int, id, at uint64, section uint32, from, to uint64) Event, at, from uint64) {
	ev := event(5, 1, at, a.section, from, 32)
	a.section++
	a.sp.q.push(&ev, a.sp.deliver)
}

// look is what reading everything, or a range, has shown.
func (a *audited) look(at uint64, ranges []procmaps.Range, rows ...space.Row) {
	res := &lookResult{lookRequest: lookRequest{ranges: ranges, audit: true, alone: ranges[0] != space.All}}
	section := a.section - a.after
	for range ranges {
		res.looks = append(res.looks, Look{At: at, Until: at + 10, Rows: rows, Section: section, HasSection: true})
	}
	a.sp.parked = res
	a.unpark(a.sp, at+20)
}

// changing is an audited whose pages 30 to 32 have changed during each of three audits.
func changing(t *testing.T) *audited {
	t.Helper()
	a := newAudited(t)
	for at := uint64(2e9); at < 5e9; at += 1e9 {
		a.sp.held.on, a.sp.held.after = true, at
		a.happens(mmap, at+2, 30)
		a.happens(munmap, at+6, 30)
		a.look(at, []procmaps.Range{space.All}, row(10, 20, rw), row(30, 32, rw))
	}
	if !a.sp.audits.alone || a.Stats().Audits != 3 || a.Report().Picture.String() != "exact" {
		t.Fatalf("after three audits: %+v, picture %s", a.sp.audits, a.Report().Picture)
	}
	return a
}

func TestWhatChangesDuringEachAuditIsComparedWithEachOfItsStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		rows  []space.Row
		drift []string
	}{
		{"as at the beginning", nil, nil},
		{"as in between", []space.Row{row(30, 32, rw)}, nil},
		{"as it never was", []space.Row{row(30, 32, procmaps.Read)}, []string{"extra 30-32"}},
		{"half of it as it never was", []space.Row{row(30, 31, rw), row(31, 32, procmaps.Read)}, []string{"extra 31-32"}},
	} {
		a := changing(t)
		a.sp.held.on, a.sp.held.after = true, 6e9
		a.happens(mmap, 6e9+2, 30)
		a.happens(munmap, 6e9+4, 30)
		a.happens(mmap, 6e9+20, 31) // after the look
		a.after = 1
		a.look(6e9, []procmaps.Range{rangeOf(30, 32)}, c.rows...)
		want := c.drift
		for i := range want {
			want[i] = strings.Replace(want[i], "extra", "missing", 1) // it is gone at the end
		}
		if diff := cmp.Diff(want, a.drift); diff != "" || a.Stats().Audits != 4 || len(a.sp.audits.over) > 0 {
			t.Errorf("%s: %d audits, %+v (-want +got):\n%s", c.name, a.Stats().Audits, a.sp.audits.over, diff)
		}
	}
}

func TestAnAuditIsOfNoUseWhereTheTreeHasGoneOn(t *testing.T) {
	t.Parallel()
	a := changing(t)
	a.happens(mmap, 6e9+2, 30)
	a.look(6e9, []procmaps.Range{rangeOf(30, 32)})
	if s := a.Stats(); len(a.drift) > 0 || s.Unverified != 1 {
		t.Errorf("drift %v, %d spaces unverified", a.drift, s.Unverified)
	}
}

// What not even an audit of its own could compare is told, until one can.
func TestWhatIsNotComparedForLongIsTold(t *testing.T) {
	t.Parallel()
	a := changing(t)
	check := func(picture string, unverified uint64, is model.NotVerified) {
		t.Helper()
		rep := a.Report()
		if rep.Picture.String() != picture || rep.Stats.Unverified != unverified || rep.Spaces[0].Unverified != is {
			t.Errorf("picture %s, %d spaces unverified, %+v", rep.Picture, rep.Stats.Unverified, rep.Spaces[0].Unverified)
		}
	}
	a.sp.announced[99] = 6e9 // a call is under way, which may have mapped them
	a.look(6e9, []procmaps.Range{rangeOf(30, 32)}, row(30, 32, rw))
	check("approximate: not verified: 8K could not be compared with /proc for 4s", 1, model.NotVerified{Bytes: 8 << 10, For: 4 * time.Second})
	a.look(6.5e9, []procmaps.Range{space.All}, row(10, 20, rw), row(30, 32, rw))
	check("approximate: not verified: 8K could not be compared with /proc for 4.5s", 1, model.NotVerified{Bytes: 8 << 10, For: 4500 * time.Millisecond})
	a.sp.stale = true // a loss has not been repaired yet
	for at := uint64(7e9); at < 10e9; at += 1e9 {
		a.look(at, []procmaps.Range{space.All}, row(10, 20, rw))
	}
	a.look(9.5e9, []procmaps.Range{rangeOf(0, 30)}, row(10, 20, rw))
	check("approximate: not verified: 48K could not be compared with /proc for 7.5s", 1, model.NotVerified{Bytes: 48 << 10, For: 7500 * time.Millisecond})
	delete(a.sp.announced, 99)
	a.sp.stale = false
	a.look(10e9, []procmaps.Range{space.All}, row(10, 20, rw))
	check("exact", 0, model.NotVerified{})
}

func TestAnAuditThatCannotBeginComparesNothing(t *testing.T) {
	t.Parallel()
	a := newAudited(t)
	a.auditSoon(a.sp)
	a.doubt(a.sp, rangeOf(10, 11), 1e9, lookReason{op: space.OpReread})
	for at := uint64(2e9); at < 5e9; at += 1e9 {
		a.auditAgain(a.sp, at)
	}
	if rep := a.Report(); rep.Stats.Unverified != 1 || rep.Stats.AuditsUnfinished != 3 || rep.Spaces[0].Unverified.Bytes != 40<<10 {
		t.Errorf("%+v of %+v", rep.Spaces[0].Unverified, rep.Stats)
	}
}

// Many processes end before a tenth of a second has passed.
func TestANewAddressSpaceIsAuditedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.tasks[0].Section, w.next = 3, 3
	var tr *Tracer
	src := &script{idle: -1}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tr = New(src, w, Options{Verify: time.Hour, OnIdle: func() error {
		switch tr.Stats().Audits {
		case 1:
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.space == 1 {
				w.space, w.next = 2, 1
				src.events = []Event{{
					Kind: model.KindFork, TGID: 5, TID: 5, Time: w.clock, Space: 1, Section: 3, Flags: Stamped | HasSection,
					Child: 6, ChildSpace: 2, First: 1,
				}}
			}
		case 2:
			cancel()
		}
		return nil
	}})
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	if err := tr.loop(ctx); err != nil {
		t.Fatal(err)
	}
	tr.stopLooking()
	if s := tr.Stats(); s.Audits != 2 || s.Unaudited != 0 {
		t.Errorf("%d audits, %d spaces unaudited: %+v", s.Audits, s.Unaudited, s)
	}
}

func FuzzPass(f *testing.F) {
	f.Add([]byte{1, 4, 200, 2, 5, 0, 1, 4})
	f.Add([]byte{9, 9, 9, 0, 8, 12, 0, 10, 3, 0, 11, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a audits
		rows := make(map[uint64]int) // of each page, the audits in a row that passed over it
		at := uint64(0)
		for len(b) > 0 {
			var over []procmaps.Range
			end := uint64(0)
			for len(b) >= 2 && b[0] != 0 {
				from := end + uint64(b[0]%16)
				end = from + 1 + uint64(b[1]%16)
				over = append(over, rangeOf(from, end))
				b = b[2:]
			}
			b = b[min(1, len(b)):]
			at++
			a.pass(over, at)
			was := rows
			rows = make(map[uint64]int)
			for _, r := range over {
				for p := r.Start >> 12; p < r.End>>12; p++ {
					rows[p] = was[p] + 1
				}
			}
			got := make(map[uint64]int)
			for i, s := range a.over {
				if s.Empty() || i > 0 && a.over[i-1].End > s.Start || s.since != at+1-uint64(s.row) {
					t.Fatalf("%+v", a.over)
				}
				for p := s.Start >> 12; p < s.End>>12; p++ {
					got[p] = s.row
				}
			}
			if diff := cmp.Diff(rows, got); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			long := slices.ContainsFunc(a.over, func(s stretch) bool { return s.row >= patientAudits })
			if a.alone != long {
				t.Fatalf("alone %v of %+v", a.alone, a.over)
			}
		}
	})
}
