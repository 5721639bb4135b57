package malloc

import (
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// mostTried is how many pages are tried as the start of a part of the main arena that is
// not by brk.
const mostTried = 1 << 14

// read walks over all heaps of an arena. The error is of counting pages.
func (s *survey) read(a *arena) error {
	if a.System == 0 {
		return nil
	}
	if swapped, err := s.resident(a); err != nil || swapped {
		return err
	}
	lists := s.fastOf(a)
	for i := range a.heaps {
		if err := s.readHeap(a, &a.heaps[i], lists); err != nil {
			return err
		}
	}
	if a.Main && a.flags&nonContigBit != 0 && a.Walked < a.System {
		if err := s.readParts(a, lists); err != nil {
			return err
		}
	}
	a.Heaps = len(a.heaps)
	s.mem.forget()
	if now, ok := s.mem.word(a.State + a.front + 8*stateSystem); ok {
		a.systemAfter = now
	}
	return nil
}

// resident counts what is in memory of the heaps. It says true, and why, if something of
// them is swapped out.
func (s *survey) resident(a *arena) (bool, error) {
	var ranges []procmaps.Range
	for _, h := range a.heaps {
		g := procmaps.Range{Start: h.start &^ (s.opts.Page - 1), End: (h.end + s.opts.Page - 1) &^ (s.opts.Page - 1)}
		if n := len(ranges); n > 0 && g.Start < ranges[n-1].End || g.Empty() {
			continue
		}
		ranges = append(ranges, g)
	}
	sum, err := s.count(ranges)
	a.Resident = sum.Bytes
	return a.swapped(sum), err
}

// count counts what is in memory of ranges.
func (s *survey) count(ranges []procmaps.Range) (sum procmaps.Resident, err error) {
	if s.opts.Count == nil || len(ranges) == 0 {
		return sum, nil
	}
	out := make([]procmaps.Resident, len(ranges))
	err = s.opts.Count(ranges, out)
	for _, r := range out {
		sum.Add(r)
	}
	return sum, err
}

// swapped reports whether something is swapped out, and says so.
func (a *arena) swapped(r procmaps.Resident) bool {
	if r.SwapBytes == 0 {
		return false
	}
	a.because(size(r.SwapBytes) + " of it is swapped out, and reading would bring that back")
	return true
}

// readHeap walks over one heap.
func (s *survey) readHeap(a *arena, h *heap, lists *fastChunks) error {
	for {
		w, end := s.walk(a, h, lists, false)
		a.take(w)
		switch {
		case w.err != nil:
			return w.err
		case end == atFence && h.info != 0:
			a.own(h.end - w.at)
			h.walked = h.end
		case end == atFence && w.top != 0:
			// Somebody else has moved the break, and the arena goes on behind.
			at, ok := w.search(s.pastFences(w.at))
			if !ok {
				a.because("what is behind memory of somebody else was not found")
				break
			}
			a.own(at - h.walked)
			h.walked = at
			continue
		case end == atFence:
			h.walked = s.pastFences(w.at)
			a.own(h.walked - w.at)
		case end == broken:
			a.because("its chunks do not follow each other")
		case end == cut:
			a.because("as much was read as may be")
		case end == unmapped:
			a.because("a part of it cannot be read")
		}
		if h.info != 0 {
			a.own(h.start - h.info)
		}
		return nil
	}
}

// pastFences returns where the ends of a part of the main arena end: two, and before
// them what was left of its top if that was no larger.
func (s *survey) pastFences(at uint64) uint64 {
	s.mem.forget()
	for range 3 {
		if word, ok := s.mem.word(at + 8); !ok || word&sizeMask != fenceSize {
			break
		}
		at += fenceSize
	}
	return at
}

// take adds what a walk has found.
func (a *arena) take(w *walker) {
	a.plus(&w.found)
	a.resyncs += w.resyncs
}

// own adds memory of malloc's own.
func (a *arena) own(bytes uint64) {
	a.Overhead += bytes
	a.Walked += bytes
}

func (a *arena) because(why string) {
	if a.Why == "" {
		a.Why = why
	}
}

// readParts finds the parts of a main arena that were mapped because brk failed: they
// begin with a chunk and a page, somewhere in a private mapping without a name, and end
// at the top or with what is put at an end.
func (s *survey) readParts(a *arena, lists *fastChunks) error {
	const data = procmaps.Read | procmaps.Write
	tries := mostTried
	var found []procmaps.Range
	s.mem.forget()
	for i := range s.rows {
		m := &s.rows[i]
		if tries == 0 || a.Walked >= a.System {
			break
		}
		if m.Name != "" && !strings.HasPrefix(m.Name, "[anon") || m.Mode&procmaps.Perm != data || m.Mode&procmaps.Shared != 0 {
			continue
		}
		row, err := s.count([]procmaps.Range{m.Range})
		if err != nil {
			return err
		}
		if a.swapped(row) {
			continue
		}
		for at := m.Start; at < m.End && tries > 0 && a.Walked < a.System; tries-- {
			word, ok := s.mem.word(at + 8)
			if !ok {
				break
			}
			size := word & sizeMask
			if word&isMapped != 0 && size != 0 && size%s.opts.Page == 0 && size <= m.End-at {
				at += size // a block with a mapping of its own
				continue
			}
			if word&(isMapped|nonMain|prevInUse) != prevInUse || size < leastChunk || size%chunkAlign != 0 || size > m.End-at {
				at += s.opts.Page
				continue
			}
			h := heap{start: at, end: m.End, walked: at}
			claims := len(s.candidates)
			w, end := s.walk(a, &h, lists, true)
			if w.err != nil {
				return w.err
			}
			past := w.at
			if end == atFence {
				past = s.pastFences(past)
			}
			if end != atTop && end != atFence || past%s.opts.Page != 0 || past <= at {
				s.candidates = s.candidates[:claims]
				at += s.opts.Page
				continue
			}
			a.take(w)
			a.own(past - w.at)
			h.end, h.walked = past, past
			a.heaps = append(a.heaps, h)
			found = append(found, procmaps.Range{Start: at, End: past})
			at = past
		}
	}
	sum, err := s.count(found)
	a.Resident += sum.Bytes
	return err
}
