package attribution

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Attributions of processes that have ended are kept if they were observed so often,
// the worst of them, so many.
const (
	fewestTicks = 3
	mostEnded   = 64
)

// Growth attributes the growth of every traced process. It takes changes and samplers'
// records, and looks at nothing else. All but [Growth.View] is for its owner.
type Growth struct {
	opts   Options
	namer  namer
	spaces map[uint64]*watched // by address space
	living map[int]uint64      // by process: the address space of its image
	ended  []uint64            // address spaces of processes that have ended
	effort event.Effort
	crowd  crowd
	groups map[string]*cgroup // by name
	// evicted are the groups without a place of their own, of what is dropped.
	evicted int

	views views
	turn  int // of judging for views
}

// Options of a Growth.
type Options struct {
	Names Names
	// Interval is the time between two observations, as they are meant to be. Of a
	// process whose pages cannot be counted it tells what is too short to be kept.
	Interval time.Duration
	// Settle is for how long a watched word was left alone, at least.
	Settle time.Duration
	// Memory is what may be kept of all processes; the zero value sets no bounds but
	// those of each.
	Memory budget.Node
}

// watched is one address space.
type watched struct {
	*Attribution
	pid       int
	nspid     int // in its own pid namespace, where it is another
	comm      string
	title     string // what it shows in place of its arguments, if it does
	exe       string
	exited    bool
	ended     uint64 // when, CLOCK_MONOTONIC in ns
	limits    growth.Readings
	uncounted string // why its resident pages are not counted, if so
	unwatched string // why no words of it are watched, if so
	// unsampledHeap is why blocks of its heap are not sampled, if so.
	unsampledHeap string
	worst         float64
	seen          verdict
}

// Process is what is found of one address space, with the process that lives in it.
type Process struct {
	PID      int
	NSPID    int // in the process' own pid namespace, where it is another
	Comm     string
	Title    string // what it shows in place of its arguments, "" for nothing: "postgres: checkpointer"
	Exe      string // the path of its program, "" if it is not known
	Exited   bool
	Watched  time.Duration
	Ticks    int // how often it was observed
	Space    uint64
	Findings []Finding // the worst first
	// Estimated: some calls had no stack, so what they made is shared out among the
	// sites, whose figures are estimates.
	Estimated bool
	Unsampled uint64 // bytes that such calls made
	// Uncounted says why resident memory could not be counted, or from some time on no
	// more, if so: what was found is of the time before.
	Uncounted string
	// HeapUnsampled says why blocks of malloc heaps were not sampled, if so.
	HeapUnsampled string
	// Account is what the kernel charges it for; nil if that was not read.
	Account *Account
	// Refused are calls that were refused memory, the most frequent first.
	Refused []Refused
	// Narrow says that it is a program of 32 bits: its calls are found by reading what they
	// have done, so that who makes them is not known.
	Narrow bool
	// Malloc is what glibc's malloc holds; nil if it was not read.
	Malloc *Malloc
	// Unwatched says why no words were watched, or from some time on no more, if so:
	// who keeps the memory of heaps that many share is not known, or not for the end.
	Unwatched string
}

// Name is what the process is called: by the title that it shows, if it does.
func (p *Process) Name() string { return cmp.Or(p.Title, p.Comm) }

// NewGrowth returns a Growth that has seen nothing.
func NewGrowth(opts Options) *Growth {
	return &Growth{
		opts:   opts,
		namer:  namer{Names: opts.Names, settle: opts.Settle, known: make(map[uint32]stack.Name)},
		spaces: make(map[uint64]*watched), living: make(map[int]uint64), groups: make(map[string]*cgroup),
	}
}

// Change takes what the tracer tells.
func (g *Growth) Change(c *model.Change) {
	w := g.spaces[c.Space]
	if c.Kind == model.KindExit {
		g.crowd.made.gone(c.TGID)
	}
	switch {
	case c.Kind == model.KindBegin:
		if c.Process != nil {
			g.begin(c)
		}
	case w == nil:
	case c.Kind == model.KindExit:
		if w.pid == c.TGID {
			g.end(c.Space, w, c.Time)
		}
	case c.Kind == model.KindFork:
		g.crowd.made.gone(c.Child) // another had its number
		g.crowd.made.note(c.Child, c.Site)
	case c.Kind == model.KindUnkept:
		w.rest()
	default:
		w.Change(c)
	}
}

