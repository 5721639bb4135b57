package tracer

import "github.com/maptrace/maptrace/tracer/space"

// unlocked handles a call that was seen from its entry and has let go of no mmap
// lock, and tells whether that was all there is to do. Nothing changes a mapping
// without holding the lock for writing, so such a call has changed none, whatever
// its result says: seccomp may give a result to a call that is not executed.
func (t *Tracer) unlocked(sp *addressSpace, ev *Event) bool {
	if ev.Flags&NoLock == 0 || t.stats.Skipped > 0 {
		return false // where the kernel skips programs, one may not have seen the lock
	}
	switch c := &ev.Call; {
	case c.Ret < 0 && c.Ret > -4096: // refused before it took the lock
		t.stats.count(ev)
		t.effect = space.Effect{}
		t.change = Change{Event: ev, Effect: &t.effect}
	case t.needsLock(c):
		t.stats.Suppressed++
		answered := *ev
		answered.Kind = KindSuppressed
		t.change = Change{Event: &answered}
	case movesMemory(c): // of nothing
		t.stats.count(ev)
		return true
	default:
		return false
	}
	if ev.Time >= sp.began {
		t.tell(sp, &t.change)
	}
	return true
}

// needsLock tells whether a call that succeeds holds the mmap lock for writing. Some
// do not where they are asked to change nothing. mm/mprotect.c:do_mprotect_pkey,
// mm/madvise.c:madvise_should_skip and set_anon_vma_name, mm/mempolicy.c:do_mbind,
// mm/mseal.c:do_mseal.
func (t *Tracer) needsLock(c *space.Call) bool {
	length := c.Args[1]
	switch c.Op {
	case space.OpMmap, space.OpMunmap, space.OpBrk, space.OpMremap, space.OpShmat, space.OpShmdt, space.OpRemapFilePages:
		return true
	case space.OpMlock:
		if c.Sub != space.SubMseal {
			return true
		}
	case space.OpSetVMA:
		length = c.Args[3]
	case space.OpMadvise:
		// Of the others many look at pages only, with a lock for reading or none.
		const dontFork, doFork, wipeOnFork, keepOnFork = 10, 11, 18, 19
		switch c.Args[2] {
		case dontFork, doFork, wipeOnFork, keepOnFork:
		default:
			return false
		}
	case space.OpMprotect, space.OpMbind:
	default:
		return false
	}
	page := t.opts.PageSize
	return (length+page-1)&^(page-1) != 0
}
