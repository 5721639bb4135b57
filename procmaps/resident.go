package procmaps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Resident says how much of a range is in memory. All are bytes, whole pages.
type Resident struct {
	// Bytes is what smaps calls Rss, save for the differences that
	// [Residency] lists.
	Bytes uint64
	// FileBytes is the part of Bytes that belongs to a file or to shared
	// memory, whether or not others map it too. Pages of a private mapping that
	// were written to are no longer the file's. It is 0 unless [Residency].Files asks
	// for it.
	FileBytes uint64
	// HugeBytes is the part of Bytes mapped as huge pages: by one entry of the
	// page middle directory or a higher one. Transparent huge pages that are
	// mapped page by page, and smaller folios, do not count. It is 0 without
	// PAGEMAP_SCAN.
	HugeBytes uint64
	// SwapBytes is what was swapped out, without what was swapped out of shared
	// memory: page tables do not remember that, while Swap of smaps has it.
	SwapBytes uint64
}

// Add adds o, for sums over ranges.
func (r *Resident) Add(o Resident) {
	r.Bytes += o.Bytes
	r.FileBytes += o.FileBytes
	r.HugeBytes += o.HugeBytes
	r.SwapBytes += o.SwapBytes
}

// ResidencyCost is what the counting has cost since it was opened.
type ResidencyCost struct {
	Calls      uint64        // ioctls or reads
	SpanBytes  uint64        // address space looked at, with its holes
	FoundBytes uint64        // pages found there, swapped ones too
	Busy       time.Duration // the time inside the kernel, which is nearly all
	Longest    time.Duration // the longest call: the most that a mapping call of the target had to wait
	Paused     time.Duration // the time slept between calls
}

// Residency counts the memory in use of any ranges of one address space, at a
// fraction of what smaps costs: 8 ns a resident page of 4 KiB were measured, and
// next to nothing a mapping. It looks at page tables only, with PAGEMAP_SCAN
// (Linux 6.7+), and reads pagemap where that is missing (see [Residency.Scans]).
//
// The process is never held as a whole. The kernel holds the lock of its
// mappings, for reading, during each call; a call is bounded by PieceBytes, and
// between calls there are pauses, so that what maps memory in a loop gets on.
//
// What is counted is Rss of smaps, page by page, but for these:
//   - Pages of hugetlbfs count. Rss of smaps leaves them out and has lines of
//     their own for them.
//   - Pages of device memory that the kernel tracks (VM_MIXEDMAP) may count; those
//     that it does not track (VM_PFNMAP: [vvar], frame buffers) never do, as in smaps.
//   - The zero page, which is what reads of untouched memory get, does not count,
//     as in smaps; it does where pagemap is read, the huge one perhaps as a file's.
//     Kernels that do not mark the huge zero page for PAGEMAP_SCAN count a whole
//     huge page for it.
//   - A page that is being migrated or compacted at that moment counts as swapped.
//   - On 6.13 and 6.14, guard pages (MADV_GUARD_INSTALL) count as swapped.
//
// Memory without access (PROT_NONE) counts if it has pages, as in smaps. Nothing
// here is subject to lockdown, and no page frame numbers are read: whoever may
// read smaps may do this.
//
// A Residency holds up to 48 KiB of memory and a file descriptor, stands for the
// address space that was current when it was opened, and is not safe for
// concurrent use.
type Residency struct {
	// PieceBytes bounds what one call counts: so many bytes of pages, and of
	// address space where there are few, 32 times that. It is rounded up to
	// 1 page; 32 MiB when opened.
	PieceBytes uint64
	// Pause is slept whenever calls have kept the kernel busy for 50 µs
	// (about a piece). 1 ms when opened; 0 or less for no pauses.
	Pause time.Duration
	// Files asks for FileBytes. For that the kernel must look at its record of
	// each page, which takes three times as long.
	Files bool

	file   *os.File
	name   string
	page   uint64
	walker pageWalker
	scans  bool
	cost   ResidencyCost
	recent time.Duration // busy since the last pause
	entry  [pagemapEntry]byte
}

