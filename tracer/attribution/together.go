package attribution

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
)

// Group is what is found of several processes together: of all that are traced, or of a
// cgroup.
type Group struct {
	Name    string // of the cgroup; "" for all processes
	Watched time.Duration
	Ticks   int // how often it was observed
	// Before and Now are how many processes there were at first, and are.
	Before, Now int
	// First and Last are what the cgroup was charged for at first, and is.
	First, Last procmaps.GroupMemory
	// Anon and Shmem are what of the cgroup's charges its processes have, each by its own figures:
	// what several share counts for each of them. They are 0 if several cgroups are watched.
	Anon, Shmem uint64
	// Elsewhere is what is of none of the processes that are watched, at least; 0 if that is little,
	// or not known.
	Elsewhere Unowned
	// Files are those that its processes have open of which there is most more in the page cache
	// than at first, if that is growing.
	Files    []FileGrowth
	Findings []Finding // the worst first: those of all processes only if they tell more than the processes' own
}

// FileGrowth is what of a file is in the page cache, and by how much that has grown, in bytes.
type FileGrowth struct {
	procmaps.CachedFile
	Grown uint64
}

// Grows tells whether anything was found to grow.
func (g *Group) Grows() bool { return len(g.Findings) > 0 && g.Findings[0].Label >= growth.Retained }

// Unowned is anonymous memory, and shared memory and tmpfs, that a cgroup is charged for and no
// process has, in bytes.
type Unowned struct{ Anon, Shmem uint64 }

// crowd is all traced processes, by their names: a program may grow by having ever more
// children, none of which does.
type crowd struct {
	watch       *growth.Watch
	began, next uint64 // CLOCK_MONOTONIC, ns
	last        uint64
	first       map[string]int // processes, by name
	made        makers[int]    // of processes, during the watch
	stocks      stocks         // of what they have, by who has made them
}

// leastCrowd is the least that processes grow by together that is worth telling, in bytes, and
// leastCrowdShare as a part of what they have.
const leastCrowd, leastCrowdShare = 1 << 20, 0.05

// family is what processes are called, without their numbers.
func family(comm string) string {
	if name := strings.TrimRight(comm, "0123456789"); name != "" && name != comm {
		return name + "*"
	}
	return comm
}

// observe adds up what the processes have to themselves, at most once an interval.
func (g *Growth) observeCrowd(at uint64) {
	c := &g.crowd
	if c.next == 0 { // so that all of the beginning are there at the first look
		c.next = at + uint64(g.opts.Interval)
	}
	if at < c.next {
		return
	}
	for _, site := range c.made.of {
		g.opts.Names.Use(site)
	}
	holdings, by := make(map[growth.Key]growth.Holding), make(map[growth.Key]map[uint32]uint64)
	for _, w := range g.spaces {
		if w.exited || !w.charges.known {
			continue
		}
		k, own := growth.Key{What: growth.Processes, Name: family(w.comm)}, w.charges.own()
		holdings[k] = holdings[k].Plus(growth.Holding{Resident: own})
		if by[k] == nil {
			by[k] = make(map[uint32]uint64)
		}
		by[k][c.made.of[w.pid]] += own
	}
	c.stocks.look(at, by)
	if c.watch == nil {
		c.watch, c.began, c.first = growth.NewWatch(growth.Options{Share: g.opts.Memory.Series, MinGrowth: leastCrowd, MinShare: leastCrowdShare}), at, g.count()
	}
	c.watch.Observe(time.Duration(at-c.began), holdings, nil)
	c.last, c.next = at, at+uint64(g.opts.Interval)
}

// count is how many processes there are, by name.
func (g *Growth) count() map[string]int {
	n := make(map[string]int)
	for _, w := range g.spaces {
		if !w.exited {
			n[family(w.comm)]++
		}
	}
	return n
}

// own is what a process has to itself: pages that no other maps, as far as a sum of them is
// known, and else all that are anonymous; and what is swapped out, and page tables.
func (c *charges) own() uint64 {
	anon := func(b *event.Account) uint64 { return b.Anon + b.Swapped }
	own := anon(&c.last)
	if was := &c.summed; was.Summed {
		own = was.Private + was.Swapped + own - min(own, anon(was))
	}
	return own + c.last.PageTables + c.last.Hugetlb
}

