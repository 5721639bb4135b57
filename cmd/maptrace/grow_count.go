package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/ledger"
	"github.com/maptrace/maptrace/tracer/resident"
	"github.com/maptrace/maptrace/tracer/space"
)

// counting is what it cost to count resident pages.
type counting struct {
	calls         uint64
	busy, longest time.Duration
	pagemap       bool // somewhere without PAGEMAP_SCAN
}

func (c *counting) add(r *procmaps.Residency) {
	cost := r.Cost()
	c.calls += cost.Calls
	c.busy += cost.Busy
	c.longest = max(c.longest, cost.Longest)
	c.pagemap = c.pagemap || !r.Scans()
}

// pageCount counts what is resident of one address space. The loop plans and
// observes; meanwhile the counter counts.
type pageCount struct {
	fs        procmaps.FS
	pid       int
	residency *procmaps.Residency
	set       *resident.Set
	ranges    []procmaps.Range
	todo      []procmaps.Range
	found     []procmaps.Resident
	totals    []uint64
	before    uint64 // the RSS, before the counting and after it
	after     uint64
	summed    bool // they are known
	counted   bool
}

// newPageCount has the errors of [procmaps.Process.OpenResidency]. It holds one
// descriptor: there may be hundreds of processes.
func newPageCount(fs procmaps.FS, p *procmaps.Process) (*pageCount, error) {
	r, err := p.OpenResidency()
	if err != nil {
		return nil, err
	}
	return &pageCount{fs: fs, pid: p.PID(), residency: r, set: resident.New(bpf.PieceBytes())}, nil
}

func (n *pageCount) close() error { return n.residency.Close() }

// plan begins a look.
func (n *pageCount) plan(b *ledger.Book, tree *space.Space) {
	if n.todo = n.todo[:0]; n.counted && n.set.Rest() {
		return
	}
	n.ranges = b.Ranges(n.ranges[:0], tree, nil)
	n.todo = n.set.Plan(n.todo, n.ranges)
}

// count counts. It may take long. If it fails, the process is gone or has another
// image by now. Where there is nothing to count, the sum may still tell that pages
// were taken away or brought in by others.
func (n *pageCount) count() {
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

// observe ends a look. The RSS may be wrong by slack, in bytes.
func (n *pageCount) observe(b *ledger.Book, now, slack uint64) {
	if !n.counted {
		return
	}
	if len(n.todo) > 0 {
		n.set.Counted(n.found)
	}
	if n.summed {
		n.set.Check(n.before, n.after, slack)
	} else {
		n.set.Forget() // nothing tells what the kernel takes away
	}
	n.totals = n.set.Totals(n.totals[:0])
	b.Observe(now, n.ranges, n.totals)
}

// rssSlack is by how many bytes the kernel's own sum may be wrong: each CPU keeps
// some pages to itself (lib/percpu_counter.c: percpu_counter_batch). Before 6.2 each
// thread does, up to 64: if there are very many, all is counted more often than needed.
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

// elsewhere tells whether a call may have changed what is resident of a process at
// places that its record does not tell.
func elsewhere(c *tracer.Change) bool {
	return c.Kind == tracer.KindCall && (c.Call.Sub == space.SubMlockall || c.Call.Sub == space.SubProcessMadvise)
}

// forgetPages has everything counted at the next look.
func (w *growthWatch) forgetPages() {
	for _, b := range w.books {
		if b.pages != nil {
			b.pages.set.Forget()
		}
	}
}

// takeTouches takes over where page faults have been. If that is not known all is
// counted again.
func (w *growthWatch) takeTouches() {
	if w.o.faultRate == 0 || w.live.FaultsErr() != nil {
		w.forgetPages()
		return
	}
	var err error
	w.touches, err = w.live.Touched(w.touches[:0])
	c, e := w.live.StackCounters()
	if err = errors.Join(err, e); err != nil {
		w.log.Warn("read where page faults were", "error", err)
	}
	if err != nil || c.Touches != w.untold {
		w.untold = c.Touches
		w.forgetPages()
	}
	for _, t := range w.touches {
		if b := w.books[t.Space]; b != nil && b.pages != nil {
			b.pages.set.Touch(t.Addr)
		}
	}
}

// closePages closes what counts, and keeps what it has cost.
func (w *growthWatch) closePages(b *openBook) {
	if b.pages == nil {
		return
	}
	w.cost.add(b.pages.residency)
	_ = b.pages.close() // it was only read
	b.pages = nil
}

// uncounted says why the resident pages of a process are not counted; "" for one
// that is gone, of which there is nothing to say.
func (w *growthWatch) uncounted(pid int, err error) string {
	if errors.Is(err, procmaps.ErrGone) || errors.Is(err, procmaps.ErrNoMemory) {
		return ""
	}
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: that needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", err)
	}
	w.log.Warn("count resident pages", "pid", pid, "error", err)
	return err.Error()
}

// counter counts resident pages beside the loop.
type counter struct {
	jobs chan []*openBook
	done chan counted
	wait sync.WaitGroup
}

type counted struct {
	books []*openBook
	busy  time.Duration // CPU time of the kernel and ours, for the one that took the most
}

func newCounter() *counter {
	c := &counter{jobs: make(chan []*openBook), done: make(chan counted, 1)} // the loop is not waited for
	c.wait.Go(func() {
		// The time of this thread is what counts: on a busy machine it waits for
		// others most of the time.
		runtime.LockOSThread()
		for books := range c.jobs {
			out := counted{books: books}
			for _, b := range books {
				before := threadTime()
				if b.pages != nil {
					b.pages.count()
				}
				out.busy = max(out.busy, threadTime()-before)
			}
			c.done <- out
		}
	})
	return c
}

func (c *counter) stop() {
	close(c.jobs)
	c.wait.Wait()
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0 // it cannot fail: the clock has been there since 2.6.12
	}
	return time.Duration(ts.Nano())
}
