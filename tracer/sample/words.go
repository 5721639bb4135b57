//go:build linux

package sample

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/keeper"
)

// wordWatch is a process some of whose words are watched.
type wordWatch struct {
	run       *Sampler
	space     uint64
	process   *procmaps.Process
	residency *procmaps.Residency
	keeper    *keeper.Keeper
}

// watchedThread is a thread that watches a word.
type watchedThread struct {
	tracer.Watchpoint
	run *Sampler
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

// SettleFor is for how long a word must be left alone in a watch of a given length, 0
// for one without an end: long enough to tell what stays from what comes round again,
// and short enough for some words to do so.
func SettleFor(watch time.Duration) time.Duration {
	const parts, usual, least, most = 12, 5 * time.Second, time.Second, 10 * time.Second
	if watch == 0 {
		return usual
	}
	return min(max(watch/parts, least), most)
}

// watchWords prepares to watch words of a process.
func (s *Sampler) watchWords(pid int, space uint64) (_ *wordWatch, err error) {
	p, err := s.opts.FS.Process(pid)
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
	k := &wordWatch{run: s, space: space, process: p, residency: r}
	k.keeper = keeper.New(k, keeper.Options{
		Words: s.opts.Watchpoints, Settle: s.opts.Settle, Page: uint64(os.Getpagesize()), Seed: uint64(pid), Group: s.opts.Group,
	})
	return k, nil
}

func (k *wordWatch) close() error {
	return errors.Join(k.keeper.Close(), k.residency.Close(), k.process.Close())
}

// Now implements keeper.Target, as the next ones do.
func (k *wordWatch) Now() uint64 { return k.run.kernel.Now() }

func (k *wordWatch) Threads() ([]int, error) { return k.process.Threads() }

func (k *wordWatch) Births() (uint64, error) { return k.run.kernel.Births(k.space) }

func (k *wordWatch) Switches() (uint64, error) { return k.process.Switches() }

func (k *wordWatch) Count(ranges []procmaps.Range, out []procmaps.Resident) error {
	// A count that is not waited for goes on, with what is its own.
	ranges = slices.Clone(ranges)
	found, err := await.Do(k.run.opts.Calls, k.process.PID(), func() ([]procmaps.Resident, error) {
		found := make([]procmaps.Resident, len(ranges))
		return found, k.residency.Count(ranges, found)
	}, nil)
	copy(out, found)
	return err
}

func (k *wordWatch) Watch(tid int, addr uint64, most int) (keeper.Point, error) {
	if k.run.points >= mostPoints() {
		return nil, fmt.Errorf("half of all descriptors are used for it: %w (ulimit -n)", unix.EMFILE)
	}
	p, err := k.run.kernel.Watch(tid, addr, most)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, keeper.ErrEnded
	case errors.Is(err, unix.ENOSPC):
		return nil, keeper.ErrBusy
	case errors.Is(err, os.ErrPermission) && Paranoid(k.run.opts.FS):
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
func (s *Sampler) touched(t *target, c *tracer.Change) {
	if c.At.Kind == 0 || !s.opts.Doubtful(t.space, &c.At, c.Site) {
		return
	}
	s.heapTouched(t)
	s.mallocTouched(t)
	if s.opts.Watchpoints == 0 || t.unwatched || (t.heap != nil || t.profile != nil) && s.opts.Sampled(t.space, &c.At) {
		return
	}
	if t.words == nil {
		var err error
		if t.words, err = s.watchWords(t.pid, t.space); err != nil {
			if !errors.Is(err, procmaps.ErrGone) && !errors.Is(err, procmaps.ErrNoMemory) {
				t.unwatched = true
				s.tellUnwatched(t, err) // else it has ended, as will be told
			}
			return
		}
	}
	t.words.keeper.Touched(&c.At, s.opts.Reach(t.space, &c.At), c.Addr, s.kernel.Now())
}

// tellUnwatched tells why no words of a process are watched, nil if some are or may be,
// where that has changed.
func (s *Sampler) tellUnwatched(t *target, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	if why != t.told {
		t.told = why
		s.emit(t, s.kernel.Now(), event.Unwatched(why))
	}
}

// lookAtWords tells what became of words, when it is time.
func (s *Sampler) lookAtWords(now uint64) {
	if s.opts.Watchpoints == 0 || now < s.words {
		return
	}
	s.words = now + uint64(keeper.Every)
	for _, t := range s.spaces {
		if t.words == nil {
			continue
		}
		tree := s.opts.Trees(t.space)
		if tree == nil {
			continue
		}
		mapped := func(addr uint64) bool { _, ok := tree.At(addr); return ok }
		for _, o := range t.words.keeper.Look(now, mapped) {
			s.emit(t, now, o)
		}
		s.tellUnwatched(t, t.words.keeper.Err())
	}
}

// closeWords stops watching words of a process, and keeps what became of them.
func (s *Sampler) closeWords(t *target) {
	if t.words == nil {
		return
	}
	s.effort.Words = s.effort.Words.Plus(t.words.keeper.Stats())
	if err := t.words.close(); err != nil {
		s.opts.Log.Warn("stop watching words", "pid", t.pid, "error", err)
	}
	t.words = nil
}

// Paranoid tells whether perf_event_open(2) takes CAP_SYS_ADMIN here, as Debian and others
// have it.
func Paranoid(fs procmaps.FS) bool {
	n, err := fs.PerfEventParanoid()
	return err == nil && n > 2
}
