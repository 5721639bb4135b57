// Package site gives numbers to places in programs: to the stacks that lead to
// calls which make memory larger, and to page faults. Equal stacks have equal
// numbers, whichever process they come from, as long as the same files are mapped.
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
	"runtime"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Options of Sites. The zero value is usable.
type Options struct {
	// MaxSites bounds the stacks that are told apart; 0 means 100,000. They may
	// have 32 frames each in the mean, so that long ones take the places of
	// several. What is beyond has one number, and no frames.
	MaxSites int
	// Depth bounds the frames of a stack; 0 means 256. Of a longer one the
	// innermost are kept.
	Depth int
}

// Frame is one function on a stack.
type Frame struct {
	// Module is the file, nil for code without one: what a JIT compiler wrote.
	Module *Module
	// Addr is in the file's own numbering; in memory where there is no file.
	Addr uint64
	// Call: Addr is that of a return, and the call is before it.
	Call bool

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
	frames []Frame
	end    stack.End
	group  uint32 // 0 until it is asked for
	blame  int32  // index of the frame that is blamed; valid with group
	pool   string // what the memory is taken for; valid with pooled
	pooled bool
}

// Stats say how well stacks could be walked.
type Stats struct {
	Stacks uint64
	Ends   [stack.EndDepth + 1]uint64 // by why they ended
	Sites  int
	Beyond uint64 // stacks that had no place among the sites

	// Denied is how many files we may not read: functions in them have no names, and
	// stacks end there. DeniedErr is why, of one of them.
	Denied    int
	DeniedErr error

	// Refused is how many files have symbols that are not read, because they are more
	// than those of any honest file. RefusedErr is of one of them.
	Refused    int
	RefusedErr error
}

// Sites turns stacks into sites; it implements tracer.Sites.
type Sites struct {
	opts    Options
	modules *modules
	unwind  stack.Unwinder
	stats   Stats

	sites  []site // by number; 0 is none
	depth  int    // frames of all sites
	byKey  map[string]uint32
	groups map[groupKey]uint32
	jits   map[int]*symbol.PerfFile

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

// overflow is the number of what has no place; 0 is no site.
const overflow = 1

// New returns an empty table.
func New(opts Options) *Sites {
	if opts.MaxSites == 0 {
		opts.MaxSites = 100_000
	}
	if opts.Depth == 0 {
		opts.Depth = 256
	}
	s := &Sites{
		opts:   opts,
		unwind: stack.Unwinder{MaxDepth: opts.Depth},
		sites:  make([]site, overflow+1), byKey: make(map[string]uint32),
		groups: make(map[groupKey]uint32), jits: make(map[int]*symbol.PerfFile), found: make(map[uint64]place),
	}
	s.modules = newModules(&s.unwind)
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
	st.Sites = len(s.sites) - overflow - 1
	st.Denied, st.DeniedErr = s.modules.count(func(m *Module) error {
		if errors.Is(m.Err, fs.ErrPermission) {
			return m.Err
		}
		return nil
	})
	st.Refused, st.RefusedErr = s.modules.count(func(m *Module) error {
		if m.sym == nil || m.sym.Refused() == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", m.Path, m.sym.Refused())
	})
	return st
}

// Site implements tracer.Sites.
func (s *Sites) Site(pid int, tree *space.Space, sample *stack.Sample) uint32 {
	s.pid, s.tree = pid, tree
	clear(s.found)
	s.unwind.Top = tree.End()
	var end stack.End
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
		at := f.PC
		if f.Call {
			at--
		}
		p := s.place(at)
		fr := Frame{Module: p.module, Addr: f.PC - p.bias, Call: f.Call}
		if p.module == nil {
			fr.pid = pid
		}
		s.frames = append(s.frames, fr)
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

// intern finds the number of the frames just walked.
func (s *Sites) intern(end stack.End) uint32 {
	s.key = append(s.key[:0], byte(end))
	for i := range s.frames {
		f := &s.frames[i]
		n := uint64(f.pid) << 32 // code without a file is the process' own
		if f.Module != nil {
			n = uint64(f.Module.number)
		}
		s.key = binary.NativeEndian.AppendUint64(s.key, n)
		s.key = binary.NativeEndian.AppendUint64(s.key, f.look())
	}
	if id, ok := s.byKey[string(s.key)]; ok {
		return id
	}
	const meanDepth = 32
	if n := s.depth + len(s.frames); len(s.sites) > s.opts.MaxSites+overflow || n > meanDepth*s.opts.MaxSites {
		s.stats.Beyond++
		return overflow
	}
	s.depth += len(s.frames)
	id := uint32(len(s.sites))
	frames := append([]Frame(nil), s.frames...)
	for i := range frames {
		if f := &frames[i]; f.Module == nil {
			f.name, f.start, _, _ = s.jit(f.pid).Lookup(f.look())
		}
	}
	s.sites = append(s.sites, site{frames: frames, end: end})
	s.byKey[string(s.key)] = id
	return id
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
	f := s.tree.File(e.File)
	m := s.modules.at(s.pid, &procmaps.Mapping{
		Range: e.Range, Mode: e.Mode, Offset: e.Offset, Dev: f.Dev, Inode: f.Inode, Name: e.Name,
	})
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
