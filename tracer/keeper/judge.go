package keeper

import "errors"

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
