package order

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// script is a Source of given events; then it is idle, and when it has been asked
// often enough it ends.
type script struct {
	events []Event
	idle   int // how often it says that it is idle before it ends; -1: for ever
}

func (s *script) Next(ev *Event) error {
	if len(s.events) > 0 {
		*ev, s.events = s.events[0], s.events[1:]
		return nil
	}
	if s.idle == 0 {
		return io.EOF
	}
	s.idle--
	return ErrIdle
}

// world is a World whose mappings a test sets.
type world struct {
	mu    sync.Mutex
	clock uint64
	rows  []space.Row
	space uint64
	tasks []Task
	gone  bool
	err   error
	looks int
	next  uint32
}

func (w *world) Now() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock += 1e6
	return w.clock
}

func (w *world) Look(int, procmaps.Range, bool, func(int) error) (Look, error) {
	at := w.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	if w.gone {
		return Look{}, procmaps.ErrGone
	}
	if w.err != nil {
		return Look{}, w.err
	}
	return Look{Rows: w.rows, At: at, Until: at + 1, Space: w.space, Section: w.next, HasSection: true}, nil
}

func (w *world) Path(int, uint64, procmaps.Device, uint64) string { return "/lib/libx.so" }
func (w *world) Tasks() ([]Task, error)                           { return w.tasks, nil }
func (w *world) Forget(int)                                       {}

func row(from, to uint64, mode procmaps.Mode) space.Row {
	return space.Row{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: from << 12, End: to << 12}, Mode: mode}}
}

// allKnown is a row of which all is known, and that it has these flags.
func allKnown(r space.Row, flags space.Flags) space.Row {
	r.Flags, r.Known = flags, space.GrowsDown|space.DontFork|space.WipeOnFork|space.Userfault
	return r
}

const rw = procmaps.Read | procmaps.Write

// image is an exec with one mapping, from page 10 to 20.
func image(pid int, id uint64, at uint64, first uint32) []Event {
	head := Event{TGID: pid, TID: pid, Time: at, Space: id}
	exec, r, seeded := head, head, head
	exec.Kind, exec.Comm, exec.First, exec.Flags = model.KindExec, "prog", first, HasSection
	r.Kind, r.Row = KindRow, allKnown(row(10, 20, rw), 0)
	seeded.Kind, seeded.Pages = KindSeeded, 1
	return []Event{exec, r, seeded}
}

func call(pid int, id, at uint64, section uint32, op space.Op, ret int64, args ...uint64) Event {
	ev := Event{
		Kind: model.KindCall, TGID: pid, TID: pid, Time: at, Space: id, Section: section, Flags: Stamped | HasSection,
		Call: space.Call{Op: op, Time: at, TID: uint32(pid), Ret: ret},
	}
	copy(ev.Call.Args[:], args)
	return ev
}

func mmap(pid int, id, at uint64, section uint32, from, to uint64) Event {
	return call(pid, id, at, section, space.OpMmap, int64(from<<12), 0, (to-from)<<12, 3, 0x22, ^uint64(0), 0)
}

func munmap(pid int, id, at uint64, section uint32, from, to uint64) Event {
	return call(pid, id, at, section, space.OpMunmap, 0, from<<12, (to-from)<<12)
}

func exit(pid int, id, at uint64) Event {
	return Event{Kind: model.KindExit, TGID: pid, TID: pid, Time: at, Space: id, Status: 7 << 8}
}

// pages prints the regions of a process that is reported, in pages.
func pages(tr *Tracer, pid int) string {
	var out []string
	for _, sp := range tr.Report().Spaces {
		if sp.Process.PID != pid {
			continue
		}
		for _, r := range tr.Tree(sp.Process.Space).Regions(nil) {
			out = append(out, fmt.Sprintf("%d-%d", r.Start>>12, r.End>>12))
		}
	}
	return strings.Join(out, " ")
}

func replay(t *testing.T, opts Options, events ...Event) (*Tracer, model.Report) {
	t.Helper()
	tr := New(&script{events: events}, nil, opts)
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return tr, tr.Report()
}

func TestARecordedRunNeedsNoKernel(t *testing.T) {
	t.Parallel()
	tr, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
		mmap(5, 1, 200, 3, 30, 40), munmap(5, 1, 300, 4, 12, 14), exit(5, 1, 400),
	})...)
	if got, want := pages(tr, 5), "10-12 14-20 30-40"; got != want {
		t.Errorf("regions %s, want %s", got, want)
	}
	s := rep.Stats
	if s.Calls != 2 || s.Sections != 2 || s.Missed+s.Lost+s.Violations+s.Late != 0 || rep.Picture.String() != "exact" {
		t.Errorf("stats %+v, picture %s", s, rep.Picture)
	}
	if p := rep.Spaces[0].Process; !p.Exited || p.ExitText() != "status 7" {
		t.Errorf("process %+v", p)
	}
}

func TestEventsOfTwoThreadsAreTakenByCommit(t *testing.T) {
	t.Parallel()
	// The munmap made room for the mmap, but its thread came back later.
	tr, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
		mmap(5, 1, 300, 4, 12, 14), munmap(5, 1, 200, 3, 12, 14),
	})...)
	if got := pages(tr, 5); got != "10-12 12-14 14-20" && got != "10-20" {
		t.Errorf("regions %s", got)
	}
	if rep.Stats.Violations != 0 || rep.Stats.Late != 0 {
		t.Errorf("stats %+v", rep.Stats)
	}
}

func TestAMissedSectionIsCounted(t *testing.T) {
	t.Parallel()
	_, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{mmap(5, 1, 300, 5, 30, 31)})...)
	if rep.Stats.Missed != 2 || rep.Stats.Sections != 3 {
		t.Errorf("missed %d of %d sections, want 2 of 3", rep.Stats.Missed, rep.Stats.Sections)
	}
}

