// Package site gives numbers to places in programs: to the stacks that lead to
// calls which make memory larger, and to page faults. Equal stacks have equal
// numbers, whichever process they come from, as long as the same files are mapped.
//
// A number is never given twice, but what is kept of it is bounded. Stacks that
// nobody has asked for, for the longest, go in steps: at first their frames, so that
// only the function that they blame is known; then that. An equal stack that comes
// after has a new number, of the same function.
//
// A stack is walked with the address space as the tracer has it at that moment,
// so that a library that was just loaded is known, and one that was just
// unloaded is not mistaken for what took its place. What walks and names is in
// packages stack and symbol.
//
// Sites has one owner, as the tracer has; none of its methods may be called at
// the same time as another.
package site

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Options of Sites. The zero value is usable.
type Options struct {
	// MaxBytes bounds what is kept of stacks; 0 means 64 MiB. Beyond, those that were
	// not asked for the longest lose their frames first (see [Sites.Use]).
	MaxBytes int
	// MaxFileBytes bounds what is loaded of files with code: as much of their symbols,
	// and as much of their unwind tables; 0 means 256 MiB. Beyond, files are read again.
	MaxFileBytes int
	// Depth bounds the frames of a stack; 0 means 256. Of a longer one the
	// innermost are kept.
	Depth int
	// Calls say when the end of the run has come. From then on little is read for names
	// (see lastNames); what was not read is in Stats. Nil never says so.
	Calls *await.Calls

	reads *quota.Run // of tests
}

// Frame is one function on a stack.
type Frame struct {
	// Module is the file, nil for code without one: what a JIT compiler wrote.
	Module *Module
	// Addr is in the file's own numbering; in memory where there is no file.
	Addr uint64
	// Call: Addr is that of a return, and the call is before it.
	Call bool
	// inner: it is the innermost function at Addr alone. Those that this is inlined into
	// have frames of their own.
	inner bool

	// Where there is no file: whose memory Addr is in, and what was there when the
	// stack was walked, for compilers put other code in its place.
	pid   int
	name  string
	start uint64
}

// look is the address to look up for the frame.
func (f *Frame) look() uint64 {
	if f.Call {
		return f.Addr - 1
	}
	return f.Addr
}

// site is one stack.
type site struct {
	number uint32
	key    string
	frames []Frame
	end    stack.End
	group  *group // nil until it is asked for, and if nobody is blamed
	asked  bool   // it was asked for
	blame  int32  // index of the frame that is blamed, -1 for none; valid with group
	pool   poolID // what the memory is taken for; valid with group
	moves  bool   // a garbage collector moves objects; valid with group
}

// bytes is what a site takes, about: with its places in two maps.
func (s *site) bytes() int {
	n := 2*64 + int(unsafe.Sizeof(*s)) + len(s.key) + len(s.frames)*int(unsafe.Sizeof(Frame{}))
	for i := range s.frames {
		n += len(s.frames[i].name)
	}
	return n
}

// group is all stacks that blame one function.
type group struct {
	number uint32 // of the first of them
	key    groupKey
	frame  Frame // that was blamed of it
}

func (g *group) bytes() int {
	return 2*64 + int(unsafe.Sizeof(*g)) + len(g.key.name) + len(g.frame.name)
}

// past is what is kept of a site whose frames are not.
type past struct {
	group uint32
	pool  poolID
}

// bytes is with the place in a map, which is never full.
func (past) bytes() int { return 32 }

// Stats say how well stacks could be walked.
type Stats struct {
	Stacks uint64
	Ends   [stack.EndDepth + 1]uint64 // by why they ended
	Sites  int                        // different stacks; one that came again after it was evicted is another
	// Evicted is how many sites have lost their frames, to make room, and Bytes is what
	// the others take, with the names of functions.
	Evicted uint64
	Bytes   int

	// Denied is how many files we may not read: functions in them have no names, and
	// stacks end there. DeniedErr is why, of one of them.
	Denied    int
	DeniedErr error

	// Refused is how many files have something that is not read, because it is larger
	// than in any honest file. RefusedErr is of one of them.
	Refused    int
	RefusedErr error

	// Unpaid is how many files were not read, or not all that was wanted of them, because
	// the budget of the process is used up. UnpaidErr is of one of them.
	Unpaid    int
	UnpaidErr error
}

