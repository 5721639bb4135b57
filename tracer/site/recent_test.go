package site

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/stack"
)

// numberOf makes a site of a stack, innermost first: one function an address.
// unnamed is what the only function of the tests' file is called.
var unnamed = stack.Name{Full: "x+0x1000", Short: "x+0x1000", Module: "x"}

func numberOf(s *Sites, addrs ...uint64) uint32 {
	s.frames = s.frames[:0]
	for _, a := range addrs {
		s.frames = append(s.frames, Frame{Module: unreadable, Addr: a})
	}
	return s.intern(stack.EndRoot)
}

var unreadable = &Module{Path: "/x", number: 1, Err: io.EOF}

// fill makes so many other sites, of a few functions.
func fill(s *Sites, from, n uint64) {
	for i := from; i < from+n; i++ {
		s.Group(numberOf(s, 0x10+i%16, 1<<32+i))
	}
}

func TestWhatIsKeptOfStacksIsBounded(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	s := New(Options{MaxBytes: most})
	defer s.Close()
	numbers := make(map[uint32]bool)
	for i := range uint64(100_000) {
		id := numberOf(s, 0x10+i%50_000, 1<<32+i)
		s.Group(id)
		numbers[id] = true
		if st := s.Stats(); st.Bytes > most {
			t.Fatalf("%d bytes are kept after %d stacks", st.Bytes, i)
		}
	}
	st := s.Stats()
	if len(numbers) != 100_000 || st.Sites != 100_000 || st.Evicted == 0 || st.Bytes < most/4 {
		t.Errorf("%d numbers, %+v", len(numbers), st)
	}
	if kept := uint64(len(s.byKey)); kept != uint64(st.Sites)-st.Evicted {
		t.Errorf("%d stacks have frames; of %d, %d were evicted", kept, st.Sites, st.Evicted)
	}
}

func TestAStackThatIsUsedKeepsItsFrames(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 64 << 10})
	defer s.Close()
	used, unused := numberOf(s, 0x1000, 0x2000), numberOf(s, 0x3000, 0x4000)
	s.Use(used)
	for i := range uint64(20) {
		fill(s, i*1000, 1000) // more than there is room for
		s.Use(used)
	}
	if frames, _ := s.Frames(used); len(frames) != 2 {
		t.Errorf("the one that is used has %d frames", len(frames))
	}
	if frames, _ := s.Frames(unused); frames != nil { // nor was it asked for its function
		t.Errorf("the one that is not used has %d frames", len(frames))
	}
	if again := numberOf(s, 0x1000, 0x2000); again != used {
		t.Errorf("the same stack has the number %d, and had %d", again, used)
	}
}

// What comes into use after its frames are gone keeps its function.
func TestASiteThatIsUsedKeepsItsFunction(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 256 << 10})
	defer s.Close()
	first, used := numberOf(s, 0x1000, 0x2000), numberOf(s, 0x1000, 0x3000)
	s.Group(first)
	s.Group(used)
	if fill(s, 0, 300); !s.evicted(used) {
		t.Fatal("nothing was evicted")
	}
	s.Use(used)
	for i := range uint64(20) {
		fill(s, 1<<20+i*1000, 1000)
		s.Use(used)
	}
	if g, who := s.Group(used), s.Function(used); g != first || who != unnamed {
		t.Errorf("it is of group %d, %q", g, who)
	}
}

// What is used no more makes room for what is.
func TestAStackThatIsUsedNoMoreGoes(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 64 << 10})
	defer s.Close()
	was := numberOf(s, 0x1000, 0x2000)
	s.Use(was)
	for i := range uint64(1000) {
		s.Use(numberOf(s, 0x10+i%16, 1<<32+i))
	}
	if !s.evicted(was) {
		t.Error("it is kept")
	}
	if st := s.Stats(); st.Bytes > 64<<10 {
		t.Errorf("%d bytes are kept", st.Bytes)
	}
}

