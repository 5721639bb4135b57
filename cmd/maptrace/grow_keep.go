package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/keeper"
)

// wordWatch is a process some of whose words are watched.
type wordWatch struct {
	run       *growthWatch
	space     uint64
	process   *procmaps.Process
	residency *procmaps.Residency
	keeper    *keeper.Keeper
}

// watchedThread is a thread that watches a word.
type watchedThread struct {
	*bpf.Watchpoint
	run *growthWatch
}

func (t *watchedThread) Close() error {
	t.run.points--
	return t.Watchpoint.Close()
}

// mostPoints is how many threads may watch a word at once, of all processes: each takes
// two descriptors, and half of those that we may have are for everything else.
func mostPoints() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<20) / 4)
}

// settleFor is for how long a word must be left alone in a watch of a given length, 0
// for one without an end: long enough to tell what stays from what comes round again,
// and short enough for some words to do so.
func settleFor(watch time.Duration) time.Duration {
	const parts, usual, least, most = 12, 5 * time.Second, time.Second, 10 * time.Second
	if watch == 0 {
		return usual
	}
	return min(max(watch/parts, least), most)
}

// watchWords prepares to watch words of a process.
func (w *growthWatch) watchWords(pid int, space uint64) (_ *wordWatch, err error) {
	p, err := w.fs.Process(pid)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	r, err := p.OpenResidency()
	if err != nil {
		return nil, err
	}
	r.Pause = 0 // it is some pages at a time
	k := &wordWatch{run: w, space: space, process: p, residency: r}
	k.keeper = keeper.New(k, keeper.Options{
		Words: w.o.watchpoints, Settle: settleFor(w.o.duration), Page: uint64(os.Getpagesize()), Seed: uint64(pid), Group: w.sites.Group,
	})
	return k, nil
}

func (k *wordWatch) close() error {
	return errors.Join(k.keeper.Close(), k.residency.Close(), k.process.Close())
}

// Now implements keeper.Target, as the next ones do.
func (k *wordWatch) Now() uint64 { return k.run.live.Now() }

func (k *wordWatch) Threads() ([]int, error) { return k.process.Threads() }

func (k *wordWatch) Births() (uint64, error) { return k.run.live.Births(k.space) }

func (k *wordWatch) Switches() (uint64, error) { return k.process.Switches() }

func (k *wordWatch) Count(ranges []procmaps.Range, out []procmaps.Resident) error {
	return k.residency.Count(ranges, out)
}

func (k *wordWatch) Watch(tid int, addr uint64, most int) (keeper.Point, error) {
	if k.run.points >= mostPoints() {
		return nil, fmt.Errorf("half of all descriptors are used for it: %w (ulimit -n)", unix.EMFILE)
	}
	p, err := k.run.live.Watch(tid, addr, most)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, keeper.ErrEnded
	case errors.Is(err, unix.ENOSPC):
		return nil, keeper.ErrBusy
	case errors.Is(err, os.ErrPermission) && paranoid(k.run.fs):
		return nil, errors.New("kernel.perf_event_paranoid is above 2, so that it takes CAP_SYS_ADMIN all the time: --watchpoints 4 keeps that; or set it to 2")
	case errors.Is(err, unix.EMFILE):
		return nil, fmt.Errorf("%w (ulimit -n)", err)
	case err != nil:
		return nil, err
	}
	k.run.points++
	return &watchedThread{p, k.run}, nil
}

// touched is told of a page fault in a process: where it is doubtful who keeps the
// memory, words of it are watched.
func (w *growthWatch) touched(b *openBook, c *tracer.Change) {
	if w.o.watchpoints == 0 || b.exited || b.unwatched != "" || !b.Doubtful(&c.At, c.Site) {
		return
	}
	if b.words == nil {
		var err error
		if b.words, err = w.watchWords(b.pid, c.Space); err != nil {
			if !errors.Is(err, procmaps.ErrGone) && !errors.Is(err, procmaps.ErrNoMemory) {
				b.unwatched = err.Error() // else it has ended, as will be told
			}
			return
		}
	}
	b.words.keeper.Touched(&c.At, b.Reach(&c.At), c.Addr, w.live.Now())
}

// lookAtWords books what became of words, when it is time.
func (w *growthWatch) lookAtWords() {
	if w.o.watchpoints == 0 {
		return
	}
	now := w.live.Now()
	if now < w.words {
		return
	}
	w.words = now + uint64(keeper.Every)
	if !w.watchesWords() {
		return
	}
	r := w.tr.Report()
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		b := w.books[sp.Process.Space]
		if b == nil || b.words == nil {
			continue
		}
		mapped := func(addr uint64) bool { _, ok := sp.Tree.At(addr); return ok }
		for _, f := range b.words.keeper.Look(now, mapped) {
			b.Fate(&f.In, f.First, f.Site)
		}
	}
}

// watchesWords tells whether words of any process are watched.
func (w *growthWatch) watchesWords() bool {
	for _, b := range w.books {
		if b.words != nil {
			return true
		}
	}
	return false
}

// closeWords stops watching words of a process, and keeps what became of them.
func (w *growthWatch) closeWords(b *openBook) {
	if b.words == nil {
		return
	}
	w.fates.Add(b.words.keeper.Stats())
	if err := b.words.keeper.Err(); err != nil && b.unwatched == "" {
		b.unwatched = err.Error()
	}
	if err := b.words.close(); err != nil {
		w.log.Warn("stop watching words", "pid", b.pid, "error", err)
	}
	b.words = nil
}

// paranoid tells whether perf_event_open(2) takes CAP_SYS_ADMIN here, as Debian and others
// have it.
func paranoid(fs procmaps.FS) bool {
	n, err := fs.PerfEventParanoid()
	return err == nil && n > 2
}
