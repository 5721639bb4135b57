//go:build linux

package sample

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/malloc"
)

// Who keeps a malloc heap is found by a sample of its blocks: see package heap. Here their
// allocators are probed, in bursts, and the samples are looked at until they have ended.
//
// A burst is a time in which there are probes. It is as long, and comes as often, as the
// budget allows by what the last ones have cost; where calls are so few that they may be
// seen all the time, it has no end.

const (
	// What a call takes beside the traps: to note it, to decide whether it is a sample, and
	// to copy the stack of one. Measured on a virtual machine.
	priceNote, priceReturn = 200 * time.Nanosecond, 900 * time.Nanosecond
	priceStack             = 4 * time.Microsecond
	// unsurePrice is the part of the CPU time of a window of which it is not known whether
	// it is the price.
	unsurePrice = 20
	// heapPeriod is the time between the beginnings of two bursts, about: to put probes on
	// and to take them off takes us 50 to 90 ms.
	heapPeriod = 500 * time.Millisecond
	// The first burst is short, as what it will cost is not known; none is shorter than
	// leastBurst, so that some calls are whole in it: rather there are fewer.
	firstBurst, leastBurst = 2 * time.Millisecond, time.Millisecond
	mostPeriod             = 10 * time.Second
	// refreshed is how often the allocators are looked for anew: libraries are loaded late.
	refreshed = 5 * time.Second
	// mostSampled is how many processes' heaps are sampled at once, mostSamples how many
	// blocks of one are waited for.
	mostSampled = 16
	mostSamples = 1 << 14
	// blocksEvery is the time between two looks at the samples.
	blocksEvery = time.Second
	// written is how long after a window those that were allocated in it are looked at, while
	// it is still seen whether they are freed: their owners have filled them by then.
	written = uint64(10 * time.Millisecond)
	// mostTold is how many records of blocks are taken at once.
	mostTold = 4096
)

// heapWatch is a process whose heap is sampled.
type heapWatch struct {
	run    *Sampler
	t      *target
	prober *prober
	blocks map[uint64][]*sampledBlock // by address
	byID   int                        // how many there are
	last   uint64                     // the number of the newest
	thin   uint64                     // only those are followed whose number is a multiple of it
	due    uint64                     // when the samples are to be looked at next
	seen   uint64                     // the end of the last window whose samples were looked at
	busy   bool                       // a worker looks at them
	marks  freeMarks
	traces freeTraces
	freed  map[uint64]*sampledBlock // whose free was seen just now, by address
	twins  twins
	found  uint64 // when the allocators were looked for
}

// sampledBlock is a sample whose end is waited for.
type sampledBlock struct {
	id     uint64
	addr   uint64
	header uint64    // the word before it
	first  uint64    // its first word when it was allocated
	sign   sign      // by what its contents tell that it is there
	words  [8]uint64 // what was in it when it was surely there
	known  int       // how many of them are its own; 0 if they are not known
	twin   bool      // another had these
	at     uint64    // when it was allocated
	size   uint64    // bytes
	blind  bool
}

// heapTouched is told of a page fault in memory that many share: its heap is to be
// sampled.
func (s *Sampler) heapTouched(t *target) {
	if s.opts.HeapBudget == 0 {
		return
	}
	s.watchProfile(t)
	if t.heap != nil || t.unsampled {
		return
	}
	if t.profile != nil {
		if tree := s.opts.Trees(t.space); tree != nil && len(s.opts.Allocators(t.pid, tree)) == 0 {
			t.unsampled = true // it has no other heap
			return
		}
	}
	if err := s.kernel.HeapErr(); err != nil {
		t.unsampled, t.heapWhy = true, err.Error()
		s.tellUnsampled(t)
		return
	}
	if s.sampled >= mostSampled {
		t.heapWhy = fmt.Sprintf("the heaps of %d other processes are", mostSampled)
		s.tellUnsampled(t)
		return
	}
	if err := s.kernel.SampleHeap(t.space); err != nil {
		t.unsampled, t.heapWhy = true, err.Error()
		s.tellUnsampled(t)
		return
	}
	s.sampled++
	s.effort.Heaps.Processes++
	t.heap = &heapWatch{run: s, t: t, blocks: make(map[uint64][]*sampledBlock), thin: 1, prober: newProber(s, t)}
}

