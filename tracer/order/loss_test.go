package order

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/model"
)

// full is a Source that does not get to tell of its losses by itself: there is always more.
type full struct {
	script
	lost  uint64
	asked int
}

func (f *full) Loss(ev *Event) error {
	f.asked++
	if f.lost == 0 {
		return ErrIdle
	}
	*ev = Event{Kind: model.KindLost, Lost: f.lost, Time: 3.2e9}
	f.lost = 0
	return nil
}

// What a loss explains is neither missed nor impossible, also where nobody has told of the
// loss yet. Without one it is.
func TestWhatMayHaveBeenLostIsNeitherMissedNorImpossible(t *testing.T) {
	t.Parallel()
	end := exit(5, 1, 3.1e9)
	end.Flags, end.Section = HasSection, 6
	type counts struct{ Missed, Violations, LostOwners uint64 }
	for _, c := range []struct {
		name       string
		events     []Event
		after      uint32 // the section after the last
		none, lost counts
		picture    string // after a loss
	}{
		{
			name: "a gap that others wait behind", after: 6,
			events: []Event{mmap(5, 1, 3.1e9, 3, 30, 31), mmap(5, 1, 3.11e9, 5, 50, 51)},
			none:   counts{Missed: 1}, lost: counts{LostOwners: 1}, picture: "resynced",
		},
		{
			name: "a call that cannot have happened", after: 4,
			events: []Event{mmap(5, 1, 3.1e9, 3, 12, 14)},
			none:   counts{Violations: 1}, picture: "resynced",
		},
		{
			name: "sections before an end", after: 3,
			events: []Event{mmap(5, 1, 3.01e9, 3, 30, 31), end},
			none:   counts{Missed: 2}, lost: counts{LostOwners: 2}, picture: "approximate: gone before its last changes could be read",
		},
	} {
		for _, lost := range []uint64{0, 7} {
			want := c.none
			if lost > 0 {
				want = c.lost
			}
			w := newWorld(row(10, 20, rw))
			w.clock = 3e9
			src := &full{script: script{idle: -1}, lost: lost}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var tr *Tracer
			tr = New(src, w, Options{OnChange: func(ch *model.Change) {
				if ch.Kind == model.KindBegin {
					w.become(c.after, row(10, 20, rw))
					src.events = c.events
				}
			}, OnIdle: func() error {
				if tr.Stats().Rereads > 0 {
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
			rep := tr.Report()
			s := rep.Stats
			if diff := cmp.Diff(want, counts{s.Missed, s.Violations, s.LostOwners}); diff != "" || s.Lost != lost || src.asked == 0 {
				t.Errorf("%s, %d lost: asked %d times, lost %d (-want +got):\n%s", c.name, lost, src.asked, s.Lost, diff)
			}
			if got := rep.Picture.String(); lost > 0 && got != c.picture {
				t.Errorf("%s: picture %s, want %s", c.name, got, c.picture)
			}
		}
	}
}

func TestNobodyIsAskedForLossesWhereNothingIsMissing(t *testing.T) {
	t.Parallel()
	src := &full{script: script{events: append(image(5, 1, 100, 3), mmap(5, 1, 200, 3, 30, 31), munmap(5, 1, 300, 4, 30, 31), exit(5, 1, 400))}}
	tr := New(src, nil, Options{})
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if tr.Stats().Calls != 2 || src.asked != 0 {
		t.Errorf("%d calls, asked %d times", tr.Stats().Calls, src.asked)
	}
}