func TestAChildHasTheTreeAsOfTheFork(t *testing.T) {
	t.Parallel()
	fork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 300, Space: 1, Section: 4, Flags: Stamped | HasSection,
		Child: 6, ChildSpace: 2, First: 1,
	}
	// Before the fork a mapping came that is reported after the child's first call,
	// after it one that the child must not have.
	tr, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
		fork, mmap(6, 2, 500, 1, 50, 51), mmap(5, 1, 400, 5, 60, 61), mmap(5, 1, 200, 3, 40, 41),
		exit(6, 2, 600), exit(5, 1, 700),
	})...)
	if got, want := pages(tr, 6), "10-20 40-41 50-51"; got != want {
		t.Errorf("child %s, want %s", got, want)
	}
	if got, want := pages(tr, 5), "10-20 40-41 60-61"; got != want {
		t.Errorf("parent %s, want %s", got, want)
	}
	if rep.Stats.Missed+rep.Stats.Violations != 0 || rep.Stats.Forks != 1 {
		t.Errorf("stats %+v", rep.Stats)
	}
}

func TestWhatALateCallLeavesInDoubtIsSoInChildren(t *testing.T) {
	t.Parallel()
	fork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 300, Space: 1, Section: 3, Flags: Stamped | HasSection,
		Child: 6, ChildSpace: 2, First: 1,
	}
	tr, _ := replay(t, Options{}, append(image(5, 1, 100, 3), fork)...)
	op := model.Operation{Time: 250, Space: 1, Body: model.Prune{}}
	tr.model.Apply(&op)
	for _, tc := range []struct {
		at   uint64
		want []procmaps.Range
	}{
		{350, nil}, // after the fork
		{200, []procmaps.Range{{Start: 0x30000, End: 0x40000}}},
	} {
		ev := mmap(5, 1, tc.at, 4, 0x30, 0x40)
		eff := tr.applyCall(&ev, 0, model.Applied)
		tr.doubtChildren(tr.spaces[1], &ev.Call, eff)
		if got := tr.Tree(2).Doubts(); !slices.Equal(got, tc.want) {
			t.Errorf("the call of %d: doubts in the child %v, want %v", tc.at, got, tc.want)
		}
	}
}

func TestAChildThatSharesTheSpaceChangesIt(t *testing.T) {
	t.Parallel()
	vfork := Event{
		Kind: model.KindFork, TGID: 5, TID: 5, Time: 150, Space: 1, Flags: model.SharesSpace, Child: 6, ChildSpace: 1,
	}
	tr, _ := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
		vfork, mmap(6, 1, 200, 3, 30, 31),
	}, image(6, 2, 300, 9), []Event{mmap(6, 2, 400, 9, 70, 71), mmap(5, 1, 500, 4, 32, 33)})...)
	if got, want := pages(tr, 5), "10-20 30-31 32-33"; got != want {
		t.Errorf("parent %s, want %s", got, want)
	}
	if got, want := pages(tr, 6), "10-20 70-71"; got != want {
		t.Errorf("child after exec %s, want %s", got, want)
	}
}

func TestAPidThatIsUsedAgainIsAnotherProcess(t *testing.T) {
	t.Parallel()
	tr, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{
		mmap(5, 1, 200, 3, 30, 31), exit(5, 1, 300), {Kind: KindGone, TGID: 5, Space: 1, Time: 310},
	}, image(5, 2, 400, 7), []Event{mmap(5, 2, 500, 7, 80, 81), exit(5, 2, 600)})...)
	if got, want := pages(tr, 5), "10-20 30-31 10-20 80-81"; got != want {
		t.Errorf("regions %s, want %s", got, want)
	}
	if rep.Stats.Processes != 2 || rep.Stats.Exits != 2 {
		t.Errorf("stats %+v", rep.Stats)
	}
}

func TestExitedProcessesBeyondTheBoundAreCountedOnly(t *testing.T) {
	t.Parallel()
	var events []Event
	for i := range 10 {
		id := uint64(i + 1)
		events = slices.Concat(events, image(100+i, id, 100, 3), []Event{mmap(100+i, id, 200, 3, 30, 31), exit(100+i, id, 300)})
	}
	_, rep := replay(t, Options{KeepExited: 4}, events...)
	if len(rep.Spaces) != 4 || rep.NotKept != 6 || rep.Stats.Sections != 10 || rep.Stats.Exits != 10 {
		t.Errorf("%d spaces, %d not kept, stats %+v", len(rep.Spaces), rep.NotKept, rep.Stats)
	}
}

func TestAProcessThatEndsWithASectionUnreportedSaysSo(t *testing.T) {
	t.Parallel()
	end := exit(5, 1, 400)
	end.Flags, end.Section = HasSection, 5
	for _, c := range []struct {
		events []Event
		want   string
	}{
		{[]Event{mmap(5, 1, 200, 3, 30, 31), mmap(5, 1, 300, 4, 40, 41), end}, "exact"},
		{[]Event{mmap(5, 1, 200, 3, 30, 31), end}, "approximate: a change was missed"},
	} {
		_, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), c.events)...)
		if got := rep.Picture.String(); got != c.want {
			t.Errorf("after %d calls the picture is %s, want %s", len(c.events)-1, got, c.want)
		}
	}
}

