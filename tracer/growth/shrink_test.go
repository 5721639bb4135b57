package growth

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/budget"
)

func TestPointsAreThoseObservedHoweverTheyAreKept(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	k := Key{What: Anon, Site: 1}
	w := NewWatch(Options{MaxPoints: 16})
	w.maxPoints++ // an odd number, as after it was made less
	var seen []Holding
	h := Holding{Mapped: mib, Mappings: 1}
	for i := range 1000 {
		if rnd.IntN(3) == 0 {
			h.Resident = uint64(rnd.IntN(4)) * kib
		}
		seen = append(seen, h)
		if rnd.IntN(100) == 0 && len(w.times) > 4 && w.stride < 64 {
			w.thin() // as where memory is short
		}
		w.Observe(time.Duration(i)*time.Second, map[Key]Holding{k: h}, nil)
		var want []span
		for at := 0; at < len(seen); at += w.stride {
			s := span{seen[at], seen[at]}
			for _, h := range seen[at:min(at+w.stride, len(seen))] {
				s.add(h)
			}
			want = append(want, s)
		}
		if d := cmp.Diff(want, w.points(w.groups[k]), cmp.AllowUnexported(span{})); d != "" {
			t.Fatalf("seed %d, tick %d (-want +got):\n%s", seed, i, d)
		}
	}
}

func TestAGroupThatStaysTheSameTakesNoMemoryForIt(t *testing.T) {
	t.Parallel()
	steady, grows := Key{What: File, Name: "/lib"}, Key{What: Anon, Site: 1}
	w := NewWatch(Options{})
	for i := range uint64(400) {
		w.Observe(time.Duration(i)*time.Second, map[Key]Holding{steady: {Mapped: mib}, grows: {Mapped: i * mib}}, nil)
	}
	if a, b := len(w.groups[steady].runs), len(w.groups[grows].runs); a != 1 || b != 400 {
		t.Errorf("%d runs of what stays the same, %d of what grows", a, b)
	}
}

// node is many processes, each with a leak, a group that goes up and down, one that
// trembles, and many that are small and come and go.
type node struct {
	share   *budget.Share
	watches []*Watch
	rnd     *rand.Rand
}

var leak, wave, tremble = Key{What: Anon, Site: 1}, Key{What: Anon, Site: 2}, Key{What: Heap}

func newNode(processes, bytes int) *node {
	n := &node{share: budget.New(bytes), rnd: rand.New(rand.NewPCG(1, 2))}
	for range processes {
		n.watches = append(n.watches, NewWatch(Options{Share: n.share}))
	}
	return n
}

// observe returns what each process holds.
func (n *node) observe(tick uint64) uint64 {
	at := time.Duration(tick) * time.Second
	held := map[Key]Holding{
		leak:    {Mapped: tick * 64 * kib, Resident: tick * 64 * kib, Mappings: int(tick)},
		wave:    {Mapped: (tick % 7) * mib, Mappings: 3},
		tremble: {Mapped: 8 * mib, Resident: 7*mib + n.rnd.Uint64N(8)*kib, Mappings: 1},
	}
	for i := range uint32(80) {
		held[Key{What: Anon, Site: 10 + i}] = Holding{Mapped: 64*kib + n.rnd.Uint64N(64)*kib, Mappings: 1}
	}
	sum := uint64(0)
	for _, h := range held {
		sum += h.Mapped
	}
	for _, w := range n.watches {
		w.Born(leak, at, 64*kib, 1)
		w.Observe(at, held, nil)
	}
	return sum
}

func TestSeriesOfManyProcessesStayWithinTheirBudget(t *testing.T) {
	t.Parallel()
	const processes, bytes = 20, 6 << 20
	n := newNode(processes, bytes)
	for tick := range uint64(700) {
		sum := n.observe(tick)
		if n.share.Used() > bytes {
			t.Fatalf("tick %d: %d bytes are used", tick, n.share.Used())
		}
		if tick%100 != 99 {
			continue
		}
		for _, w := range n.watches {
			var mapped, born uint64
			for _, f := range w.Findings() {
				mapped += f.Last.Mapped
				born += f.Born
			}
			if mapped != sum || born != (tick+1)*64*kib {
				t.Fatalf("tick %d: groups hold %d bytes, want %d; born %d", tick, mapped, sum, born)
			}
		}
	}
	for i, w := range n.watches {
		if len(w.groups) < fewestGroups || len(w.times) < fewestPoints/2 {
			t.Errorf("process %d: %d groups of %d points", i, len(w.groups), len(w.times))
		}
		var leaks []Key
		for _, f := range w.Findings() {
			if f.Label == Leaks {
				leaks = append(leaks, f.Key)
			}
		}
		if d := cmp.Diff([]Key{leak}, leaks); d != "" {
			t.Errorf("process %d leaks (-want +got):\n%s", i, d)
		}
	}
	for _, w := range n.watches {
		w.Close()
	}
	if n.share.Used() != 0 {
		t.Errorf("%d bytes are used by nobody", n.share.Used())
	}
}

func TestTheSmallestGroupsGoFirst(t *testing.T) {
	t.Parallel()
	const groups, ticks = 1000, 40
	w := NewWatch(Options{Share: budget.New(480 << 10)})
	var sum uint64
	for tick := range uint64(ticks) {
		held := make(map[Key]Holding)
		sum = 0
		for i := range uint64(groups) {
			size := (i+1)*mib + (tick*i%13)*mib // none is steady
			held[Key{What: Anon, Site: uint32(i + 1)}] = Holding{Mapped: size}
			sum += size
		}
		w.Observe(time.Duration(tick)*time.Second, held, nil)
	}
	evicted, _ := w.Crowd()
	if evicted == 0 || len(w.groups) < fewestGroups {
		t.Fatalf("%d groups are left, %d have lost their places", len(w.groups), evicted)
	}
	for i := range uint32(fewestGroups) {
		if !w.Has(Key{What: Anon, Site: groups - i}) {
			t.Errorf("of the largest groups, number %d has no place", i)
		}
	}
	var mapped uint64
	var other []Note
	for _, f := range w.Findings() {
		mapped += f.Last.Mapped
		if f.What == Other {
			other = f.Reason
		}
	}
	if mapped != sum {
		t.Errorf("groups hold %d bytes, want %d", mapped, sum)
	}
	if n := len(other); n == 0 || other[n-1].Kind != Together || other[n-1].Count != evicted {
		t.Errorf("reason %v, want that %d groups are together", other, evicted)
	}
}

// A watch that observes nothing any more is told to shrink.
func TestAWatchThatHasEndedGivesWay(t *testing.T) {
	t.Parallel()
	n := newNode(2, 512<<10)
	for tick := range uint64(30) {
		n.observe(tick)
	}
	ended, lives := n.watches[0], n.watches[1]
	n.watches = n.watches[1:]
	for tick := uint64(30); tick < 600; tick++ {
		n.observe(tick)
		ended.Shrink()
		if n.share.Used() > n.share.Most() {
			t.Fatalf("tick %d: %d bytes are used", tick, n.share.Used())
		}
	}
	if ended.bytes() > n.share.Most()/2 || len(lives.times) < fewestPoints/2 {
		t.Errorf("the one that ended has %d bytes, the other %d points", ended.bytes(), len(lives.times))
	}
}
