package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/keeper"
	"github.com/maptrace/maptrace/tracer/ledger"
	"github.com/maptrace/maptrace/tracer/site"
	"github.com/maptrace/maptrace/tracer/stack"
)

// growthWatch is one run of grow.
type growthWatch struct {
	*attached
	o       *growOptions
	err     io.Writer
	log     *slog.Logger
	sites   *site.Sites
	books   map[uint64]*openBook // by address space
	fs      procmaps.FS
	next    time.Time // when the next look is due
	counter *counter
	under   bool // a look is under way
	results []render.Growth
	drawn   bool      // a line of progress is on the terminal
	shown   time.Time // when the last was drawn
	blames  map[uint32]string
	cost    counting // of books that are closed
	fates   keeper.Stats
	points  int    // threads that watch a word, of all processes
	slack   uint64 // by how much the RSS of a process may be wrong, in bytes
	touches []bpf.Touch
	untold  uint64 // faults that touches did not tell of, so far
	words   uint64 // when to look at those that are watched again, by the clock of events

	pprof, folded *output // nil unless asked for
}

// Books of processes that have ended are kept if they were looked at so often, the
// worst of them, so many.
const (
	fewestLooks = 3
	mostEnded   = 64
)

// openBook is the book of one address space, and what it takes to count.
type openBook struct {
	*ledger.Book
	pid       int
	inner     int // in its own pid namespace, where it is another
	comm      string
	exited    bool
	ended     uint64 // when, by the clock of events
	pages     *pageCount
	uncounted string // why there is none, if the process is there
	words     *wordWatch
	unwatched string // why no words of it are watched, if so
	looking   bool   // the other goroutine uses it
	replaced  bool   // by another book of the same space
	settled   bool   // it has ended, and nothing is open
	limits    growth.Limits
	worst     float64 // once it has ended
}

func newGrowthWatch(s streams, o *growOptions) *growthWatch {
	return &growthWatch{
		o: o, err: s.err, log: logger(s.err, o.verbose), sites: site.New(site.Options{}), books: make(map[uint64]*openBook),
		counter: newCounter(), slack: rssSlack(onlineCPUs()), blames: make(map[uint32]string),
	}
}

func (w *growthWatch) close() error {
	w.counter.stop()
	errs := []error{w.pprof.close(), w.folded.close()}
	for _, b := range w.books {
		w.closeWords(b)
		if b.pages != nil {
			errs = append(errs, b.pages.close())
		}
	}
	errs = append(errs, w.sites.Close())
	if w.attached != nil {
		errs = append(errs, w.attached.close())
	}
	return errors.Join(errs...)
}

// change books what happened. It is called from within the loop.
func (w *growthWatch) change(c *tracer.Change) {
	b := w.books[c.Space]
	switch {
	case c.Kind == tracer.KindBegin && c.Process != nil:
		w.open(c)
		return
	case c.Kind == tracer.KindLost || elsewhere(c):
		w.forgetPages()
	case c.Kind == tracer.KindExit:
		if w.attached != nil {
			delete(w.unread, c.TGID)
		}
		if b != nil && b.pid == c.TGID {
			w.end(c.Space, b, c.Time)
		}
		return
	}
	switch {
	case b == nil:
	case c.Kind == tracer.KindWrite:
		if b.words != nil {
			b.words.keeper.Wrote(c.Addr, c.Site, c.Time)
		}
	default:
		if b.pages != nil {
			b.pages.set.Change(c)
		}
		b.Change(c)
		if c.Kind == tracer.KindFault {
			w.touched(b, c)
		}
	}
}

// end closes the book of a process that has ended: nothing is written any more.
func (w *growthWatch) end(space uint64, b *openBook, at uint64) {
	if b.exited {
		return
	}
	b.exited, b.ended = true, at
	w.closeWords(b)
	if !b.looking {
		w.settle(space, b)
	}
}

// settle gives back what an ended process' book holds, and drops it if it has
// little to tell: processes come and go by the thousand.
func (w *growthWatch) settle(space uint64, b *openBook) {
	w.closePages(b)
	b.settled = true
	short := b.Ticks() < fewestLooks
	if b.uncounted != "" {
		short = b.watchedTo(b.ended) < fewestLooks*w.o.interval
	}
	if short {
		delete(w.books, space)
		return
	}
	b.worst = w.worstOf(b)
	var least uint64
	ended := 0
	for id, o := range w.books {
		if !o.settled {
			continue
		}
		if ended++; ended == 1 || o.worst < w.books[least].worst {
			least = id
		}
	}
	if ended > mostEnded {
		delete(w.books, least)
	}
}

// worstOf ranks a book by its worst finding.
func (w *growthWatch) worstOf(b *openBook) float64 {
	found := b.Findings()
	if len(found) == 0 {
		return 0
	}
	return rank(found[0].Finding)
}