// Programs are skipped for whatever process: only if a section is not reported is
// anything read again.
func TestOnlyWhatWasSkippedIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		section uint32 // the listing's
		regions string
		rereads uint64
		picture string
	}{
		{section: 4, regions: "10-20 50-51", picture: "exact"},
		{section: 5, regions: "10-20 30-34 50-51", rereads: 1, picture: "resynced"},
	} {
		w := newWorld(row(10, 20, rw))
		idle := 0
		tr := stage(t, w, func() []Event {
			w.become(c.section, row(10, 20, rw), row(30, 34, rw), row(50, 51, rw))
			return []Event{mmap(5, 1, 3.05e9, 3, 50, 51), {Kind: KindSkipped, Lost: 7, Time: 3.05e9 + 1}}
		}, func(rep model.Report) ([]Event, bool) {
			if rep.Stats.Calls > 0 && rep.Stats.Rereads == c.rereads {
				idle++
			}
			return nil, idle > 15
		})
		rep := tr.Report()
		if pages(tr, 5) != c.regions || rep.Picture.String() != c.picture || rep.Stats.Rereads != c.rereads {
			t.Errorf("section %d: regions %s, picture %s, %d re-reads; want %+v", c.section, pages(tr, 5), rep.Picture, rep.Stats.Rereads, c)
		}
		if s := rep.Stats; s.Skipped != 7 || s.Lost+s.Missed != 0 || s.LostOwners != c.rereads {
			t.Errorf("section %d: %+v", c.section, s)
		}
	}
}

func TestADifferenceIsNoDriftWhereProgramsWereSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.next = 3
	tr, told := live(t, w, Options{Verify: 1}, []Event{{Kind: KindSkipped, Lost: 1, Time: 1}}, func(c *model.Change) bool {
		if c.Kind == model.KindBegin {
			w.mu.Lock()
			w.rows = []space.Row{row(10, 18, rw)}
			w.mu.Unlock()
		}
		return c.Kind == model.KindReread
	})
	rep := tr.Report()
	if rep.Stats.Drift != 0 || rep.Picture.String() != "resynced" || pages(tr, 5) != "10-18" || !slices.Equal(told, []string{"re-read 18-20"}) {
		t.Errorf("drift %d, picture %s, regions %s, told %v", rep.Stats.Drift, rep.Picture, pages(tr, 5), told)
	}
}

// What was skipped explains one difference, and none that comes later.
func TestADifferenceAfterTheSkippedOneIsDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.next = 3
	tr, told := live(t, w, Options{Verify: 1}, []Event{{Kind: KindSkipped, Lost: 1, Time: 1}}, func(c *model.Change) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch c.Kind {
		case model.KindBegin:
			w.rows = []space.Row{row(10, 18, rw)}
		case model.KindReread:
			w.rows = []space.Row{row(10, 16, rw)}
		}
		return c.Kind == model.KindDrift
	})
	want := []string{"re-read 18-20", "drift extra 16-18", "re-read 16-18"}
	if rep := tr.Report(); rep.Stats.Drift != 1 || !slices.Equal(told, want) {
		t.Errorf("drift %d, told %v, want %v", rep.Stats.Drift, told, want)
	}
}

// Without numbers a difference may be a call that has committed and not returned. It
// is drift if it is still there after a second.
func TestADifferenceWithoutNumbersIsDriftIfItLasts(t *testing.T) {
	t.Parallel()
	for _, lasts := range []bool{false, true} {
		w := newWorld(row(10, 20, rw))
		w.tasks[0].HasSection = false
		const begins, ends = 100, 600 // in ms, since the mappings were known
		var began uint64
		tr, told := live(t, w, Options{Verify: 1}, nil, func(c *model.Change) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			if c.Kind == model.KindBegin {
				began = w.clock
			}
			since := (w.clock - began) / 1e6
			switch {
			case began == 0 || since < begins || !lasts && since >= ends:
				w.rows = []space.Row{row(10, 20, rw)}
			default:
				w.rows = []space.Row{row(10, 18, rw)}
			}
			return began != 0 && (c.Kind == model.KindDrift || !lasts && since > ends+2000)
		})
		rep := tr.Report()
		if !lasts && (rep.Stats.Drift != 0 || rep.Stats.Audits < 10 || len(told) > 0) {
			t.Errorf("drift %d, audits %d, told %v", rep.Stats.Drift, rep.Stats.Audits, told)
		}
		if after := (w.clock - began) / 1e6; lasts && (rep.Stats.Drift != 1 || told[0] != "drift extra 18-20" || after < begins+1000) {
			t.Errorf("drift %d, told %v, after %d ms", rep.Stats.Drift, told, after)
		}
	}
}

// A process may end between the last event that was read and a listing.
func TestAnEndOnItsWayIsNotLost(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		w := newWorld(row(10, 20, rw))
		tr := stage(t, w, func() []Event {
			w.tasks = nil
			events := []Event{{Kind: KindSkipped, Lost: 1, Time: 3.05e9}}
			if !lost {
				events = append(events, exit(5, 1, 3.04e9))
			}
			return events
		}, func(model.Report) ([]Event, bool) { return nil, false }) // it ends when nobody lives
		want := "exact"
		if lost {
			want = "approximate: events were lost and the process is gone"
		}
		rep := tr.Report()
		if p := rep.Spaces[0]; !p.Process.Exited || p.Picture.String() != want || lost != (p.Process.ExitText() == "status not seen") {
			t.Errorf("lost %v: %+v, picture %s, want %s", lost, p.Process, p.Picture, want)
		}
	}
}

func TestAnImpossibleEventIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.clock = 3e9
	// The kernel never maps where something is, unless it is told to.
	tr, _ := live(t, w, Options{}, []Event{mmap(5, 1, 3.05e9, 3, 12, 14)}, func(*model.Change) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.looks >= 2
	})
	rep := tr.Report()
	if rep.Stats.Violations == 0 || rep.Stats.Rereads == 0 || pages(tr, 5) != "10-20" {
		t.Errorf("violations %d, re-reads %d, regions %s", rep.Stats.Violations, rep.Stats.Rereads, pages(tr, 5))
	}
}