const (
	defaultPiece = 32 << 20
	defaultPause = time.Millisecond

	// busyBeforePause is about what 32 MiB of small pages take.
	busyBeforePause = 50 * time.Microsecond

	// sparse is how many times the pages of a piece one call may pass over
	// where it finds few. An absent page costs a third of one that is there, as
	// far as there are page tables, and nothing where there are none.
	sparse = 32

	// joinPages is the gap between two ranges, in pages, that is cheaper to pass
	// over than to leave out with another call.
	joinPages = 64

	// kernelHalf is where addresses of the kernel begin on all 64-bit machines.
	// Of these, maps shows [vsyscall] alone, which has no pages.
	kernelHalf = 1 << 63
)

// pageRegion is struct page_region of linux/fs.h: pages of the same categories.
type pageRegion struct {
	start, end uint64
	categories uint64
}

// Categories of PAGEMAP_SCAN.
const (
	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
	pageIsPfnZero = 1 << 5
	pageIsHuge    = 1 << 6
	pageIsGuard   = 1 << 8 // 6.15+
)

// pageWalker finds the pages of a range that are present or swapped.
type pageWalker interface {
	// walk returns them in address order, and where it stopped: at the end of r,
	// or earlier when it has found that many pages or has no room for more.
	// Without files it does not tell pages of files from others.
	// The result is valid until the next call.
	walk(r Range, pages uint64, files bool) (found []pageRegion, end uint64, err error)
	close()
}

// OpenResidency opens the address space of the process for counting. The error
// matches [ErrNoMemory] when it has none, [fs.ErrPermission] when the reader may
// not trace the process, and [errors.ErrUnsupported] when the kernel was built
// without pagemap. The caller must Close the result.
func (p *Process) OpenResidency() (*Residency, error) {
	r, err := p.openResidency(".", true)
	if errors.Is(err, ErrNoMemory) {
		// The leader may have ended before the other threads.
		if p.anyThread(func(dir string) bool {
			var e error
			r, e = p.openResidency(dir, true)
			return e == nil
		}) {
			return r, nil
		}
		if p.gone() {
			err = ErrGone
		}
		return nil, fmt.Errorf("read %s: %w", p.file("pagemap"), err)
	}
	return r, err
}

// CanCount returns why the resident pages of the process may not be counted, nil if they may.
// It opens pagemap, which checks that (fs/proc/task_mmu.c:pagemap_open), and takes no lock.
func (p *Process) CanCount() error {
	f, err := p.openMemory(".", "pagemap")
	if err != nil {
		return err
	}
	return f.Close()
}

func (p *Process) openResidency(dir string, scan bool) (*Residency, error) {
	name := filepath.Join(dir, "pagemap")
	f, err := p.openMemory(dir, "pagemap")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrGone) {
			err = fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
		}
		return nil, err
	}
	r := &Residency{
		PieceBytes: defaultPiece, Pause: defaultPause,
		file: f, name: p.file(name), page: uint64(os.Getpagesize()),
	}
	if scan {
		r.walker, r.scans = newPageScan(f, r.page)
	}
	if !r.scans {
		r.walker = &pagemapReader{file: f, page: r.page}
	}
	if !r.alive() {
		_ = r.Close() // nothing was written
		return nil, ErrNoMemory
	}
	return r, nil
}

// Close releases the descriptor.
func (r *Residency) Close() error {
	r.walker.close()
	return r.file.Close()
}

// Scans reports whether the kernel has PAGEMAP_SCAN. If not, pagemap is read
// instead: 30 ns a page, present or not, zero pages count, and huge pages are not
// told from others.
func (r *Residency) Scans() bool { return r.scans }

// Cost returns what all calls of Count have cost so far.
func (r *Residency) Cost() ResidencyCost { return r.cost }

