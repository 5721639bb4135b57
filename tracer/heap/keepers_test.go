package heap

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/growth"
)

// caller is a function of a simulated program, with the stack that leads to the allocator.
type caller struct {
	stack []string // innermost first
	bytes uint64
	rate  float64 // allocations a second
	// Kept is the part that is never freed, the rest lives for life, about.
	kept float64
	life time.Duration
	// Ageless: what is freed is freed at any age, life is the mean.
	ageless bool
	// Once: all of it is made in one window.
	once bool
	// Beside: what it makes is in memory that does not grow.
	beside bool
	// Until is when it stops, 0 for never.
	until time.Duration
}

// program is a simulation of callers that are sampled in windows.
type program struct {
	callers []caller
	watch   time.Duration
	every   time.Duration // between windows
	window  time.Duration // length
	quota   float64       // samples of each caller in a window, at most
	blind   bool          // contents tell nothing
	unseen  float64       // bytes a second that grow beside, by a function that has no sample
	// Fragments is how many bytes a second it grows by that nobody keeps.
	fragments float64
	seems     float64       // how many times as much as it is its work beside windows seems to be, 0 for 1
	drained   float64       // bytes a second of what is kept that nobody sees given back
	since     time.Duration // since when there is the memory that grows
	inUse     float64       // how many blocks in use there are more in a second; 0 if it is not known
}

// run samples it, and returns who keeps it and what it truly kept a second.
func (p *program) run(seed uint64) (r Result, kept float64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := New()
	type end struct {
		id, at uint64
		seen   bool
	}
	id := uint64(0)
	key, old := growth.Key{What: growth.Heap}, growth.Key{What: growth.Heap, Name: "old"}
	var ends []end
	inWindow := func(at time.Duration) bool { return at%p.every < p.window }
	for from := time.Duration(0); from < p.watch; from += p.every {
		to := from + p.window
		w := Window{From: uint64(from) + 1, To: uint64(to), CPU: p.window, CPUBeside: time.Duration(max(p.seems, 1) * float64(p.every-p.window))}
		if from == 0 {
			w.CPUBeside = 0
		}
		b.Window(w)
		for i, c := range p.callers {
			weight := 1.0
			for c.rate*p.window.Seconds()/weight > p.quota {
				weight *= 2
			}
			for n := poisson(rnd, c.rate*p.window.Seconds()/weight); n > 0; n-- {
				at := from + time.Duration(rnd.Float64()*float64(p.window))
				if c.until != 0 && at > c.until || c.once && from/p.every != 35 {
					continue
				}
				id++
				in := key
				if c.beside || at < p.since {
					in = old
				}
				b.Born(Block{ID: id, At: uint64(at) + 1, Site: uint32(i + 1), Key: in, Bytes: c.bytes, Weight: weight, Blind: p.blind, Class: p.class(&c)})
				if rnd.Float64() < c.kept {
					continue
				}
				lives := 0.5 + rnd.Float64()
				if c.ageless {
					lives = rnd.ExpFloat64()
				}
				dies := at + time.Duration(float64(c.life)*lives)
				switch seen := inWindow(dies); {
				case dies > p.watch:
				case seen:
					ends = append(ends, end{id, uint64(dies), true})
				case !p.blind: // found at the next look
					ends = append(ends, end{id, uint64(min(dies+time.Second, p.watch)), false})
				}
			}
		}
	}
	for _, e := range ends {
		b.End(e.id, e.at, e.seen)
	}
	b.Window(Window{From: uint64(p.watch) - 1, To: uint64(p.watch), CPUBeside: p.every})
	for _, c := range p.callers {
		if c.until == 0 {
			kept += c.rate * c.kept * float64(c.bytes)
		}
	}
	rate := kept + p.unseen + p.fragments - p.drained
	touches := []Touch{{Site: 1, Faults: uint64(kept)}, {Site: uint32(len(p.callers) + 1), Faults: uint64(p.unseen)}}
	r = b.Keepers(key, growth.Rate{PerSecond: rate, Low: rate * 0.9, High: rate * 1.1}, touches, p.blocksInUse(), func(site uint32) (path []Place) {
		if int(site) > len(p.callers) {
			return []Place{{Function: "stranger"}, {Function: "main"}}
		}
		for _, f := range p.callers[site-1].stack {
			path = append(path, Place{Function: f, Serves: f == "malloc"})
		}
		return path
	})
	return r, kept
}

// blocksInUse gives by how many blocks of whatever class in use grows.
func (p *program) blocksInUse() InUse {
	if p.inUse == 0 {
		return nil
	}
	return func(func(uint8) bool) float64 { return p.inUse }
}