func TestASiteWithoutItsStackIsStillOfItsFunction(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 256 << 10})
	defer s.Close()
	first, second := numberOf(s, 0x1000, 0x2000), numberOf(s, 0x1000, 0x3000)
	group := s.Group(first)
	if group != first || s.Group(second) != first {
		t.Fatalf("groups %d and %d, want that of the first site, %d", group, s.Group(second), first)
	}
	fill(s, 0, 300)
	if !s.evicted(second) {
		t.Fatal("nothing was evicted")
	}
	third := numberOf(s, 0x1000, 0x2000) // as the first one
	if third == first {
		t.Errorf("the number %d is given again", third)
	}
	for _, id := range []uint32{first, second, third} {
		if g, who := s.Group(id), s.Function(id); g != group || who != unnamed {
			t.Errorf("site %d is of group %d, %q", id, g, who)
		}
	}
	frames, end := s.StackNames(second)
	if d := cmp.Diff([]any{[]stack.Name{unnamed}, "its stack is no longer kept"}, []any{frames, end}); d != "" {
		t.Error(d)
	}
}

func TestSitesThatAreForgottenAreOne(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 256 << 10})
	defer s.Close()
	first, asked, never := numberOf(s, 0x1000, 0x2000), numberOf(s, 0x1000, 0x3000), numberOf(s, 0x3000, 0x4000)
	s.Group(first) // its number is that of the group: it stays
	s.Group(asked)
	fill(s, 0, 10_000)
	for _, id := range []uint32{asked, never, forgotten} {
		lines, _ := s.Stack(id)
		_, ok := s.Blamed(id)
		if g, who := s.Group(id), s.Function(id); g != forgotten || ok || len(lines) != 0 || s.Pool(id) != "" ||
			who != stack.Plain("an unknown place (its stack is no longer kept)") {
			t.Errorf("site %d is of group %d, %q, %d lines", id, g, who, len(lines))
		}
	}
	if who := s.Function(first); who != unnamed {
		t.Errorf("the group is of %q", who)
	}
}

func TestWhatTakesMemoryStaysKnownAsSuchWithoutItsStack(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 256 << 10})
	defer s.Close()
	id := stackOf(s, "runtime.(*mheap).sysAlloc", "main.main")
	if s.Pool(id) != "Go heap" {
		t.Fatalf("it is of the pool %q", s.Pool(id))
	}
	fill(s, 0, 300)
	if !s.evicted(id) || s.Pool(id) != "Go heap" {
		t.Errorf("evicted %v, of the pool %q", s.evicted(id), s.Pool(id))
	}
}

// A function that comes back after it was forgotten has one group again.
func TestAFunctionThatComesBackHasOneGroup(t *testing.T) {
	t.Parallel()
	s := New(Options{MaxBytes: 64 << 10})
	defer s.Close()
	old := s.Group(numberOf(s, 0x1000, 0x2000))
	for i := range uint64(10_000) {
		s.Group(numberOf(s, 0x1_0000+i, 1<<32)) // other functions
	}
	a, b := s.Group(numberOf(s, 0x1000, 0x2000)), s.Group(numberOf(s, 0x1000, 0x3000))
	if a == old || a != b {
		t.Errorf("groups %d and %d; it was %d", a, b, old)
	}
}

func TestRecentKeepsWhatIsAskedForAndDropsEachOnce(t *testing.T) {
	t.Parallel()
	const most = 1000
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	dropped := make(map[int]bool)
	r := newRecent(most, func(size int) int { return size }, func(k, _ int) {
		if dropped[k] {
			t.Errorf("seed %d: %d is dropped twice", seed, k)
		}
		dropped[k] = true
	})
	sizes := make(map[int]int)
	for i := range 10_000 {
		sizes[i] = 1 + rnd.IntN(100)
		r.put(i, sizes[i])
		r.get(0)
		ask := rnd.IntN(i + 1)
		if v, ok := r.get(ask); ok == dropped[ask] || ok && v != sizes[ask] {
			t.Fatalf("seed %d: %d is kept %v, dropped %v, as %d of %d", seed, ask, ok, dropped[ask], v, sizes[ask])
		}
		sum := 0
		for _, all := range []map[int]int{r.young, r.old} {
			for _, size := range all {
				sum += size
			}
		}
		if sum > r.held() || r.held() > most {
			t.Fatalf("seed %d: %d bytes are kept, held %d, most %d", seed, sum, r.held(), most)
		}
	}
	if dropped[0] || len(dropped) == 0 {
		t.Errorf("seed %d: what is always asked for is dropped %v; %d in all", seed, dropped[0], len(dropped))
	}
}