// begin begins with an address space whose mappings are known now. If the process had
// another image, that one has ended.
func (g *Growth) begin(c *model.Change) {
	if id, ok := g.living[c.Process.PID]; ok && id != c.Space {
		g.end(id, g.spaces[id], c.Time)
	}
	g.living[c.Process.PID] = c.Space
	g.drop(c.Space) // a process that was found amid its exec begins twice
	g.spaces[c.Space] = &watched{
		Attribution: New(g.opts.Names, c.Time, c.Start.Snapshot().Regions, g.opts.Memory),
		pid:         c.Process.PID, nspid: c.Process.Inner, comm: c.Process.Comm,
	}
	for _, id := range g.ended { // they observe nothing, so they do not see that it is needed
		g.spaces[id].shrink()
	}
}

// drop forgets an address space, if there is one.
func (g *Growth) drop(id uint64) {
	if w := g.spaces[id]; w != nil {
		evicted, _ := w.watch.Crowd()
		g.evicted += evicted
		w.Close()
		delete(g.spaces, id)
	}
}

// Evicted is how many groups of memory have lost their own place: they held nothing, or
// memory was short.
func (g *Growth) Evicted() int {
	n := g.evicted
	for _, w := range g.spaces {
		evicted, _ := w.watch.Crowd()
		n += evicted
	}
	return n
}

// end notes the end of a process, and drops it if it has little to tell: processes come
// and go by the thousand.
func (g *Growth) end(id uint64, w *watched, at uint64) {
	if w.exited {
		return
	}
	w.exited, w.ended = true, at
	if g.living[w.pid] == id {
		delete(g.living, w.pid)
	}
	short := w.Ticks() < fewestTicks
	if w.uncounted != "" {
		short = w.watchedTo(at) < fewestTicks*g.opts.Interval
	}
	if short {
		g.drop(id)
		return
	}
	w.rest()
	w.worst = w.rank()
	if g.ended = append(g.ended, id); len(g.ended) <= mostEnded {
		return
	}
	slices.SortStableFunc(g.ended, func(a, b uint64) int { return cmp.Compare(g.spaces[b].worst, g.spaces[a].worst) })
	g.drop(g.ended[mostEnded])
	g.ended = g.ended[:mostEnded]
}

// Record takes what a sampler has found.
func (g *Growth) Record(r *event.Record) {
	switch b := r.Body.(type) {
	case event.Effort:
		g.effort = b
		return
	case event.Group:
		g.group(r.At, &b)
		return
	}
	w := g.spaces[r.Space]
	if w == nil || w.exited {
		return
	}
	switch b := r.Body.(type) {
	case event.Threads:
		if w.Ticks() == 0 {
			w.SetThreads(b)
		}
	case event.Executable:
		w.exe = string(b)
	case event.Title:
		w.title = string(b)
	case event.Limits:
		w.limits.Add(growth.Reading{At: w.since(r.At), Limits: growth.Limits(b)})
	case event.Account:
		w.charges.account(r.At, b)
		w.comm = cmp.Or(b.Comm, w.comm)
		g.observeCrowd(r.At)
	case event.Counting:
		w.Plan(r.Tree)
	case event.Resident:
		w.Observe(r.At, b)
	case event.Uncounted:
		w.uncounted = string(b)
	case event.Outcome:
		w.Outcome(&b.In, b.First, b.Site)
	case event.Unwatched:
		w.unwatched = string(b)
	case event.Block:
		if r.Tree != nil {
			if e, ok := r.Tree.At(b.Addr); ok {
				w.Block(r.At, &e, b)
			}
		}
	case event.Malloc:
		w.Malloc(r.At, b)
	case event.BlockEnd:
		w.book().End(b.ID, r.At, b.Seen)
	case event.BlockBlind:
		w.book().Blind(b.ID)
	case event.HeapWindow:
		w.book().Window(heap.Window(b))
	case event.HeapThinned:
		w.book().Thin(uint64(b))
	case event.GoHeap:
		w.Profile(r.At, b)
	case event.HeapUnsampled:
		w.unsampledHeap = string(b)
	}
}

