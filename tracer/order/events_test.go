package order

import (
	"runtime"
	"slices"
	"testing"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// anyEvent makes an event of eight bytes, about few processes and address spaces so that they
// meet. Most come in an order in which no kernel would give them.
func anyEvent(b []byte, at uint64) Event {
	arg := uint64(b[4])
	kinds := [...]model.Kind{
		model.KindCall, model.KindCall, model.KindCall, model.KindFork, model.KindFork, model.KindExec, model.KindExit, KindGone,
		KindRow, KindSeeded, KindOther, KindStack, KindAnnounce, KindSkipped, model.KindLost, KindLayout, model.KindMade, model.KindFault,
	}
	flags := [...]model.Flags{
		Stamped | HasSection, Stamped | HasSection, Stamped | HasSection, Stamped, 0,
		Stamped | HasSection | Incomplete, HasSection, Stamped | HasSection | Remote, Stamped | HasSection | model.SharesSpace,
	}
	from := 10 + arg%16
	ev := Event{
		Kind: kinds[int(b[0])%len(kinds)], Flags: flags[int(b[5])%len(flags)], Section: uint32(b[3]%16) + 1,
		TGID: 5 + int(b[1]%4), Space: 1 + uint64(b[2]%5), Time: at - uint64(b[6])*1e5, Lost: arg % 3,
		Child: 5 + int(b[7]%4), ChildSpace: uint64(b[7]>>2) % 6, First: uint32(b[6] % 4), Pages: int64(arg % 4), Weight: 1, Addr: from << 12,
		Row: row(from, from+2, rw), Found: uint32(b[6] % 3), Comm: "a", NR: -1,
	}
	ev.TID = ev.TGID
	ev.Call = space.Call{Op: space.OpMmap, Time: ev.Time, Ret: int64(from << 12), Args: [6]uint64{0, (1 + arg%4) << 12, 3, 0x22}}
	switch b[7] % 4 {
	case 0:
		ev.Call.Op, ev.Call.Ret, ev.Call.Args = space.OpMunmap, 0, [6]uint64{from << 12, 2 << 12}
	case 1:
		ev.Call.Op, ev.Call.Ret, ev.Call.Args = space.OpMremap, int64(30<<12), [6]uint64{from << 12, 1 << 12, 3 << 12, 1}
	}
	return ev
}

// ended ends a run of which all has come, as [Tracer.Run] does, without its waits.
func ended(t *testing.T, tr *Tracer) model.Report {
	t.Helper()
	tr.giveUpLooks()
	if err := tr.stop(0); err != nil {
		t.Fatal(err)
	}
	tr.giveUpWaits()
	tr.stopLooking()
	for _, sp := range tr.spaces {
		tr.flush(sp)
	}
	return tr.Report()
}

// FuzzEvents has any events, losses and ends of processes in any order do no harm, and what is
// left at the end be reported.
func FuzzEvents(f *testing.F) {
	// A child that waits forks, and ends before its parent's turn comes.
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x09\x00\x00\x00\x09" + "\x03\x01\x01\x01\x00\x00\x00\x0e" + "\x06\x01\x01\x01\x00\x00\x00\x00"))
	// An image, its calls, a loss and a listing.
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00" + "\x05\x00\x00\x00\x00\x00\x00\x00" + "\x08\x00\x00\x00\x01\x00\x00\x00" + "\x09\x00\x00\x00\x01\x00\x00\x00" +
		"\x0e\x00\x00\x00\x02\x00\x00\x00" + "\x00\x00\x00\x01\x02\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 || len(b) > 8*400 {
			return
		}
		w := newWorld(row(10, 20, rw))
		src := &script{idle: -1}
		tr := New(src, w, Options{Verify: 1e7, PageSize: 4096})
		if err := tr.Add(w.tasks, b[0]&1 != 0); err != nil {
			t.Fatal(err)
		}
		listed := w.tasks
		for b = b[8:]; len(b) >= 8; b = b[8:] {
			ev := anyEvent(b, w.Now())
			src.events = append(src.events, ev)
			if b[5]&0x80 == 0 {
				continue
			}
			// Now and then it is idle, and reads are answered.
			w.mu.Lock()
			w.gone, w.space, w.tasks, w.next = b[6]&0x80 != 0, ev.Space, listed, ev.Section
			if b[7]&0x80 != 0 {
				w.tasks = append(slices.Clip(w.tasks), Task{PID: ev.Child, Space: ev.Space, Section: ev.Section, HasSection: true})
			}
			w.mu.Unlock()
			if _, err := tr.drain(0); err != nil {
				t.Fatal(err)
			}
			for len(tr.looks.reading) > 0 {
				runtime.Gosched()
				tr.collect(w.Now())
			}
		}
		if _, err := tr.drain(0); err != nil {
			t.Fatal(err)
		}
		rep := ended(t, tr)
		for i := range rep.Spaces {
			tree := tr.Tree(rep.Spaces[i].Process.Space)
			if tree == nil {
				t.Errorf("process %d lives in a space without a tree", rep.Spaces[i].Process.PID)
				continue
			}
			end := uint64(0)
			for _, r := range tree.Regions(nil) {
				if r.Start < end || r.Empty() {
					t.Errorf("%v is not behind %#x", r.Range, end)
				}
				end = r.End
			}
		}
	})
}
