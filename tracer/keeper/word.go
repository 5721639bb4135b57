package keeper

import (
	"errors"
	"fmt"

	"github.com/maptrace/maptrace/tracer/space"
)

// word is a word that is watched.
type word struct {
	addr   uint64
	in     space.Extent
	points map[int]Point // by thread
	since  uint64        // when it was first watched, ns
	first  uint64        // when it was first written to, 0 if it was not
	by     uint32        // the group that did
	passed bool          // there are enough of its stratum
	last   uint64        // when it was last written to
	site   uint32        // by whom; 0 if that is not known
	gap    uint64        // until when writes may have been missed
	told   uint64        // writes
	past   uint64        // writes of points that were closed
	spent  int           // how often the writes that may be told were used up
}

func (w *word) close() error {
	var errs []error
	for _, p := range w.points {
		errs = append(errs, p.Close())
	}
	w.points = nil
	return errors.Join(errs...)
}

// arm watches a word in all threads that do not watch it.
func (k *Keeper) arm(w *word) error {
	if k.threads == nil { // once for all words
		tids, err := k.target.Threads()
		if err != nil {
			return err
		}
		k.threads = tids
	}
	if n := len(k.threads); n > k.opts.Threads {
		return fmt.Errorf("it has %d threads, and more than %d are too many", n, k.opts.Threads)
	}
	for _, tid := range k.threads {
		if w.points[tid] != nil {
			continue
		}
		p, err := k.target.Watch(tid, w.addr, most)
		if errors.Is(err, ErrEnded) {
			continue
		}
		if err != nil {
			return err
		}
		w.points[tid] = p
	}
	return nil
}

// judge tells which of the figures a word belongs to, nil if it is not decided.
func (k *Keeper) judge(w *word, now uint64, mapped func(addr uint64) bool) (*uint64, error) {
	settle := k.settle
	page := w.addr &^ (k.opts.Page - 1)
	writes, spent, err := w.writes()
	if err == nil && k.born {
		// What the new threads have written before they are watched is not known.
		err = k.rearm(w, nil)
	}
	switch {
	case err != nil:
		return nil, err
	case !mapped(w.addr), w.first != 0 && k.absent(page):
		return &k.stats.Returned, nil
	case len(spent) > 0:
		if w.spent++; w.spent > mostSpent {
			return &k.stats.Rewritten, nil
		}
		return nil, k.rearm(w, spent)
	case w.first == 0 && now <= w.since+patience*settle:
	case w.first == 0 && writes == 0:
		return &k.stats.Unwritten, nil
	case w.first == 0, now > w.last+settle && (w.site == 0 || writes != w.told):
		return &k.stats.Missed, nil
	case now > w.last+settle:
		return &k.stats.Stayed, nil
	case now > w.first+lifetime*settle:
		return &k.stats.Rewritten, nil
	}
	return nil, k.arm(w)
}

// writes is how many there were, and the threads that may tell of no more.
func (w *word) writes() (total uint64, spent []int, err error) {
	total = w.past
	for tid, p := range w.points {
		n, err := p.Writes()
		if err != nil {
			return 0, nil, err
		}
		total += n
		if n >= most {
			spent = append(spent, tid)
		}
	}
	return total, spent, nil
}

// rearm puts new points in the place of those that may tell of no more. What was
// written in between is not known.
func (k *Keeper) rearm(w *word, spent []int) error {
	for _, tid := range spent {
		p := w.points[tid]
		n, err := p.Writes()
		if err = errors.Join(err, p.Close()); err != nil {
			return err
		}
		w.past += n
		delete(w.points, tid)
	}
	err := k.arm(w)
	w.site, w.gap = 0, k.target.Now()
	return err
}