// together is what is found of all processes, nil if it is no more than what is found of
// each.
func (g *Growth) together(processes []Process) *Group {
	c := &g.crowd
	if c.watch == nil {
		return nil
	}
	grows := make(map[string]bool)
	for i := range processes {
		if p := &processes[i]; p.Grows() {
			grows[family(p.Comm)] = true
		}
	}
	counts := g.count()
	out := &Group{Watched: time.Duration(c.last - c.began), Ticks: c.watch.Ticks(), Before: sum(c.first), Now: sum(counts)}
	for _, f := range c.watch.Findings() {
		before, now := c.first[f.Name], counts[f.Name]
		if f.Label < growth.Grows || max(before, now) < 2 || now <= before && grows[f.Name] {
			continue
		}
		subject := fmt.Sprintf("%s \"%s\"", units.Count(uint64(now), "process"), f.Name) // escaped with the rest
		if now != before {
			subject += fmt.Sprintf(" (%d at first)", before)
		}
		found := Finding{Evidence: Evidence{Finding: f}, Subject: subject}
		if now > before {
			g.parents(&found)
		}
		out.Findings = append(out.Findings, found)
	}
	if len(out.Findings) == 0 {
		return nil
	}
	return out
}

// parents says who has made the processes that those of a name grow by, as far as that is
// known: one function is named only if it has made nearly all of what they have more.
func (g *Growth) parents(f *Finding) {
	there := make(map[int]uint64)
	for _, w := range g.spaces {
		if !w.exited && family(w.comm) == f.Name {
			there[w.pid] = 1
		}
	}
	c := &g.crowd
	gains, grown := c.stocks.gains(f.Key, c.began+uint64(f.Finding.From), c.began+uint64(f.To))
	m := maker(c.made.fates(there, gains), gains[0], grown, g.namer.Path)
	if m == nil {
		return
	}
	f.From = g.namer.PlaceName(m.Site, m.Depth)
	sites := make(map[uint32]uint64)
	for site, bytes := range gains {
		if site != 0 && bytes > 0 {
			sites[site] = uint64(bytes)
		}
	}
	f.Made, _ = g.namer.callers(sites)
}

func sum(of map[string]int) (n int) {
	for _, more := range of {
		n += more
	}
	return n
}

// cgroup is what one cgroup is charged for.
type cgroup struct {
	watch       *growth.Watch
	began, last uint64
	first, now  procmaps.GroupMemory
	anon, shmem uint64 // what of these its processes had then
	charged     []charged
	unowned     []Unowned // what none had, at the last readings at which that was known
	// What of files was in the page cache when they were looked at first; and is.
	before map[procmaps.FileID]uint64
	files  []procmaps.CachedFile
}

// mostFiles is of how many files of a cgroup it is kept what was in the page cache at first.
const mostFiles = 1 << 14

// cached takes what of files is in the page cache now. What is opened later has had as much
// before as is known: all that it has is more.
func (c *cgroup) cached(files []procmaps.CachedFile) {
	if files == nil {
		return
	}
	c.files = files
	if c.before != nil {
		return
	}
	c.before = make(map[procmaps.FileID]uint64)
	for _, f := range files[:min(len(files), mostFiles)] {
		c.before[f.FileID] = f.Bytes
	}
}

// grownFiles are those of which the most has come into the page cache.
func (c *cgroup) grownFiles() (out []FileGrowth) {
	const least, most = 1 << 20, 3
	for _, f := range c.files {
		if was := c.before[f.FileID]; f.Bytes >= was+least {
			out = append(out, FileGrowth{f, f.Bytes - was})
		}
	}
	slices.SortStableFunc(out, func(a, b FileGrowth) int { return cmp.Compare(b.Grown, a.Grown) })
	return out[:min(len(out), most)]
}

func (g *Growth) group(at uint64, b *event.Group) {
	c := g.groups[b.Name]
	if c == nil {
		c = &cgroup{watch: growth.NewWatch(growth.Options{Share: g.opts.Memory.Series}), began: at, first: b.GroupMemory}
		g.groups[b.Name] = c
	}
	c.now, c.last = b.GroupMemory, at
	g.settled(c)
	c.cached(b.Files)
	c.watch.Observe(time.Duration(at-c.began), map[growth.Key]growth.Holding{
		{What: growth.GroupAnon}:    {Resident: b.Anon, Swapped: b.Swap},
		{What: growth.PageCache}:    {Resident: b.File},
		{What: growth.GroupShmem}:   {Resident: b.Shmem},
		{What: growth.KernelMemory}: {Resident: b.Kernel},
		{What: growth.Sockets}:      {Resident: b.Sock},
	}, nil)
}

// charged is what a cgroup was charged for at a time.
type charged struct {
	at          uint64
	anon, shmem uint64
}

// mostCharged readings are kept of what a cgroup is charged for, and so many of the last must agree
// that some of it is of no process: the kernel's own sums are some seconds old.
const mostCharged, mustAgree = 64, 5

