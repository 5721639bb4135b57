package growth

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// program is a synthetic process with one group, watched at ticks of a second
// that are not quite regular.
type program struct {
	*rand.Rand
	w      *Watch
	key    Key
	n, now int // ticks in all, ticks gone
	at     time.Duration
	h      Holding // without noise
	blocks []block
	tape   []call // all that w was told
}

// call is a call of Born, Died or Observe.
type call struct {
	what     byte // 'b', 'd' or 'o'
	key      Key
	born, at time.Duration
	bytes    uint64
	holdings map[Key]Holding
}

func (c call) apply(w *Watch) {
	switch c.what {
	case 'b':
		w.Born(c.key, c.at, c.bytes, 1)
	case 'd':
		w.Died(c.key, c.born, c.bytes, 1)
	case 'o':
		w.Observe(c.at, c.holdings, nil)
	}
}

func (p *program) tell(c call) {
	c.apply(p.w)
	p.tape = append(p.tape, c)
}

type block struct {
	born            time.Duration
	bytes, resident uint64
}

func newProgram(seed uint64, n int) *program {
	return &program{
		Rand: rand.New(rand.NewPCG(seed, uint64(n))), w: NewWatch(Options{}),
		key: Key{What: Anon, Site: 1}, n: n,
	}
}

// part is how much of the watch is over, from 0 to 1.
func (p *program) part() float64 { return float64(p.now) / float64(p.n) }

// base gives the group memory from before the watch.
func (p *program) base(mapped, resident uint64) {
	p.h = Holding{Mapped: mapped, Writable: mapped, Resident: resident, Mappings: 1}
}

// mmap maps a block of which some is touched.
func (p *program) mmap(bytes, resident float64) {
	b := block{p.at - time.Duration(p.Float64()*9e8), uint64(bytes) &^ 4095, uint64(resident) &^ 4095}
	p.blocks = append(p.blocks, b)
	p.tell(call{what: 'b', key: p.key, at: b.born, bytes: b.bytes})
	p.h = p.h.merge(Holding{Mapped: b.bytes, Writable: b.bytes, Resident: b.resident, Mappings: 1}, sum)
}

// munmap unmaps a block.
func (p *program) munmap(i int) {
	b := p.blocks[i]
	p.blocks = slices.Delete(p.blocks, i, i+1)
	p.tell(call{what: 'd', key: p.key, born: b.born, at: p.at - 1, bytes: b.bytes})
	p.h = p.h.merge(Holding{Mapped: b.bytes, Writable: b.bytes, Resident: b.resident, Mappings: 1}, func(a, b uint64) uint64 { return a - b })
}

func (p *program) munmapAll() {
	for len(p.blocks) > 0 {
		p.munmap(0)
	}
}

// touch sets the resident size.
func (p *program) touch(bytes float64) { p.h.Resident = uint64(max(0, bytes)) &^ 4095 }

// tick lets a second pass and observes; noise is added to the resident size.
func (p *program) tick(noise float64) {
	h := p.h
	h.Resident = uint64(max(0, float64(h.Resident)+noise)) &^ 4095
	p.tell(call{what: 'o', at: p.at, holdings: map[Key]Holding{p.key: h}})
	p.now++
	p.at = time.Duration(p.now)*time.Second + time.Duration((p.Float64()-0.5)*5e7)
}

// each runs f before every tick.
func (p *program) each(f func()) {
	for p.now < p.n {
		f()
		p.tick(0)
	}
}

// curve lets the resident size of an old mapping follow a function of the part
// of the watch that is over.
func (p *program) curve(f func(x float64) float64) {
	p.base(4<<30, 0)
	p.each(func() { p.touch(64*mib + f(p.part())) })
}

// every says whether a new period of the given length in ticks begins.
func (p *program) every(period float64) bool {
	return p.now > 0 && math.Floor(float64(p.now)/period) != math.Floor(float64(p.now-1)/period)
}

