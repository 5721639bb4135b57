package attribution

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/stack"
)

// words are what became of some words of a heap: who was the first to write to them, and
// who the last; 0 if they did not stay.
type words struct {
	first, last uint32
	n           int
}

// heapOf books page faults and words of a heap that many share.
func heapOf(t *testing.T, faults map[uint32]uint64, watched []words) Finding {
	t.Helper()
	r := newRun()
	r.look()
	r.brk(heapAt, heapAt+4, blame(2, 0))
	r.brk(heapAt+4, heapAt+8, blame(4, 0)) // made larger by another
	r.look()
	at, ok := r.tree.At(heapAt * page)
	if !ok {
		t.Fatal("there is no heap")
	}
	for site, weight := range faults {
		r.attr.Change(&model.Change{Kind: model.KindFault, Weight: weight, Site: site, At: at})
	}
	for _, w := range watched {
		for range w.n {
			r.attr.Outcome(&at, w.first, w.last)
		}
	}
	e := r.finding(t, growth.Key{What: growth.Heap})
	e.Label = growth.Grows
	n := namer{Names: names{}, known: make(map[uint32]stack.Name)}
	return n.finding(r.attr, &e, growth.Readings{})
}

// TestAHeapIsOfWhomTheWordsSeparate has the evidence of heaps that a function leaks in.
// Another allocates and frees, and a third stands for whoever else keeps something.
func TestAHeapIsOfWhomTheWordsSeparate(t *testing.T) {
	t.Parallel()
	const churn, leak, third = 2, 4, 6
	alone, half, tenth := map[uint32]uint64{leak: 1000}, map[uint32]uint64{churn: 430, leak: 550}, map[uint32]uint64{churn: 900, leak: 100}
	for _, tt := range []struct {
		name   string
		faults map[uint32]uint64
		words  []words
		want   uint32 // 0 for nobody
	}{
		{"nothing is known", half, nil, 0},
		{"one word only", alone, []words{{leak, leak, 1}}, 0},
		{"four words", alone, []words{{leak, leak, 4}}, 0},
		{"five words of one", alone, []words{{leak, leak, 5}}, leak},
		{"five words of two lines of one function", alone, []words{{leak, leak, 3}, {leak, leak + 1, 2}}, leak},
		{"no word stayed", half, []words{{churn, 0, 20}, {leak, 0, 20}}, 0},
		{"two are close", alone, []words{{leak, leak, 10}, {leak, third, 8}}, 0},
		{"two are far apart", alone, []words{{leak, leak, 20}, {leak, third, 5}}, leak},
		{"the same of fewer words", alone, []words{{leak, leak, 4}, {leak, third, 1}}, 0},
		{"half the heap is given back", half, []words{{churn, 0, 6}, {leak, leak, 8}}, leak},
		{"half the heap may be given back or not", half, []words{{churn, 0, 1}, {leak, leak, 8}}, 0},
		{"nothing is known of who touches the most", tenth, []words{{leak, leak, 30}}, 0},
		{"little is known of who touches the most", tenth, []words{{churn, 0, 9}, {leak, leak, 9}}, 0},
		{"who touches the most keeps nothing, by many words", tenth, []words{{churn, 0, 60}, {leak, leak, 20}}, leak},
		{"two keep as much, one of little and one of all it touches", tenth, []words{{churn, 0, 40}, {churn, churn, 5}, {leak, leak, 40}}, 0},
		{"who touches the most keeps the most, a fifth of it", tenth, []words{{churn, 0, 80}, {churn, churn, 20}, {leak, leak, 40}}, churn},
		{"a collector has moved it", alone, []words{{leak, collector, 20}}, 0},
		{"a collector has moved half of it", map[uint32]uint64{leak: 500, collector: 500}, []words{{leak, leak, 8}, {collector, collector, 9}}, 0},
		{"a collector has moved little of it", alone, []words{{leak, leak, 30}, {leak, collector, 5}}, leak},
		{"one is first, another keeps", map[uint32]uint64{churn: 1000}, []words{{churn, leak, 9}, {churn, 0, 3}}, leak},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := heapOf(t, tt.faults, tt.words)
			want := nobody
			if tt.want != 0 {
				want = names{}.Function(tt.want)
			}
			if got := f.Blamed(); got != want || f.From != nobody {
				t.Errorf("blamed %q (confidence %.3f), made by %q; want %q and nobody", got, f.Separation, f.From, want)
			}
			if c := f.Confidence(); (c >= Sure) != (want != nobody) || (c == 0) != (want == nobody) || c >= 1 {
				t.Errorf("the confidence in %q is %v", f.Blamed(), c)
			}
			var moved uint64
			for _, w := range tt.words {
				if w.last == collector {
					moved += uint64(w.n)
				}
			}
			if f.Moved != moved {
				t.Errorf("%d words were moved, want %d", f.Moved, moved)
			}
			if who, _ := f.Toucher(); who != nobody || f.LastWriter() != nil {
				t.Errorf("touched by %q, last written by %v: of a heap that is no subject", who, f.LastWriter())
			}
		})
	}
}

