package order

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/model"
)

// silent is a world whose mappings nobody can read: each lock is held.
type silent struct {
	*world
	release chan struct{}
}

func (w *silent) Look(int, procmaps.Range, bool, func(int) error) (Look, error) {
	<-w.release
	return Look{}, procmaps.ErrGone
}

// unceasing is a Source that has always more.
type unceasing struct {
	w    *world
	over bool
}

func (f *unceasing) Next(ev *Event) error {
	if f.over {
		return io.EOF
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	*ev = Event{Kind: model.KindFault, TGID: 5, TID: 5, Space: 1, Time: f.w.clock}
	return nil
}

// TestTheEndIsBoundedWhateverProcessesDo counts the time of the end in that of the world,
// which goes on by a millisecond whenever somebody asks for it.
func TestTheEndIsBoundedWhateverProcessesDo(t *testing.T) {
	t.Parallel()
	const most = uint64(await.Grace) - toSample
	for _, tc := range []struct {
		name    string
		readers bool
		floods  bool
	}{
		{"nothing", true, false},
		{"holding their locks", false, false},
		{"doing more than can be read", true, true},
		{"both", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(row(10, 20, rw))
			for pid := 6; pid < 12; pid++ {
				w.tasks = append(w.tasks, Task{PID: pid, Space: uint64(pid), Comm: "prog"})
			}
			var world World = w
			if !tc.readers {
				s := &silent{w, make(chan struct{})}
				defer close(s.release)
				world = s
			}
			f := &unceasing{w: w}
			var src Source = f
			if !tc.floods {
				src = &script{idle: -1}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			tr := New(src, world, Options{})
			if err := tr.Add(w.tasks, false); err != nil {
				t.Fatal(err)
			}
			began := w.Now()
			var took uint64
			if err := tr.Run(ctx, func() error { took, f.over = w.Now()-began, true; return nil }); err != nil {
				t.Fatal(err)
			}
			const asked = uint64(100 * time.Millisecond) // of a time, on the way
			if took > most+asked {
				t.Errorf("it takes %v, want at most %v", time.Duration(took), time.Duration(most+asked))
			}
		})
	}
}