// between is a random number, as likely in each octave.
func (p *program) between(lo, hi float64) float64 {
	return lo * math.Pow(hi/lo, p.Float64())
}

// shape is a kind of program. Its size, noise and periods vary with the seed;
// periods are in parts of the watch, so that it sees enough of them.
type shape struct {
	name  string
	leaks bool
	run   func(p *program)
	from  int // ticks from which on it must be recognized, if not 30
}

var shapes = []shape{
	// Leaks.
	{"a block a tick", true, func(p *program) {
		size := p.between(64*kib, 4*mib) + mib*30/float64(p.n)
		p.each(func() { p.mmap(size, size) })
	}, 0},
	{"blocks of random size", true, func(p *program) {
		size := p.between(mib, 4*mib)
		p.each(func() { p.mmap(4096+size*p.ExpFloat64(), 4096+size*p.ExpFloat64()) })
	}, 0},
	{"malloc with resident noise", true, func(p *program) {
		size := p.between(mib, 4*mib)
		for p.now < p.n {
			p.mmap(size, size)
			p.tick(size * float64(p.n) * 0.01 * p.NormFloat64())
		}
	}, 0},
	{"an old mapping is touched slowly", true, func(p *program) {
		rate := p.between(mib, 1<<30)
		p.curve(func(x float64) float64 { return rate * x })
	}, 0},
	{"an old mapping, with noise", true, func(p *program) {
		rate := p.between(20*mib, 1<<30)
		p.curve(func(x float64) float64 { return rate * (x + 0.015*p.NormFloat64()) })
	}, 0},
	{"an arena of 64 MiB now and then", true, func(p *program) {
		period := float64(p.n) / float64(5+p.IntN(5))
		p.each(func() {
			if p.every(period) {
				p.mmap(64*mib, p.between(mib, 64*mib))
			}
		})
	}, 0},
	{"brk by 132 KiB", true, func(p *program) {
		p.key.What = Heap
		p.base(mib, mib)
		rate, free := p.between(max(16, 2000/float64(p.n))*kib, mib), 0.0
		p.each(func() {
			for free -= rate; free < 0; free += 132 * kib {
				p.tell(call{what: 'b', key: p.key, at: p.at - 1, bytes: 132 * kib})
				p.h.Mapped += 132 * kib
				p.h.Writable += 132 * kib
			}
			p.touch(float64(p.h.Mapped) - free)
		})
	}, 0},
	{"thread stacks", true, func(p *program) {
		p.key.What = ThreadStack
		period := float64(p.n) / float64(6+p.IntN(10))
		p.each(func() {
			if p.every(period) {
				p.mmap(8*mib, 16*kib)
			}
		})
	}, 0},
	{"a vector that doubles", true, func(p *program) {
		used, rate := 0.0, p.between(mib, 16*mib)
		p.mmap(4*mib, 0)
		p.each(func() {
			used += rate
			for size := float64(p.blocks[0].bytes); used > size; size = float64(p.blocks[0].bytes) {
				p.mmap(2*size, 0)
				p.munmap(0)
			}
			p.touch(used)
		})
	}, 0},
	{"a list that grows by an eighth", true, func(p *program) {
		used, rate := 0.0, p.between(mib, 16*mib)
		p.mmap(mib, 0)
		p.each(func() {
			used += rate
			for float64(p.h.Mapped) < used {
				more := (p.h.Mapped/8 + 4095) &^ 4095
				p.tell(call{what: 'b', key: p.key, at: p.at - 1, bytes: more})
				p.h.Mapped += more
				p.h.Writable += more
			}
			p.touch(used)
		})
	}, 0},
	{"address space only", true, func(p *program) {
		size := p.between(mib, 1<<30)
		p.each(func() { p.mmap(size, 0); p.h.Writable = 0 })
	}, 0},
	{"a reserve opened up in steps", true, func(p *program) {
		p.key.What = Reserve
		p.base(64<<30, 0)
		p.h.Writable = 0
		period := float64(p.n) / float64(6+p.IntN(20))
		p.each(func() {
			if p.every(period) {
				p.h.Writable += 4 * mib
			}
		})
	}, 0},
	{"a leak under a garbage collector", true, func(p *program) {
		period := float64(p.n) / float64(6+p.IntN(2))
		size := p.between(mib, 4*mib)
		phase := 0.0
		p.curve(func(x float64) float64 {
			phase = math.Mod(x*float64(p.n)/period, 1)
			return size * float64(p.n) * (1.5*x + 0.6*phase)
		})
	}, 60}, // with fewer ticks a tooth is four of them
	{"bursts", true, func(p *program) {
		size := p.between(mib, 4*mib)
		p.each(func() {
			if math.Mod(p.part()*6, 1) < 0.5 {
				p.mmap(size, size)
			}
		})
	}, 0},
	{"faster and faster", true, func(p *program) {
		rate := p.between(10*mib, 1<<30)
		p.curve(func(x float64) float64 { return rate * (x + x*x) })
	}, 0},
	{"with short-lived buffers", true, func(p *program) {
		size := p.between(mib, 4*mib)
		p.each(func() {
			p.mmap(size, size)
			if p.IntN(12) == 0 {
				p.h.Resident += uint64(8 * size)
				p.tick(0)
				p.h.Resident -= uint64(8 * size)
			}
		})
	}, 0},
	{"a file that is extended", true, func(p *program) {
		p.key = Key{What: File, Name: "/var/log/data"}
		size := p.between(64*kib+mib*30/float64(p.n), 4*mib)
		p.each(func() { p.mmap(size, size/2) })
	}, 0},
	{"many small mappings", true, func(p *program) {
		each := 4 + 200/p.n + p.IntN(20)
		p.each(func() {
			for range each {
				p.mmap(4096, 0)
			}
		})
	}, 0},
	{"one in twenty is freed", true, func(p *program) {
		size := p.between(mib, 2*mib)
		p.each(func() {
			for range 5 {
				p.mmap(size, size)
				if p.IntN(20) == 0 {
					p.munmap(len(p.blocks) - 1)
				}
			}
		})
	}, 0},
	{"one in ten is kept", true, func(p *program) {
		size := p.between(mib, 2*mib)
		p.each(func() {
			for i := range slices.Backward(p.blocks) {
				if i >= p.now { // the first of each tick stays
					p.munmap(i)
				}
			}
			for range 10 {
				p.mmap(size, size)
			}
		})
	}, 0},
	{"at random moments", true, func(p *program) {
		size := p.between(mib, 4*mib)
		p.each(func() {
			for range 6 {
				if p.IntN(2) == 0 {
					p.mmap(size, size)
				}
			}
		})
	}, 0},
	{"little in much", true, func(p *program) {
		p.base(8<<30, 8<<30)
		size := p.between(max(0.3, 20/float64(p.n))*mib, 2*mib)
		p.each(func() { p.mmap(size, size) })
	}, 0},
	{"after a start of its own", true, func(p *program) {
		size := p.between(mib, 4*mib)
		p.each(func() {
			p.mmap(size, size)
			if p.part() < 0.08 {
				p.mmap(40*size, 40*size)
			}
		})
	}, 0},

	// Innocents.
	{"constant", false, func(p *program) { p.curve(func(float64) float64 { return 0 }) }, 0},
	{"noise", false, func(p *program) {
		size := p.between(mib, 1<<30)
		p.curve(func(float64) float64 { return size * (1 + 0.3*p.NormFloat64()) })
	}, 0},
	{"noise with outliers", false, func(p *program) {
		size := p.between(mib, 1<<30)
		p.curve(func(float64) float64 { return size * (2 + 0.1*p.NormFloat64()/max(0.05, p.Float64())) })
	}, 0},
	{"random walk", false, func(p *program) {
		size, x := p.between(mib, 64*mib), 0.0
		p.curve(func(float64) float64 { x += size * p.NormFloat64(); return x + 100*size })
	}, 0},
	{"random walk of mappings", false, func(p *program) {
		size := p.between(mib, 4*mib)
		for range 30 {
			p.mmap(size, size)
		}
		p.each(func() {
			if p.IntN(2) == 0 || len(p.blocks) == 0 {
				p.mmap(size, size)
			} else {
				p.munmap(p.IntN(len(p.blocks)))
			}
		})
	}, 0},
	{"random walk that forgets", false, func(p *program) {
		size, x := p.between(mib, 64*mib), 0.0
		p.curve(func(float64) float64 { x = 0.9*x + size*p.NormFloat64(); return x + 20*size })
	}, 0},
	{"cache that fills", false, func(p *program) {
		size, tau := p.between(4*mib, 1<<30), p.between(0.05, 0.35)
		p.curve(func(x float64) float64 { return size * (1 - math.Exp(-x/tau)) })
	}, 0},
	{"cache that fills, with noise", false, func(p *program) {
		size, tau := p.between(4*mib, 1<<30), p.between(0.05, 0.35)
		p.curve(func(x float64) float64 { return size * (1 - math.Exp(-x/tau) + 0.02*p.NormFloat64()) })
	}, 0},
	{"cache of mappings that fills", false, func(p *program) {
		entries := p.between(0.1, 0.35) * float64(p.n) * 6
		p.each(func() {
			for range 6 {
				if p.Float64()*entries > float64(len(p.blocks)) {
					p.mmap(mib, mib)
				}
			}
		})
	}, 0},
	{"ramp, then flat", false, func(p *program) {
		size, end := p.between(mib, 1<<30), 0.2+0.55*p.Float64()
		p.curve(func(x float64) float64 { return size * min(x, end) })
	}, 0},
	{"ramp, then flat with noise", false, func(p *program) {
		size, end := p.between(20*mib, 1<<30), 0.2+0.55*p.Float64()
		p.curve(func(x float64) float64 { return size * (min(x, end) + 0.01*p.NormFloat64()) })
	}, 0},
	{"steps, then flat", false, func(p *program) {
		period, last := float64(p.n)/10, 3+p.IntN(3)
		p.each(func() {
			if p.every(period) && len(p.blocks) < last {
				p.mmap(64*mib, mib)
			}
		})
	}, 0},
	{"one step", false, func(p *program) {
		when := p.IntN(p.n)
		p.base(mib, mib)
		p.each(func() {
			if p.now == when {
				p.mmap(64*mib, 64*mib)
			}
		})
	}, 0},
	{"two steps", false, func(p *program) {
		a, b := p.IntN(p.n), p.IntN(p.n)
		p.base(mib, mib)
		p.each(func() {
			if p.now == a || p.now == b {
				p.mmap(64*mib, 64*mib)
			}
		})
	}, 0},
	{"garbage collector", false, func(p *program) {
		period, size, phase := p.between(1.0/12, 0.25), p.between(mib, 1<<30), p.Float64()
		p.curve(func(x float64) float64 { return size * math.Mod(x/period+phase, 1) })
	}, 0},
	{"garbage collector, irregular", false, func(p *program) {
		size, level, limit := p.between(mib, 1<<30), 0.0, 1.0
		rate := p.between(5, 15) / float64(p.n)
		p.curve(func(float64) float64 {
			if level += rate * (0.5 + p.Float64()); level > limit {
				level, limit = 0.1*p.Float64(), 0.7+0.6*p.Float64()
			}
			return size * level
		})
	}, 0},
	{"garbage collector of two generations", false, func(p *program) {
		size, major, phase := p.between(4*mib, 1<<30), p.between(0.15, 0.35), p.Float64()
		p.curve(func(x float64) float64 {
			at := math.Mod(x/major+phase, 1)
			return size * (at + 0.5*math.Mod(at*6, 1))
		})
	}, 0},
	{"jobs that map and unmap all", false, func(p *program) {
		period := float64(p.n) * p.between(0.1, 0.35)
		p.each(func() {
			if p.every(period) {
				p.munmapAll()
			}
			p.mmap(mib, mib)
		})
	}, 0},
	{"ring of buffers", false, func(p *program) {
		keep := 1 + p.IntN(max(1, p.n/4))
		p.each(func() {
			p.mmap(mib, mib)
			if len(p.blocks) > keep {
				p.munmap(0)
			}
		})
	}, 0},
	{"buffers of random age", false, func(p *program) {
		life := p.between(1, float64(p.n)/6)
		p.each(func() {
			for range 1 + p.IntN(6) {
				p.mmap(mib, mib)
			}
			for i := range slices.Backward(p.blocks) {
				if p.Float64() < 1/life {
					p.munmap(i)
				}
			}
		})
	}, 0},
	{"pool with less and less of the old", false, func(p *program) {
		p.each(func() {
			for i := range slices.Backward(p.blocks) {
				if p.IntN(p.n) < 6 {
					p.munmap(i)
				}
			}
			for range 10 {
				p.mmap(mib, mib)
			}
		})
	}, 0},
	{"grew and shrank", false, func(p *program) {
		size, top := p.between(4*mib, 1<<30), 0.2+0.6*p.Float64()
		p.curve(func(x float64) float64 { return size * min(x/top, (1-x)/(1-top)) })
	}, 0},
	{"shrinks", false, func(p *program) {
		size := p.between(4*mib, 1<<30)
		p.curve(func(x float64) float64 { return size * (1 - x) })
	}, 0},
	{"logarithm", false, func(p *program) {
		size, tau := p.between(4*mib, 1<<30), p.between(0.01, 0.1)
		p.curve(func(x float64) float64 { return size * math.Log(1+x/tau) })
	}, 0},
	{"one large reservation", false, func(p *program) {
		p.each(func() {
			if p.now == 1 {
				p.mmap(1<<40, 0)
				p.h.Writable = 0
			}
		})
	}, 0},
	{"waves", false, func(p *program) {
		size, period, phase := p.between(4*mib, 1<<30), p.between(0.2, 1), p.Float64()
		p.curve(func(x float64) float64 { return size * (1 + math.Sin(2*math.Pi*(x/period+phase))) })
	}, 0},
	{"burst at the end", false, func(p *program) {
		size, begin := p.between(4*mib, 1<<30), 0.7+0.2*p.Float64()
		p.curve(func(x float64) float64 { return size * max(0, x-begin) })
	}, 0},
	{"started late", false, func(p *program) {
		begin := 0.6 + 0.3*p.Float64()
		p.each(func() {
			if p.part() > begin {
				p.mmap(mib, mib)
			}
		})
	}, 0},
	{"file that is read once", false, func(p *program) {
		p.key = Key{What: File, Name: "/usr/lib/model.bin"}
		p.base(1<<30, 0)
		p.h.Writable = 0
		p.each(func() { p.touch(1 << 30 * p.part()) })
	}, 0},
	{"buffer that comes and goes", false, func(p *program) {
		rate := p.between(3, 12) / float64(p.n)
		p.base(mib, mib)
		p.each(func() {
			if p.Float64() < rate {
				if len(p.blocks) > 0 {
					p.munmap(0)
				} else {
					p.mmap(64*mib, 64*mib)
				}
			}
		})
	}, 0},
	{"start-up, then noise", false, func(p *program) {
		size := p.between(4*mib, 1<<30)
		p.curve(func(x float64) float64 { return size * (min(x/0.09, 1) + 0.02*p.NormFloat64()) })
	}, 0},
}
