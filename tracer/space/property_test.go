package space

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

func TestTreeFollowsTheOracleInCommitOrder(t *testing.T) {
	t.Parallel()
	forSeeds(t, 12, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, []uint64{24, 64, 700}[r.IntN(3)], true)
		s := New(Options{Reports: r.IntN(2) == 0})
		s.SetBrk(brkStart*page, brkStart*page)
		s.SetComplete(true)
		calls, before := k.history(400)
		states := append(before[1:], k.o)
		mapped := int64(0)
		for i, c := range calls {
			e := s.Apply(c)
			mapped += e.Delta
			if err := s.checkInvariants(); err != nil {
				t.Fatalf("after %s: %v\n%s", c.text(), err, listing(calls[:i+1]))
			}
			if d := states[i].diff(s, nil); d != "" {
				t.Fatalf("after %s:\n%s%s", c.text(), d, listing(calls[:i+1]))
			}
			if e.Violations != 0 || len(e.Doubts) != 0 || e.Late {
				t.Fatalf("after %s: %d violations (%v), doubts %v, late %v\n%s",
					c.text(), e.Violations, e.Reason, e.Doubts, e.Late, listing(calls[:i+1]))
			}
			if got := s.Totals().Mapped; int64(got) != mapped || got != uint64(len(states[i].pages))*page {
				t.Fatalf("after %s: %d bytes mapped, sum of changes %d, want %d pages",
					c.text(), got, mapped, len(states[i].pages))
			}
			if drift, _ := s.Verify(mappings(states[i].rows(All)), All, ^uint64(0)); len(drift) != 0 {
				t.Fatalf("after %s: drift %+v", c.text(), drift)
			}
			if d := regionDiff(s); d != "" {
				t.Fatalf("after %s: %s", c.text(), d)
			}
			switch r.IntN(30) {
			case 0:
				s.Prune(c.Time - r.Uint64N(100)%c.Time)
			case 1:
				checkClone(t, s, states[i], c.Time)
			}
		}
	})
}

// regionDiff checks that the regions tile exactly the extents and that none
// continues the one before.
func regionDiff(s *Space) string {
	regions := s.Regions(nil)
	n, bytes := 0, uint64(0)
	for i, r := range regions {
		n += r.Extents
		bytes += r.Len()
		for e := range s.Extents(r.Range) {
			if !r.Covers(e.Range) || e.Mode != r.Mode || e.File != r.File {
				return "extent " + pagesText(e.Range) + " is not of its region " + pagesText(r.Range)
			}
		}
		if i > 0 && regions[i-1].End == r.Start {
			a, b := s.list.cell(s.list.find(r.Start-1)), s.list.cell(s.list.find(r.Start))
			if sameRegion(a, b) {
				return "two regions meet that are one, at " + pagesText(r.Range)
			}
		}
	}
	if tot := s.Totals(); n != tot.Extents || bytes != tot.Mapped {
		return "regions do not hold all extents"
	}
	return ""
}

func checkClone(t *testing.T, s *Space, o *oracle, at uint64) {
	t.Helper()
	child, doubts := s.Clone(at)
	want := o.clone()
	for p, st := range want.pages {
		if st.dc {
			delete(want.pages, p)
		}
	}
	if err := child.checkInvariants(); err != nil {
		t.Fatalf("clone: %v", err)
	}
	if d := want.diff(child, nil); d != "" || len(doubts) != 0 {
		t.Fatalf("clone: doubts %v\n%s", doubts, d)
	}
	for e := range child.Extents(All) {
		if e.Flags&Inherited == 0 {
			t.Fatalf("clone: extent %v is not marked", e.Range)
		}
	}
}

func TestAnyPermutationEndsInTheTreeOfTheCommitOrder(t *testing.T) {
	t.Parallel()
	forSeeds(t, 100, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, 24+r.Uint64N(40), false)
		calls, _ := k.history(10 + r.IntN(120))
		order := shuffled(r, calls)
		if r.IntN(2) == 0 {
			order = jittered(r, calls)
		}
		s := New(Options{})
		for _, c := range order {
			e := s.Apply(c)
			if err := s.checkInvariants(); err != nil {
				t.Fatalf("after %s: %v\n%s", c.text(), err, listing(order))
			}
			if len(e.Doubts) != 0 {
				t.Fatalf("after %s: doubts %v\n%s", c.text(), e.Doubts, listing(order))
			}
		}
		if d := k.o.diff(s, nil); d != "" {
			t.Fatalf("%scommit order:\n%sapplied:\n%s", d, listing(calls), listing(order))
		}
		if drift, _ := s.Verify(mappings(k.o.rows(All)), All, ^uint64(0)); len(drift) != 0 {
			t.Fatalf("drift %+v", drift)
		}
	})
}

