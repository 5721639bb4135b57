//go:build linux

package sample

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/resident"
	"github.com/maptrace/maptrace/tracer/space"
)

// limitsEvery is how often the limits of a process are read: it takes a whole read of
// its maps.
const limitsEvery = 10 * time.Second

// pageCount counts what is resident of one address space. The loop plans and observes;
// meanwhile a worker counts.
type pageCount struct {
	fs        procmaps.FS
	pid       int
	residency *procmaps.Residency
	set       *resident.Set
	why       string // everything is to be counted; "" for none
	todo      []procmaps.Range
	found     []procmaps.Resident
	before    uint64 // the RSS, before the counting and after it
	after     uint64
	summed    bool // they are known
	counted   bool
	observed  bool          // at least once
	busy      time.Duration // what the last counting took
}

// Why everything of a process is counted.
const (
	wholeBegin  = "at its beginning"
	wholeEnd    = "at the end of the watch"
	wholeLocked = "it locked its memory"
	wholeAdvice = "a process advised the kernel about another's memory"
	wholeMissed = "events were lost"
	wholeMany   = "more of it changed than is remembered"
	wholeLost   = "page faults of some process were not reported"
	wholeUnseen = "page faults are not reported"
	wholeNoSum  = "its RSS is not known"
	wholeSum    = "its RSS was another than what was counted"
)

// extents appends the ranges of a tree's extents to dst, in address order, but for those
// of the kernel.
func extents(dst []procmaps.Range, tree *space.Space) []procmaps.Range {
	for e := range tree.Extents(space.All) {
		if e.Kind != procmaps.KindSpecial {
			dst = append(dst, e.Range)
		}
	}
	return dst
}

// openJob opens what it takes to sample a process, and reads what is known at its
// beginning.
func (s *Sampler) openJob(t *target) func() func() {
	fs := s.opts.FS
	return func() func() {
		p, err := fs.Process(t.pid)
		var threads []procmaps.Thread
		var exe string
		var limits growth.Limits
		var pages *pageCount
		if err == nil {
			// Where they cannot be read, stacks of threads are found by their shape.
			threads, _ = p.ThreadInfo()
			exe, _ = p.Exe()
			limits = limitsOf(fs, p)
			pages, err = openPages(fs, p, s.kernel.PieceBytes())
			_ = p.Close() // it was only read
		}
		return func() {
			t.pages = pages
			if t.gone {
				return
			}
			now := s.kernel.Now()
			t.limit = now + uint64(limitsEvery)
			s.emit(t, now, event.Threads(threads))
			s.emit(t, now, event.Executable(exe))
			s.emit(t, now, event.Limits(limits))
			if err != nil {
				s.uncounted(t, now, err)
			}
		}
	}
}

// titleOf is what a process has written over its arguments, "" if that is none: one text,
// which begins with a name and a colon, as setproctitle(3) has it.
func titleOf(p *procmaps.Process) string {
	const most = 80 // bytes
	line, err := p.Cmdline()
	if err != nil {
		return ""
	}
	text := strings.TrimRight(string(line), "\x00 ")
	name, rest, ok := strings.Cut(text, ": ")
	if !ok || rest == "" || strings.ContainsAny(name, "/ \x00") || strings.Contains(rest, "\x00") {
		return ""
	}
	return text[:min(len(text), most)]
}

// openPages has the errors of [procmaps.Process.OpenResidency]. It holds one
// descriptor: there may be hundreds of processes.
func openPages(fs procmaps.FS, p *procmaps.Process, piece uint64) (*pageCount, error) {
	r, err := p.OpenResidency()
	if err != nil {
		return nil, err
	}
	return &pageCount{fs: fs, pid: p.PID(), residency: r, set: resident.New(piece), why: wholeBegin}, nil
}

// uncounted says why the resident pages of a process are not counted; of one that is
// gone there is nothing to say.
func (s *Sampler) uncounted(t *target, now uint64, err error) {
	if errors.Is(err, procmaps.ErrGone) || errors.Is(err, procmaps.ErrNoMemory) {
		return
	}
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: that needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", err)
	}
	s.opts.Log.Warn("count resident pages", "pid", t.pid, "error", err)
	s.emit(t, now, event.Uncounted(err.Error()))
}

