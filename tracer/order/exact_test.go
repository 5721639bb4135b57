package order

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// kernel is a World of processes with pages of memory, and the Source of what they do: some of
// its records are lost, some come later than others.
type kernel struct {
	mu     sync.Mutex
	clock  uint64
	spaces map[uint64]*simulated // by space
	living map[int]uint64        // by process: its space

	pending  []Event // in the order in which they took effect
	arriving []Event
	lost     uint64
	told     uint64 // of these
}

// simulated is an address space as it is.
type simulated struct {
	pid   int
	pages map[uint64]bool
	next  uint32 // the number of the next section
	dead  bool
}

func newKernel() *kernel {
	k := &kernel{clock: 1e9, spaces: make(map[uint64]*simulated), living: map[int]uint64{5: 1}}
	k.spaces[1] = &simulated{pid: 5, pages: make(map[uint64]bool), next: 3}
	for p := uint64(10); p < 20; p++ {
		k.spaces[1].pages[p] = true
	}
	return k
}

func (k *kernel) Now() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clock += 1e5
	return k.clock
}

func (k *kernel) Look(pid int, r procmaps.Range, _ bool, _ func(int) error) (Look, error) {
	at := k.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	id, alive := k.living[pid]
	if !alive {
		return Look{}, procmaps.ErrGone
	}
	s := k.spaces[id]
	l := Look{At: at, Until: at + 1, Space: id, Section: s.next, HasSection: true}
	for _, p := range slices.Sorted(maps.Keys(s.pages)) {
		if m := (procmaps.Range{Start: p << 12, End: (p + 1) << 12}); !m.Intersect(r).Empty() {
			l.Rows = append(l.Rows, allKnown(row(p, p+1, rw), 0))
		}
	}
	return l, nil
}

func (k *kernel) Path(int, uint64, procmaps.Device, uint64) string { return "" }
func (k *kernel) Forget(int)                                       {}

func (k *kernel) Tasks() (tasks []Task, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, pid := range slices.Sorted(maps.Keys(k.living)) {
		id := k.living[pid]
		tasks = append(tasks, Task{PID: pid, Space: id, Section: k.spaces[id].next, HasSection: true})
	}
	return tasks, nil
}

// Next implements Source.
func (k *kernel) Next(ev *Event) error {
	if len(k.arriving) == 0 {
		return k.Loss(ev)
	}
	*ev, k.arriving = k.arriving[0], k.arriving[1:]
	return nil
}

// Loss implements Lossy.
func (k *kernel) Loss(ev *Event) error {
	if k.lost == k.told {
		return ErrIdle
	}
	*ev = Event{Kind: model.KindLost, Time: k.Now(), Lost: k.lost - k.told}
	k.told = k.lost
	return nil
}

// do has a process do something, by four bytes.
func (k *kernel) do(b []byte) {
	pids := slices.Sorted(maps.Keys(k.living))
	if len(pids) == 0 {
		return
	}
	pid := pids[int(b[1])%len(pids)]
	id := k.living[pid]
	s, at := k.spaces[id], k.Now()
	from, n := 10+uint64(b[2]%24), 1+uint64(b[3]%4)
	ev := call(pid, id, at, s.next, space.OpMmap, int64(from<<12), from<<12, n<<12, 3, 0x32, ^uint64(0), 0)
	ev.TID += int(b[3]>>6) * 100
	switch b[0] % 16 {
	default:
		for p := from; p < from+n; p++ {
			s.pages[p] = true
		}
	case 3, 4, 5:
		ev.Call.Op, ev.Call.Ret, ev.Call.Args = space.OpMunmap, 0, [6]uint64{from << 12, n << 12}
		for p := from; p < from+n; p++ {
			delete(s.pages, p)
		}
	case 6:
		if len(k.spaces) >= 12 {
			return
		}
		child, born := 5+len(k.spaces), uint64(1+len(k.spaces))
		k.living[child] = born
		k.spaces[born] = &simulated{pid: child, pages: maps.Clone(s.pages), next: 1}
		ev = Event{
			Kind: model.KindFork, TGID: pid, TID: ev.TID, Time: at, Space: id, Section: s.next, Flags: Stamped | HasSection,
			Child: child, ChildSpace: born, First: 1, Pages: int64(len(s.pages)),
		}
	case 8:
		// Something that no call tells of.
		ev = Event{Kind: KindOther, TGID: pid, TID: ev.TID, Time: at, Space: id, Section: s.next, Flags: Stamped | HasSection, NR: -1}
		delete(s.pages, from)
		s.pages[from+1] = true
	case 9:
		k.exec(pid, at, b)
		return
	case 7:
		delete(k.living, pid)
		s.dead = true
		k.record(Event{Kind: model.KindExit, TGID: pid, TID: pid, Time: at, Space: id, Section: s.next, Flags: HasSection}, b[3])
		k.record(Event{Kind: KindGone, TGID: pid, TID: pid, Time: k.Now(), Space: id}, b[2])
		return
	}
	s.next++
	k.record(ev, b[1])
}