// watchedTo is the time that a book was kept.
func (b *openBook) watchedTo(now uint64) time.Duration {
	if b.exited {
		now = b.ended
	}
	return b.Watched(now)
}

// open opens the book of a space whose mappings are known now. If the process had
// another image, that one's is closed.
func (w *growthWatch) open(c *tracer.Change) {
	for space, b := range w.books {
		if b.pid == c.Process.PID && space != c.Space && !b.exited {
			w.end(space, b, c.Time)
		}
	}
	b := &openBook{pid: c.Process.PID, inner: c.Process.Inner, comm: c.Process.Comm}
	start := ledger.Start{At: c.Time, Regions: c.Start.Regions}
	if p, err := w.fs.Process(b.pid); err == nil {
		// Where they cannot be read, stacks of threads are found by their shape.
		start.Threads, _ = p.ThreadInfo()
		b.limits = limitsOf(w.fs, p)
		if b.pages, err = newPageCount(w.fs, p); err != nil {
			b.uncounted = w.uncounted(b.pid, err)
		}
		_ = p.Close() // it was only read
	} else {
		b.uncounted = w.uncounted(b.pid, err)
	}
	b.Book = ledger.New(w.sites, start, growth.Options{})
	if old := w.books[c.Space]; old != nil {
		w.replace(old) // a process that was found amid its exec begins twice
	}
	w.books[c.Space] = b
}

// replace gives back what a book holds that another takes the place of.
func (w *growthWatch) replace(b *openBook) {
	b.replaced = true
	w.closeWords(b)
	if !b.looking {
		w.closePages(b)
	}
}

// limitsOf are the limits that a process may reach.
func limitsOf(fs procmaps.FS, p *procmaps.Process) growth.Limits {
	var ls growth.Limits
	if groups, err := p.Cgroup(); err == nil {
		if m, err := procmaps.MemoryOf(groups, ""); err == nil && m.Max != procmaps.Unlimited {
			ls = append(ls, growth.Limit{Name: m.Name, Measure: growth.Resident, Used: m.Used, Max: m.Max})
		}
	}
	st, err := p.Status()
	if err != nil {
		return ls
	}
	if limit, err := p.AddressSpaceLimit(); err == nil && limit != procmaps.Unlimited {
		ls = append(ls, growth.Limit{Name: "RLIMIT_AS", Measure: growth.Mapped, Used: st.VmSizeKB << 10, Max: limit})
	}
	// The kernel counts its VMAs, of which one of our regions may be several.
	if n, err := fs.MaxMapCount(); err == nil {
		if rows, err := p.Maps(); err == nil {
			ls = append(ls, growth.Limit{Name: "vm.max_map_count", Measure: growth.Mappings, Used: uint64(len(rows)), Max: uint64(n)})
		}
	}
	return ls
}

// idle looks when it is time. It is called from within the loop.
func (w *growthWatch) idle() error {
	if err := w.tellReady(); err != nil {
		return err
	}
	w.lookAtWords()
	if w.under {
		select {
		case busy := <-w.counter.done:
			w.looked(busy)
		default:
		}
		return nil
	}
	if now := time.Now(); now.After(w.next) {
		w.next = now.Add(w.o.interval)
		w.look()
	}
	return nil
}

// look begins to count what is resident.
func (w *growthWatch) look() {
	var jobs []*openBook
	w.takeTouches()
	r := w.tr.Report()
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		b := w.books[sp.Process.Space]
		if b == nil || b.exited || sp.Process.Exited {
			continue
		}
		b.comm = sp.Process.Comm
		b.looking = true
		if b.pages != nil {
			b.pages.plan(b.Book, sp.Tree)
		}
		jobs = append(jobs, b)
	}
	w.under = true
	w.counter.jobs <- jobs
}

// looked books what was counted, and keeps to the budget: what took long is not
// done again soon.
func (w *growthWatch) looked(done counted) {
	w.under = false
	now := w.live.Now()
	for _, b := range done.books {
		b.looking = false
		switch {
		case b.replaced:
			w.closePages(b)
		case b.pages != nil:
			b.pages.observe(b.Book, now, w.slack)
		}
	}
	for space, b := range w.books {
		if b.exited && !b.settled && !b.looking {
			w.settle(space, b)
		}
	}
	if rest := time.Duration(float64(done.busy) * 100 / w.o.budget); rest > w.o.interval {
		w.next = time.Now().Add(rest)
	}
	w.showProgress()
}

// lastLook waits for the look under way and takes one more.
func (w *growthWatch) lastLook() {
	if w.under {
		w.looked(<-w.counter.done)
	}
	w.forgetPages() // the figures of the end are of everything
	w.look()
	w.looked(<-w.counter.done)
}

