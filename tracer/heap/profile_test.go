package heap

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/growth"
)

// allocates is a function of a Go program that is simulated.
type allocates struct {
	stack string // innermost first
	size  uint64
	rate  float64       // objects a second
	life  time.Duration // about; 0 for ever
	from  time.Duration // when it begins, and ends
	until time.Duration
}

// collected is a Go program with the times when its profile is published.
type collected struct {
	functions []allocates
	rate      int64 // bytes for a sample
	grows     float64
	every     time.Duration // from one collection to the next
	mark      float64       // of that, while garbage is marked at the end
	uncounted bool          // how many collections there were is not known
}

const (
	profiledFor  = time.Minute
	profiledEach = 5 * time.Second
)

// run reads the profile every five seconds for a minute.
func (p *collected) run(seed uint64) Result {
	rnd := rand.New(rand.NewPCG(seed, 2))
	type object struct {
		record     uint64
		born, dies time.Duration
	}
	var all []object
	for i, f := range p.functions {
		until := f.until
		if until == 0 {
			until = profiledFor
		}
		probability := -math.Expm1(-float64(f.size) / float64(max(p.rate, 1)))
		for n := poisson(rnd, f.rate*probability*(until-f.from).Seconds()); n > 0; n-- {
			o := object{record: uint64(i + 1), born: f.from + time.Duration(rnd.Float64()*float64(until-f.from)), dies: math.MaxInt64}
			if f.life != 0 {
				o.dies = o.born + time.Duration(float64(f.life)*(0.5+rnd.Float64()))
			}
			all = append(all, o)
		}
	}
	profile, last := NewProfile(), make(map[uint64]Record)
	for at := time.Duration(0); at <= profiledFor; at += profiledEach {
		published := at - at%p.every // as of a collection
		now := make(map[uint64]Record)
		for _, o := range all {
			r, ok := now[o.record]
			if !ok {
				r = Record{ID: o.record, Site: uint32(o.record), Size: p.functions[o.record-1].size}
			}
			if o.born <= published {
				r.Allocs++
			}
			// It takes longer the larger the heap is.
			marked := time.Duration(p.mark * float64(p.every) * float64(at) / float64(profiledFor))
			if o.dies <= published && o.born < published-marked {
				r.Frees++
			}
			now[o.record] = r
		}
		var changed []Record
		for _, id := range slices.Sorted(maps.Keys(now)) {
			if now[id] != last[id] {
				changed = append(changed, now[id])
			}
		}
		last = now
		collections := uint64(0)
		if !p.uncounted {
			collections = uint64(at/p.every) + 1
		}
		profile.Read(uint64(at)+1, p.rate, collections, changed)
	}
	return profile.Keepers(growth.Rate{PerSecond: p.grows, Low: 0.9 * p.grows, High: 1.1 * p.grows}, func(site uint32) (path []Place) {
		for f := range strings.FieldsSeq(p.functions[site-1].stack) {
			path = append(path, Place{Function: f, Serves: strings.HasPrefix(f, "runtime.")})
		}
		return path
	})
}