// tellUnsampled tells why the heap of a process is not sampled, if that has changed.
func (s *Sampler) tellUnsampled(t *target) {
	why := cmp.Or(t.heapWhy, t.profileWhy)
	if t.heapWhy != "" && t.profileWhy != "" {
		why = t.heapWhy + "; " + t.profileWhy
	}
	if why != t.toldUnsampled {
		t.toldUnsampled = why
		s.emit(t, s.kernel.Now(), event.HeapUnsampled(why))
	}
}

// closeHeap stops sampling the heap of a process.
func (s *Sampler) closeHeap(t *target) {
	h := t.heap
	if h == nil {
		return
	}
	t.heap, t.unsampled = nil, true
	s.sampled--
	h.prober.end()
	s.ending = append(s.ending, h.prober)
	for addr := range h.blocks {
		h.forget(addr)
	}
	if err := s.kernel.ForgetHeap(t.space); err != nil {
		s.opts.Log.Warn("stop sampling a heap", "pid", t.pid, "error", err)
	}
}

// ended adds what probers have cost that have taken their probes off. Those that have not
// are waited for if wait is set, as long as anything is.
func (s *Sampler) ended(wait bool) {
	left := s.ending[:0]
	for _, p := range s.ending {
		if wait || p.isDone() {
			p.stop()
			p.addTo(&s.effort.Heaps)
		} else {
			left = append(left, p)
		}
	}
	s.ending = left
}

// lookAtHeaps takes what was told of blocks, and looks at the samples whose time has come.
func (s *Sampler) lookAtHeaps(now uint64) {
	if len(s.ending) > 0 {
		s.ended(false)
	}
	if s.sampled == 0 {
		return
	}
	s.takeBlocks()
	for _, t := range s.spaces {
		h := t.heap
		if h == nil {
			continue
		}
		tree := s.opts.Trees(t.space)
		if tree == nil {
			continue
		}
		if h.found == 0 || now-h.found > uint64(refreshed) {
			h.found = now
			h.prober.use(s.opts.Allocators(t.pid, tree))
		}
		h.tellWindows(now)
		switch from, to := h.prober.window(); {
		case h.busy || len(h.blocks) == 0:
		case now >= h.due:
			h.look(0)
		case to > h.seen && now >= to+written:
			h.seen = to
			h.look(from)
		}
	}
}

// tellWindows tells when calls were seen, or why they are not.
func (h *heapWatch) tellWindows(now uint64) {
	var windows []event.HeapWindow
	windows, h.t.heapWhy = h.prober.take()
	for _, w := range windows {
		h.run.emit(h.t, now, w)
	}
	h.run.tellUnsampled(h.t)
}

// endHeaps has the probes of all processes taken off.
func (s *Sampler) endHeaps() {
	for _, t := range s.spaces {
		if t.heap != nil {
			t.heap.prober.end() // each takes a while, all at the same time
		}
	}
}

// lastOfHeaps takes what is still there at the end, when no probes are.
func (s *Sampler) lastOfHeaps() {
	if s.effort.Heaps.Processes == 0 {
		return
	}
	s.ended(true)
	now := s.kernel.Now()
	for _, t := range s.spaces {
		if h := t.heap; h != nil {
			h.prober.stop()
			h.tellWindows(now)
			h.prober.addTo(&s.effort.Heaps)
		}
	}
	for more := true; more; {
		more = s.takeBlocks()
	}
	if n, err := s.kernel.BlocksDropped(); err == nil {
		s.effort.Heaps.Dropped = n
	}
}

// takeBlocks takes what the kernel side has told, and says whether there may be more.
func (s *Sampler) takeBlocks() bool {
	for range mostTold {
		b := &s.told
		err := s.kernel.NextBlock(b)
		if errors.Is(err, tracer.ErrIdle) {
			return false
		}
		if err != nil {
			s.opts.Log.Warn("read blocks of heaps", "error", err)
			return false
		}
		if t := s.spaces[b.Space]; t != nil && t.heap != nil {
			t.heap.take(b)
		}
	}
	return true
}