func TestALossWithoutAWorldStaysApproximate(t *testing.T) {
	t.Parallel()
	var told uint64
	_, rep := replay(t, Options{OnChange: func(c *model.Change) { told += c.Lost }},
		slices.Concat(image(5, 1, 100, 3), []Event{{Kind: model.KindLost, Lost: 9, Time: 150}, mmap(5, 1, 200, 9, 30, 31)})...)
	if told != 9 || rep.Stats.Lost != 9 || rep.Picture.String() != "approximate: events were lost" {
		t.Errorf("told %d, lost %d, picture %s", told, rep.Stats.Lost, rep.Picture)
	}
}

// live runs a script against a world until stop says so.
func live(t *testing.T, w *world, opts Options, events []Event, stop func(*model.Change) bool) (*Tracer, []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told []string
	opts.OnChange = func(c *model.Change) {
		for _, f := range c.Found {
			told = append(told, fmt.Sprintf("%s %d-%d", c.Call.Op, f.Range.Start>>12, f.Range.End>>12))
		}
		for _, d := range c.Drift {
			told = append(told, fmt.Sprintf("drift %s %d-%d", d.What, d.Range.Start>>12, d.Range.End>>12))
		}
		if stop(c) {
			cancel()
		}
	}
	opts.OnIdle = func() error {
		if stop(&model.Change{}) {
			cancel()
		}
		return nil
	}
	tr := New(&script{events: events, idle: -1}, w, opts)
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	if err := tr.Run(ctx, nil); err != nil {
		t.Fatal(err)
	}
	return tr, told
}

// stage runs a tracer against a world. What begin returns happens once the process'
// mappings are known, what idle returns when there is nothing else; idle ends the run.
func stage(t *testing.T, w *world, begin func() []Event, idle func(model.Report) ([]Event, bool)) *Tracer {
	t.Helper()
	w.clock = 3e9
	src := &script{idle: -1}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var tr *Tracer
	tr = New(src, w, Options{OnChange: func(c *model.Change) {
		if c.Kind == model.KindBegin {
			src.events = begin()
		}
	}, OnIdle: func() error {
		more, over := idle(tr.Report())
		src.events = append(src.events, more...)
		if over {
			cancel()
		}
		return nil
	}})
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	if err := tr.Run(ctx, nil); err != nil {
		t.Fatal(err)
	}
	return tr
}

// become changes what is mapped, and how many sections there have been.
func (w *world) become(section uint32, rows ...space.Row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows, w.next = rows, section
	w.tasks[0].Section = section
}

func newWorld(rows ...space.Row) *world {
	return &world{
		clock: 1e9, rows: rows, space: 1, next: 0,
		tasks: []Task{{PID: 5, Space: 1, Comm: "prog", Section: 3, HasSection: true}},
	}
}

func TestWhatNoCallToldOfIsLookedAt(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	other := Event{Kind: KindOther, TGID: 5, TID: 5, Space: 1, Section: 3, Flags: Stamped | HasSection, Time: 2e9, NR: 206}
	began := false
	w.clock = 3e9
	tr, told := live(t, w, Options{}, []Event{other}, func(c *model.Change) bool {
		if c.Kind == model.KindBegin {
			began = true
			w.mu.Lock()
			w.rows = []space.Row{row(10, 20, rw), row(30, 34, rw)}
			w.mu.Unlock()
		}
		return c.Kind == model.KindReread
	})
	if diff := cmp.Diff([]string{"other 30-34"}, told); diff != "" || !began {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if rep := tr.Report(); pages(tr, 5) != "10-20 30-34" || rep.Picture.String() != "exact" || rep.Stats.Others != 1 {
		t.Errorf("regions %s, picture %s, stats %+v", pages(tr, 5), rep.Picture, rep.Stats)
	}
}

func TestDriftIsFoundToldAndMended(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	tr, told := live(t, w, Options{Verify: 1}, nil, func(c *model.Change) bool {
		if c.Kind == model.KindBegin {
			w.mu.Lock()
			w.rows = []space.Row{row(10, 18, rw), row(40, 41, procmaps.Read)}
			w.mu.Unlock()
		}
		return c.Kind == model.KindReread
	})
	want := []string{"drift extra 18-20", "drift missing 40-41", "re-read 18-20", "re-read 40-41"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	rep := tr.Report()
	if rep.Stats.Drift != 2 || rep.Picture.String() != "approximate: drift was found" || pages(tr, 5) != "10-18 40-41" {
		t.Errorf("drift %d, picture %s, regions %s", rep.Stats.Drift, rep.Picture, pages(tr, 5))
	}
}

func TestACallWithoutAStampIsReadInstead(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	unstamped := munmap(5, 1, 4e9, 0, 12, 14)
	unstamped.Flags = 0
	w.clock = 5e9
	tr, _ := live(t, w, Options{}, []Event{unstamped}, func(*model.Change) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.looks >= 2
	})
	if got := pages(tr, 5); got != "10-20" {
		t.Errorf("regions %s: the kernel still has them all", got)
	}
}

func TestALossIsHealedByAnotherLook(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	events := []Event{{Kind: model.KindLost, Lost: 3, Time: 2e9}}
	w.clock = 3e9
	healed := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.looks >= 1
	}
	tr, _ := live(t, w, Options{}, events, func(c *model.Change) bool { return c.Kind == model.KindBegin && healed() })
	rep := tr.Report()
	if rep.Stats.Lost != 3 || rep.Picture.String() != "resynced" || pages(tr, 5) != "10-20" {
		t.Errorf("lost %d, picture %s, regions %s", rep.Stats.Lost, rep.Picture, pages(tr, 5))
	}
}

