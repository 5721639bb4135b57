package site

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/internal/regular"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Module is a file with code that frames are in. It is opened when a stack first
// leads through it, and stays what it was then, whatever takes its path later.
type Module struct {
	// Path is the file as the traced process names it, or the last element of that
	// where no more could be learned. It is whatever the program chose, and to be
	// escaped before it is printed.
	Path string
	// Err is why the file cannot be read; its frames then have no names.
	Err error

	of     *modules
	number uint32
	tried  int            // with Err, the last process whose file could not be read
	sym    *symbol.Module // nil with Err
	table  *stack.Table   // nil until it is asked for, and where there is none
	tabled bool
	rules  map[uint64]stack.Rule // by address

	searched bool // for points
	points   []heap.Point

	bias  uint64 // of where it was mapped first
	parts []part // what was mapped of it
}

// Name is the last element of the path.
func (m *Module) Name() string { return path.Base(m.Path) }

// BuildID is the file's, in hexadecimal; empty if it has none.
func (m *Module) BuildID() string {
	if m.sym == nil {
		return ""
	}
	return m.sym.BuildID()
}

// modules are all files with code seen so far.
type modules struct {
	cache *symbol.Cache
	reads *quota.Run
	made  uint32 // how many
	files map[fileKey]*Module
	names map[symbol.ID]*Module // one file may have several inodes
	// Those with tables, and what these take.
	tabled []*Module
	bytes  int
	most   int
	unwind *stack.Unwinder
}

// maxFiles is how many files are remembered. Beyond it, they are looked at again.
const maxFiles = 1 << 16

type fileKey struct {
	dev   procmaps.Device
	inode uint64
	// Of what has no inode number: the process, and what it is called there.
	pid  int
	name string
}

// newModules has none yet. Most is how many bytes may be loaded of symbols, and how many
// of tables.
func newModules(unwind *stack.Unwinder, most int, reads *quota.Run) *modules {
	return &modules{
		cache: symbol.NewCache(symbol.CacheOptions{MaxBytes: int64(most), Reads: reads}), reads: reads, unwind: unwind, most: most,
		files: make(map[fileKey]*Module), names: make(map[symbol.ID]*Module),
	}
}

func (ms *modules) close() error { return ms.cache.Close() }

// account is what may still be read of a process.
func (ms *modules) account(pid int) *quota.Account { return ms.reads.Of("process", pid) }

// at returns the module of a mapping with code. What could not be read in one
// process, which may have ended before, is tried again in the next.
func (ms *modules) at(pid int, m *procmaps.Mapping) *Module {
	key := fileKey{dev: m.Dev, inode: m.Inode}
	if m.Inode == 0 {
		key.pid, key.name = pid, m.Name
	}
	found := ms.files[key]
	if found != nil && (found.Err == nil || found.tried == pid && !ms.passes(pid, found.Err)) {
		found.learnPath(m.Name)
		if found.sym != nil && found.sym.Spent() != nil {
			found.charge(ms.account(pid))
		}
		return found
	}
	sym, err := ms.cache.Module(pid, m)
	if found != nil && err != nil {
		found.tried = pid
		return found
	}
	if len(ms.files) >= maxFiles {
		clear(ms.files)
	}
	made := ms.add(m.Name, sym, err)
	made.tried = pid
	ms.files[key] = made
	return made
}

// passes reports whether it may be otherwise when the file of a process is asked for
// again: the process pays again for what it could not, or who did not answer may do now.
func (ms *modules) passes(pid int, err error) bool {
	return errors.Is(err, quota.ErrSpent) && ms.account(pid).Ample() || errors.Is(err, await.ErrStalled)
}

// rowOf is an extent of a file as a row of maps.
func rowOf(tree *space.Space, e space.Extent) procmaps.Mapping {
	f := tree.File(e.File)
	return procmaps.Mapping{Range: e.Range, Mode: e.Mode, Offset: e.Offset, Dev: f.Dev, Inode: f.Inode, Name: e.Name}
}

// count counts the files with an error, and returns that of one.
func (ms *modules) count(failure func(*Module) error) (n int, why error) {
	for _, m := range ms.files {
		err := failure(m)
		if err == nil {
			continue
		}
		n, why = n+1, least(why, err)
	}
	return n, why
}

// least is one of two errors, one of which may be nil. Which one is reported must not be
// chance.
func least(a, b error) error {
	if a == nil || b.Error() < a.Error() {
		return b
	}
	return a
}