// take takes one record of a block.
func (h *heapWatch) take(b *tracer.HeapBlock) {
	switch b.What {
	case tracer.BlockBorn:
		h.born(b)
	case tracer.BlockMark:
		// While only frees are seen, another may have the block by now.
		if h.prober.sees(b.Time) {
			if b.Changed&tracer.ChangedSecond != 0 {
				h.marks.learn(b.Header)
			}
			if freed := h.freed[b.Addr]; freed != nil {
				h.traces.learn(freed, b)
			}
		}
		delete(h.freed, b.Addr)
	case tracer.BlockContents:
		for _, m := range h.blocks[b.Addr] {
			h.contain(m, b.Words)
		}
	case tracer.BlockFreed, tracer.BlockReused:
		for _, old := range h.blocks[b.Addr] {
			h.end(old, b.Time, b.What == tracer.BlockFreed)
			if b.What == tracer.BlockFreed {
				h.noteFreed(old)
			}
		}
		h.byID -= len(h.blocks[b.Addr])
		delete(h.blocks, b.Addr)
	case tracer.BlockMoved:
		moved := h.blocks[b.Old]
		if len(moved) == 0 {
			// Where it came from was not told, or is not waited for any more.
			if len(h.blocks[b.Addr]) == 0 {
				h.kernelForget(b.Addr)
			}
			return
		}
		delete(h.blocks, b.Old)
		for _, m := range moved {
			m.addr, m.header, m.known, m.size, m.sign = b.Addr, b.Header, 0, b.Size, byChunk
			if _, ok := chunkOf(b.Size, b.Header); !ok {
				m.sign = noSign // its first word when it came there is not told
				h.blind(m, b.Time)
			}
		}
		h.blocks[b.Addr] = append(h.blocks[b.Addr], moved...)
	}
}

// born takes a new sample.
func (h *heapWatch) born(b *tracer.HeapBlock) {
	tree := h.run.opts.Trees(h.t.space)
	h.last++
	if tree == nil || h.last%h.thin != 0 {
		if len(h.blocks[b.Addr]) == 0 {
			h.kernelForget(b.Addr)
		}
		return
	}
	size := b.Size
	chunk, glibc := chunkOf(b.Size, b.Header)
	if glibc {
		size = chunk
	}
	if b.Old != 0 && b.OldHeader != 0 {
		// What there was before is not new.
		if old := b.OldHeader &^ chunkFlags; glibc && old < 1<<40 {
			size -= min(size, old)
		}
	}
	h.byID++
	block := &sampledBlock{id: h.last, addr: b.Addr, size: b.Size, at: b.Time, header: b.Header, first: b.First, sign: h.traces.sign(b.Size)}
	class := uint8(0)
	if glibc {
		block.sign, class = byChunk, malloc.ClassOf(chunk)
	}
	block.blind = block.sign == noSign
	h.blocks[b.Addr] = append(h.blocks[b.Addr], block)
	h.run.effort.Heaps.Blocks++
	at := h.run.opts.Site(h.t.pid, tree, &b.Sample)
	h.run.emit(h.t, b.Time, event.Block{
		ID: block.id, Addr: b.Addr, Site: at, Bytes: size, Weight: b.Weight, Blind: block.blind, Class: class,
	})
	if h.byID > mostSamples {
		h.thinOut(b.Time)
	}
}

// thinOut follows only half of the samples from now on, old ones and new, by their numbers: were
// there no more room, nothing would be known of what is made from then on.
func (h *heapWatch) thinOut(at uint64) {
	h.thin *= 2
	h.byID = 0
	for addr, all := range h.blocks {
		all = slices.DeleteFunc(all, func(b *sampledBlock) bool { return b.id%h.thin != 0 })
		h.blocks[addr] = all
		if h.byID += len(all); len(all) == 0 {
			delete(h.blocks, addr)
			h.kernelForget(addr)
		}
	}
	h.run.emit(h.t, at, event.HeapThinned(h.thin))
}

// mostFreed is how many blocks are remembered whose free was seen, and not yet what it left.
const mostFreed = 1 << 12