// showProgress says on a terminal how far it is.
func (w *growthWatch) showProgress() {
	if !isTerminal(w.err) || time.Since(w.shown) < time.Second {
		return // verdicts cost more than looks, and nobody reads faster
	}
	w.shown = time.Now()
	var worst *ledger.Finding
	var of *openBook
	var began time.Duration
	for _, b := range w.books {
		began = max(began, b.watchedTo(w.live.Now()))
		if found := b.Findings(); len(found) > 0 && (worst == nil || found[0].Label > worst.Label) {
			worst, of = &found[0], b
		}
	}
	line := fmt.Sprintf("watched %s", render.Span(began))
	if w.o.duration > 0 {
		line += " of " + render.Span(w.o.duration)
	}
	if worst != nil && worst.Label >= growth.Plateau {
		g := w.grown(of, worst)
		line += ": " + g.Sentence()
	}
	w.progress(line)
}

// progress draws the line of progress over the one before; "" takes it away.
func (w *growthWatch) progress(line string) {
	const columns = 79
	if line == "" && !w.drawn {
		return
	}
	if r := []rune(line); len(r) > columns {
		line = string(r[:columns])
	}
	w.drawn = line != ""
	fmt.Fprintf(w.err, "\r\x1b[K%s", line)
}

// refreshLimits takes the limits as they are now: what is used has grown. Of a
// process that has ended meanwhile the old ones stay.
func (w *growthWatch) refreshLimits(b *openBook) {
	p, err := w.fs.Process(b.pid)
	if err != nil {
		return
	}
	b.limits = limitsOf(w.fs, p)
	_ = p.Close() // it was only read
}

// report makes the results of all books.
func (w *growthWatch) report() {
	r := w.tr.Report()
	picture := make(map[uint64]string)
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		picture[sp.Process.Space] = sp.Picture.Line(w.clock.Text)
		if b := w.books[sp.Process.Space]; b != nil && !b.exited {
			w.refreshLimits(b)
		}
	}
	for space, b := range w.books {
		// What came and went between two looks, and images that another has
		// replaced, have nothing to tell.
		if b.Ticks() == 0 && b.uncounted == "" || picture[space] == "" && !b.exited {
			continue
		}
		g := render.Growth{
			PID: b.pid, NSPID: b.inner, Comm: b.comm, Exited: b.exited, Watched: b.watchedTo(w.live.Now()), Looks: b.Ticks(),
			Picture: picture[space], Estimated: b.Estimated(), Unsampled: b.Unsampled(),
			Uncounted: b.uncounted, Unwatched: w.unwatched(b),
		}
		if g.Picture == "" {
			g.Picture = "not kept"
		}
		for _, f := range b.Findings() {
			g.Findings = append(g.Findings, w.grown(b, &f))
		}
		w.results = append(w.results, g)
	}
	slices.SortFunc(w.results, func(a, b render.Growth) int {
		return cmp.Or(cmp.Compare(worstOf(&b), worstOf(&a)), cmp.Compare(a.PID, b.PID))
	})
}

// unwatched says why words of a process are not watched; "" if they are, or need not
// be.
func (w *growthWatch) unwatched(b *openBook) string {
	if b.unwatched == "" && b.words != nil && b.words.keeper.Err() != nil {
		return b.words.keeper.Err().Error()
	}
	return b.unwatched
}

func worstOf(g *render.Growth) float64 {
	if len(g.Findings) == 0 {
		return 0
	}
	return rank(g.Findings[0].Finding.Finding)
}

// rank orders findings of different processes.
func rank(f growth.Finding) float64 { return float64(f.Label)*1e18 + f.Score }

// grown gives a finding its names.
func (w *growthWatch) grown(b *openBook, f *ledger.Finding) render.Grown {
	g := render.Grown{Finding: *f, Subject: subject(b, f.Key)}
	if f.Site != 0 {
		g.From = w.blamed(f.Site)
	}
	const most = 3
	var total uint64
	for _, p := range f.Parts {
		if p.Site != 0 {
			total += grew(&p)
		}
	}
	for _, p := range f.Parts[:min(len(f.Parts), most)] {
		n := grew(&p)
		if p.Site == 0 || n == 0 {
			continue
		}
		if g.From == "" && f.What == growth.File {
			g.From = w.blamed(p.Site)
		}
		made := render.Stack{Share: float64(n) / float64(total), Bytes: n}
		made.Frames, made.End = namedStack(w.sites, p.Site)
		g.Made = append(g.Made, made)
	}
	g.Touched = w.touchers(f)
	g.Kept, g.Settle = w.keepers(f), settleFor(w.o.duration)
	if l, left, ok := b.limits.Soonest(f.Finding); ok {
		g.Limit = fmt.Sprintf("%s in %s", l.Name, render.Span(left))
	}
	return g
}