// NamesMissing says why names are missing, a sentence for each kind of reason. What is in
// it of the traced programs is to be escaped.
func (s *Stats) NamesMissing() []string {
	var all []string
	for _, r := range []struct {
		files int
		err   error
		where string
	}{
		{s.Denied, s.DeniedErr, "code has no names where its file may not be read"},
		{s.Refused, s.RefusedErr, "names and lines are missing where a file has too much"},
		{s.Unpaid, s.UnpaidErr, "names and lines are missing where they would cost too much"},
	} {
		if r.files > 0 {
			all = append(all, fmt.Sprintf("%s (files: %d): %v", r.where, r.files, r.err))
		}
	}
	return all
}

// Sites turns stacks into sites; it implements tracer.Sites.
type Sites struct {
	opts    Options
	modules *modules
	unwind  stack.Unwinder
	stats   Stats

	last   uint32 // the newest number
	sites  *store[uint32, *site]
	byKey  map[string]*site
	past   *store[uint32, past] // those of which only the function is known
	groups *store[uint32, *group]
	byFunc map[groupKey]*group
	short  map[string]string // names for people that were given, and what they are of (see name)
	jits   map[int]*symbol.PerfFile
	paths  map[uint32][]heap.Place // by site; see Path

	// The stack being walked.
	pid    int
	tree   *space.Space
	pcs    []stack.Frame
	frames []Frame
	key    []byte
	found  map[uint64]place // by page of code: what is there
}

// place is what is known of the code around a pc.
type place struct {
	module *Module // nil for code without a file
	bias   uint64
	code   bool // there is code
}

// forgotten is the number for all sites of which nothing is known any more; 0 is no
// site.
const forgotten = 1

// What is read for names, and the CPU time for that. For 2,000 lines of a C++ program of
// 170 MB, most of it debug information, it takes 100 MB and 0.7 s; for those of node, a
// JVM and Go's compiler, up to 30 MB and 0.3 s.
var (
	perProcess   = quota.Limits{Bytes: 2 << 30, Time: 5 * time.Second}
	allProcesses = quota.Limits{Bytes: 16 << 30, Time: 20 * time.Second}
)

// lastNames is the CPU time for names once the end of the run has come: whoever waits for
// the report waits for that too, whatever the programs have made to be read. With
// [await.Grace] and [await.Rest] it is less than a second.
const lastNames = 400 * time.Millisecond

// New returns an empty table.
func New(opts Options) *Sites {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 64 << 20
	}
	if opts.MaxFileBytes == 0 {
		opts.MaxFileBytes = 256 << 20
	}
	if opts.Depth == 0 {
		opts.Depth = 256
	}
	s := &Sites{
		opts:   opts,
		unwind: stack.Unwinder{MaxDepth: opts.Depth}, last: forgotten,
		byKey: make(map[string]*site), byFunc: make(map[groupKey]*group), short: make(map[string]string),
		jits: make(map[int]*symbol.PerfFile), found: make(map[uint64]place),
	}
	// Names are small beside stacks, and what all verdicts are about.
	const part = 8
	s.sites = newStore(opts.MaxBytes-2*(opts.MaxBytes/part), (*site).bytes, s.evict)
	s.past = newStore[uint32](opts.MaxBytes/part, past.bytes, nil)
	s.groups = newStore(opts.MaxBytes/part, (*group).bytes, func(_ uint32, g *group) { delete(s.byFunc, g.key) })
	if opts.reads == nil {
		opts.reads = quota.New(perProcess, allProcesses)
	}
	opts.Calls.AtEnd(func() { opts.reads.End(lastNames) })
	s.modules = newModules(&s.unwind, opts.MaxFileBytes, opts.reads)
	return s
}

