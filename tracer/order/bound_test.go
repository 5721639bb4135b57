package order

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// pictureOf is what is said of the address space of a process.
func pictureOf(rep *model.Report, pid int) string {
	for _, sp := range rep.Spaces {
		if sp.Process.PID == pid {
			return sp.Picture.String()
		}
	}
	return "not in the report"
}

// A call that changes what is mapped has a section of its own. One that has not is not what
// it seems.
func TestAChangeWithoutASectionDidNotHappen(t *testing.T) {
	t.Parallel()
	forged := munmap(5, 1, 200, 0, 12, 14)
	forged.Flags = Stamped
	tr, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{forged, exit(5, 1, 400)})...)
	if got, want := pages(tr, 5), "10-20"; got != want {
		t.Errorf("regions %s, want %s", got, want)
	}
	if got, want := rep.Picture.String(), "approximate: gone before its last changes could be read"; got != want || rep.Stats.Calls != 1 {
		t.Errorf("picture %s, want %s; %d calls", got, want, rep.Stats.Calls)
	}
}

// A child that has another number of pages than its parent passes on lacks something, or has
// something, that nobody told of.
func TestAChildOfAnotherSizeIsRead(t *testing.T) {
	t.Parallel()
	fork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 300, Space: 1, Section: 3, Flags: Stamped | HasSection,
		Child: 6, ChildSpace: 2, First: 1,
	}
	for _, c := range []struct {
		name  string
		pages int64
		flags model.Flags
		want  string
	}{
		{"as many", 10, Stamped | HasSection, "exact"},
		{"not known", 0, Stamped | HasSection, "exact"},
		{"less", 8, Stamped | HasSection, "approximate: gone before its last changes could be read"},
		{"a fork without a stamp", 10, 0, "approximate: gone before its last changes could be read"},
	} {
		f := fork
		f.Pages, f.Flags = c.pages, c.flags
		_, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{f, exit(6, 2, 400), exit(5, 1, 500)})...)
		if got := pictureOf(&rep, 6); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A section that was taken by who did not make it says so without a number of its own.
func TestAStolenSectionIsRead(t *testing.T) {
	t.Parallel()
	stolen := Event{Kind: KindOther, TGID: 5, TID: 5, Space: 1, Flags: Stamped, Time: 250, NR: 11}
	_, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
		munmap(5, 1, 200, 3, 12, 14), stolen, exit(5, 1, 400),
	})...)
	if got, want := rep.Picture.String(), "approximate: gone before its last changes could be read"; got != want || rep.Stats.Others != 1 {
		t.Errorf("picture %s, want %s; %d others", got, want, rep.Stats.Others)
	}
}

// What a call has mapped is found when it returns. If another has replaced that by then, what
// was found is right in the end, but not for a child that was forked in between.
func TestAChildBornBeforeAMappingWasFoundIsRead(t *testing.T) {
	t.Parallel()
	fork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 300, Space: 1, Section: 4, Flags: Stamped | HasSection,
		Child: 6, ChildSpace: 2, First: 1,
	}
	for _, c := range []struct {
		name  string
		found uint32
		want  string
	}{
		{"found at once", 4, "exact"},
		{"found after the fork", 6, "approximate: gone before its last changes could be read"},
	} {
		m := mmap(5, 1, 200, 3, 30, 40)
		m.Call.Found, m.Found = true, c.found
		_, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
			m, fork, munmap(5, 1, 350, 5, 50, 60), exit(6, 2, 400), exit(5, 1, 500),
		})...)
		if got := pictureOf(&rep, 6); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A call that has committed may take for ever to return, and what it has mapped is used
// meanwhile: it is read. When it returns after all, nothing is amiss.
func TestWhatACallDidIsReadIfItDoesNotReturn(t *testing.T) {
	t.Parallel()
	for _, returns := range []bool{false, true} {
		w := newWorld(row(10, 20, rw))
		announced := mmap(5, 1, 2e9, 3, 30, 34)
		announced.Kind = KindAnnounce
		w.clock = 2e9
		began := false
		events := []Event{announced}
		done := false
		opts := Options{}
		tr, told := live(t, w, opts, events, func(c *model.Change) bool {
			if c.Kind == model.KindBegin {
				began = true
				w.mu.Lock()
				w.rows = []space.Row{row(10, 20, rw), row(30, 34, rw)}
				w.mu.Unlock()
			}
			done = done || c.Kind == model.KindReread
			return done
		})
		if returns {
			late := mmap(5, 1, 2e9, 3, 30, 34)
			tr.arrive(&late)
		}
		if diff := cmp.Diff([]string{"re-read 30-34"}, told); diff != "" || !began {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if rep := tr.Report(); pages(tr, 5) != "10-20 30-34" || rep.Picture.String() != "exact" || rep.Stats.Missed+rep.Stats.Violations > 0 {
			t.Errorf("returns %t: regions %s, picture %s, stats %+v", returns, pages(tr, 5), rep.Picture, rep.Stats.Figures)
		}
		if sp := tr.spaces[1]; len(sp.announced) > 0 || len(sp.overdue) > 0 == returns {
			t.Errorf("returns %t: announced %v, overdue %v", returns, sp.announced, sp.overdue)
		}
	}
}