// The last sections before a loss are lost, and the process stands still: nothing
// that comes later tells how far it is.
func TestALossBeforeSilenceIsHealedSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	announced := call(5, 1, 2e9, 3, space.OpMmap, 0)
	announced.Kind = KindAnnounce
	var lost, healed uint64
	tr := stage(t, w, func() []Event {
		lost = w.Now()
		w.become(40, row(10, 20, rw), row(30, 34, rw))
		return []Event{announced, {Kind: model.KindLost, Lost: 30, Time: 2.5e9}}
	}, func(rep model.Report) ([]Event, bool) {
		resynced := rep.Picture.String() == "resynced"
		if healed == 0 && resynced && rep.Stats.Lost > 0 {
			// The call was not among what was lost. The read has seen what it did.
			healed = w.Now()
			return []Event{mmap(5, 1, 2e9, 3, 30, 34)}, false
		}
		return nil, resynced && rep.Stats.Calls > 0
	})
	// The clock of this world runs a millisecond each time it is looked at.
	if took := healed - lost; took > auditWait/2 {
		t.Errorf("healed after %d ms", took/1e6)
	}
	rep := tr.Report()
	if pages(tr, 5) != "10-20 30-34" || rep.Stats.Violations != 0 || rep.Stats.Rereads != 2 {
		t.Errorf("regions %s, violations %d, re-reads %d", pages(tr, 5), rep.Stats.Violations, rep.Stats.Rereads)
	}
	if n := len(tr.spaces[1].announced); n != 0 || rep.Stats.LostOwners != 36 {
		t.Errorf("%d calls are still waited for, %d sections lost", n, rep.Stats.LostOwners)
	}
}

// A call gives back so much that it is under way, with the lock downgraded, while
// the loss is healed.
func TestACallUnderWayAtALossIsNoViolation(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw), row(30, 34, rw))
	came := false
	tr := stage(t, w, func() []Event {
		w.become(40, row(10, 20, rw), row(30, 32, rw))
		return []Event{{Kind: model.KindLost, Lost: 30, Time: w.Now()}}
	}, func(rep model.Report) ([]Event, bool) {
		resynced := rep.Picture.String() == "resynced"
		if !came && resynced && rep.Stats.Lost > 0 {
			came = true
			return []Event{call(5, 1, w.Now(), 39, space.OpMremap, 30<<12, 30<<12, 4<<12, 2<<12, 0)}, false
		}
		return nil, resynced && rep.Stats.Calls > 0
	})
	if rep := tr.Report(); pages(tr, 5) != "10-20 30-32" || rep.Stats.Violations != 0 {
		t.Errorf("regions %s, violations %d", pages(tr, 5), rep.Stats.Violations)
	}
}

// A child's tree is yet to come when records are lost, and it has another image before
// it can be read: nothing will ever come for the space it leaves.
func TestALossInASpaceThatIsLeftIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.clock = 3e9
	w.gone = true
	fork := call(5, 1, 2e9, 3, space.OpFork, 6)
	fork.Kind, fork.Child, fork.ChildSpace, fork.First = model.KindFork, 6, 2, 0
	w.tasks = append(w.tasks, Task{PID: 6, Space: 2, Section: 9, HasSection: true})
	events := append([]Event{fork, {Kind: model.KindLost, Lost: 3, Time: 2e9}}, image(6, 3, 4e9, 0)...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var tr *Tracer
	tr = New(&script{events: events, idle: -1}, w, Options{OnIdle: func() error {
		if sp := tr.spaces[2]; sp != nil && sp.Inhabitants() == 0 && !tr.busy[sp] {
			cancel()
		}
		return nil
	}})
	if err := tr.Add(w.tasks[:1], false); err != nil {
		t.Fatal(err)
	}
	if err := tr.Run(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("the space that was left is still looked after: %+v", tr.spaces[2])
	}
}

func TestAProcessThatGoesBeforeItIsReadIsApproximate(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.gone = true
	tr, _ := live(t, w, Options{}, nil, func(c *model.Change) bool { return c.Kind == model.KindBegin })
	if got := tr.Report().Picture.String(); got != "approximate: gone before its mappings could be read" {
		t.Errorf("picture %s", got)
	}
}

// What comes between the detaching and the last read, and leaves something in
// doubt, finds nobody to ask any more.
func TestADoubtAtTheVeryEndIsLeftOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	w.clock = 3e9
	src := &script{idle: -1}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tr := New(src, w, Options{OnChange: func(c *model.Change) {
		if c.Kind == model.KindBegin {
			cancel()
		}
	}})
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	err := tr.Run(ctx, func() error {
		src.events = []Event{{Kind: KindOther, TGID: 5, TID: 5, Space: 1, Section: 3, Flags: Stamped | HasSection, Time: 2e9}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rep := tr.Report()
	if rep.Stats.Others != 1 {
		t.Errorf("%d sections of others, want the one at the end", rep.Stats.Others)
	}
	if got, want := rep.Picture.String(), "approximate: its latest changes are not read yet"; got != want || rep.Spaces[0].Picture.String() != want {
		t.Errorf("picture %s, of the space %s; want %s", got, rep.Spaces[0].Picture, want)
	}
}

func TestAnImageThatExecReplacedHasNoTable(t *testing.T) {
	t.Parallel()
	tr, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{mmap(5, 1, 200, 3, 30, 31)},
		image(5, 2, 300, 3), []Event{
			{Kind: KindGone, TGID: 5, Space: 1, Time: 310}, mmap(5, 2, 400, 3, 70, 71), exit(5, 2, 500),
		})...)
	if got, want := pages(tr, 5), "10-20 70-71"; got != want || len(rep.Spaces) != 1 {
		t.Errorf("regions %s of %d spaces, want %s of one", got, len(rep.Spaces), want)
	}
	if rep.Stats.Sections != 2 {
		t.Errorf("%d sections, want those of both images", rep.Stats.Sections)
	}
}