// exec gives a process a new image, of a few mappings.
func (k *kernel) exec(pid int, at uint64, b []byte) {
	if len(k.spaces) >= 12 {
		return
	}
	old, id := k.living[pid], uint64(1+len(k.spaces))
	s := &simulated{pid: pid, pages: make(map[uint64]bool), next: 2}
	k.living[pid], k.spaces[id], k.spaces[old].dead = id, s, true
	head := Event{TGID: pid, TID: pid, Time: at, Space: id}
	ev := head
	ev.Kind, ev.Comm, ev.First, ev.Flags = model.KindExec, "prog", s.next, HasSection
	k.record(ev, b[1])
	gone := Event{Kind: KindGone, TGID: pid, TID: pid, Time: k.Now(), Space: old}
	k.record(gone, b[2])
	n := 1 + uint64(b[3]%4)
	for i := range n {
		s.pages[50+2*i] = true
		ev = head
		ev.Kind, ev.Row = KindRow, allKnown(row(50+2*i, 51+2*i, rw), 0)
		k.record(ev, b[2]<<i)
	}
	ev = head
	ev.Kind, ev.Pages = KindSeeded, int64(n)
	k.record(ev, b[3])
}

// record has a record sent, unless it is lost.
func (k *kernel) record(ev Event, b byte) {
	if b&0xe0 == 0xe0 {
		k.lost++
		return
	}
	k.pending = append(k.pending, ev)
}

// late has a call come after what another thread has done since.
func (k *kernel) late(at int) {
	if at+1 >= len(k.pending) {
		return
	}
	a, b := &k.pending[at], &k.pending[at+1]
	if a.Kind == model.KindCall && b.Kind == model.KindCall && a.TID != b.TID {
		*a, *b = *b, *a
	}
}

// FuzzExact has processes do anything, and their records be lost and late: what is called exact,
// or read again since, is as it is.
func FuzzExact(f *testing.F) {
	f.Add([]byte("\x06\x00\x00\x00\x80\x00\x00\x00\x00\xe1\x05\x03\x80\x00\x00\x00\x07\x01\x00\x00\x80\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x0f\x03\x03\x00\x02\x01\x06\x00\x00\x00\x00\x01\x05\xc2\x40\x00\x00\x00\x07\xe1\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4*200 {
			return
		}
		k := newKernel()
		calls := await.New()
		tr := New(k, k, Options{Calls: calls})
		tasks, err := k.Tasks()
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Add(tasks, false); err != nil {
			t.Fatal(err)
		}
		deliver := func(n int, wait bool) {
			n = min(n, len(k.pending))
			k.arriving = append(k.arriving, k.pending[:n]...)
			k.pending = k.pending[n:]
			if _, err := tr.drain(0); err != nil {
				t.Fatal(err)
			}
			for !calls.Quietly(func() {}) { // what is read is of now
				runtime.Gosched()
			}
			for wait && len(tr.looks.reading) > 0 {
				runtime.Gosched()
				tr.collect(k.Now())
			}
		}
		for ; len(b) >= 4; b = b[4:] {
			switch {
			case b[0]&0x80 != 0:
				deliver(int(b[1]%16)+1, b[2]&1 == 0)
			case b[0]&0x40 != 0:
				k.late(int(b[1]) % 16)
			default:
				k.do(b)
			}
		}
		for range 50 { // what is waited for comes, or is given up
			deliver(len(k.pending), true)
			k.mu.Lock()
			k.clock += 50e6
			k.mu.Unlock()
		}
		rep := ended(t, tr)
		for i := range rep.Spaces {
			sp := &rep.Spaces[i]
			is := k.spaces[sp.Process.Space]
			if s := sp.Picture.String(); s != "exact" && !strings.HasPrefix(s, "resynced") {
				if !is.dead {
					t.Errorf("process %d, which lives: %s", is.pid, s)
				}
				continue
			}
			got := make(map[uint64]bool)
			for _, r := range tr.Tree(sp.Process.Space).Regions(nil) {
				for p := r.Start >> 12; p < r.End>>12; p++ {
					got[p] = true
				}
			}
			if !maps.Equal(got, is.pages) {
				t.Errorf("process %d (dead %t), %s: %v, want %v", is.pid, is.dead, sp.Picture,
					slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(is.pages)))
			}
		}
		if alive := tr.model.Alive(); alive != len(k.living) {
			t.Errorf("%d processes live, and %d do", alive, len(k.living))
		}
		if s := rep.Stats; s.Missed+s.Violations > 0 {
			t.Errorf("%d missed, %d violations, and all that did not come was lost (%d)", s.Missed, s.Violations, k.lost)
		}
	})
}