// noteFreed remembers a block until it is told what its free has left.
func (h *heapWatch) noteFreed(b *sampledBlock) {
	if h.freed == nil || len(h.freed) >= mostFreed {
		h.freed = make(map[uint64]*sampledBlock)
	}
	h.freed[b.addr] = b
}

func (h *heapWatch) end(b *sampledBlock, at uint64, seen bool) {
	h.run.emit(h.t, at, event.BlockEnd{ID: b.id, Seen: seen})
}

// blind notes that the contents of a sample say nothing any more.
func (h *heapWatch) blind(b *sampledBlock, at uint64) {
	if !b.blind {
		b.blind = true
		h.run.emit(h.t, at, event.BlockBlind{ID: b.id})
	}
}

// blindAll notes that nothing is known of the contents of any.
func (h *heapWatch) blindAll(at uint64) {
	for _, all := range h.blocks {
		for _, b := range all {
			h.blind(b, at)
		}
	}
}

// forget waits no longer for the end of the samples at an address.
func (h *heapWatch) forget(addr uint64) {
	h.byID -= len(h.blocks[addr])
	delete(h.blocks, addr)
	h.kernelForget(addr)
}

func (h *heapWatch) kernelForget(addr uint64) {
	if err := h.run.kernel.ForgetBlock(h.t.space, addr); err != nil {
		h.run.opts.Log.Warn("stop waiting for a block", "error", err)
	}
}

// prober puts probes on the allocators of a process again and again, on a goroutine of its
// own: to take them off waits for the kernel.
type prober struct {
	kernel tracer.Heaps
	now    func() uint64
	calls  *await.Calls
	fs     procmaps.FS
	pid    int
	space  uint64
	budget float64 // share of a CPU
	over   chan struct{}
	ending sync.Once
	done   chan struct{}

	mu         sync.Mutex
	allocators []heap.Allocator
	known      bool // they were looked for
	why        string
	untold     []event.HeapWindow
	spent      event.Heaps
	cost       time.Duration // of this burst
	from, to   uint64        // when allocations were seen last
	off        uint64        // from when on frees were not seen any more; 0 while they are
	// Of the goroutine that probes.
	used   time.Duration // CPU time of the process, at the end of the last window
	faults uint64        // the same of its page faults
	probed []heap.Allocator
	files  []*os.File // of those
}

// cpuTime is what a process has used of CPUs (clock_getcpuclockid(3)).
func cpuTime(pid int) (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|perProcess), &ts)
	if err == unix.EINVAL { // of a thread or process that is not there
		err = procmaps.ErrGone
	}
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

func newProber(s *Sampler, t *target) *prober {
	p := &prober{
		kernel: s.kernel, now: s.kernel.Now, calls: s.opts.Calls, fs: s.opts.FS, pid: t.pid, space: t.space, budget: s.opts.HeapBudget,
		over: make(chan struct{}), done: make(chan struct{}),
	}
	go p.run()
	return p
}

// end has it end soon.
func (p *prober) end() { p.ending.Do(func() { close(p.over) }) }

// stop ends it. That its probes are gone is waited for, as long as anything is.
func (p *prober) stop() {
	p.end()
	await.Receive(p.calls, p.done)
}

// isDone tells whether its probes are gone.
func (p *prober) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// use tells which allocators there are.
func (p *prober) use(all []heap.Allocator) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allocators, p.known = all, true
}

// take returns the windows that were not told, and why there are none, if so.
func (p *prober) take() (untold []event.HeapWindow, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	untold, p.untold = p.untold, nil
	return untold, p.why
}

func (p *prober) addTo(h *event.Heaps) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.Bursts += p.spent.Bursts
	h.ProbedNs += p.spent.ProbedNs
	h.WatchedNs += p.spent.WatchedNs
	h.Calls += p.spent.Calls
	h.CostNs += p.spent.CostNs
	p.spent = event.Heaps{}
}

// fail notes why there are no probes, "" for that there are.
func (p *prober) fail(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.why = why
}

// sleep reports whether it is to go on.
func (p *prober) sleep(d time.Duration) bool {
	select {
	case <-p.over:
		return false
	case <-time.After(d):
		return true
	}
}