// TestAnImageWhoseRowsWereNotAllSentIsRead has one of two rows sent.
func TestAnImageWhoseRowsWereNotAllSentIsRead(t *testing.T) {
	t.Parallel()
	for _, rows := range []int64{1, 2} {
		w := newWorld(row(10, 20, rw), row(30, 40, rw))
		w.tasks, w.space = nil, 2
		events := image(5, 2, 2e9, 3)
		events[2].Pages = rows
		w.clock = 3e9
		tr, _ := live(t, w, Options{}, events, func(c *model.Change) bool { return c.Kind == model.KindBegin })
		want := "10-20"
		if rows > 1 {
			want = "10-20 30-40"
		}
		if got := pages(tr, 5); got != want {
			t.Errorf("of %d rows: regions %s, want %s", rows, got, want)
		}
	}
}

func TestAProcessThatMayNotBeReadIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.err = errors.New("permission denied")
	idle := 0
	tr, _ := live(t, w, Options{}, nil, func(*model.Change) bool { idle++; return idle > 20 })
	if got := tr.Report().Picture.String(); got != "approximate: its mappings cannot be read: permission denied" || w.looks != 1 {
		t.Errorf("picture %s after %d looks", got, w.looks)
	}
}

// stackImage is an image whose stack is pages 100 to 104.
func stackImage() []Event {
	events := image(5, 1, 100, 3)
	events[0].StartStack = 103 << 12
	stack := events[1]
	stack.Row = allKnown(row(100, 104, rw), space.GrowsDown)
	events[2].Pages++
	return []Event{events[0], events[1], stack, events[2]}
}