// settled compares what a cgroup is charged for with what its processes have. Their figures are
// older, some more than others: what they lack is the least that it was charged for since the
// oldest of them was read.
func (g *Growth) settled(c *cgroup) {
	c.charged = append(c.charged[max(0, len(c.charged)-mostCharged+1):], charged{c.last, c.now.Anon, c.now.Shmem})
	c.anon, c.shmem = 0, 0
	if len(g.groups) > 1 { // whose a process is, is not known
		c.unowned = nil
		return
	}
	oldest, wrong, known, partial := c.last, uint64(0), true, false
	for _, w := range g.spaces {
		if w.exited {
			continue
		}
		ch := &w.charges
		known, partial = known && ch.known, partial || ch.last.Partial
		oldest, wrong = min(oldest, ch.at), wrong+ch.last.Slack
		c.anon += ch.last.Anon
		c.shmem += ch.last.Shmem
		for i := range ch.last.Held {
			c.shmem += ch.last.Held[i].Bytes()
		}
	}
	if !known || c.charged[0].at > oldest {
		c.unowned = nil
		return
	}
	least := charged{anon: c.now.Anon, shmem: c.now.Shmem}
	for _, was := range slices.Backward(c.charged) {
		least.anon, least.shmem = min(least.anon, was.anon), min(least.shmem, was.shmem)
		if was.at <= oldest {
			break
		}
	}
	none := Unowned{Anon: least.anon - min(least.anon, c.anon+wrong), Shmem: least.shmem - min(least.shmem, c.shmem+wrong)}
	if partial {
		none.Shmem = 0
	}
	c.unowned = append(c.unowned[max(0, len(c.unowned)-mustAgree+1):], none)
}

// elsewhere is what is of no process.
func (c *cgroup) elsewhere() (out Unowned) {
	const least, part = 1 << 20, 50
	if len(c.unowned) < mustAgree {
		return Unowned{}
	}
	out = c.unowned[0]
	for _, u := range c.unowned {
		out.Anon, out.Shmem = min(out.Anon, u.Anon), min(out.Shmem, u.Shmem)
	}
	if out.Anon < max(least, c.now.Anon/part) {
		out.Anon = 0
	}
	if out.Shmem < max(least, c.now.Shmem/part) {
		out.Shmem = 0
	}
	return out
}

// judge takes back the verdict that a cgroup leaks what the kernel may drop, and that what
// goes with the rest grows: page tables, and what it takes to find pages of files.
func (c *cgroup) judge(f *growth.Finding) {
	const most, beside = 0.5, 100
	more := func(now, before uint64) float64 { return float64(now) - float64(before) }
	if f.Label < growth.Grows {
		return
	}
	note := func(kind growth.NoteKind) {
		f.Label = growth.Grows
		f.Reason = append(f.Reason, growth.Note{Kind: kind})
	}
	switch f.What {
	case growth.PageCache:
		// What is locked may be of processes as well.
		others := max(0, more(c.now.Anon, c.first.Anon)) + max(0, more(c.now.Shmem, c.first.Shmem))
		if fixed := min(more(c.now.Unevictable, c.first.Unevictable)-others, f.Growth); fixed >= most*f.Growth {
			f.Reason = append(f.Reason, growth.Note{Kind: growth.Unevictable, Size: fixed})
			return
		}
		note(growth.CanBeDropped)
	case growth.KernelMemory:
		slab := more(c.now.Reclaimable, c.first.Reclaimable)
		switch {
		case beside*f.Growth <= more(c.now.Used, c.first.Used):
			note(growth.AsNeeded)
			f.Label = growth.Steady
		case c.now.Reclaimable == 0:
			note(growth.MayShrink)
		case slab >= most*f.Growth:
			note(growth.CanShrink)
		}
	}
}

// Groups are what is found of processes together: of each cgroup that is watched, and of all
// processes if that is more than what is found of each.
func (g *Growth) Groups(processes []Process) (out []Group) {
	for name, c := range g.groups {
		group := Group{Name: name, Watched: time.Duration(c.last - c.began), Ticks: c.watch.Ticks(), First: c.first, Last: c.now, Anon: c.anon, Shmem: c.shmem, Elsewhere: c.elsewhere()}
		found := c.watch.Findings()
		for i := range found {
			c.judge(&found[i])
		}
		growth.Sort(found)
		for _, f := range found {
			if f.What == growth.PageCache && f.Label >= growth.Grows {
				group.Files = c.grownFiles()
			}
			group.Findings = append(group.Findings, Finding{Evidence: Evidence{Finding: f}, Subject: f.What.String() + " of the cgroup"})
		}
		out = append(out, group)
	}
	slices.SortFunc(out, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	if all := g.together(processes); all != nil {
		out = append(out, *all)
	}
	return out
}