func (p *prober) run() {
	defer close(p.done)
	defer func() {
		if err := p.closeFiles(); err != nil {
			p.fail(err.Error())
		}
	}()
	length := firstBurst
	var usual float64 // rate: of one burst it is by what the program does just then
	began := p.now()
	p.used, _ = cpuTime(p.pid) // else the first window says so
	for burst := uint32(1); ; burst++ {
		all, known := p.current()
		if !known {
			if !p.sleep(10 * time.Millisecond) {
				return
			}
			continue
		}
		start := time.Now()
		rate, err := p.burst(burst, all, length)
		p.mu.Lock()
		p.spent.WatchedNs += p.now() - began
		began = p.now()
		p.mu.Unlock()
		p.fail(errorText(err))
		if errors.Is(err, errOver) {
			return
		}
		period := mostPeriod
		if length = firstBurst; err == nil {
			const newest = 0.25
			if usual == 0 {
				usual = rate
			}
			usual += newest * (rate - usual)
			length, period = plan(usual, p.budget)
		}
		// What it has cost, with what was called while the probes came and went, and longer
		// than was meant where the CPUs are busy, is made up for.
		if spent := p.takeCost(); spent > 0 {
			period = max(period, time.Duration(float64(spent)/p.budget))
		}
		// Whether a burst comes does not depend on when the last one was: what the program
		// does every so often, as a cache that is full frees what is as old as that, must
		// not fall between bursts each time.
		const longest = 4
		rest := min(rand.ExpFloat64(), longest) * float64(period-time.Since(start)) //nolint:gosec // no secret
		if !p.sleep(time.Duration(max(rest, 0))) {
			return
		}
	}
}

var errOver = errors.New("it is over")

func errorText(err error) string {
	if err == nil || errors.Is(err, errOver) || errors.Is(err, procmaps.ErrGone) || errors.Is(err, unix.ESRCH) {
		return "" // or it has ended, which others tell
	}
	return err.Error()
}

func (p *prober) current() ([]heap.Allocator, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.allocators, p.known
}

// plan says for how long allocations may be seen in the next burst, and how long it is from
// its beginning to that of the one after, for a rate: what the calls cost while they are
// probed, as a share of one CPU. A burst as long as the period has no end.
func plan(rate, budget float64) (length, period time.Duration) {
	period = heapPeriod
	if rate <= budget {
		return period, period
	}
	share := budget / rate
	length = time.Duration(allocShare * share * float64(period))
	if length < leastBurst {
		length = leastBurst
		period = min(time.Duration(float64(length)/share), mostPeriod)
	}
	return length, period
}

// burst puts the probes on for a time, and returns what calls cost meanwhile, as a share of
// a CPU. While that is within the budget it goes on.
func (p *prober) burst(number uint32, all []heap.Allocator, length time.Duration) (rate float64, err error) {
	if len(all) == 0 {
		return 0, errors.New("no file of it that may be read has an allocator whose functions have names")
	}
	if err = p.allowed(); err != nil {
		return 0, err
	}
	files, err := p.open(all)
	if err != nil {
		return 0, err
	}
	price, err := p.kernel.HeapPrice()
	if err != nil {
		return 0, err
	}
	each := pricesOf(price, all)
	probes, err := p.kernel.ProbeHeap(p.pid, all, files, number)
	if err != nil {
		return 0, err
	}
	last, err := p.kernel.HeapCalls(p.space)
	if err != nil {
		return 0, errors.Join(err, probes.Close())
	}
	defer func() {
		p.unsee()
		err = errors.Join(err, probes.Close()) // it may be closed already
		if after, e := p.kernel.HeapCalls(p.space); e == nil {
			p.pay(each.cost(last, after))
		}
	}()
	for {
		before, e1 := p.kernel.HeapCalls(p.space)
		used, e2 := cpuTime(p.pid)
		w := event.HeapWindow{From: p.now(), Beside: before.Faults - p.faults, CPUBeside: used - p.used}
		p.see(w.From, 0)
		after, going, e3 := p.wait(length, before, each, overdraw)
		w.To = p.now()
		p.see(w.From, w.To)
		then, e4 := cpuTime(p.pid)
		if err = errors.Join(e1, e2, e3, e4); err != nil {
			return 0, err
		}
		cost := each.cost(before, after)
		calls := after.Allocs - before.Allocs + after.Frees - before.Frees
		w.Faults, w.CPU = after.Faults-before.Faults, max(then-used-cost, (then-used)/unsurePrice)
		p.used, p.faults, last, w.Until = then, after.Faults, after, w.To
		rate = float64(cost) / float64(max(w.To-w.From, 1))
		if going && rate <= p.budget && length >= heapPeriod && !p.changed(all) {
			p.tell(w, calls, cost)
			continue
		}
		if going {
			// What frees costs less to see: it is seen for longer.
			closed := make(chan error, 1)
			go func() { closed <- probes.CloseAllocs() }()
			var e1, e2 error
			after, going, e1 = p.wait(heapPeriod, before, each, 1)
			w.Until, e2 = p.takeOff(probes, after)
			if err = errors.Join(e1, e2, <-closed); err != nil {
				return rate, err
			}
			cost += each.cost(last, after)
			last = after
		}
		p.tell(w, calls, cost)
		if !going {
			return rate, errOver
		}
		return rate, nil
	}
}