// Count puts what is resident of ranges[i] into out[i]. The ranges are whole
// pages, ascending and disjoint; they may be parts of mappings, go across
// several, and have holes. Ranges next to each other share calls, so that a list
// of all mappings costs little more than their pages.
//
// The process runs on while it is counted: a page that it touches or gives back
// meanwhile is counted as found. The error matches [ErrNoMemory] when the address
// space came to its end before all was counted, by exit or exec; what out holds
// is then not to be used. Count sleeps between calls; it does not allocate.
func (r *Residency) Count(ranges []Range, out []Resident) error {
	if len(out) < len(ranges) {
		return fmt.Errorf("count pages of %s: room for %d results of %d ranges", r.name, len(out), len(ranges))
	}
	for i, g := range ranges {
		switch {
		case g.End < g.Start, (g.Start|g.End)%r.page != 0:
			return fmt.Errorf("count pages of %s: %v is no range of whole pages", r.name, g)
		case i > 0 && g.Start < ranges[i-1].End:
			return fmt.Errorf("count pages of %s: %v does not follow %v", r.name, g, ranges[i-1])
		}
	}
	clear(out[:len(ranges)])
	for i := 0; i < len(ranges) && ranges[i].Start < kernelHalf; {
		span := ranges[i]
		next := i + 1
		for next < len(ranges) && ranges[next].Start-span.End <= joinPages*r.page {
			span.End = ranges[next].End
			next++
		}
		span.End = min(span.End, kernelHalf)
		if err := r.count(span, ranges[i:next], out[i:next]); err != nil {
			return fmt.Errorf("count pages of %s: %w", r.name, err)
		}
		i = next
	}
	if !r.alive() {
		return fmt.Errorf("count pages of %s: %w", r.name, ErrNoMemory)
	}
	return nil
}

// Guards returns the guard pages of a range (MADV_GUARD_INSTALL), as ranges in address order
// that do not touch: glibc 2.42 puts them below the stacks of threads. It finds none before 6.15,
// which does not tell them from pages that were swapped out. Errors are those of Count.
func (r *Residency) Guards(in Range) (guards []Range, err error) {
	err = r.walk(in, func(found []pageRegion, _ uint64) (bytes uint64) {
		for _, f := range found {
			bytes += f.end - f.start
			switch last := len(guards) - 1; {
			case f.categories&pageIsGuard == 0:
			case last >= 0 && guards[last].End == f.start:
				guards[last].End = f.end
			default:
				guards = append(guards, Range{f.start, f.end})
			}
		}
		return bytes
	})
	if err != nil {
		return nil, fmt.Errorf("find guard pages of %s: %w", r.name, err)
	}
	return guards, nil
}

// Guards returns the guard pages of a range as [Residency.Guards] does; none where
// they cannot be asked for.
func (p *Process) Guards(in Range) []Range {
	r, err := p.OpenResidency()
	if err != nil {
		return nil
	}
	defer r.Close()
	guards, err := r.Guards(in)
	if err != nil {
		return nil
	}
	return guards
}

// count walks span, in which all the ranges lie.
func (r *Residency) count(span Range, ranges []Range, out []Resident) error {
	return r.walk(span, func(found []pageRegion, end uint64) uint64 {
		n := tally(found, ranges, out)
		// Ranges that end here get no more.
		for len(ranges) > 0 && ranges[0].End <= end {
			ranges, out = ranges[1:], out[1:]
		}
		return n
	})
}

// walk has all pages of span seen, in pieces, of which each ends where it says; see returns how
// many bytes they were.
func (r *Residency) walk(span Range, see func(found []pageRegion, end uint64) uint64) error {
	pages := max(r.PieceBytes/r.page, 1)
	step := pages * r.page
	for span.Start < span.End {
		piece := span
		if piece.Len() > step {
			piece.End = piece.Start + step
		}
		began := time.Now()
		found, end, err := r.walker.walk(piece, pages, r.Files)
		took := time.Since(began)
		if err != nil {
			return err
		}
		if end <= piece.Start || end > piece.End {
			return fmt.Errorf("the walk of %v ended at %#x", piece, end)
		}
		r.cost.Calls++
		r.cost.SpanBytes += end - piece.Start
		r.cost.Busy += took
		r.cost.Longest = max(r.cost.Longest, took)
		n := see(found, end)
		r.cost.FoundBytes += n
		// Few pages make the next step longer, many make it short again.
		if n < step/sparse {
			step = min(step*2, pages*sparse*r.page)
		} else {
			step = pages * r.page
		}
		span.Start = end
		r.rest(took)
	}
	return nil
}