// TestWordsTellWhereThereIsNextToNoSample has a sample of few blocks beside words that stayed.
func TestWordsTellWhereThereIsNextToNoSample(t *testing.T) {
	t.Parallel()
	keeper, sampled := stack.Plain("keeper"), stack.Plain("sampled")
	poor := heap.Result{Samples: heap.Enough - 1, Seen: 0.01, High: 10, Growth: 100, Keepers: []heap.Keeper{{}}}
	for name, change := range map[string]struct {
		by     func(f *Finding)
		sample bool
	}{
		"next to none":            {func(*Finding) {}, false},
		"no words":                {func(f *Finding) { f.Words = 0 }, true},
		"many samples":            {func(f *Finding) { f.Heap.Samples = heap.Enough }, true},
		"all that there are":      {func(f *Finding) { f.Heap.Seen = 1 }, true},
		"they explain the growth": {func(f *Finding) { f.Heap.High = 90 }, true},
	} {
		result := poor
		f := Finding{
			Evidence: Evidence{Heap: &result, Words: 20, Separation: 0.99, Shared: true},
			Kept:     []Stack{{By: keeper}}, Keepers: []HeapKeeper{{By: sampled}},
		}
		f.Label = growth.Grows
		change.by(&f)
		want := keeper
		if change.sample {
			want = nobody
		}
		if got := f.Keeper(); f.BySample() != change.sample || got != want {
			t.Errorf("%s: by a sample %v, want %v; kept by %q, want %q", name, f.BySample(), change.sample, got, want)
		}
	}
}

// TestAHeapIsOneWhoeverMakesItLarger has two functions that do.
func TestAHeapIsOneWhoeverMakesItLarger(t *testing.T) {
	t.Parallel()
	f := heapOf(t, nil, nil)
	if f.Subject != "[heap]" || !f.Shared || len(f.Made) != 2 || f.Last.Mapped != 8*page {
		t.Errorf("%s, shared %v, of %d bytes, made by %v", f.Subject, f.Shared, f.Last.Mapped, f.Made)
	}
}

// TestWhoMadeAMappingIsBlamedForIt has memory that is not handed out in pieces, whatever
// words of it say.
func TestWhoMadeAMappingIsBlamedForIt(t *testing.T) {
	t.Parallel()
	const maker, writer = 2, 4
	r := newRun()
	r.look()
	r.mmap(pages(windowAt, windowAt+4), rw, blame(maker, 0))
	r.look()
	at, _ := r.tree.At(windowAt * page)
	for range 50 {
		r.attr.Outcome(&at, writer, writer)
	}
	e := r.finding(t, growth.Key{What: growth.Anon, Site: maker})
	n := namer{Names: names{}, known: make(map[uint32]stack.Name)}
	f := n.finding(r.attr, &e, growth.Readings{})
	if want := (names{}).Function(maker); f.Blamed() != want || f.Confidence() != 1 || f.Keeper() != nobody {
		t.Errorf("blamed %q (%v), kept by %q; want %q", f.Blamed(), f.Confidence(), f.Keeper(), want)
	}
	if k := f.LastWriter(); k == nil || k.By != (names{}).Function(writer) {
		t.Errorf("last written by %v", k)
	}
}

// TestNamesAreRightAsOftenAsTheyAreSaidToBe draws words from heaps of which it is known who
// keeps how much: whoever is named must be who keeps the most, but for one name in twenty.
func TestNamesAreRightAsOftenAsTheyAreSaidToBe(t *testing.T) {
	t.Parallel()
	const heaps, people = 600, 4
	r := rand.New(rand.NewPCG(5, 7))
	named, wrong := 0, 0
	for range heaps {
		strata := make([]stratum, 1+r.IntN(people))
		kept := make([]float64, people)
		for i := range strata {
			s := &strata[i]
			s.weight = 1 + 100*r.Float64()
			stays, parts, sum := r.Float64(), make([]float64, people), 0.0
			for j := range parts {
				parts[j] = r.ExpFloat64() * r.ExpFloat64() // some have much more than others
				sum += parts[j]
			}
			for j := range parts {
				parts[j] /= sum
				kept[j] += s.weight * stays * parts[j]
			}
			counts := make([]uint64, people)
			for range r.IntN(40) {
				if r.Float64() >= stays {
					s.gone++
					continue
				}
				x, j := r.Float64(), 0
				for ; j < people-1 && x >= parts[j]; j++ {
					x -= parts[j]
				}
				counts[j]++
			}
			for j, n := range counts {
				if n > 0 {
					s.by = append(s.by, writes{j, n})
				}
			}
		}
		masses := estimates(strata, people)
		first := slices.Index(masses, slices.Max(masses))
		if confidence(strata, 0, first) < Sure {
			continue
		}
		named++
		if slices.Max(kept) > kept[first] {
			wrong++
		}
	}
	t.Logf("of %d heaps %d have a name, %d a wrong one", heaps, named, wrong)
	if named < heaps/10 || 20*wrong > named {
		t.Errorf("of %d heaps %d have a name, %d a wrong one", heaps, named, wrong)
	}
}