// takeOff takes all probes off, and returns until when calls that free were seen, of which
// there were so many before: the breakpoints go at once, long before the kernel is done.
func (p *prober) takeOff(probes tracer.HeapProbes, calls tracer.HeapCalls) (until uint64, err error) {
	p.unsee()
	until = p.now()
	closed := make(chan error, 1)
	go func() { closed <- probes.Close() }()
	for {
		select {
		case err = <-closed:
			return until, err
		case <-time.After(time.Millisecond):
		}
		at := p.now()
		if after, e := p.kernel.HeapCalls(p.space); e == nil && after.Frees > calls.Frees {
			until, calls = at, after
		}
	}
}

const (
	// allocShare is the part of a burst's cost in which allocations are seen, too.
	allocShare = 0.5
	// overdraw is how many times as much as it may a burst costs at most until then. How long
	// it is was said before, by what others have cost: were it over when it has cost enough,
	// what a program does after it has freed much, say, would not be seen.
	overdraw = 4
)

// wait waits for a time, or until calls have cost so many times what a burst may, and returns
// those so far.
func (p *prober) wait(length time.Duration, before tracer.HeapCalls, each prices, times float64) (after tracer.HeapCalls, going bool, err error) {
	const looks = 50 // fewer overdraw more
	const tracedEvery = 50 * time.Millisecond
	allowed := time.Duration(times * p.budget * float64(heapPeriod))
	start := time.Now()
	asked := start
	for end := start.Add(length); ; {
		if time.Since(asked) >= tracedEvery {
			asked = time.Now()
			if err = p.allowed(); err != nil {
				return after, going, err
			}
		}
		left := time.Until(end)
		going = p.sleep(min(max(left, 0), max(length/looks, leastBurst)))
		after, err = p.kernel.HeapCalls(p.space)
		if err != nil || !going || left <= 0 || each.cost(before, after) > allowed {
			return after, going, err
		}
	}
}

// changed tells whether other allocators are known than those.
func (p *prober) changed(all []heap.Allocator) bool {
	now, _ := p.current()
	return !sameFiles(now, all)
}

func sameFiles(all, others []heap.Allocator) bool {
	return slices.EqualFunc(all, others, func(a, b heap.Allocator) bool {
		return a.Mapping.Dev == b.Mapping.Dev && a.Mapping.Inode == b.Mapping.Inode
	})
}