// Close gives back the files that were opened.
func (s *Sites) Close() error {
	errs := []error{s.modules.close()}
	for _, j := range s.jits {
		errs = append(errs, j.Close())
	}
	return errors.Join(errs...)
}

// Stats counts the stacks so far.
func (s *Sites) Stats() Stats {
	st := s.stats
	st.Sites = int(s.last - forgotten)
	st.Bytes = s.sites.held() + s.past.held() + s.groups.held()
	st.Denied, st.DeniedErr = s.modules.count(func(m *Module) error {
		if errors.Is(m.Err, fs.ErrPermission) {
			return m.Err
		}
		return nil
	})
	st.Refused, st.RefusedErr = s.notRead(symbol.ErrTooLarge, (*symbol.Module).Refused)
	st.Unpaid, st.UnpaidErr = s.notRead(quota.ErrSpent, (*symbol.Module).Spent)
	return st
}

// notRead counts the files that were not read, or something of them, for a kind of reason.
func (s *Sites) notRead(kind error, of func(*symbol.Module) error) (n int, why error) {
	n, why = s.modules.count(func(m *Module) error {
		switch {
		case errors.Is(m.Err, kind):
			return m.Err
		case m.sym != nil && of(m.sym) != nil:
			return fmt.Errorf("%s: %w", m.Path, of(m.sym))
		}
		return nil
	})
	for _, j := range s.jits {
		if err := j.Err(); errors.Is(err, kind) {
			n, why = n+1, least(why, err)
		}
	}
	return n, why
}

// Site implements tracer.Sites.
func (s *Sites) Site(pid int, tree *space.Space, sample *stack.Sample) uint32 {
	s.pid, s.tree = pid, tree
	clear(s.found)
	s.unwind.Top = tree.End()
	var end stack.End
	if sample.Returned && s.returning(sample.Regs.PC) {
		still := *sample
		still.Returned = false
		sample = &still
	}
	s.pcs, end = s.unwind.Unwind(sample, s.codeAt, s.pcs[:0])
	if end == stack.EndTruncated && s.keepsFramePointers() {
		// Go's runtime works on another stack than the code that calls it.
		var more bool
		if s.pcs, more = sample.Follow(s.pcs); more {
			end = stack.EndRoot
			if len(sample.Chain) == chainMost {
				end = stack.EndTruncated
			}
		}
	}
	s.frames = s.frames[:0]
	for _, f := range s.pcs {
		s.frames = append(s.frames, s.frame(f))
	}
	if end == stack.EndNoFDE && len(s.frames) > 0 {
		// The dynamic loader's entry, written in assembly, has no caller.
		if fn, _ := s.function(&s.frames[len(s.frames)-1]); fn.Name == "_start" || fn.Name == "_dl_start_user" {
			end = stack.EndRoot
		}
	}
	s.stats.Stacks++
	s.stats.Ends[end]++
	return s.intern(end)
}

// frame is the function that a process is in at a pc.
func (s *Sites) frame(f stack.Frame) Frame {
	at := f.PC
	if f.Call {
		at--
	}
	p := s.place(at)
	fr := Frame{Module: p.module, Addr: f.PC - p.bias, Call: f.Call}
	if p.module == nil {
		fr.pid = s.pid
	}
	return fr
}

// Walked numbers a stack that the process has walked itself: its return addresses, the
// innermost first. Functions that were inlined have addresses of their own, as in stacks of
// Go's profiles. It is not one of Stats' stacks.
func (s *Sites) Walked(pid int, tree *space.Space, pcs []uint64) uint32 {
	s.pid, s.tree = pid, tree
	clear(s.found)
	end := stack.EndRoot
	if len(pcs) > s.opts.Depth {
		pcs, end = pcs[:s.opts.Depth], stack.EndDepth
	}
	s.frames = s.frames[:0]
	for _, pc := range pcs {
		f := s.frame(stack.Frame{PC: pc, Call: true})
		f.inner = true
		s.frames = append(s.frames, f)
	}
	return s.intern(end)
}

// chainMost is the longest chain that is sent.
const chainMost = 64