// estimates are the masses that each is likely to keep.
func estimates(strata []stratum, people int) []float64 {
	masses := make([]float64, people)
	for _, s := range strata {
		all := s.gone
		for _, w := range s.by {
			all += w.words
		}
		for _, w := range s.by {
			masses[w.candidate] += s.weight * float64(w.words) / float64(all)
		}
	}
	return masses
}

// written are sites whose stacks are told.
type written struct {
	names
	paths map[uint32][]heap.Place
}

func (w written) Path(site uint32) []heap.Place { return w.paths[site] }

// TestNobodyIsNamedWhereSampleAndWordsDisagree has words that stayed beside a sample of blocks.
func TestNobodyIsNamedWhereSampleAndWordsDisagree(t *testing.T) {
	t.Parallel()
	const byLeak, byCache, cut, unknown = 2, 4, 6, 8
	sites := written{paths: map[uint32][]heap.Place{
		byLeak: {{Function: "leak", At: 1}, {Function: "main", At: 9}},
		// At another place than where it allocates.
		byCache: {{Function: "memcpy", At: 2}, {Function: "cache", At: 3}, {Function: "main", At: 9}},
		cut:     {{Function: "leak", At: 1}, {Cut: true}},
	}}
	n := namer{Names: sites, known: make(map[uint32]stack.Name)}
	cache := stack.Plain("cache")
	for _, tt := range []struct {
		name     string
		share    float64
		words    uint64
		kept     []uint32
		disputed bool
	}{
		{"another wrote all", 1, 2, []uint32{byLeak}, true},
		{"it wrote some", 1, 2, []uint32{byLeak, byCache}, false},
		{"one word", 1, 1, []uint32{byLeak}, false},
		{"it keeps half of it", 0.5, 2, []uint32{byLeak}, false},
		{"it keeps half of it, of many words", 0.5, 8, []uint32{byLeak}, true},
		{"who wrote them is not known", 1, 9, []uint32{cut}, false},
		{"nor by a name", 1, 9, []uint32{unknown}, false},
		{"there are none", 1, 0, nil, false},
	} {
		k := heap.Keeper{Function: "cache", Share: tt.share}
		f := Finding{
			Evidence: Evidence{Heap: &heap.Result{Samples: 400, Confidence: 0.99, High: 1, Keepers: []heap.Keeper{k}}, Words: tt.words, Shared: true},
			Keepers:  []HeapKeeper{{Keeper: k, By: cache}},
		}
		f.Label = growth.Grows
		for _, site := range tt.kept {
			f.KeptBy = append(f.KeptBy, Share{site, 1 / float64(len(tt.kept))})
		}
		want := cache
		if tt.disputed {
			want = nobody
		}
		if f.Disputed = n.disputed(&f.Evidence); f.Disputed != tt.disputed || f.Keeper() != want {
			t.Errorf("%s: disputed %v, want %v; kept by %q", tt.name, f.Disputed, tt.disputed, f.Keeper())
		}
		if f.Label = growth.Plateau; f.Keeper() != nobody {
			t.Errorf("%s: %q keeps what does not grow", tt.name, f.Keeper())
		}
		if f.Heap.Source = heap.ByProfile; n.disputed(&f.Evidence) {
			t.Errorf("%s: words dispute the program's own profile", tt.name)
		}
	}
}

// TestAnInterpretersFunctionIsNobodysKeeper has the words of a heap written by an interpreter, for
// whichever function of its script, and by one of its extensions.
func TestAnInterpretersFunctionIsNobodysKeeper(t *testing.T) {
	t.Parallel()
	for module, want := range map[string]string{"python3.11": "", "libpython3.13.so.1.0": "", "libjvm.so": "", "beam.smp": "", "heapext.so": "keep", "pythonic": "keep"} {
		f := Finding{
			Evidence: Evidence{Finding: growth.Finding{Label: growth.Leaks}, Shared: true, Words: 9, Separation: 0.99},
			Kept:     []Stack{{By: stack.Name{Full: "keep", Short: "keep", Module: module}, Share: 1}},
		}
		if got := f.Keeper().Full; got != want {
			t.Errorf("%s: %q, want %q", module, got, want)
		}
	}
}