// TestWhatIsNotKnownToBeInUseBoundsNobody wants blocks of unknown classes to have no bound.
func TestWhatIsNotKnownToBeInUseBoundsNobody(t *testing.T) {
	t.Parallel()
	hundred := InUse(func(of func(uint8) bool) (n float64) {
		for class := range uint8(10) {
			if of(class) {
				n += 100
			}
		}
		return n
	})
	for _, tt := range []struct {
		name    string
		inUse   InUse
		classes []uint8
		want    float64
	}{
		{"one class", hundred, []uint8{3}, slack * 100 * 64},
		{"two classes", hundred, []uint8{3, 4}, slack * 200 * 64},
		{"one is not known", hundred, []uint8{3, 0}, math.Inf(1)},
		{"there are none", hundred, nil, math.Inf(1)},
		{"what is in use is not known", nil, []uint8{3}, math.Inf(1)},
	} {
		k := Keeper{each: 64, classes: make(map[uint8]bool)}
		for _, c := range tt.classes {
			k.classes[c] = true
		}
		if got := tt.inUse.most(&k); got != tt.want {
			t.Errorf("%s: %g, want %g", tt.name, got, tt.want)
		}
	}
}

// class is that of what a caller allocates.
func (p *program) class(c *caller) uint8 {
	if p.blind {
		return 0
	}
	return uint8(1 + c.bytes%40)
}

func poisson(r *rand.Rand, mean float64) (n int) {
	for left := r.ExpFloat64(); left < mean; left += r.ExpFloat64() {
		n++
	}
	return n
}

// named is who a result names, "" if nobody.
func (r *Result) named() string {
	if r.Confidence < 0.95 {
		return ""
	}
	return r.Keepers[0].Function
}

var server = []caller{
	{stack: []string{"xmalloc", "pool_alloc", "make_node", "login", "main"}, bytes: 300, rate: 300, kept: 1},
	{stack: []string{"xmalloc", "pool_alloc", "make_node", "render", "main"}, bytes: 400, rate: 12_000, life: 20 * time.Millisecond},
	{stack: []string{"xmalloc", "parse", "main"}, bytes: 100, rate: 30_000, life: time.Millisecond},
}