func TestTheStackGrowsByWhatTheKernelSays(t *testing.T) {
	t.Parallel()
	grow := func(section uint32, at uint64, pages int64) Event {
		return Event{
			Kind: KindStack, TGID: 5, TID: 5, Space: 1, Section: section, Time: at, Pages: pages, NR: -1, Flags: Stamped | HasSection,
		}
	}
	var told []string
	tr, rep := replay(t, Options{OnChange: func(c *model.Change) {
		for _, f := range c.Found {
			told = append(told, fmt.Sprintf("%s %d-%d %s", c.Call.Op, f.Range.Start>>12, f.Range.End>>12, f.Now.Kind))
		}
	}}, slices.Concat(stackImage(), []Event{grow(3, 200, 2), grow(4, 300, 1), exit(5, 1, 400)})...)
	if got, want := pages(tr, 5), "10-20 97-104"; got != want {
		t.Errorf("regions %s, want %s", got, want)
	}
	if diff := cmp.Diff([]string{"stack 98-100 stack", "stack 97-98 stack"}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if rep.Picture.String() != "exact" {
		t.Errorf("picture %s", rep.Picture)
	}
}

func TestGrowthThatAReaderSawFirstIsNotTheReaders(t *testing.T) {
	t.Parallel()
	seen := Event{
		Kind: KindStack, TGID: 77, TID: 78, Space: 1, Section: 3, Time: 200, Pages: 2, NR: -1,
		Flags: Stamped | HasSection | Remote,
	}
	told := 0
	replay(t, Options{OnChange: func(c *model.Change) {
		if len(c.Found) == 0 {
			return
		}
		told++
		if c.TGID != 5 || c.TID != 0 || c.Process == nil || c.Process.PID != 5 {
			t.Errorf("told of process %d, thread %d", c.TGID, c.TID)
		}
	}}, slices.Concat(stackImage(), []Event{seen, exit(5, 1, 400)})...)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestATreeInDoubtAtTheEndIsNotExact(t *testing.T) {
	t.Parallel()
	other := Event{Kind: KindOther, TGID: 5, TID: 5, Space: 1, Section: 3, Flags: Stamped | HasSection, Time: 200, NR: 206}
	_, rep := replay(t, Options{}, slices.Concat(image(5, 1, 100, 3), []Event{other, exit(5, 1, 400)})...)
	if got, want := rep.Picture.String(), "approximate: gone before its last changes could be read"; got != want {
		t.Errorf("picture %s, want %s", got, want)
	}
}

// numbers gives each stack the number in its first byte.
type numbers struct{}

func (numbers) Site(_ int, _ *space.Space, s *stack.Sample) uint32 { return uint32(s.Stack[0]) }

func sampled(ev Event, site byte) Event {
	ev.Sample = &stack.Sample{Stack: []byte{site}}
	return ev
}

func TestAnOriginHasItsSiteAndItsStratum(t *testing.T) {
	t.Parallel()
	of := model.MakeStratum(1, 2, 3)
	unsampled := func(ev Event) Event {
		ev.Flags |= model.Unsampled
		ev.Stratum = of
		return ev
	}
	first := sampled(mmap(5, 1, 500, 6, 60, 61), 9)
	first.Stratum = of
	var told []uint32
	tr, rep := replay(t, Options{Sites: numbers{}, OnChange: func(c *model.Change) {
		if c.Kind == model.KindCall {
			told = append(told, c.Site)
		}
	}}, slices.Concat(image(5, 1, 100, 3), []Event{
		unsampled(mmap(5, 1, 200, 3, 30, 31)), mmap(5, 1, 300, 4, 40, 41), unsampled(mmap(5, 1, 400, 5, 50, 51)),
		first, sampled(mmap(5, 1, 600, 7, 70, 71), 8),
	})...)
	got := make(map[uint64]model.Blame)
	for e := range tr.Tree(rep.Spaces[0].Process.Space).Extents(space.All) {
		_, site := e.Blame()
		got[e.Start>>12] = model.Blame(site)
	}
	if b := got[60]; b.Site() != 9 || b.Stratum() != of || b.Missing() {
		t.Errorf("what a call with a stack made: site %d, stratum %#x", b.Site(), b.Stratum())
	}
	if b := got[70]; b.Site() != 8 || b.Stratum() != 0 || b.Missing() {
		t.Errorf("where no stratum is known: site %d, stratum %#x", b.Site(), b.Stratum())
	}
	for _, page := range []uint64{30, 50} {
		if b := got[page]; !b.Missing() || b.Site() != 0 || b.Stratum() != of || b.Stratum().Weight() != 8 {
			t.Errorf("what a call without its stack made has %#x", uint64(b))
		}
	}
	// That no stack was wanted is another thing.
	if b := got[40]; b != 0 || b.Missing() {
		t.Errorf("what a call made that needs no stack has %#x", uint64(b))
	}
	if d := cmp.Diff([]uint32{0, 0, 0, 9, 8}, told); d != "" || rep.Stats.Unsampled != 2 {
		t.Errorf("unsampled %d, sites (-want +got):\n%s", rep.Stats.Unsampled, d)
	}
}

func TestAFaultIsToldWithWhatItTouched(t *testing.T) {
	t.Parallel()
	fault := func(id, at, addr uint64) Event {
		return sampled(Event{Kind: model.KindFault, TGID: 5, TID: 5, Space: id, Time: at, Addr: addr, Weight: 3}, 7)
	}
	var told []model.Change
	_, rep := replay(t, Options{Sites: numbers{}, OnChange: func(c *model.Change) {
		if c.Kind == model.KindFault {
			told = append(told, model.Change{Site: c.Site, At: c.At})
		}
	}}, slices.Concat(image(5, 1, 100, 3), []Event{
		fault(1, 150, 12<<12), fault(1, 160, 99<<12), fault(77, 170, 12<<12),
		mmap(5, 1, 200, 3, 99, 100), fault(1, 190, 99<<12), fault(1, 210, 99<<12),
	})...)
	if len(told) != 4 || told[0].Site != 7 || told[0].At.Start > 12<<12 || told[0].At.End <= 12<<12 {
		t.Fatalf("told %+v", told)
	}
	if told[1].At.Kind != 0 {
		t.Errorf("a fault where nothing is known to be mapped touched %+v", told[1].At)
	}
	if told[2].At.Kind != 0 || told[3].At.Start != 99<<12 {
		t.Errorf("a fault before a mapping was made there touched %+v, one after it %+v", told[2].At, told[3].At)
	}
	if rep.Stats.Faults != 4 {
		t.Errorf("%d faults counted, want 4: the other's space is unknown", rep.Stats.Faults)
	}
}

// A call that fills what it maps lets go of the lock for each page: one that had committed
// before the programs were attached has a stamp all the same, and no section.
func TestACallUnderWayWhenTracingBeganIsNoViolation(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	filled := mmap(5, 1, 3.2e9, 2, 12, 14)
	filled.Flags &^= HasSection
	tr := stage(t, w, func() []Event { return []Event{filled} }, func(rep model.Report) ([]Event, bool) {
		return nil, rep.Stats.Rereads > 0
	})
	if rep := tr.Report(); rep.Stats.Violations != 0 || rep.Stats.Calls != 1 || rep.Picture.String() != "exact" || pages(tr, 5) != "10-20" {
		t.Errorf("violations %d, calls %d, picture %s, regions %s", rep.Stats.Violations, rep.Stats.Calls, rep.Picture, pages(tr, 5))
	}
}

// A thread that gets no CPU for long after its commit is given up on. What follows from what
// it did is no violation.
func TestACallAfterOneThatIsMissingIsNoViolation(t *testing.T) {
	t.Parallel()
	for _, comes := range []bool{false, true} {
		w := newWorld(row(10, 20, rw))
		tr := stage(t, w, func() []Event {
			w.become(5, row(10, 20, rw))
			return []Event{mmap(5, 1, 3.2e9, 4, 12, 14)} // munmap of the same place is section 3
		}, func(rep model.Report) ([]Event, bool) {
			if comes && rep.Stats.Missed == 1 {
				comes = false
				return []Event{munmap(5, 1, 3.1e9, 3, 12, 14)}, false
			}
			return nil, rep.Stats.Rereads > 0 && !comes
		})
		if rep := tr.Report(); rep.Stats.Violations != 0 || rep.Stats.Calls == 0 || pages(tr, 5) != "10-20" {
			t.Errorf("violations %d, missed %d, late %d, regions %s", rep.Stats.Violations, rep.Stats.Missed, rep.Stats.Late, pages(tr, 5))
		}
	}
}

// Of many processes some are yet to be read when the end comes, and nothing holds the lock of
// those.
func TestAtTheEndOnlyAReadThatHasNotReturnedIsCalledStalled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		known, audit bool
		asked, begun bool
		since        uint64 // before the end
		want         string
	}{
		{"a first read that does not return", false, false, true, true, stalledLook + 1e6, "approximate: its mappings cannot be read: the read has not returned: its mmap lock may be held"},
		{"a first read that has just begun", false, false, true, true, 0, "approximate: the end came before its mappings were read"},
		{"a first read that nobody could ask for", false, false, false, false, 0, "approximate: the end came before its mappings were read"},
		{"a first read whose turn has not come", false, false, true, false, stalledLook + 1e6, "approximate: the end came before its mappings were read"},
		{"an audit that does not return", true, true, true, true, stalledLook + 1e6, "approximate: its mappings cannot be read: the read has not returned: its mmap lock may be held"},
		{"an audit that has just begun", true, true, true, true, 0, "exact"},
		{"an audit whose turn has not come", true, true, true, false, stalledLook + 1e6, "exact"},
		{"a re-read that has just begun", true, false, true, true, 0, "approximate: its latest changes are not read yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(row(10, 20, rw))
			tr := New(&script{idle: -1}, w, Options{})
			if err := tr.Add(w.tasks, false); err != nil {
				t.Fatal(err)
			}
			sp := tr.spaces[1]
			if tc.known {
				tr.seed(sp, &Look{Rows: w.rows, At: 1e9, Until: 1e9})
			}
			if tc.known && !tc.audit {
				tr.doubt(sp, rangeOf(10, 20), 1e9, lookReason{op: space.OpReread})
			}
			req := lookRequest{ranges: []procmaps.Range{space.All}, full: !tc.known, audit: tc.audit}
			if tc.asked && !tr.ask(sp, req) {
				t.Fatal("it is not asked")
			}
			if tc.begun {
				if _, _, ok := tr.looks.next(w.Now()); !ok {
					t.Fatal("it does not begin")
				}
			}
			w.mu.Lock()
			w.clock += tc.since
			w.mu.Unlock()
			tr.giveUpLooks()
			if rep := tr.Report(); rep.Picture.String() != tc.want || len(rep.Spaces) != 1 {
				t.Errorf("picture %s of %d spaces, want %s", rep.Picture, len(rep.Spaces), tc.want)
			}
		})
	}
}