// grew is how many bytes of what a site has made are there and were not at the
// first look.
func grew(p *ledger.Part) uint64 {
	return p.Now.Mapped - min(p.First.Mapped, p.Now.Mapped)
}

// keepers are the functions that were the last to write to the words that stayed, each
// with the stack on which it did so the most often.
func (w *growthWatch) keepers(f *ledger.Finding) []render.Stack {
	var out []render.Stack
	at := make(map[uint32]int)
	for _, s := range f.Kept { // the most frequent first
		group := w.sites.Group(s.Site)
		i, ok := at[group]
		if !ok {
			i = len(out)
			at[group] = i
			st := render.Stack{}
			if l, known := w.sites.Blamed(s.Site); known {
				st.By = l.String()
			}
			st.Frames, st.End = namedStack(w.sites, s.Site)
			out = append(out, st)
		}
		out[i].Share += s.Share
	}
	slices.SortStableFunc(out, func(a, b render.Stack) int { return cmp.Compare(b.Share, a.Share) })
	const most = 3
	return out[:min(len(out), most)]
}

// touchers are the functions that touch a group's memory, each once.
func (w *growthWatch) touchers(f *ledger.Finding) []render.Stack {
	shares := make(map[uint32]float64)
	for _, s := range f.Touched {
		shares[w.sites.Group(s.Site)] += s.Share
	}
	var out []render.Stack
	for id, share := range shares {
		s := render.Stack{Share: share}
		if l, ok := w.sites.Blamed(id); ok {
			s.Frames = []string{l.String()}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b render.Stack) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), slices.Compare(a.Frames, b.Frames))
	})
	const most = 5
	return out[:min(len(out), most)]
}

// blamed names the function that a site blames.
func (w *growthWatch) blamed(id uint32) string {
	if name, ok := w.blames[id]; ok {
		return name
	}
	name := "an unknown place"
	if l, ok := w.sites.Blamed(id); ok {
		name = l.String()
	}
	w.blames[id] = name
	return name
}

// subject is what a group's memory is called.
func subject(b *openBook, k growth.Key) string {
	switch k.What {
	case growth.Heap:
		return "[heap]"
	case growth.Stack:
		return "[stack]"
	case growth.File:
		return path.Base(k.Name)
	case growth.NamedAnon, growth.Pool:
		return k.Name
	case growth.Memfd:
		return "memfd " + strings.TrimSuffix(strings.TrimPrefix(k.Name, "/memfd:"), " (deleted)")
	case growth.Anon, growth.Arena, growth.ThreadStack, growth.Reserve:
	default:
		return k.What.String()
	}
	name := "[ anon ]"
	switch {
	case k.What != growth.Anon:
		name = k.What.String()
	case b.Label(k) != "":
		name = b.Label(k)
	case b.Role(k) == procmaps.RoleArena, b.Role(k) == procmaps.RoleThreadStack:
		name = b.Role(k).String()
	}
	switch {
	case k.Name != "":
		name += " at " + k.Name
	case k.Site == 0:
		name += " from before"
	}
	return name
}

// summary says how well the watch went.
func (w *growthWatch) summary() *render.GrowthSummary {
	r := w.tr.Report()
	st := w.sites.Stats()
	s := &render.GrowthSummary{
		Event: "summary", Time: time.Now(), Calls: r.Stats.Calls, Lost: r.Stats.Lost,
		Stacks: st.Stacks, Sites: st.Sites, Ends: make(map[string]uint64), Missing: make(map[string]uint64),
		Sampled: r.Stats.Faults, FilesDenied: st.Denied, Counting: "PAGEMAP_SCAN",
	}
	for end, n := range st.Ends {
		if n > 0 {
			s.Ends[stack.End(end).String()] = n
		}
	}
	if err := w.live.FaultsErr(); err != nil {
		s.Unseen = err.Error()
	}
	if c, err := w.live.StackCounters(); err == nil {
		s.Faults = c.Faults
		for why, n := range map[string]uint64{
			"passed over by chance": c.Chance, "no room in the ring": c.Dropped, "the CPU was at another": c.Busy,
		} {
			if n > 0 {
				s.Missing[why] = n
			}
		}
	}
	fates := w.fates
	for _, b := range w.books {
		if b.words != nil {
			fates.Add(b.words.keeper.Stats())
		}
	}
	s.Words = render.WordsObject(fates)
	cost := w.cost
	for _, b := range w.books {
		if b.pages != nil {
			cost.add(b.pages.residency)
		}
	}
	if cost.pagemap {
		s.Counting = "pagemap"
	}
	s.CountCalls, s.CountBusy, s.CountMost = cost.calls, cost.busy.Seconds(), cost.longest.Seconds()
	return s
}