func TestTheKeeperIsNamedOrNobody(t *testing.T) {
	t.Parallel()
	quick := func(callers ...caller) program {
		return program{callers: callers, watch: 25 * time.Second, every: 500 * time.Millisecond, window: 20 * time.Millisecond, quota: 8}
	}
	churn := caller{stack: []string{"malloc", "render", "main"}, bytes: 200, rate: 50_000, life: 5 * time.Millisecond}
	tests := map[string]struct {
		program program
		want    string
		always  bool // it must be named; else nobody may be
	}{
		"one of many callers of the same wrappers": {quick(server...), "login", true},
		"one in five is kept": {quick(
			caller{stack: []string{"malloc", "new_session", "handle", "main"}, bytes: 1200, rate: 3000, kept: 0.2, life: time.Millisecond}, churn,
		), "new_session", true},
		"a cache is full early": {quick(
			caller{stack: []string{"malloc", "cache_put", "main"}, bytes: 2000, rate: 2000, kept: 1, until: 5 * time.Second},
			caller{stack: []string{"malloc", "login", "main"}, bytes: 500, rate: 1000, kept: 1}, churn,
		), "login", true},
		"a cache gives back after longer than the watch": {quick(
			caller{stack: []string{"malloc", "lru_put", "main"}, bytes: 1000, rate: 2000, life: 60 * time.Second},
			caller{stack: []string{"malloc", "login", "main"}, bytes: 500, rate: 1000, kept: 1}, churn,
		), "login", false},
		"what is in use does not grow by what a cache holds": {func() program {
			p := quick(caller{stack: []string{"malloc", "lru_put", "main"}, bytes: 500, rate: 400, kept: 1}, churn)
			p.inUse = 100
			return p
		}(), "", false},
		"what is in use grows by as much as one keeps": {func() program {
			p := quick(server...)
			p.inUse = 300
			return p
		}(), "login", true},
		"a cache gives back whatever it likes": {quick(
			caller{stack: []string{"malloc", "cache_put", "main"}, bytes: 500, rate: 4000, life: 10 * time.Second, ageless: true},
			caller{stack: []string{"malloc", "login", "main"}, bytes: 500, rate: 1000, kept: 1}, churn,
		), "login", true},
		"a cache whose blocks live as long as the watch": {func() program {
			p := quick(
				caller{stack: []string{"malloc", "cache_put", "main"}, bytes: 500, rate: 4000, life: 25 * time.Second, ageless: true},
				caller{stack: []string{"malloc", "login", "main"}, bytes: 500, rate: 100, kept: 1}, churn,
			)
			p.fragments = 600_000
			return p
		}(), "login", false},
		"a heap that grows by something else": {func() program {
			p := quick(caller{stack: []string{"malloc", "login", "main"}, bytes: 500, rate: 100, kept: 1}, churn)
			p.fragments = 600_000
			return p
		}(), "", false},
		"five times what it grows by would be kept": {func() program {
			p := quick(caller{stack: []string{"malloc", "cache_put", "main"}, bytes: 500, rate: 1000, kept: 1}, churn)
			p.drained = 400_000
			return p
		}(), "", false},
		"surely more than it grows by would be kept": {func() program {
			p := quick(caller{stack: []string{"malloc", "cache_put", "main"}, bytes: 500, rate: 1000, kept: 1})
			p.drained = 350_000
			return p
		}(), "", false},
		"a configuration is read again seldom": {quick(
			caller{stack: []string{"malloc", "read_config", "main"}, bytes: 500, rate: 20_000, once: true, kept: 1},
			caller{stack: []string{"malloc", "register", "main"}, bytes: 50, rate: 100, kept: 1}, churn,
		), "register", false},
		"how much is done beside windows seems to be far more": {func() program {
			p := quick(server...)
			p.seems = 6
			return p
		}(), "login", true},
		"a cache is older than the memory that grows": {func() program {
			p := quick(
				caller{stack: []string{"malloc", "cache_put", "main"}, bytes: 500, rate: 4000, life: 6 * time.Second, ageless: true},
				caller{stack: []string{"malloc", "login", "main"}, bytes: 500, rate: 1000, kept: 1}, churn,
			)
			p.since = 20 * time.Second
			return p
		}(), "login", true},
		"what its maker frees is in memory that does not grow": {quick(
			caller{stack: []string{"malloc", "make_node", "login", "main"}, bytes: 128, rate: 500, kept: 1},
			caller{stack: []string{"malloc", "make_node", "render", "main"}, bytes: 400, rate: 20_000, life: time.Millisecond, beside: true},
		), "login", true},
		"nobody keeps anything": {quick(churn), "", false},
		"two keep the same": {quick(
			caller{stack: []string{"malloc", "a", "main"}, bytes: 500, rate: 1000, kept: 1},
			caller{stack: []string{"malloc", "b", "main"}, bytes: 500, rate: 1000, kept: 1}, churn,
		), "", false},
		"a pool hands out what it keeps in pieces": {quick(
			caller{stack: []string{"malloc", "refill", "get", "watch", "main"}, bytes: 16 << 10, rate: 20, kept: 1},
			caller{stack: []string{"malloc", "refill", "get", "lookup", "main"}, bytes: 16 << 10, rate: 60, kept: 1}, churn,
		), "", false},
		"large blocks may be handed out in pieces": {quick(
			caller{stack: []string{"malloc", "load", "open", "main"}, bytes: 64 << 10, rate: 50, kept: 1}, churn,
		), "", false},
		"most of it has no sample": {func() program {
			p := quick(caller{stack: []string{"malloc", "minor", "main"}, bytes: 100, rate: 500, kept: 1}, churn)
			p.unseen = 1 << 20
			return p
		}(), "", false},
		"contents tell nothing, and frees are seen": {func() program {
			p := quick(server...)
			p.blind, p.window = true, 150*time.Millisecond
			return p
		}(), "login", true},
		"contents tell nothing, and one in five is kept": {func() program {
			p := quick(
				caller{stack: []string{"malloc", "new_session", "handle", "main"}, bytes: 1200, rate: 3000, kept: 0.2, life: time.Millisecond}, churn,
			)
			p.blind, p.window = true, 80*time.Millisecond
			return p
		}(), "new_session", true},
		"contents tell nothing, and most frees are between bursts": {func() program {
			p := quick(
				caller{stack: []string{"malloc", "login", "main"}, bytes: 300, rate: 300, kept: 1},
				caller{stack: []string{"malloc", "render", "main"}, bytes: 400, rate: 12_000, life: 300 * time.Millisecond},
			)
			p.blind = true
			return p
		}(), "login", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const seeds = 40
			right := 0
			for seed := range uint64(seeds) {
				r, _ := tt.program.run(seed)
				if tt.program.drained > 0 && !r.Beyond {
					t.Errorf("seed %d: it is not seen that more would be kept than it grows by: %+v", seed, r)
				}
				switch who := r.named(); who {
				case tt.want:
					right++
				case "":
				default:
					t.Errorf("seed %d: %s is named: %+v", seed, who, r.Keepers)
				}
			}
			if tt.always && right < seeds*19/20 {
				t.Errorf("%s is named in %d of %d", tt.want, right, seeds)
			}
		})
	}
}