// open opens the files of allocators, and gives the paths that lead to them. They are left
// open until there are others.
func (p *prober) open(all []heap.Allocator) (paths []string, err error) {
	if !sameFiles(all, p.probed) {
		if err := p.closeFiles(); err != nil {
			return nil, err
		}
		for i := range all {
			f, err := openMapped(p.fs, p.pid, &all[i].Mapping)
			if err != nil {
				return nil, errors.Join(err, p.closeFiles())
			}
			p.files = append(p.files, f)
		}
		p.probed = all
	}
	for _, f := range p.files {
		paths = append(paths, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	return paths, nil
}

func (p *prober) closeFiles() (err error) {
	for _, f := range p.files {
		err = errors.Join(err, f.Close())
	}
	p.files, p.probed = nil, nil
	return err
}

// prices are what calls of a process' allocators take longer by while they are probed.
type prices struct{ alloc, leave, free time.Duration } // leave is of an allocation, too

// pricesOf takes the dearest of several functions for all: which are called is not counted.
func pricesOf(p tracer.HeapPrice, all []heap.Allocator) (out prices) {
	for i := range all {
		for _, at := range all[i].Points {
			entry := p.Emulated
			if at.Stepped {
				entry = p.Stepped
			}
			switch at.Function {
			case heap.Free:
				out.free = max(out.free, entry+priceNote)
			case heap.Leave: // and where it is entered
				out.leave = max(out.leave, entry+p.Emulated+2*priceNote)
			case heap.Malloc: // most
				out.alloc = max(out.alloc, entry+p.Emulated+priceNote+priceReturn)
			}
		}
	}
	return out
}

// cost is what the calls between two counts took longer by.
func (p prices) cost(before, after tracer.HeapCalls) time.Duration {
	allocs, leaves, frees := after.Allocs-before.Allocs, after.Leaves-before.Leaves, after.Frees-before.Frees
	return time.Duration(allocs-leaves)*p.alloc + time.Duration(leaves)*p.leave + time.Duration(frees)*p.free +
		time.Duration(after.Samples-before.Samples)*priceStack
}

// tell has a window told, in which there were so many calls.
func (p *prober) tell(w event.HeapWindow, calls uint64, cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.untold = append(p.untold, w)
	p.spent.Bursts++
	p.spent.ProbedNs += w.To - w.From
	p.spent.Calls += calls
	p.spent.CostNs += uint64(cost)
	p.cost += cost
}

// see notes from when to when allocations are seen; to is 0 while they are.
func (p *prober) see(from, to uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.to, p.off = from, to, 0
}

// unsee notes that frees are not seen any more, from now on.
func (p *prober) unsee() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = p.now()
}

// window is that in which allocations were seen last; to is 0 while they are.
func (p *prober) window() (from, to uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from, p.to
}

// follows tells whether frees were seen from a time to another without a pause.
func (p *prober) follows(from, to uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from != 0 && from >= p.from && (p.off == 0 || to < p.off)
}

// sees tells whether allocations were seen at a time.
func (p *prober) sees(at uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return at >= p.from && (p.to == 0 || at < p.to)
}

// pay adds the cost of what was called beside windows.
func (p *prober) pay(cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent.CostNs += uint64(cost)
	p.cost += cost
}

// takeCost is what the last burst has cost.
func (p *prober) takeCost() (cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cost, p.cost = p.cost, 0
	return cost
}

// allowed says why the functions of the process must not be probed, nil if they may.
//
// A debugger that sets a breakpoint where a probe is takes the probe's for the program's
// code, and puts it there when it takes its own away: that would end the program later.
//
// A return probe comes back by a system call since 6.11, which seccomp filters did not know
// before 6.14 (kernel/seccomp.c: seccomp_uprobe_exception).
func (p *prober) allowed() error {
	proc, err := p.fs.Process(p.pid)
	if err != nil {
		return err
	}
	defer proc.Close()
	st, err := proc.Status()
	if err != nil {
		return err
	}
	if st.TracerPid != 0 {
		return fmt.Errorf("process %d traces it (ptrace), and probes and a debugger's breakpoints do not go together", st.TracerPid)
	}
	from, until := version{6, 11}, version{6, 14}
	if v := kernelVersion(); st.Seccomp != 0 && !v.less(from) && v.less(until) {
		return fmt.Errorf("it has a seccomp filter, which Linux %d.%d may have refuse the return of a probed function", v.major, v.minor)
	}
	return nil
}

// version is that of a kernel.
type version struct{ major, minor int }

func (v version) less(o version) bool {
	return cmp.Or(cmp.Compare(v.major, o.major), cmp.Compare(v.minor, o.minor)) < 0
}

// kernelVersion is that of the running kernel; zero if it cannot be told.
var kernelVersion = sync.OnceValue(func() (v version) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &v.major, &v.minor)
	}
	return v
})