// Effort is what sampling has cost, once its record has come.
func (g *Growth) Effort() event.Effort { return g.effort }

// Doubtful tells whether it is doubtful who keeps memory of an address space that a site
// touches.
func (g *Growth) Doubtful(id uint64, e *space.Extent, site uint32) bool {
	w := g.spaces[id]
	return w != nil && !w.exited && w.Doubtful(e, site)
}

// Sampled tells whether enough blocks of a heap are sampled to tell who keeps it.
func (g *Growth) Sampled(id uint64, e *space.Extent) bool {
	w := g.spaces[id]
	return w != nil && w.Sampled(e)
}

// Reach is the memory that an extent is part of and will grow into.
func (g *Growth) Reach(id uint64, e *space.Extent) procmaps.Range {
	if w := g.spaces[id]; w != nil {
		return w.Reach(e)
	}
	return e.Range
}

// watchedTo is the time that an address space was watched.
func (w *watched) watchedTo(now uint64) time.Duration {
	if w.exited {
		now = w.ended
	}
	return w.since(now)
}

// rank orders address spaces by their worst finding.
func (w *watched) rank() float64 {
	if found := w.findings(); len(found) > 0 {
		return rank(&found[0])
	}
	return 0
}

// rank orders findings of different processes.
func rank(f *growth.Finding) float64 { return float64(f.Label)*1e18 + f.Score }

// Processes are the results, the worst first. What came and went between two
// observations has nothing to tell.
func (g *Growth) Processes(now uint64) []Process {
	var out []Process
	for id, w := range g.spaces {
		if w.Ticks() == 0 && w.uncounted == "" {
			continue
		}
		p := Process{
			PID: w.pid, NSPID: w.nspid, Comm: w.comm, Title: w.title, Exe: w.exe, Exited: w.exited, Watched: w.watchedTo(now), Ticks: w.Ticks(),
			Space: id, Estimated: w.Estimated(), Unsampled: w.Unsampled(), Uncounted: w.uncounted, Unwatched: w.unwatched,
			HeapUnsampled: w.unsampledHeap, Narrow: w.narrow, Malloc: w.malloc.figures(w.watchedTo(now)),
			Refused: g.namer.refused(&w.rare, w.limits),
		}
		for _, e := range w.Evidence() {
			p.Findings = append(p.Findings, g.namer.finding(w.Attribution, &e, w.limits))
		}
		p.Account = w.charges.figures(p.Findings)
		out = append(out, p)
	}
	toldOnce(out)
	slices.SortFunc(out, func(a, b Process) int {
		return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Space, b.Space))
	})
	return out
}

// toldOnce says of memory that several processes hold that they do: it is there once.
func toldOnce(all []Process) {
	holders := make(map[growth.Key]int)
	each := func(do func(f *Finding)) {
		for i := range all {
			for k := range all[i].Findings {
				if f := &all[i].Findings[k]; f.What == growth.Held || f.What == growth.Tmpfs {
					do(f)
				}
			}
		}
	}
	shared := func(f *Finding) growth.Key { return growth.Key{What: f.What, Name: f.Name} }
	each(func(f *Finding) { holders[shared(f)]++ })
	each(func(f *Finding) {
		if n := holders[shared(f)]; n > 1 {
			f.Subject += fmt.Sprintf(", by each of %d processes", n)
		}
	})
}

func (p *Process) rank() float64 {
	if len(p.Findings) == 0 {
		return 0
	}
	return rank(&p.Findings[0].Finding)
}

// Grows tells whether anything was found to grow, if by what malloc retains.
func (p *Process) Grows() bool {
	return len(p.Findings) > 0 && p.Findings[0].Label >= growth.Retained
}