// TestHowMuchMoreIsDoneGivesWay wants what is uncertain for all alike to fit what a heap grows by,
// as far as it is.
func TestHowMuchMoreIsDoneGivesWay(t *testing.T) {
	t.Parallel()
	s := scaling{least: 0.2, most: 3}
	for _, c := range []struct {
		name             string
		scale, sum, want float64
	}{
		{"they explain it", 1, 100, 1},
		{"they would keep too much", 1, 400, 0.25},
		{"they would keep too much, however much more is done", 1, 1000, 0.2},
		{"it is as little as it may be", 0.1, 1000, 0.1},
		{"they would explain too little", 0.5, 50, 0.8},
		{"they would explain too little, however much more is done", 1, 10, 3},
		{"it is as much as it may be", 4, 5, 4},
		{"they keep nothing", 1, 0, 3},
	} {
		if got := s.fit(c.scale, c.sum, 100, 0.4); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
	if got := (&scaling{least: 1, most: 1}).fit(1, 1000, 100, 0); got != 1 {
		t.Errorf("one that is exact: %g", got)
	}
}

func TestWhatIsKeptIsEstimated(t *testing.T) {
	t.Parallel()
	p := program{callers: server, watch: time.Minute, every: 500 * time.Millisecond, window: 20 * time.Millisecond, quota: 8}
	const seeds = 40
	within := 0
	for seed := range uint64(seeds) {
		r, kept := p.run(seed)
		k := r.Keepers[0]
		if math.Abs(k.Kept-kept) > 0.25*kept {
			t.Errorf("seed %d: %.0f a second, want %.0f", seed, k.Kept, kept)
		}
		if k.Low <= kept && kept <= k.High {
			within++
		}
		if k.Survival < 0.9 {
			t.Errorf("seed %d: %.2f survive", seed, k.Survival)
		}
	}
	if within < seeds*8/10 {
		t.Errorf("%d of %d intervals of 95 %% have the truth", within, seeds)
	}
}

func TestWhatEachSiteAllocatesAndKeepsIsEstimated(t *testing.T) {
	t.Parallel()
	p := program{callers: server, watch: time.Minute, every: 500 * time.Millisecond, window: 20 * time.Millisecond, quota: 8}
	for seed := range uint64(20) {
		r, _ := p.run(seed)
		if len(r.Sites) != len(server) {
			t.Fatalf("seed %d: %d sites, want %d", seed, len(r.Sites), len(server))
		}
		for i, c := range server {
			s := r.Sites[i]
			allocated := c.rate * float64(c.bytes) * p.watch.Seconds()
			if s.Site != uint32(i+1) || math.Abs(s.Allocated-allocated) > 0.25*allocated {
				t.Errorf("seed %d: site %d allocates %.0f, want site %d and %.0f", seed, s.Site, s.Allocated, i+1, allocated)
			}
			if math.Abs(s.Kept-c.kept*s.Allocated) > 0.1*s.Allocated {
				t.Errorf("seed %d: site %d keeps %.0f of %.0f, want %.0f of it", seed, s.Site, s.Kept, s.Allocated, c.kept)
			}
		}
	}
}

func TestTooManySamplesAreThinned(t *testing.T) {
	t.Parallel()
	b := New()
	key := growth.Key{What: growth.Heap}
	b.Window(Window{From: 1, To: 1 << 40})
	for id := uint64(1); id <= 3*most; id++ {
		b.Born(Block{ID: id, At: id, Site: uint32(id % 2), Key: key, Bytes: 16, Weight: 1})
	}
	sum := 0.0
	for _, s := range b.ordered() {
		sum += s.Weight
	}
	if n := b.Len(); n > most || n < most/4 || math.Abs(sum-3*most) > 0.05*3*most {
		t.Errorf("%d samples stand for %.0f, want for %d", n, sum, 3*most)
	}
}

func TestFreesSeenSinceATime(t *testing.T) {
	t.Parallel()
	b := New()
	for _, w := range [][2]uint64{{10, 20}, {50, 60}, {90, 100}} {
		b.Window(Window{From: w[0], To: w[1]})
	}
	for at, want := range map[uint64]time.Duration{0: 30, 10: 30, 15: 25, 20: 20, 30: 20, 55: 15, 95: 5, 100: 0, 200: 0} {
		if got := b.seenSince(at); got != want {
			t.Errorf("since %d: %d, want %d", at, got, want)
		}
	}
}

// The time between two windows that are joined was not one in which calls were seen.
func TestJoinedWindowsWereProbedForAsLongAsBothWere(t *testing.T) {
	t.Parallel()
	b := New()
	const n, every, length = 3 * mostWindows, 100, 10
	for i := range uint64(n) {
		b.Window(Window{From: i*every + 1, To: i*every + 1 + length, Until: i*every + 1 + 3*length})
	}
	if len(b.windows) > mostWindows {
		t.Errorf("%d windows are kept, want %d at most", len(b.windows), mostWindows)
	}
	for _, part := range []uint64{1, 2, 4} { // of the time
		from := n * every * (part - 1) / part
		got, want := float64(b.probedSince(from)), float64(n*length/part)
		if math.Abs(got-want) > 0.01*want {
			t.Errorf("since %d: %.0f ns, want %.0f", from, got, want)
		}
	}
	if got := b.probedSince(n * every); got != 0 {
		t.Errorf("after the last: %d ns", got)
	}
	e := estimator{book: b, watched: b.Watched(), work: b.worked()}
	e.recent()
	if want := recent * n * length; math.Abs(float64(e.probed)-want) > 0.01*want || math.Abs(e.work.least-every/length) > 0.01 {
		t.Errorf("the recent ones took %d ns, want %.0f; there was %.2f times the work, want %d", e.probed, want, e.work.least, every/length)
	}
}

// TestWorkIsEstimated wants page faults believed rather than CPU time, most of which is the
// price of seeing calls, but for where there are few.
func TestWorkIsEstimated(t *testing.T) {
	t.Parallel()
	const ms = uint64(1e6)
	for _, c := range []struct {
		name           string
		faults, beside uint64
		cpu, elsewhere time.Duration
		want           float64
	}{
		{"by page faults", 100, 900, time.Millisecond, time.Millisecond, 10},
		{"by few and CPU time", 2, 998, 10 * time.Millisecond, 100 * time.Millisecond, 161},
		{"by none where some are likely, and CPU time", 0, 2000, time.Millisecond, 119 * time.Millisecond, 564},
		{"by CPU time where there are none", 0, 0, time.Millisecond, 49 * time.Millisecond, 50},
		{"by the time, if nothing else tells of more", 100, 0, time.Millisecond, 0, 10},
	} {
		b := New()
		b.Window(Window{From: ms, To: 2 * ms, Until: 2 * ms})
		b.Window(Window{
			From: 19 * ms, To: 20 * ms, Until: 20 * ms, Faults: c.faults, Beside: c.beside, CPU: c.cpu, CPUBeside: c.elsewhere,
		})
		if got := b.worked().times; math.Abs(got-c.want) > 0.06*c.want {
			t.Errorf("%s: %.2f times what was done in windows, want %.0f", c.name, got, c.want)
		}
	}
}

func TestFisher(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ a, n, b, m, want float64 }{
		{3, 3, 0, 500, 4.7e-8}, {5, 10, 5, 10, 1}, {0, 10, 0, 10, 1}, {8, 10, 1, 10, 0.0055}, {1, 1, 5, 5, 1}, {0, 0, 5, 5, 1},
	} {
		if got := differ(tt.a, tt.n, tt.b, tt.m); math.Abs(got-tt.want) > 0.1*tt.want {
			t.Errorf("%v of %v and %v of %v: %g, want %g", tt.a, tt.n, tt.b, tt.m, got, tt.want)
		}
	}
}