// With calls that read what they change, what is wrong must be in doubt, and
// reading the doubts again must heal it.
func permuteWithReaders(t *testing.T, k *kernel, calls, order []*Call) {
	t.Helper()
	s := New(Options{Reports: true})
	var reported []procmaps.Range
	for _, c := range order {
		reported = append(reported, s.Apply(c).Doubts...)
		if err := s.checkInvariants(); err != nil {
			t.Fatalf("after %s: %v\n%s", c.text(), err, listing(order))
		}
	}
	for _, u := range s.unadvised { // which matters to children only
		k.o.flagless = append(k.o.flagless, u.Range)
	}
	if d := k.o.diff(s, s.Doubts()); d != "" {
		t.Fatalf("wrong outside of doubt %v:\n%scommit order:\n%sapplied:\n%s",
			s.Doubts(), d, listing(calls), listing(order))
	}
	for _, r := range s.Doubts() {
		if !slices.ContainsFunc(reported, func(o procmaps.Range) bool { return o.Overlaps(r) }) {
			t.Fatalf("doubt %v is open but was not reported", r)
		}
		s.Reread(Read{Range: r, Rows: k.o.rows(r), Began: k.time + 5})
		if err := s.checkInvariants(); err != nil {
			t.Fatal(err)
		}
	}
	if d := k.o.diff(s, nil); d != "" || len(s.Doubts()) != 0 {
		t.Fatalf("after reading the doubts again, %v left:\n%s", s.Doubts(), d)
	}
}

func TestPermutationsWithMremapAreWrongOnlyWithinDoubt(t *testing.T) {
	t.Parallel()
	forSeeds(t, 120, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, 24+r.Uint64N(40), true)
		calls, _ := k.history(10 + r.IntN(80))
		order := jittered(r, calls)
		if r.IntN(2) == 0 {
			order = shuffled(r, calls)
		}
		permuteWithReaders(t, k, calls, order)
	})
}

// tornRead looks at the window in pieces, each at a later moment: piece i as
// the oracle was before call at[i].
func tornRead(r *rand.Rand, k *kernel, states []*oracle, from int) Read {
	rd := Read{Range: procmaps.Range{End: k.window * page}, Began: uint64(from)*10 + 5}
	now := from
	for lo := uint64(0); lo < k.window; {
		hi := min(lo+1+r.Uint64N(12), k.window)
		rd.Rows = append(rd.Rows, states[now].rows(procmaps.Range{Start: lo * page, End: hi * page})...)
		lo = hi
		now = min(now+r.IntN(3), len(states)-1)
	}
	if r.IntN(2) == 0 {
		for i := range rd.Rows { // maps alone shows no flags
			rd.Rows[i].Flags, rd.Rows[i].Known = 0, 0
		}
	}
	rd.Ended = uint64(now)*10 + 6
	return rd
}

func TestTornReadsDoNoHarm(t *testing.T) {
	t.Parallel()
	forSeeds(t, 100, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		withReaders := r.IntN(2) == 0
		k := newKernel(r, 24+r.Uint64N(40), withReaders)
		calls, before := k.history(120)
		states := append(before, k.o)
		order := calls
		late := r.IntN(2) == 0
		if late {
			order = jittered(r, calls)
		}
		var found []procmaps.Range
		s := New(Options{})
		s.SetComplete(true)
		for i, c := range order {
			if r.IntN(15) == 0 && i > 0 {
				// Some time before, at, or after what has been applied.
				from := min(len(states)-1, max(0, i-5+r.IntN(10)))
				rd := tornRead(r, k, states, from)
				shows := len(rd.Rows) > 0 && rd.Rows[0].Known != 0
				for _, c := range s.Reread(rd) {
					// It was mapped by a call that is yet to come, and may have been given
					// flags by one that came before: maps does not show them.
					if late && !shows {
						found = append(found, c.Range)
					}
				}
			}
			e := s.Apply(c)
			if err := s.checkInvariants(); err != nil {
				t.Fatalf("after %s: %v", c.text(), err)
			}
			if slices.Equal(order, calls) && e.Violations != 0 {
				t.Fatalf("after %s: %v\n%s", c.text(), e.Reason, listing(order))
			}
		}
		k.o.flagless = found
		if withReaders {
			// A doubt settled by a read without flags leaves the flags unknown.
			k.o.flagless = []procmaps.Range{All}
		}
		if d := k.o.diff(s, s.Doubts()); d != "" {
			t.Fatalf("%sdoubts %v\n%s", d, s.Doubts(), listing(order))
		}
	})
}