func TestAProfileNamesWhoKeepsOrNobody(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	render := allocates{stack: "bytes.growSlice json.Marshal render main", size: 2048, rate: 20_000, life: 300 * time.Millisecond}
	login := allocates{stack: "newSession login main", size: 1280, rate: 800}
	tests := map[string]struct {
		program collected
		want    string
		always  bool // it must be named; else nobody may be
	}{
		"sessions beside garbage": {collected{functions: []allocates{login, render}, grows: 2 * mb}, "newSession", true},
		"a constructor of what is kept and what is not": {collected{functions: []allocates{
			{stack: "runtime.makeslice clone login main", size: 1280, rate: 800},
			{stack: "runtime.makeslice clone render main", size: 1280, rate: 40_000, life: 300 * time.Millisecond},
		}, grows: 2 * mb}, "login", true},
		"a cache that is full before the middle": {collected{functions: []allocates{
			login, render, {stack: "cachePut main", size: 4096, rate: 1000, until: 20 * time.Second},
		}, grows: 2 * mb}, "newSession", true},
		"a cache that is full, and replaces the oldest": {collected{functions: []allocates{
			login, {stack: "cachePut main", size: 4096, rate: 500, life: 12 * time.Second},
		}, grows: 2 * mb}, "newSession", true},
		"much garbage while it is marked": {collected{functions: []allocates{
			login, {stack: "render main", size: 2048, rate: 40_000, life: time.Millisecond},
		}, grows: 2 * mb, every: 2 * time.Second, mark: 0.3}, "newSession", true},
		"much more garbage, and it is not known how often it is collected": {collected{functions: []allocates{
			login, {stack: "render main", size: 2048, rate: 60_000, life: time.Millisecond},
		}, grows: 2 * mb, every: 2 * time.Second, mark: 0.3, uncounted: true}, "newSession", true},
		"garbage only": {collected{functions: []allocates{render}, grows: mb}, "", false},
		"a full cache": {collected{functions: []allocates{render, {stack: "cachePut main", size: 4096, rate: 500, life: 12 * time.Second}}, grows: mb}, "", false},
		"a cache that was dropped, and is filled again": {collected{functions: []allocates{
			render,
			{stack: "cachePut main", size: 4096, rate: 1000, life: time.Second / 4, until: 30 * time.Second},
			{stack: "cachePut main", size: 4096, rate: 1000, from: 30 * time.Second},
			{stack: "cachePut main", size: 4096, rate: 1e9, until: time.Millisecond, life: 40 * time.Second},
		}, grows: 2 * mb}, "", false},
		"what is not in the profile grows more": {collected{functions: []allocates{
			{stack: "runtime.malg spawn main", size: 400, rate: 2000},
		}, grows: 20 * mb}, "", false},
		"no collection since the beginning": {collected{functions: []allocates{login, render}, grows: 2 * mb, every: time.Hour}, "", false},
		"too little of it is sampled":       {collected{functions: []allocates{{stack: "login main", size: 64, rate: 30}}, grows: 4 << 10}, "", false},
	}
	for name, tt := range tests {
		for _, rate := range []int64{512 << 10, 64 << 10} {
			t.Run(fmt.Sprintf("%s, one in %d bytes", name, rate), func(t *testing.T) {
				t.Parallel()
				p := tt.program
				p.rate = rate
				if p.every == 0 {
					p.every = 700 * time.Millisecond
				}
				const seeds = 20
				right := 0
				for seed := range uint64(seeds) {
					r := p.run(seed)
					switch who := r.named(); who {
					case tt.want:
						right++
					case "":
					default:
						t.Errorf("seed %d: %s is named: %+v", seed, who, r.Keepers)
					}
				}
				if tt.always && right < seeds*9/10 {
					t.Errorf("%s is named in %d of %d", tt.want, right, seeds)
				}
			})
		}
	}
}

func TestOfTwoThatKeepTheSameNobodyIsNamedMostly(t *testing.T) {
	t.Parallel()
	p := collected{functions: []allocates{
		{stack: "login main", size: 1280, rate: 800}, {stack: "audit main", size: 1280, rate: 800},
	}, grows: 4 << 20, rate: 128 << 10, every: time.Second}
	const seeds = 100
	named := 0
	for seed := range uint64(seeds) {
		if r := p.run(seed); r.named() != "" {
			named++
		}
	}
	if named > seeds/5 { // twice in twenty, by chance
		t.Errorf("of two that keep the same one is named in %d of %d", named, seeds)
	}
}

func TestWhatAProfileSaysIsKeptIsEstimated(t *testing.T) {
	t.Parallel()
	p := collected{functions: []allocates{
		{stack: "login main", size: 1280, rate: 1600}, {stack: "render main", size: 2048, rate: 20_000, life: 300 * time.Millisecond},
	}, rate: 128 << 10, grows: 4 << 20, every: 100 * time.Millisecond}
	const seeds, kept = 40, 1600 * 1280
	within := 0
	for seed := range uint64(seeds) {
		r := p.run(seed)
		k := r.Keepers[0]
		if math.Abs(k.Kept-kept) > 0.25*kept || k.Survival < 0.9 {
			t.Errorf("seed %d: %.0f a second, %.2f of it, want %d", seed, k.Kept, k.Survival, kept)
		}
		if k.Low <= kept && kept <= k.High {
			within++
		}
	}
	if within < seeds*8/10 {
		t.Errorf("%d of %d intervals of 95 %% have the truth", within, seeds)
	}
}

func TestManyReadingsAreJoined(t *testing.T) {
	t.Parallel()
	p := NewProfile()
	const count = 1000
	for i := uint64(1); i <= count; i++ {
		p.Read(i*1e9, 1, i, []Record{{ID: 1 + i%7, Site: uint32(1 + i%7), Size: 16, Allocs: i}})
	}
	w := p.period()
	if n := len(p.readings); n > mostReadings || p.readings[0].at != 1e9 || p.readings[n-1].at != count*1e9 {
		t.Errorf("%d readings from %d to %d", n, p.readings[0].at, p.readings[n-1].at)
	}
	if w.length < count*1e9*3/10 || w.length > count*1e9*7/10 || w.collections != w.length.Seconds() {
		t.Errorf("the period is of %s, with %v collections", w.length, w.collections)
	}
	begin := count - uint64(w.length.Seconds())
	var want []change
	for id := uint64(1); id <= 7; id++ {
		last := func(n uint64) uint64 { // the newest reading with it, of so many
			for ; n > 0 && 1+n%7 != id; n-- {
			}
			return n
		}
		want = append(want, change{Record{ID: id, Site: uint32(id), Size: 16, Allocs: last(count)}, counts{allocs: last(1)}, counts{allocs: last(begin)}})
	}
	if d := cmp.Diff(want, w.all, cmp.AllowUnexported(change{}, counts{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