// TestAFunctionIsPassedOver checks which function of a stack is named.
func TestAFunctionIsPassedOver(t *testing.T) {
	t.Parallel()
	type site struct {
		stack       string
		alive, dead int
	}
	tests := map[string]struct {
		sites []site
		want  []string // functions that have samples that are there
	}{
		"wrappers of several levels":                                  {[]site{{"x p n login main", 20, 0}, {"x p n render main", 0, 200}, {"x parse main", 0, 300}}, []string{"login"}},
		"one who keeps a part":                                        {[]site{{"x new a main", 10, 40}, {"x new b main", 12, 48}, {"x render main", 0, 300}}, []string{"new"}},
		"an allocator that nobody differs in":                         {[]site{{"malloc login main", 20, 0}}, []string{"login"}},
		"the innermost where all keep":                                {[]site{{"make login main", 20, 0}, {"make logout main", 20, 0}}, []string{"make"}},
		"a stack that ends in an allocator":                           {[]site{{"malloc", 20, 0}}, []string{"malloc"}},
		"too few to tell whether callers differ":                      {[]site{{"x a main", 9, 0}, {"x b main", 0, 1}}, []string{"x?"}},
		"what one function keeps is made by several":                  {[]site{{"x dup login main", 20, 0}, {"x session login main", 30, 0}, {"x login main", 10, 0}, {"x dup render main", 0, 300}}, []string{"login"}},
		"what all is made for keeps nothing":                          {[]site{{"x a loop main", 20, 0}, {"x b loop main", 20, 0}}, []string{"x"}},
		"one caller that keeps what it makes at one of two places":    {[]site{{"x parse main", 0, 500}, {"x parse' main", 43, 1}}, []string{"parse"}},
		"one caller that keeps a part of what it makes at one of two": {[]site{{"x parse main", 0, 500}, {"x parse' main", 13, 20}}, []string{"x?"}},
		"one that keeps what it takes at one of two places":           {[]site{{"malloc parse main", 0, 500}, {"malloc parse' main", 13, 20}}, []string{"parse"}},
		"one that keeps what it makes at one of two places itself":    {[]site{{"x parse main", 0, 500}, {"x' parse main", 13, 20}}, []string{"x"}},
		"one who keeps more of what is made for one of two places":    {[]site{{"x new main", 6, 205}, {"x new main'", 41, 163}, {"x render main", 0, 300}}, []string{"new?"}},
		"one who keeps nothing of what is made for one of two":        {[]site{{"x new main", 0, 300}, {"x new main'", 41, 163}, {"x render main", 0, 300}}, []string{"new?"}},
		"one whose callers are not known keeps a part":                {[]site{{"fmt ~", 40, 60}, {"x render main", 0, 300}}, []string{"fmt?"}},
		"one whose callers are not known keeps all":                   {[]site{{"fmt ~", 100, 0}, {"x render main", 0, 300}}, []string{"fmt"}},
		"one whose callers are known further out":                     {[]site{{"x login a ~", 100, 0}, {"x render a ~", 0, 300}}, []string{"login"}},
		"too few to tell whether the places differ":                   {[]site{{"x parse main", 0, 1}, {"x parse' main", 9, 0}}, []string{"x?"}},
		"two keepers below one wrapper":                               {[]site{{"x a main", 20, 0}, {"x b main", 20, 0}, {"x c main", 0, 200}}, []string{"a", "b"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []tally
			paths := make(map[uint32][]Place)
			for i, s := range tt.sites {
				id := uint32(i + 1)
				var f string
				for rest := s.stack; rest != ""; {
					if _, err := fmt.Sscan(rest, &f); err != nil {
						t.Fatal(err)
					}
					rest = rest[min(len(f)+1, len(rest)):]
					name := strings.TrimRight(f, "'") // another place in it
					p := Place{Function: name, At: uint64(len(f)), Serves: name == "malloc"}
					if name == "~" {
						p = Place{Cut: true}
					}
					paths[id] = append(paths[id], p)
				}
				all = append(all, tally{
					site: id, decided: float64(s.alive + s.dead), alive: float64(s.alive), there: float64(s.alive), bytes: float64(s.alive),
					weight: float64(s.alive + s.dead), kept: float64(s.alive),
				})
			}
			var got []string
			for _, f := range part(all, func(s uint32) []Place { return paths[s] }) {
				if slices.ContainsFunc(all, func(t tally) bool { _, its := f.depth[t.site]; return its && t.alive > 0 }) {
					if f.unsure {
						f.name += "?"
					}
					got = append(got, f.name)
				}
			}
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestWhatIsThereIsOfItsMaker wants the function that what is there parts from what is not at.
func TestWhatIsThereIsOfItsMaker(t *testing.T) {
	t.Parallel()
	place := func(name string) Place { return Place{Function: name, Serves: name == "memfd_create"} }
	paths := map[uint32][]Place{
		1: {place("memfd_create"), place("make"), place("draw"), place("main")},
		2: {place("memfd_create"), place("make"), place("share"), place("main")},
		3: {place("memfd_create")},
	}
	got := Makers([]Fate{{Site: 1, Made: 200}, {Site: 2, Made: 30, There: 30, Bytes: 30 << 20}, {Site: 3, Made: 5, There: 1, Bytes: 1 << 20}}, func(s uint32) []Place { return paths[s] })
	want := []Maker{{Site: 2, Depth: 2, Bytes: 30 << 20}, {Site: 3, Bytes: 1 << 20, Unsure: true}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got = Makers([]Fate{{Site: 1, Made: 200}}, func(s uint32) []Place { return paths[s] }); got != nil {
		t.Errorf("nothing is there: %+v", got)
	}
}

// TestTheSumsOfGroupsAreThoseOfTheirSamples compares what is kept up to date with a walk.
func TestTheSumsOfGroupsAreThoseOfTheirSamples(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	b := New()
	keys := []growth.Key{{What: growth.Heap}, {What: growth.Arena}, {What: growth.Pool, Name: "p"}, {}}
	check := func(when string) {
		t.Helper()
		want := make(map[growth.Key]group)
		for _, s := range b.blocks {
			g := want[s.Key]
			g.samples++
			if s.ended == 0 {
				g.alive, g.bytes = g.alive+1, g.bytes+s.Bytes
			}
			want[s.Key] = g
		}
		if d := cmp.Diff(want, b.groups, cmp.AllowUnexported(group{})); d != "" {
			t.Fatalf("%s (-walk +kept):\n%s", when, d)
		}
	}
	for id := uint64(1); id <= 3*most; id++ {
		b.Born(Block{ID: id, At: id, Key: keys[rnd.IntN(3)], Bytes: rnd.Uint64N(1 << 20), Weight: 1})
		if id%3 == 0 {
			dead := 1 + rnd.Uint64N(id)
			b.End(dead, id, true)
			b.End(dead, id+1, false) // once is enough
		}
		if id%5000 == 0 {
			check(fmt.Sprintf("after %d samples", id))
		}
	}
	check("after all samples")
	b.Fold(func(k growth.Key) growth.Key {
		if k == keys[1] {
			return keys[3]
		}
		return k
	})
	check("when one group is part of another")
	if b.Count(keys[1]) != 0 || b.Count(keys[3]) == 0 || !b.Large(keys[0]) {
		t.Errorf("groups %v", b.groups)
	}
}

// TestFaultsWithinAllocatorsAreOfThoseWhoCallThem has page faults whose stacks end within
// malloc(3): those in windows are of who has samples.
func TestFaultsWithinAllocatorsAreOfThoseWhoCallThem(t *testing.T) {
	t.Parallel()
	const known, within, other = 1, 2, 3
	key := growth.Key{What: growth.Heap}
	path := func(site uint32) []Place {
		return map[uint32][]Place{
			known:  {{Function: "malloc", Serves: true}, {Function: "keep"}},
			within: {{Function: "malloc", Serves: true}, {Cut: true}},
			other:  {{Function: "fill"}, {Function: "main"}},
		}[site]
	}
	for _, tt := range []struct {
		name    string
		touches []Touch
		inside  int // of the faults within malloc(3): in windows
		weight  float64
		want    float64
	}{
		{"none was in a window", []Touch{{within, 1000}}, 0, 1, 1},
		{"some were", []Touch{{within, 1000}}, 24, 1, 4 / (24/cluster + 4)},
		{"of few of their calls there is a sample", []Touch{{within, 1000}}, 24, 16, 4 / (1/cluster*24/16 + 4)},
		{"most are known", []Touch{{within, 1000}, {known, 1001}}, 0, 1, 4. / 1005},
		{"most are another's", []Touch{{within, 1000}, {other, 1001}}, 24, 1, 1},
		{"a part is another's", []Touch{{within, 1000}, {other, 500}}, 240, 1, (500 + 1000*4/(240/cluster+4)) / 1500},
	} {
		b := New()
		for i := range uint64(100) {
			b.Window(Window{From: 1000*i + 1, To: 1000*i + 100})
		}
		b.Born(Block{ID: 1, At: 50, Site: known, Key: key, Bytes: 64, Weight: tt.weight})
		for i := range 1000 {
			at := uint64(i%100)*1000 + 500
			if i < tt.inside {
				at -= 450
			}
			b.Fault(key, at, within)
			b.Fault(key, at, other) // not within an allocator: it tells nothing
			b.Fault(growth.Key{What: growth.Anon}, 50, within)
		}
		if got := b.strangers(key, tt.touches, path); math.Abs(got-tt.want) > 0.01 {
			t.Errorf("%s: %.3f, want %.3f", tt.name, got, tt.want)
		}
	}
}

// TestFaultsThatAreKeptAreBounded tells of many.
func TestFaultsThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	a, c := growth.Key{What: growth.Heap}, growth.Key{What: growth.Anon}
	b := New()
	for i := range uint64(5 * mostFaults) {
		b.Fault(a, i, 1)
		b.Fault(c, i, 1)
	}
	b.Fold(func(growth.Key) growth.Key { return a })
	if n := len(b.faults[a]); n < mostFaults/2 || n > mostFaults || len(b.faults) != 1 {
		t.Errorf("%d of one group, in %d groups", n, len(b.faults))
	}
}

// TestWhoComesFirstInACrowdIsNoticed has windows of 2 ms of which the first half is a pause, and then
// twenty calls: of those a function makes some, each time at the same places.
func TestWhoComesFirstInACrowdIsNoticed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		windows int
		places  []int
		calls   int  // how many there are in a window
		paused  bool // there is a pause before them
		want    bool
	}{
		{"first", 5, []int{0}, 20, true, true},
		{"the first two", 5, []int{0, 1}, 20, true, true},
		{"in the middle", 9, []int{10}, 20, true, false},
		{"last", 9, []int{19}, 20, true, false},
		{"first and last", 9, []int{0, 19}, 20, true, false},
		{"first, with no pause before", 9, []int{0}, 20, false, false},
		{"first of few", 9, []int{0}, 5, true, false},
	} {
		b := New()
		id := uint64(0)
		for i := range uint64(tt.windows) {
			from := i * uint64(time.Second)
			to := from + uint64(2*time.Millisecond)
			pause := uint64(0)
			if tt.paused {
				pause = uint64(time.Millisecond)
			}
			for call := range tt.calls {
				id++
				at := from + pause + uint64(call)*(to-from-pause)/uint64(tt.calls)
				site := uint32(2)
				if slices.Contains(tt.places, call) {
					site = 1
				}
				b.Born(Block{ID: id, At: at, Site: site, Bytes: 64, Weight: 1})
			}
			b.Window(Window{From: from, To: to})
		}
		every := b.ordered()
		e := estimator{book: b, crowds: b.crowds(every)}
		own := slices.DeleteFunc(every, func(s *block) bool { return s.Site != 1 })
		if got := e.first(own); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// TestSamplesThatAreThinnedOutStandForAll has half of the samples, and then all but an eighth, not
// followed any more.
func TestSamplesThatAreThinnedOutStandForAll(t *testing.T) {
	t.Parallel()
	b := New()
	const samples = 64
	add := func(from uint64) {
		for id := from; id < from+samples; id++ {
			b.Born(Block{ID: id, At: id, Site: 1, Bytes: 8, Weight: 3})
		}
	}
	stand := func() (n float64) {
		for _, s := range b.blocks {
			n += s.Weight
		}
		return n
	}
	add(0)
	for _, thin := range []uint64{2, 8, 4} { // the last is of one that has thinned out less
		b.Thin(thin)
		if n := stand(); n != 3*samples {
			t.Errorf("thinned out to every %d they stand for %g, want %d", thin, n, 3*samples)
		}
	}
	if b.Len() != samples/8 || b.Count(growth.Key{}) != samples/8 {
		t.Errorf("%d and %d are left of %d", b.Len(), b.Count(growth.Key{}), samples)
	}
	add(samples)
	if n := stand(); n != 6*samples || b.Len() != samples/4 {
		t.Errorf("with as many new ones %d stand for %g, want %d", b.Len(), n, 6*samples)
	}
}

// TestWhatIsSeenAllTheTimeIsKnown has a program that keeps all of its blocks, whose calls are seen all
// the time in windows that follow each other, and contents that tell nothing.
func TestWhatIsSeenAllTheTimeIsKnown(t *testing.T) {
	t.Parallel()
	const window, every, watch = 250 * time.Millisecond, 10 * time.Millisecond, 20 * time.Second
	b := New()
	id := uint64(0)
	add := func(from time.Duration) {
		for at := from; at < from+window; at += every {
			id++
			b.Born(Block{ID: id, At: uint64(time.Hour + at), Site: 1, Bytes: 64, Weight: 1, Blind: true})
		}
	}
	for at := time.Duration(0); at < watch; at += window {
		add(at)
		b.Window(Window{From: uint64(time.Hour + at), To: uint64(time.Hour + at + window)})
	}
	add(watch) // of the window that goes on
	rate := 64 / every.Seconds()
	path := func(uint32) []Place { return []Place{{Function: "keep"}} }
	r := b.Keepers(growth.Key{}, growth.Rate{PerSecond: rate, Low: rate, High: rate}, nil, nil, path)
	if r.named() != "keep" || math.Abs(r.Kept-rate) > 0.05*rate || r.Low < 0.7*rate || r.High > 1.3*rate {
		t.Errorf("%q keeps %g (%g to %g), want %g: %+v", r.named(), r.Kept, r.Low, r.High, rate, r.Keepers)
	}
}
