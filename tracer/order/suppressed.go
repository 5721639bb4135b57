package order

import (
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// unlocked handles a call that was seen from its entry and has let go of no mmap
// lock, and tells what became of it if that is all there is to say. Nothing changes a
// mapping without holding the lock for writing, so such a call has changed none, whatever
// its result says: seccomp may give a result to a call that is not executed.
func (t *Tracer) unlocked(ev *Event) (model.Fate, bool) {
	if ev.Flags&NoLock == 0 || t.figures.Skipped > 0 {
		return 0, false // where the kernel skips programs, one may not have seen the lock
	}
	switch c := &ev.Call; {
	case c.Failed(): // refused before it took the lock
		return model.Refused, true
	case t.needsLock(c):
		return model.Suppressed, true
	case movesMemory(c): // of nothing
		return model.Counted, true
	}
	return 0, false
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