// readMemory reads a process' memory.
func readMemory(pid int, addr uint64, into []byte) (err error) {
	f, _, err := regular.Open("", fmt.Sprintf("/proc/%d/mem", pid), 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.ReadAt(into, int64(addr))
	return err
}

func (ms *modules) add(name string, sym *symbol.Module, err error) *Module {
	if err == nil {
		if m := ms.names[sym.ID()]; m != nil {
			m.sym = sym // it may have been closed to make room, and opened again
			return m
		}
	}
	ms.made++
	m := &Module{of: ms, Path: strings.TrimSuffix(name, procmaps.DeletedSuffix), Err: err, sym: sym, number: ms.made}
	if err == nil {
		ms.names[sym.ID()] = m
		m.learnPath(sym.Path())
	}
	return m
}

// learnPath takes a path for the module's, if it is the whole of what is known so far:
// of a file that is not mapped for long the kernel side knows only the last element.
func (m *Module) learnPath(full string) {
	full = strings.TrimSuffix(full, procmaps.DeletedSuffix)
	if path.IsAbs(full) && path.Base(full) == m.Path {
		m.Path = full
	}
}

// unwind returns the module's table, nil where it has none.
func (m *Module) unwind() *stack.Table {
	if !m.tabled {
		m.tabled = true
		// A file without one is no error: its code is walked by frame pointers.
		m.sym.Read(func(r io.ReaderAt, size int64, more func(steps int) bool) {
			m.table, _ = stack.ReadTable(r, size, more)
		})
		m.of.hold(m)
	}
	return m.table
}

// charge has another account pay, and lets be read what nobody paid for.
func (m *Module) charge(a *quota.Account) {
	if m.sym.Charge(a); m.sym.Spent() != nil {
		return
	}
	if m.table == nil {
		m.tabled, m.rules = false, nil
	}
	m.searched, m.points = false, nil
}

// hold counts a table that was read, and drops the others if they are too large.
func (ms *modules) hold(m *Module) {
	if m.table == nil {
		return
	}
	if ms.bytes+m.table.Bytes() > ms.most {
		for _, o := range ms.tabled {
			o.table, o.tabled, o.rules = nil, false, nil
		}
		ms.tabled, ms.bytes = ms.tabled[:0], 0
		ms.unwind.Forget()
	}
	ms.tabled = append(ms.tabled, m)
	ms.bytes += m.table.Bytes()
}

// code tells how to unwind at a pc in the module.
func (m *Module) code(s *Sites, pc, bias uint64) stack.Code {
	addr := pc - bias
	rule, ok := m.rules[addr]
	if !ok {
		if rule = m.rule(s, pc, addr); len(m.rules) >= maxRules || m.rules == nil {
			m.rules = make(map[uint64]stack.Rule)
		}
		m.rules[addr] = rule
	}
	return stack.Code{Rule: rule, Table: m.table, Bias: bias}
}

// maxRules bounds what a module remembers of its return addresses.
const maxRules = 1 << 16

func (m *Module) rule(s *Sites, pc, addr uint64) stack.Rule {
	switch {
	case m.sym == nil && errors.Is(m.Err, symbol.ErrNotELF):
		return stack.RuleFramePointer // code of another format, as of Windows programs
	case m.sym == nil:
		return stack.RuleNone // it may be anything: what frame pointers lead to would be a guess
	}
	t := m.unwind()
	if m.sym.IsGo() {
		// Go keeps frame pointers, and its stacks are many. What cgo linked in
		// does not: it is what Go's table does not know.
		switch fn, ok := m.sym.GoFunction(addr); {
		case ok && (fn.Name == "runtime.sigreturn__sigaction" || fn.Name == "runtime.sigreturn"): // the older name
			return stack.RuleSigreturn
		case ok, t == nil:
			return stack.RuleFramePointer
		}
	}
	if t != nil {
		if _, _, ok := t.Function(addr); ok {
			return stack.RuleCFI
		}
	}
	if s.sigreturn(pc) {
		return stack.RuleSigreturn
	}
	return stack.RuleCFI
}

// sigreturn tells whether pc is where signal handlers return to.
func (s *Sites) sigreturn(pc uint64) bool {
	var code [16]byte
	return readMemory(s.pid, pc, code[:]) == nil && stack.Sigreturn(arch(), code[:])
}
