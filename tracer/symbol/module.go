package symbol

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// Limits on what one file may make us hold. Real files stay far below them.
const (
	maxHeaderBytes = 16 << 20 // of headers and section names
	maxSections    = 1 << 16
	maxSegments    = 1 << 12
	maxSymbols     = 4 << 20
	maxNote        = 1 << 16
	maxBuildID     = 64
	maxName        = 64 << 10
	maxMemo        = 1 << 16 // functions remembered with their names
)

// ErrNotELF is matched by the error about a file that is not an ELF file.
var ErrNotELF = errors.New("not an ELF file")

// Source says where the name of a function is from.
type Source uint8

// The sources, in no order of trust: all of them say which bytes they name.
const (
	FromSymtab Source = 1 + iota // the file's .symtab
	FromDynsym                   // its .dynsym: what it exports
	FromDebug                    // the .symtab of a separate debug file
	FromGo                       // Go's function table, which survives stripping
	FromPLT                      // a stub through which an imported function is called
	FromMini                     // the .symtab that is compressed in the file's .gnu_debugdata
)

// String returns a word for the source.
func (s Source) String() string {
	names := [...]string{
		FromSymtab: "symtab", FromDynsym: "dynsym", FromDebug: "debug file", FromGo: "gopclntab", FromPLT: "plt",
		FromMini: "gnu_debugdata",
	}
	if int(s) < len(names) && names[s] != "" {
		return names[s]
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}

// Function is a function of a module. Start is an address in the file's own
// numbering, and with Size says which bytes the name is known to be right for.
type Function struct {
	Name    string // demangled, without parameters
	Linkage string // as the linker has it: mangled
	Start   uint64
	Size    uint64
	From    Source
	Rust    bool // the symbol is mangled as Rust does it
}

// Line is one function that an address belongs to. File is empty and Line 0
// where the source position is not known.
type Line struct {
	Function string // demangled, without parameters; empty when unknown
	Linkage  string // the function as the linker has it: mangled
	File     string
	Line     int
	Start    int // the line where the function is declared; 0 when unknown
}

// DebugRef says which debug file belongs to a module.
type DebugRef struct {
	BuildID string // lower-case hex
	Link    string // the file's base name from .gnu_debuglink
	CRC     uint32 // of the whole file named by Link
}

// Options say how much a module may read.
type Options struct {
	// Debug yields open files that may hold the module's debug information, the
	// most likely first. The module checks that they do, by the build ID or,
	// where the module has none, by the checksum; it closes those it does not
	// keep. It is called once, when a name is wanted that the module itself does
	// not have. Nil means none.
	Debug func(DebugRef) iter.Seq[*regular.File]

	// MaxDWARF limits the bytes of decompressed debug sections that one module
	// may hold, and those of a unit, which is read as a whole: whatever is larger is
	// not used. 0 stands for 512 MiB.
	MaxDWARF int64

	// MaxTable limits the bytes that one table of a file may take: that of its symbols,
	// and what one unit of its debug information says of functions or of lines. What is
	// larger is refused. 0 stands for 64 MiB.
	MaxTable int64

	// Account pays for what is read, also of debug files. Nil pays for everything.
	Account *quota.Account
}

const (
	defaultMaxDWARF = 512 << 20
	defaultMaxTable = 64 << 20
)

// Module is one ELF file. What it is does not change; names and lines are loaded
// when they are asked for, and can be dropped and loaded again. It is safe for
// concurrent use.
type Module struct {
	r       io.ReaderAt
	size    int64
	opts    Options
	head    *header
	buildID string

	bytes      atomic.Int64 // held by what was loaded
	used       atomic.Int64 // when it was asked last, in the cache's own time
	cache      *Cache       // to tell about growth; nil without
	moduleFile              // what the cache keeps about it

	refused atomic.Pointer[error] // see Refused; not dropped
	spent   atomic.Pointer[error] // see Spent; not dropped

	mu     sync.Mutex
	op     quota.Op  // what is done now
	closer io.Closer // closed with the module, when it owns the file
	closed bool
	tables
}

// tables are what a module has loaded.
type tables struct {
	symtab, dynsym, mini lazy[*symbols]
	debug                lazy[*debugFile]
	golang               lazy[*goTable]
	plt                  lazy[[]stub]
	lines                lazy[*dwarfData]
	memo                 map[memoKey]Function
}

// lazy is a value made once; it may be nil for good.
type lazy[T any] struct {
	done  bool
	value T
}

// header is what is read of every file at once.
type header struct {
	file    *elf.File
	order   binary.ByteOrder
	is64    bool
	machine elf.Machine
	code    []span // executable sections, by address
	stubs   []*elf.Section
	pclntab *elf.Section // Go's function table, or nil
}

// span is a range of addresses in the file's own numbering.
type span struct{ start, end uint64 }

// ReadModule reads the headers of an ELF file of the given size in bytes. The
// module goes on reading r for as long as it is used. An error that matches
// [ErrNotELF] says that the file is something else, one that matches [quota.ErrSpent]
// that nobody pays for it.
func ReadModule(r io.ReaderAt, size int64, o Options) (*Module, error) {
	if o.MaxDWARF <= 0 {
		o.MaxDWARF = defaultMaxDWARF
	}
	if o.MaxTable <= 0 {
		o.MaxTable = defaultMaxTable
	}
	m := &Module{size: size, opts: o}
	m.r = &paid{r: r, of: m}
	m.begin()
	defer m.end()
	head, err := readHeader(m.r, size)
	if err != nil {
		return nil, errors.Join(err, m.Spent())
	}
	m.head = head
	guard(func() { m.buildID = head.buildID() })
	return m, nil
}

// guard is the one place that recovers from panics: debug/elf, the demangler and the
// decompressor have known ones on malformed input, and names are never worth a crash.
func guard(f func()) {
	defer func() { _ = recover() }()
	f()
}

// metered limits how much is read while the headers are.
type metered struct {
	r     io.ReaderAt
	limit bool
	left  int64
}

func (m *metered) ReadAt(p []byte, off int64) (int, error) {
	if m.limit {
		if m.left -= int64(len(p)); m.left < 0 {
			return 0, ErrTooLarge
		}
	}
	return m.r.ReadAt(p, off)
}

func readHeader(r io.ReaderAt, size int64) (*header, error) {
	h, err := readSections(r, size)
	if err == nil && !h.misplaced() || errors.Is(err, ErrNotELF) {
		return h, err
	}
	bare, errBare := readSections(noSections(r), size)
	if errBare != nil {
		return nil, errBare
	}
	if err != nil && len(bare.executable()) == 0 {
		return nil, err // there is nothing else in it
	}
	bare.fromSegments()
	return bare, nil
}

func readSections(r io.ReaderAt, size int64) (*header, error) {
	if err := checkHeader(r, size); err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	var f *elf.File
	err := errors.New("malformed")
	guard(func() {
		m := &metered{r: io.NewSectionReader(r, 0, size), limit: true, left: maxHeaderBytes}
		f, err = elf.NewFile(m)
		m.limit = false
	})
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	h := &header{file: f, order: f.ByteOrder, is64: f.Class == elf.ELFCLASS64, machine: f.Machine}
	for _, s := range f.Sections {
		if isStubs(s) {
			h.stubs = append(h.stubs, s)
		}
		// The names are those in all kinds of executables.
		if (s.Name == ".gopclntab" || s.Name == ".data.rel.ro.gopclntab") && s.Type != elf.SHT_NOBITS {
			h.pclntab = s
		}
		if s.Flags&elf.SHF_EXECINSTR != 0 && s.Flags&elf.SHF_ALLOC != 0 && s.Addr+s.Size > s.Addr {
			h.code = append(h.code, span{s.Addr, s.Addr + s.Size})
		}
	}
	sort.Slice(h.code, func(i, j int) bool { return h.code[i].start < h.code[j].start })
	// C's linkers put the table with other data, up to Go 1.25.
	if s := h.section(".data.rel.ro"); s != nil && plain(s) && h.pclntab == nil && h.section(".note.go.buildid") != nil {
		h.pclntab = h.scanGo(scan(s, s.Addr, s.Size, h.beginsGo))
	}
	return h, nil
}

// checkHeader refuses what debug/elf would take as many bytes for as it claims.
func checkHeader(r io.ReaderAt, size int64) error {
	var b [64]byte
	n, err := r.ReadAt(b[:], 0)
	if n < 52 || string(b[:4]) != elf.ELFMAG {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return ErrNotELF
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	is64 := elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64
	var shoff, entry int64
	var phnum, shnum, shstrndx int
	if is64 {
		shoff, entry = int64(order.Uint64(b[40:])), 64
		phnum, shnum, shstrndx = int(order.Uint16(b[56:])), int(order.Uint16(b[60:])), int(order.Uint16(b[62:]))
	} else {
		shoff, entry = int64(order.Uint32(b[32:])), 40
		phnum, shnum, shstrndx = int(order.Uint16(b[44:])), int(order.Uint16(b[48:])), int(order.Uint16(b[50:]))
	}
	if phnum > maxSegments {
		return fmt.Errorf("%d segments", phnum)
	}
	if shoff == 0 {
		return nil
	}
	section := func(i int) (flags, length, link uint64, err error) {
		if shoff < 0 || shoff > size-entry*int64(i+1) {
			return 0, 0, 0, errors.New("section headers past the end")
		}
		if n, err := r.ReadAt(b[:entry], shoff+entry*int64(i)); n < int(entry) {
			return 0, 0, 0, err
		}
		if is64 {
			return order.Uint64(b[8:]), order.Uint64(b[32:]), uint64(order.Uint32(b[40:])), nil
		}
		return uint64(order.Uint32(b[8:])), uint64(order.Uint32(b[20:])), uint64(order.Uint32(b[24:])), nil
	}
	if shnum == 0 || shstrndx == int(elf.SHN_XINDEX) {
		_, length, link, failed := section(0)
		if failed != nil {
			return failed
		}
		if shnum == 0 {
			shnum = int(min(length, math.MaxInt32))
		}
		if shstrndx == int(elf.SHN_XINDEX) {
			shstrndx = int(link)
		}
	}
	if shnum > maxSections || shstrndx >= max(shnum, 1) {
		return fmt.Errorf("%d sections, names in section %d", shnum, shstrndx)
	}
	if shnum == 0 {
		return nil
	}
	flags, length, _, err := section(shstrndx)
	if err != nil {
		return err
	}
	if flags&uint64(elf.SHF_COMPRESSED) != 0 || length > maxHeaderBytes/2 {
		return errors.New("section names compressed or too large")
	}
	return nil
}

// BuildID returns the GNU build ID as lower-case hex, or "".
func (m *Module) BuildID() string { return m.buildID }

// Read lets another reader have the file, of so many bytes. It must not use the module. In
// loops in which it reads nothing it asks whether there is more to be paid.
func (m *Module) Read(read func(r io.ReaderAt, size int64, more func(steps int) bool)) {
	m.begin()
	defer m.end()
	read(m.r, m.size, m.steps)
}

// Refused says what of the file, or of its debug file, is not used because it is larger
// than what is read of any file; nil as long as there is nothing.
func (m *Module) Refused() error {
	if err := m.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// refuse notes that a section is larger than what is read of any file.
func (m *Module) refuse(s *elf.Section) { m.refusePart(cmp.Or(s.Name, s.Type.String())) }

// refusePart is refuse for what is held of a section.
func (m *Module) refusePart(name string) {
	err := fmt.Errorf("%s: %w", name, ErrTooLarge)
	m.refused.Store(&err)
}

// IsGo reports whether the module holds Go code, which keeps frame pointers.
func (m *Module) IsGo() bool { return m.head.pclntab != nil }

// GoFunction is Function by Go's own table alone: it knows Go's functions, and not
// what cgo has linked in.
func (m *Module) GoFunction(addr uint64) (fn Function, ok bool) {
	m.begin()
	defer m.end()
	if m.closed || !covered(m.head.code, addr) {
		return Function{}, false
	}
	guard(func() {
		if t := m.goTable(); t != nil {
			fn, ok = t.function(addr)
		}
	})
	return fn, ok
}

// Bias returns what was added to the file's own addresses when a part of it was
// mapped: start is where a mapping begins and offset what it shows of the file.
// Where two segments share the file's page, it is the one with code. The second
// result is false when no segment shows that offset.
func (m *Module) Bias(start, offset uint64) (uint64, bool) {
	page := uint64(os.Getpagesize())
	var bias uint64
	found := false
	for _, p := range m.head.file.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		first := p.Off &^ (page - 1)
		if offset < first || offset-first >= p.Filesz+(p.Off-first) {
			continue
		}
		code := p.Flags&elf.PF_X != 0
		if found && !code {
			continue
		}
		bias, found = start-(p.Vaddr+(offset-p.Off)), true
		if code {
			break
		}
	}
	return bias, found
}

// Close drops what was loaded and closes the file when the module owns it. A
// closed module has no names.
func (m *Module) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop()
	m.closed = true
	if m.closer == nil {
		return nil
	}
	err := m.closer.Close()
	m.closer = nil
	return err
}

// drop forgets what was loaded. The lock is held.
func (m *Module) drop() {
	if d := m.debug.value; d != nil {
		d.file.Close()
	}
	m.tables = tables{}
	m.bytes.Store(0)
}

// load makes a lazy value, once.
func load[T any](l *lazy[T], f func() T) T {
	if !l.done {
		l.done = true
		guard(func() { l.value = f() })
	}
	return l.value
}

// memoKey tells what a remembered function is found by: its table and index.
type memoKey struct {
	from  Source
	index int
}

// Function returns the function that covers an address of the file's own
// numbering (the address in memory minus the bias).
func (m *Module) Function(addr uint64) (Function, bool) {
	m.begin()
	defer m.end()
	return m.function(addr)
}

func (m *Module) function(addr uint64) (fn Function, ok bool) {
	if m.closed || !covered(m.head.code, addr) {
		return Function{}, false
	}
	guard(func() { fn, ok = m.find(addr) })
	return fn, ok
}

func (m *Module) find(addr uint64) (Function, bool) {
	own := load(&m.symtab, func() *symbols { return m.readSymbols(m.head, elf.SHT_SYMTAB, FromSymtab) })
	if fn, ok := m.named(own, addr); ok {
		return fn, true
	}
	if t := m.goTable(); t != nil {
		if fn, ok := t.function(addr); ok {
			return fn, true
		}
	}
	exported := load(&m.dynsym, func() *symbols { return m.readSymbols(m.head, elf.SHT_DYNSYM, FromDynsym) })
	if fn, ok := m.named(exported, addr); ok {
		return fn, true
	}
	if m.head.inStubs(addr) {
		return findStub(load(&m.plt, m.readStubs), addr)
	}
	if own == nil {
		if fn, ok := m.named(load(&m.mini, m.readMini), addr); ok {
			return fn, true
		}
		if d := m.debugFile(); d != nil {
			return m.named(d.symbols, addr)
		}
	}
	return Function{}, false
}

// named looks an address up in a table, and remembers the demangled name.
func (m *Module) named(t *symbols, addr uint64) (Function, bool) {
	i := t.find(addr)
	if i < 0 {
		return Function{}, false
	}
	key := memoKey{t.from, i}
	if fn, ok := m.memo[key]; ok && addr-fn.Start < fn.Size {
		return fn, true
	}
	best := t.best(i, addr)
	if best < 0 {
		return Function{}, false
	}
	s := t.syms[best]
	raw := t.name(best)
	fn := Function{Name: demangled(raw), Linkage: raw, Start: s.start, Size: s.end - s.start, From: t.from, Rust: ofRust(raw)}
	if fn.Name == "" {
		return Function{}, false
	}
	if m.memo == nil || len(m.memo) >= maxMemo {
		m.memo = make(map[memoKey]Function)
	}
	m.memo[key] = fn
	m.bytes.Add(int64(len(fn.Name)+len(raw)) + 112)
	return fn, true
}

// Lines appends the functions that an address belongs to, the innermost inlined
// one first and the function whose code it is last, with their positions as far
// as debug information, or Go's tables, have them. Without any it appends what
// [Module.Function] knows, and nothing when that is nothing. The address of a
// call is that of its last byte: the return address minus 1.
func (m *Module) Lines(addr uint64, buf []Line) []Line {
	m.begin()
	defer m.end()
	if m.closed || !covered(m.head.code, addr) {
		return buf
	}
	before := len(buf)
	guard(func() {
		if d := m.dwarf(); d != nil {
			buf = d.lines(addr, buf)
		}
	})
	// Symbols have the whole name of a function, with its namespaces, where debug
	// information may have the short one, or none as in assembly.
	fn, ok := m.function(addr)
	if n := len(buf); n > before {
		if ok {
			buf[n-1].Function, buf[n-1].Linkage = fn.Name, fn.Linkage
		}
		return buf
	}
	if !ok {
		return buf
	}
	line := Line{Function: fn.Name, Linkage: fn.Linkage}
	if t := m.goTable(); t != nil {
		guard(func() {
			line.File, line.Line = t.position(addr)
			line.Start = t.startLine(addr)
		})
	}
	return append(buf, line)
}

// dwarf returns the debug information: the module's own, or its debug file's.
func (m *Module) dwarf() *dwarfData {
	return load(&m.lines, func() *dwarfData {
		if d := m.readDWARF(m.head); d != nil {
			return d
		}
		if f := m.debugFile(); f != nil {
			return m.readDWARF(f.head)
		}
		return nil
	})
}

// covered reports whether one of the spans, ordered by address, holds addr.
func covered(spans []span, addr uint64) bool {
	_, ok := spanOf(spans, addr)
	return ok
}

func spanOf(spans []span, addr uint64) (span, bool) {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].start > addr }) - 1
	if i < 0 || addr >= spans[i].end {
		return span{}, false
	}
	return spans[i], true
}