func TestWhatStillWaitsAtTheEndIsReported(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]state{"for a read": seeding, "for something else": waiting} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(row(10, 20, rw))
			tr := New(&script{idle: -1}, w, Options{})
			if err := tr.Add(w.tasks, false); err != nil {
				t.Fatal(err)
			}
			tr.spaces[1].state = as
			tr.giveUpWaits()
			want := "approximate: " + tooLate
			if rep := tr.Report(); rep.Picture.String() != want || len(rep.Spaces) != 1 {
				t.Errorf("picture %s of %d spaces, want %s", rep.Picture, len(rep.Spaces), want)
			}
		})
	}
}

// A child waits for its parent's calls to be handled, and its own child for it. Where the end
// comes first, of neither it is known what is mapped.
func TestChildrenOfChildrenThatWaitAtTheEndAreReported(t *testing.T) {
	t.Parallel()
	w := newWorld(row(10, 20, rw))
	tr := New(&script{idle: -1}, w, Options{})
	if err := tr.Add(w.tasks, false); err != nil {
		t.Fatal(err)
	}
	for _, ev := range []Event{
		{
			Kind: model.KindFork, TGID: 5, TID: 5, Time: 300, Space: 1, Section: 9, Flags: Stamped | HasSection,
			Child: 6, ChildSpace: 2, First: 3, Pages: 10,
		},
		{
			Kind: model.KindFork, TGID: 6, TID: 6, Time: 400, Space: 2, Section: 3, Flags: Stamped | HasSection,
			Child: 7, ChildSpace: 3, First: 3, Pages: 10,
		},
		{Kind: model.KindExit, TGID: 6, TID: 6, Time: 500, Space: 2, Section: 4, Flags: HasSection},
	} {
		tr.arrive(&ev)
	}
	tr.giveUpWaits()
	rep := tr.Report()
	for i := range rep.Spaces {
		if got := rep.Spaces[i].Picture.String(); !strings.HasPrefix(got, "approximate: ") {
			t.Errorf("process %d: %s", rep.Spaces[i].Process.PID, got)
		}
	}
	if len(rep.Spaces) != 3 {
		t.Errorf("%d spaces, want 3", len(rep.Spaces))
	}
}

// A read shows what happened until it began, so it is named after that, too.
func TestAReadIsCalledAfterAllThatWasDoubtedBeforeItBegan(t *testing.T) {
	t.Parallel()
	stack, other := lookReason{space.OpStack, 5, -1}, lookReason{space.OpOther, 6, 206}
	reread := lookReason{op: space.OpReread}
	for _, tc := range []struct {
		name          string
		before, since []lookReason // it was asked for
		again         []lookReason // since it had its first turn
		want          lookReason
	}{
		{"nothing since", []lookReason{stack}, nil, nil, stack},
		{"a call before", []lookReason{stack, other}, nil, nil, other},
		{"a call since", []lookReason{stack}, []lookReason{other}, nil, other},
		{"a loss before", []lookReason{other, reread}, nil, nil, reread},
		{"a loss since", []lookReason{other}, []lookReason{reread}, nil, reread},
		{"a call since it found no place", []lookReason{stack}, nil, []lookReason{other}, other},
		{"growth since it found no place", []lookReason{other}, nil, []lookReason{stack}, other},
		{"growth since", []lookReason{other}, []lookReason{stack}, nil, other},
	} {
		w := newWorld(row(10, 20, rw))
		tr := New(&script{idle: -1}, w, Options{})
		if err := tr.Add(w.tasks, true); err != nil {
			t.Fatal(err)
		}
		sp := tr.spaces[1]
		doubt := func(all []lookReason) {
			for _, why := range all {
				tr.doubt(sp, rangeOf(10, 20), 2e9, why)
			}
		}
		doubt(tc.before)
		tr.attend(sp, 0, w.Now())
		doubt(tc.since)
		req, _, ok := tr.looks.next(w.Now())
		if tc.again != nil { // it has found no place
			tr.prepare(&req)
			doubt(tc.again)
		}
		if !ok || !tr.prepare(&req) || req.reason != tc.want || sp.reason != (lookReason{}) {
			t.Errorf("%s: begun %t, called %+v, and %+v is left; want %+v", tc.name, ok, req.reason, sp.reason, tc.want)
		}
	}
}