// tally adds what was found to the ranges it lies in, and returns how many bytes
// were found in all. Both lists ascend.
func tally(found []pageRegion, ranges []Range, out []Resident) (bytes uint64) {
	i := 0
	for _, f := range found {
		bytes += f.end - f.start
		for i < len(ranges) && ranges[i].End <= f.start {
			i++
		}
		for j := i; j < len(ranges) && ranges[j].Start < f.end; j++ {
			part := ranges[j].Intersect(Range{f.start, f.end})
			if part.Empty() {
				continue
			}
			n := part.Len()
			switch {
			case f.categories&(pageIsGuard|pageIsPfnZero) != 0:
			case f.categories&pageIsPresent != 0:
				out[j].Bytes += n
				if f.categories&pageIsFile != 0 {
					out[j].FileBytes += n
				}
				if f.categories&pageIsHuge != 0 {
					out[j].HugeBytes += n
				}
			case f.categories&pageIsSwapped != 0:
				out[j].SwapBytes += n
			}
		}
	}
	return bytes
}

// rest pauses when the kernel has been kept busy for long enough.
func (r *Residency) rest(took time.Duration) {
	r.recent += took
	if r.recent < busyBeforePause || r.Pause <= 0 {
		return
	}
	r.recent = 0
	began := time.Now()
	time.Sleep(r.Pause)
	r.cost.Paused += time.Since(began)
}

// alive reports whether the address space is still in use. PAGEMAP_SCAN finds
// no pages in one that is not; reading, even of a page that is not mapped, finds
// no entry (fs/proc/task_mmu.c:pagemap_read()).
func (r *Residency) alive() bool {
	n, _ := r.file.ReadAt(r.entry[:], 0)
	return n > 0
}

// pagemapEntry is the size of an entry of pagemap, in bytes.
const pagemapEntry = 8

// Bits of an entry (Documentation/admin-guide/mm/pagemap.rst).
const (
	entryIsSoftDirty = 1 << 55
	entryIsExclusive = 1 << 56 // 4.2+
	entryIsGuard     = 1 << 58 // 6.15+
	entryIsFile      = 1 << 61
	entryIsSwapped   = 1 << 62
	entryIsPresent   = 1 << 63
)

// pagemapReader walks by reading pagemap, which all kernels have.
type pagemapReader struct {
	file *os.File
	page uint64
	buf  [4096 * pagemapEntry]byte
	vec  [vecLen]pageRegion
}

// vecLen is how many regions a walk returns at most. The kernel gathers as many
// before it releases the lock (fs/proc/task_mmu.c: PAGEMAP_WALK_SIZE >> PAGE_SHIFT).
const vecLen = 512

func (w *pagemapReader) walk(r Range, pages uint64, files bool) ([]pageRegion, uint64, error) {
	want := min(r.Len()/w.page, pages, uint64(len(w.buf)/pagemapEntry)) * pagemapEntry
	n, err := w.file.ReadAt(w.buf[:want], int64(r.Start/w.page*pagemapEntry))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	if n < pagemapEntry { // beyond what a process can have
		return nil, r.End, nil
	}
	found := w.vec[:0]
	addr := r.Start
	for at := 0; at+pagemapEntry <= n; at += pagemapEntry {
		c := entryCategories(binary.NativeEndian.Uint64(w.buf[at:]))
		if !files {
			c &^= pageIsFile
		}
		if last := len(found) - 1; c != 0 && last >= 0 && found[last].end == addr && found[last].categories == c {
			found[last].end += w.page
		} else if c != 0 {
			if len(found) == len(w.vec) {
				return found, addr, nil
			}
			found = append(found, pageRegion{addr, addr + w.page, c})
		}
		addr += w.page
	}
	return found, addr, nil
}

func (w *pagemapReader) close() {}

// entryCategories says in the words of PAGEMAP_SCAN what an entry says; 0 for a
// page that is neither present nor swapped.
func entryCategories(e uint64) (c uint64) {
	switch {
	case e&entryIsGuard != 0:
		return 0
	case e&entryIsPresent != 0:
		c = pageIsPresent
	case e&entryIsSwapped != 0:
		c = pageIsSwapped
	default:
		return 0
	}
	if e&entryIsFile != 0 {
		c |= pageIsFile
	}
	return c
}
