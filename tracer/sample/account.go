//go:build linux

package sample

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
)

const (
	// accountShare is the share of one CPU that reading what one process is charged for may
	// take from us: a process may have a hundred thousand descriptors.
	accountShare = 0.01
	// accountsShare is that for all processes together.
	accountsShare = 0.05
	// mostDescriptors are looked at of one process.
	mostDescriptors = 1 << 16
	// mostHeld is how many names are told of memory that a process holds unmapped.
	mostHeld = 64
	// copiesWorthASum are so many page faults that have made nothing resident. They may have
	// copied pages, and a sum of the process' private pages is worth its price.
	copiesWorthASum = 64
	// mostQuiet is how many readings at most go without a sum after one by which nothing is
	// shared that could be copied.
	mostQuiet = 32
	// sumAtOnce is how much of a process may be resident for its pages to be summed up at its
	// beginning, in bytes: that takes some milliseconds. Children share much with their parents.
	sumAtOnce = 256 << 20
	// mostTables is how large the page tables of a process may be for its pages to be summed up at
	// all, in bytes: a walk of them takes up to 0.2 s, and nothing ends it. Pages of zeros take
	// page tables, and are not resident.
	mostTables = 64 << 20
	// tablesAtOnce is the same for its beginning.
	tablesAtOnce = 4 << 20
	// leastShared is what is shared that is worth another look, in bytes.
	leastShared = 256 << 10
	// grownWorthASum is by how much more is resident, in bytes, that a sum is worth its price: of
	// what has come the program may have given some back (MADV_FREE). A part of what there was
	// is wanted as well.
	grownWorthASum, grownPart = 8 << 20, 4
)

// account reads what the kernel charges a process for. The loop says when; what is read
// belongs to the worker meanwhile.
type account struct {
	due  uint64 // when it is to be read next
	fork bool   // the process has forked since the last reading
	// Of the worker.
	faults   uint64 // as of the last sum
	resident uint64
	sumDue   time.Time // not before that
	quiet    int       // readings without a sum yet
	rest     int       // how many it were after the last sum by which nothing is shared
}

// change takes a change of the process.
func (a *account) change(c *tracer.Change) {
	a.fork = a.fork || c.Kind == tracer.KindFork
}

// accountRead is what a worker has read.
type accountRead struct {
	event.Account
	files    []procmaps.Held
	segments []procmaps.Segment // System V segments of the process that are in no mapping
	took     time.Duration
}

// accountBegin is what was read of an account before pages were counted.
type accountBegin struct {
	total uint64 // what the process had in all; 0 if it is gone or may not be read
	took  time.Duration
}

// beginOf reads it.
func beginOf(fs procmaps.FS, pid int) (b accountBegin) {
	began := threadTime()
	if p, err := fs.Process(pid); err == nil {
		if st, err := p.Status(); err == nil {
			a := accountOf(st)
			b.total = a.Total()
		}
		_ = p.Close() // it was only read
	}
	b.took = threadTime() - began
	return b
}

// accountOf is what the kernel's figures of a process are.
func accountOf(st *procmaps.Status) event.Account {
	return event.Account{
		Comm:     st.Name,
		Resident: st.VmRSSKB << 10, Anon: st.RssAnonKB << 10, File: st.RssFileKB << 10, Shmem: st.RssShmemKB << 10,
		Swapped: st.VmSwapKB << 10, PageTables: st.VmPTEKB << 10, Hugetlb: st.HugetlbPagesKB << 10, Locked: st.VmLckKB << 10,
	}
}

// read reads it; nil if the process is gone or may not be read. Budget is the share of the time
// that the sum of its pages may keep its mmap lock.
func (a *account) read(fs procmaps.FS, p *procmaps.Process, segments *segments, fork bool, budget float64) *accountRead {
	began := threadTime()
	st, err := p.Status()
	if err != nil || !st.HasMemory {
		return nil
	}
	r := &accountRead{Account: accountOf(st)}
	if stat, err := p.Stat(); err == nil {
		r.Faults = stat.MinFlt
		a.sum(p, r, fork, budget)
	}
	switch files, all, err := p.HeldMemory(mostDescriptors); {
	case err == nil:
		r.files, r.Partial = files, !all
	case errors.Is(err, os.ErrPermission): // without the right to see them, none are told
		r.Partial = true
	}
	if of := segments.of(fs, p.PID()); len(of) > 0 && p.SharesIPC(fs) {
		r.segments = of
	}
	r.took = threadTime() - began
	return r
}