// countJob counts, and reads the limits if they are wanted, and the account if it was begun.
func (s *Sampler) countJob(t *target, limits bool, begun *accountBegin) func() func() {
	fs, pages, account := s.opts.FS, t.pages, begun != nil
	fork := t.account.fork
	t.account.fork = fork && !account
	return func() func() {
		pages.count()
		var ls growth.Limits
		var title string
		var charged *accountRead
		if limits || account {
			if p, err := fs.Process(t.pid); err == nil {
				if limits {
					ls, title = limitsOf(fs, p), titleOf(p)
				}
				if account {
					charged = t.account.read(fs, p, &s.segments, fork, s.opts.Budget)
				}
				_ = p.Close() // it was only read
			}
		}
		return func() {
			if t.gone {
				return
			}
			now := s.kernel.Now()
			if ls != nil {
				s.emit(t, now, event.Limits(ls))
			}
			if title != "" {
				s.emit(t, now, event.Title(title))
			}
			if charged != nil {
				t.account.due = now + max(uint64(s.opts.Interval)/2, uint64(float64(begun.took+charged.took)*max(1/accountShare, float64(len(s.spaces))/accountsShare)))
				charged.Slack, charged.Before, charged.Moved = s.slack, begun.total, t.moved
				charged.Held = charged.held(s.opts.Trees(t.space))
				s.emit(t, now, charged.Account)
			}
			if totals := pages.observe(s.slack); totals != nil {
				s.emit(t, now, event.Resident(totals))
			}
			// What took long is not done again soon.
			t.due = now + max(uint64(s.opts.Interval), uint64(float64(pages.busy)/s.opts.Budget))
		}
	}
}

// forget has everything counted at the next look.
func (n *pageCount) forget(why string) {
	n.set.Forget()
	n.why = cmp.Or(n.why, why)
}

// plan begins a look, and tells whether the extents are others than at the last. It
// counts in whole why everything is to be counted, if so. Scratch is for the extents.
func (n *pageCount) plan(tree *space.Space, scratch *[]procmaps.Range, whole map[string]uint64) bool {
	if n.todo = n.todo[:0]; n.counted && n.set.Rest() {
		return false
	}
	*scratch = extents((*scratch)[:0], tree)
	if n.todo = n.set.Plan(n.todo, *scratch); n.set.Whole() {
		whole[cmp.Or(n.why, wholeMany)]++
		n.why = ""
	}
	return true
}

// change takes a change of the address space.
func (n *pageCount) change(c *tracer.Change) {
	if c.Kind == tracer.KindCall && c.Call.Sub == space.SubMlockall {
		n.forget(wholeLocked) // it brings pages in everywhere
	}
	n.set.Change(c)
}

// count counts. It may take long. If it fails, the process is gone or has another
// image by now. Where there is nothing to count, the sum may still tell that pages
// were taken away or brought in by others.
func (n *pageCount) count() {
	began := threadTime()
	defer func() { n.busy = threadTime() - began }()
	n.before, n.summed = n.rss()
	n.after = n.before
	if n.counted = len(n.todo) == 0; n.counted {
		return
	}
	n.found = slices.Grow(n.found[:0], len(n.todo))[:len(n.todo)]
	if n.counted = n.residency.Count(n.todo, n.found) == nil; n.counted && n.summed {
		n.after, n.summed = n.rss()
	}
}

// rss is the sum that the kernel keeps. It is not known where no descriptor is left
// to read it with, nor of a process whose leader has ended.
func (n *pageCount) rss() (bytes uint64, known bool) {
	bytes, err := n.fs.RSS(n.pid)
	return bytes, err == nil && bytes > 0
}