// keepsFramePointers tells whether the last frame is Go's.
func (s *Sites) keepsFramePointers() bool {
	if len(s.pcs) == 0 {
		return false
	}
	f := s.pcs[len(s.pcs)-1]
	if f.Call {
		f.PC--
	}
	code, ok := s.codeAt(f.PC)
	return ok && code.Rule == stack.RuleFramePointer
}

// intern finds the number of the frames just walked, all of which are inner or none.
func (s *Sites) intern(end stack.End) uint32 {
	s.key = append(s.key[:0], byte(end), 0)
	if len(s.frames) > 0 && s.frames[0].inner {
		s.key[1] = 1
	}
	for i := range s.frames {
		f := &s.frames[i]
		n := uint64(f.pid) << 32 // code without a file is the process' own
		if f.Module != nil {
			n = uint64(f.Module.number)
		}
		s.key = binary.NativeEndian.AppendUint64(s.key, n)
		s.key = binary.NativeEndian.AppendUint64(s.key, f.look())
	}
	if known := s.byKey[string(s.key)]; known != nil {
		s.sites.get(known.number)
		return known.number
	}
	if s.last == math.MaxUint32 {
		return forgotten
	}
	s.last++
	made := &site{number: s.last, key: string(s.key), frames: slices.Clone(s.frames), end: end}
	for i := range made.frames {
		if f := &made.frames[i]; f.Module == nil {
			f.name, f.start, _, _ = s.jit(f.pid).Lookup(f.look())
		}
	}
	s.byKey[made.key] = made
	s.sites.put(made.number, made)
	return made.number
}

// evict keeps of a site which function it blames, if anybody has asked for that.
func (s *Sites) evict(id uint32, st *site) {
	delete(s.byKey, st.key)
	s.stats.Evicted++
	if st.group != nil {
		s.past.put(id, past{st.group.number, st.pool})
	}
}

// Use says that something still refers to a site: a mapping, or a verdict. It keeps its
// frames however many others come, as long as it is said again and again, and those in
// use do not take half of what there is.
func (s *Sites) Use(id uint32) {
	s.groups.use(s.Group(id))
	s.sites.use(id)
	s.past.use(id)
}

// codeAt tells the unwinder what to do at a pc.
func (s *Sites) codeAt(pc uint64) (stack.Code, bool) {
	p := s.place(pc)
	switch {
	case !p.code:
		return stack.Code{}, false
	case p.module == nil:
		if s.trampoline(pc) {
			return stack.Code{Rule: stack.RuleTrampoline}, true
		}
		return stack.Code{Rule: stack.RuleFramePointer}, true
	}
	return p.module.code(s, pc, p.bias), true
}

// codePage is how much code shares one look at the tree. No page is smaller, so
// no mapping ends within.
const codePage = 4096

// place finds the code at a pc.
func (s *Sites) place(pc uint64) place {
	if p, ok := s.found[pc/codePage]; ok {
		return p
	}
	p := s.find(pc)
	s.found[pc/codePage] = p
	return p
}

func (s *Sites) find(pc uint64) place {
	e, ok := s.tree.At(pc)
	if !ok || e.Mode&procmaps.Exec == 0 {
		return place{}
	}
	if e.File == 0 && e.Kind != procmaps.KindSpecial {
		return place{code: true} // a JIT compiler's
	}
	row := rowOf(s.tree, e)
	m := s.modules.at(s.pid, &row)
	if m.Err != nil && e.Kind == procmaps.KindShm {
		return place{code: true} // a JIT compiler's, which writes elsewhere what it maps here
	}
	bias, ok := uint64(0), false
	if m.sym != nil {
		bias, ok = m.sym.Bias(e.Start, e.Offset)
	}
	if !ok {
		// Frames of a file that cannot be read are offsets in it.
		bias = e.Start - e.Offset
	}
	m.mapped(bias, part{e.Range, e.Offset})
	return place{module: m, bias: bias, code: true}
}

// arch is that of the programs that can be traced: this machine's.
func arch() stack.Arch {
	if runtime.GOARCH == "arm64" {
		return stack.ARM64
	}
	return stack.AMD64
}