// sum has the kernel sum up the process' pages (smaps_rollup), if page faults may have copied
// some, or much more is resident: that walks its page tables.
func (a *account) sum(p *procmaps.Process, r *accountRead, fork bool, budget float64) {
	if fork {
		a.quiet, a.rest = 0, 0
	}
	first := a.faults == 0
	if first {
		a.faults, a.resident = r.Faults, r.Resident
	}
	made := max(r.Resident, a.resident) - a.resident
	faults := r.Faults - min(a.faults, r.Faults)
	grown := made >= max(grownWorthASum, a.resident/grownPart)
	if a.quiet > 0 && !grown {
		a.quiet--
		return
	}
	if r.PageTables > mostTables {
		return
	}
	atOnce := first && r.Resident <= sumAtOnce && r.PageTables <= tablesAtOnce
	if !fork && !atOnce && !grown && faults < copiesWorthASum+made/uint64(os.Getpagesize()) || time.Now().Before(a.sumDue) {
		return
	}
	began := time.Now()
	row, err := p.Rollup()
	a.sumDue = time.Now().Add(time.Duration(float64(time.Since(began)) / budget))
	if err != nil || row == nil {
		return
	}
	bytes := func(keys ...string) (sum uint64) {
		for _, k := range keys {
			kb, _ := row.KB(k)
			sum += kb << 10
		}
		return sum
	}
	r.Summed, r.SumResident, r.Private = true, bytes("Rss"), bytes("Private_Clean", "Private_Dirty")
	r.SharedDirty, r.LazyFree = bytes("Shared_Dirty"), bytes("LazyFree")
	// The figures of status are older than those of the sum.
	a.faults, a.resident = r.Faults, r.Resident
	if a.rest = min(max(2*a.rest, 1), mostQuiet); r.SharedDirty >= leastShared {
		a.rest = 0
	}
	a.quiet = a.rest
}

// held are what a process holds by descriptors, or has made, and maps nowhere.
func (r *accountRead) held(tree *space.Space) []event.Held {
	mapped := make(map[procmaps.HeldID]uint64) // bytes
	if tree != nil && len(r.files) > 0 {
		for e := range tree.Extents(space.All) {
			if e.File != 0 && e.Mode&procmaps.Shared != 0 {
				f := tree.File(e.File)
				mapped[f.Held()] += e.Len()
			}
		}
	}
	type kind struct {
		name   string
		linked bool
	}
	all := make(map[kind]*event.Held)
	for i := range r.files {
		f := &r.files[i]
		bytes := f.Bytes - min(f.Bytes, mapped[f.HeldID])
		if bytes == 0 {
			continue
		}
		name, linked := f.Path, false
		if base, gone := strings.CutSuffix(name, procmaps.DeletedSuffix); gone || f.Kind != procmaps.HeldFile {
			name = base
		} else {
			linked = true
		}
		key := kind{event.Numberless(name), linked}
		h := all[key]
		if h == nil {
			h = &event.Held{Name: name, Linked: linked}
			all[key] = h
		}
		if h.Name != name {
			h.Name = key.name
		}
		h.Files = append(h.Files, event.HeldFile{HeldID: f.HeldID, Bytes: bytes})
	}
	var out []event.Held
	for _, h := range all {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b event.Held) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Bytes(), b.Bytes()))
	})
	if len(r.segments) > 0 {
		held := event.Held{Name: event.SystemV}
		for _, s := range r.segments {
			id := procmaps.HeldID{Kind: procmaps.HeldSegment, Inode: uint64(s.ID)}
			held.Files = append(held.Files, event.HeldFile{HeldID: id, Bytes: s.Resident + s.Swapped})
		}
		out = append(out, held)
	}
	if len(out) > mostHeld {
		slices.SortStableFunc(out, func(a, b event.Held) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
		out = out[:mostHeld]
	}
	return out
}

// segments are the System V segments of the machine that are in no mapping: read once for all
// processes that are looked at about then.
type segments struct {
	mu   sync.Mutex
	read time.Time
	by   map[int][]procmaps.Segment // by who has made them
}

// of are those of a process.
func (s *segments) of(fs procmaps.FS, pid int) []procmaps.Segment {
	const fresh = 100 * time.Millisecond
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) > fresh {
		s.by = make(map[int][]procmaps.Segment)
		all, err := fs.Segments()
		if err != nil {
			all = nil // who may not read them is told of none
		}
		for _, one := range all {
			if one.Attached == 0 {
				s.by[one.Creator] = append(s.by[one.Creator], one)
			}
		}
		s.read = time.Now()
	}
	return s.by[pid]
}