// A seed in the middle of a history stands in for everything before it.
func TestSeedStandsForTheHistoryBeforeIt(t *testing.T) {
	t.Parallel()
	forSeeds(t, 100, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, 40, false)
		calls, before := k.history(100)
		states := append(before, k.o)
		from := 20 + r.IntN(60)
		// The seed is torn as well, but shows the flags, as smaps does.
		rd := Read{Range: All, Began: uint64(from)*10 + 5, Ended: uint64(len(states)) * 10, Op: OpSeed}
		for now, lo := from, uint64(0); lo < k.window; now = min(now+r.IntN(3), len(states)-1) {
			hi := min(lo+5, k.window)
			rd.Rows = append(rd.Rows, states[now].rows(procmaps.Range{Start: lo * page, End: hi * page})...)
			lo = hi
		}
		s := New(Options{})
		late := jittered(r, calls[max(0, from-3):])
		if r.IntN(2) == 0 {
			late = shuffled(r, calls[from:])
		}
		cut := r.IntN(len(late))
		for _, c := range late[:cut] {
			s.Apply(c)
		}
		if changes := s.Reread(rd); len(changes) != 0 {
			t.Fatalf("a seed reported %d changes", len(changes))
		}
		for _, c := range late[cut:] {
			s.Apply(c)
		}
		if d := k.o.diff(s, nil); d != "" {
			t.Fatalf("%s%s", d, listing(calls))
		}
	})
}

func TestVerifySeesACorruptedTree(t *testing.T) {
	t.Parallel()
	forSeeds(t, 12, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, 48, true)
		calls, _ := k.history(80)
		s := New(Options{})
		for _, c := range calls {
			s.Apply(c)
		}
		if len(k.o.pages) == 0 {
			return
		}
		rows := mappings(k.o.rows(All))
		i := r.IntN(len(rows))
		var want What
		switch r.IntN(4) {
		case 0:
			rows[i].Mode ^= procmaps.Exec
			want = ModeOf
		case 1:
			rows = slices.Delete(rows, i, i+1)
			want = Extra
		case 2:
			rows = append(rows, procmaps.Mapping{Range: procmaps.Range{Start: k.window * page, End: (k.window + 1) * page}})
			want = Missing
		case 3:
			rows[i].Inode, rows[i].Name, rows[i].Dev = 7777, "/else", procmaps.Device{Minor: 1}
			want = FileOf
			if e, _ := s.At(rows[i].Start); e.File != 0 && !s.tab.files[e.File].known() {
				return // memory of unknown identity agrees with much
			}
		}
		drift, _ := s.Verify(rows, All, ^uint64(0))
		if len(drift) != 1 || drift[0].What != want || drift[0].Range.Len() != page {
			t.Fatalf("got %+v, want one page of %v", drift, want)
		}
		// What may have changed since the read began is nobody's drift, and not verified.
		newer, unverified := s.Verify(rows, All, 1)
		if len(newer)+len(unverified) != 1 || len(newer) > 0 && newer[0].What != Missing ||
			len(unverified) > 0 && unverified[0] != drift[0].Range {
			t.Fatalf("compared what is newer than the read: %+v, and %v is not verified", newer, unverified)
		}
	})
}

func TestRereadReportsAndHealsWhatWasMissed(t *testing.T) {
	t.Parallel()
	forSeeds(t, 100, func(t *testing.T, r *rand.Rand) {
		t.Helper()
		k := newKernel(r, 48, true)
		calls, _ := k.history(100)
		s := New(Options{})
		for _, c := range calls {
			if r.IntN(10) != 0 { // one in ten is lost
				s.Apply(c)
			}
		}
		drift, _ := s.Verify(mappings(k.o.rows(All)), All, ^uint64(0))
		changes := slices.Clone(s.Reread(Read{Range: All, Rows: k.o.rows(All), Began: k.time + 1}))
		for _, d := range drift {
			if !slices.ContainsFunc(changes, func(c Change) bool { return c.Range.Overlaps(d.Range) }) {
				t.Fatalf("drift %+v was not reported as a change", d)
			}
		}
		if d := k.o.diff(s, nil); d != "" {
			t.Fatalf("not healed:\n%s", d)
		}
		if again := s.Reread(Read{Range: All, Rows: k.o.rows(All), Began: k.time + 2}); len(again) != 0 {
			t.Fatalf("a second read changed %+v", again)
		}
		if err := s.checkInvariants(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzApply(f *testing.F) {
	f.Add([]byte("a short history, and then an order for it: 0123456789"), uint64(1), true)
	f.Add([]byte{3, 7, 1, 0, 2, 2, 5, 9, 200, 31, 12, 12, 13, 4, 4, 1, 9, 9, 8, 250}, uint64(7), false)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, readers bool) {
		k := newKernel(&byteChooser{b}, 24, readers)
		calls, _ := k.history(min(len(b)/4+1, 60))
		if len(calls) == 0 {
			return
		}
		s := New(Options{})
		s.SetComplete(true)
		for _, c := range calls {
			if e := s.Apply(c); e.Violations != 0 || len(e.Doubts) != 0 {
				t.Fatalf("after %s: %v, doubts %v\n%s", c.text(), e.Reason, e.Doubts, listing(calls))
			}
			if err := s.checkInvariants(); err != nil {
				t.Fatalf("after %s: %v\n%s", c.text(), err, listing(calls))
			}
		}
		if d := k.o.diff(s, nil); d != "" {
			t.Fatalf("%s%s", d, listing(calls))
		}
		permuteWithReaders(t, k, calls, shuffled(rand.New(rand.NewPCG(seed, 1)), calls))
	})
}