// observe ends a look, and returns what is resident of each extent, nil if it could not
// be counted. The RSS may be wrong by slack, in bytes.
func (n *pageCount) observe(slack uint64) []procmaps.Resident {
	if !n.counted {
		return nil
	}
	if len(n.todo) > 0 {
		n.set.Counted(n.found)
	}
	if n.summed {
		if !n.set.Check(n.before, n.after, slack) {
			n.why = cmp.Or(n.why, wholeSum)
		}
	} else {
		n.forget(wholeNoSum) // nothing tells what the kernel takes away
	}
	totals := n.set.Totals(nil)
	n.observed = true
	n.release()
	return totals
}

// release gives up what a look takes, if that is much: it is not in use most of the time,
// and there may be hundreds of processes.
func (n *pageCount) release() {
	const much = 1 << 10 // extents
	if cap(n.todo) > much {
		n.todo, n.found = nil, nil
	}
	n.set.Release(much)
}

// cost adds what counting has cost.
func (n *pageCount) cost(e *event.Effort) {
	c := n.residency.Cost()
	e.CountCalls += c.Calls
	e.CountBusyNs += uint64(c.Busy)
	e.CountMostNs = max(e.CountMostNs, uint64(c.Longest))
	e.Pagemap = e.Pagemap || !n.residency.Scans()
}

// closePages closes what counts, and keeps what it has cost.
func (s *Sampler) closePages(t *target) error {
	if t.pages == nil {
		return nil
	}
	t.pages.cost(&s.effort)
	err := t.pages.residency.Close()
	t.pages = nil
	return err
}

// rssSlack is by how many bytes each of the three counters may be wrong that the kernel
// sums up: each CPU keeps some pages to itself (lib/percpu_counter.c:
// percpu_counter_batch). That two are wrong by that much at once has all counted again.
// Before 6.2 each thread does, up to 64: if there are very many, all is counted more often
// than needed.
func rssSlack(cpus int) uint64 {
	return uint64(cpus * max(32, 2*cpus) * os.Getpagesize())
}

// onlineCPUs is how many CPUs the machine has, whichever of them we may use.
func onlineCPUs() int {
	data, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	return max(cpusOf(string(data)), runtime.NumCPU())
}

// cpusOf counts the CPUs of a list as the kernel prints it: 0-3,8.
func cpusOf(list string) (n int) {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		from, e := strconv.Atoi(first)
		to, err := strconv.Atoi(last)
		const most = 1 << 16 // Linux has no more
		if e == nil && err == nil && 0 <= from && from <= to && to < most {
			n += to - from + 1
		}
	}
	return n
}

// addressSpace is how much a process can address of whom the stack, or something that is mapped
// near it, ends there: the kernel puts these at the end of a power of two.
func addressSpace(end uint64) uint64 { return 1 << bits.Len64(max(end, 1)-1) }

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
	most := func(name string, m growth.Measure, used, limit uint64) {
		if limit != procmaps.Unlimited {
			ls = append(ls, growth.Limit{Name: name, Measure: m, Used: used, Max: limit})
		}
	}
	if r, err := p.Rlimits(); err == nil {
		most(growth.RlimitAS, growth.Mapped, st.VmSizeKB<<10, r.AddressSpace)
		most(growth.RlimitData, growth.Writable, st.VmDataKB<<10, r.Data)
		most(growth.RlimitMemlock, growth.Unmeasured, st.VmLckKB<<10, r.Locked)
	}
	if used, limit, err := fs.Commitment(); err == nil {
		most(growth.Overcommit, growth.Unmeasured, used, limit)
	}
	// The kernel counts its VMAs, of which one of our regions may be several.
	if n, err := fs.MaxMapCount(); err == nil {
		var rows, end uint64
		if _, err := p.ScanMaps(func(n int, m *procmaps.Mapping) error {
			rows = uint64(n) + 1
			if m.Mode&procmaps.Perm != procmaps.Exec { // that is the page of vsyscalls
				end = max(end, m.End)
			}
			return nil
		}); err == nil {
			ls = append(ls,
				growth.Limit{Name: growth.MaxMapCount, Measure: growth.Mappings, Used: rows, Max: uint64(n)},
				growth.Limit{Name: growth.AddressSpace, Measure: growth.Mapped, Used: st.VmSizeKB << 10, Max: addressSpace(end)})
		}
	}
	return ls
}
