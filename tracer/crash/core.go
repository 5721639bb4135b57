package crash

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/explain"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// Limits on what is read of a core. Real ones stay below: a process has 65,530 mappings
// unless vm.max_map_count is raised, the kernel writes at most 16 MiB of NT_FILE
// (fs/coredump.c:CORE_FILE_NOTE_SIZE_MAX), and some 3 KiB of notes for a thread.
const (
	maxSegments  = 1 << 20
	maxNotes     = 64 << 20 // bytes, of all threads
	maxNoteNames = 16       // bytes of a note's name
	maxThreads   = 1 << 17
)

// Types of notes (include/uapi/linux/elf.h).
const (
	noteStatus  = 1          // NT_PRSTATUS, one a thread, the one that died first
	noteProcess = 3          // NT_PRPSINFO
	noteAuxv    = 6          // NT_AUXV
	noteSiginfo = 0x53494749 // NT_SIGINFO
	noteFile    = 0x46494c45 // NT_FILE
)

// registers is where NT_PRSTATUS has the instruction and the stack pointer.
type registers struct{ ip, sp int }

// statusRegisters is where pr_reg begins in struct elf_prstatus of all 64-bit machines.
const statusRegisters = 112

// machine returns what Go calls a machine, and where its registers are
// (struct user_regs_struct, user_pt_regs).
func machine(m elf.Machine) (arch string, r registers) {
	at := func(ip, sp int) registers { return registers{statusRegisters + 8*ip, statusRegisters + 8*sp} }
	switch m {
	case elf.EM_X86_64:
		return "amd64", at(16, 19)
	case elf.EM_AARCH64:
		return "arm64", at(32, 31)
	case elf.EM_RISCV:
		return "riscv64", at(0, 2)
	default:
		return "", registers{}
	}
}

// segment is one program header.
type segment struct {
	kind, flags           uint32
	off, addr, file, size uint64
}

// core is a core file that is being read.
type core struct {
	r     io.ReaderAt
	order binary.ByteOrder
	regs  registers
	auxv  map[uint64]uint64
	files []mapped
	loads []segment
	out   *Crash
	fault *explain.Fault // of the first thread
}

// mapped is an entry of NT_FILE.
type mapped struct {
	procmaps.Range
	offset uint64 // bytes
	path   string
}

// ReadCore reads what a core file of a 64-bit process has of its mappings and of the signal
// that ended it: program headers and notes, some hundred bytes for each mapping and some
// thousand for each thread, whatever the size of the core. It goes on reading r when it
// is asked for build IDs. What is no core is an error that matches [ErrNotCore].
//
// A core cut short keeps its headers. Mappings that the kernel was told not to dump
// (MADV_DONTDUMP, coredump_filter) are there all the same; gdb's gcore may leave them out,
// but for those of files.
func ReadCore(r io.ReaderAt) (*Crash, error) {
	c := core{r: r, auxv: make(map[uint64]uint64), out: &Crash{}}
	segments, err := c.headers()
	if err != nil {
		return nil, err
	}
	left := uint64(maxNotes)
	for _, s := range segments {
		switch elf.ProgType(s.kind) {
		case elf.PT_LOAD:
			if s.addr+s.size > s.addr {
				c.loads = append(c.loads, s)
			}
		case elf.PT_NOTE:
			if s.file > left {
				return nil, fmt.Errorf("read core: its notes take more than %d bytes", uint64(maxNotes))
			}
			left -= s.file
			if err := c.notes(s); err != nil {
				return nil, err
			}
		default:
		}
	}
	c.rows()
	if c.fault != nil {
		c.fault.Settle()
		c.out.Faults = []explain.Fault{*c.fault}
	}
	c.out.BuildID = c.buildID
	return c.out, nil
}

// read reads some bytes, whose number was checked.
func (c *core) read(off, n uint64) ([]byte, error) {
	if off+n < off || off+n > 1<<62 {
		return nil, errors.New("read core: it points outside of itself")
	}
	// What is not there is found by reading its end first: a header costs nothing.
	var end [1]byte
	if n > 0 {
		if got, err := c.r.ReadAt(end[:], int64(off+n-1)); got < 1 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read core: %w", err)
		}
	}
	b := make([]byte, n)
	if got, err := c.r.ReadAt(b, int64(off)); got < len(b) {
		return nil, fmt.Errorf("read core: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return b, nil
}

// headers reads the ELF header and the program headers.
func (c *core) headers() ([]segment, error) {
	const (
		header, entry, section = 64, 56, 64
		extended               = 0xffff // PN_XNUM: sh_info of the first section has the number
	)
	var b [header]byte
	n, err := c.r.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read core: %w", err)
	}
	switch {
	case n < len(b) || string(b[:4]) != elf.ELFMAG:
		return nil, fmt.Errorf("%w: no ELF file", ErrNotCore)
	case elf.Class(b[elf.EI_CLASS]) != elf.ELFCLASS64:
		return nil, fmt.Errorf("%w of a 64-bit process", ErrNotCore)
	}
	c.order = binary.LittleEndian
	if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
		c.order = binary.BigEndian
	}
	if kind := elf.Type(c.order.Uint16(b[16:])); kind != elf.ET_CORE {
		return nil, fmt.Errorf("%w: a program or a library", ErrNotCore)
	}
	c.out.Arch, c.regs = machine(elf.Machine(c.order.Uint16(b[18:])))
	phoff, shoff := c.order.Uint64(b[32:]), c.order.Uint64(b[40:])
	count := uint64(c.order.Uint16(b[56:]))
	if size := c.order.Uint16(b[54:]); size != entry {
		return nil, fmt.Errorf("%w: its program headers have %d bytes", ErrNotCore, size)
	}
	if count == extended {
		if shoff == 0 {
			return nil, fmt.Errorf("%w: it does not say how many program headers it has", ErrNotCore)
		}
		first, failed := c.read(shoff, section)
		if failed != nil {
			return nil, failed
		}
		count = uint64(c.order.Uint32(first[44:]))
	}
	if count > maxSegments {
		return nil, fmt.Errorf("read core: %d mappings are more than any process has", count)
	}
	table, err := c.read(phoff, count*entry)
	if err != nil {
		return nil, err
	}
	segments := make([]segment, 0, count)
	for ; len(table) >= entry; table = table[entry:] {
		segments = append(segments, segment{
			kind: c.order.Uint32(table), flags: c.order.Uint32(table[4:]), off: c.order.Uint64(table[8:]),
			addr: c.order.Uint64(table[16:]), file: c.order.Uint64(table[32:]), size: c.order.Uint64(table[40:]),
		})
	}
	return segments, nil
}

// notes reads the notes of a segment.
func (c *core) notes(s segment) error {
	b, err := c.read(s.off, s.file)
	if err != nil {
		return err
	}
	for len(b) >= 12 {
		nameLen, descLen, kind := uint64(c.order.Uint32(b)), uint64(c.order.Uint32(b[4:])), c.order.Uint32(b[8:])
		desc := 12 + (nameLen+3)&^3
		end := desc + (descLen+3)&^3
		if nameLen > maxNoteNames || desc+descLen > uint64(len(b)) {
			return nil // what follows cannot be found
		}
		if name := string(bytes.TrimRight(b[12:12+nameLen], "\x00")); name == "CORE" {
			c.note(kind, b[desc:desc+descLen])
		}
		b = b[min(end, uint64(len(b))):]
	}
	return nil
}

// note reads one note.
func (c *core) note(kind uint32, b []byte) {
	switch kind {
	case noteStatus:
		c.status(b)
	case noteProcess:
		const pid, name, nameLen = 24, 40, 16
		if len(b) >= name+nameLen {
			c.out.PID = int(c.order.Uint32(b[pid:]))
			c.out.Comm, _, _ = strings.Cut(string(b[name:name+nameLen]), "\x00")
		}
	case noteAuxv:
		for ; len(b) >= 16; b = b[16:] {
			c.auxv[c.order.Uint64(b)] = c.order.Uint64(b[8:])
			if len(c.auxv) > 1<<10 {
				return
			}
		}
	case noteSiginfo:
		c.siginfo(b)
	case noteFile:
		c.fileList(b)
	}
}

// status reads a thread's registers.
func (c *core) status(b []byte) {
	const cursig, pid = 12, 32
	if c.regs == (registers{}) || len(b) < max(c.regs.ip, c.regs.sp)+8 || len(c.out.Threads) >= maxThreads {
		return
	}
	t := procmaps.Thread{TID: int(c.order.Uint32(b[pid:])), SP: c.order.Uint64(b[c.regs.sp:])}
	c.out.Threads = append(c.out.Threads, t)
	if len(c.out.Threads) > 1 {
		return
	}
	f := c.first()
	f.TID, f.SP, f.IP, f.HasIP = t.TID, t.SP, c.order.Uint64(b[c.regs.ip:]), true
	if f.Signal == 0 {
		f.Signal = int(c.order.Uint16(b[cursig:]))
	}
}

// first is what is known of the thread that died.
func (c *core) first() *explain.Fault {
	if c.fault == nil {
		c.fault = &explain.Fault{}
	}
	return c.fault
}

// siginfo reads the siginfo of the first thread; other threads have the same, or none.
func (c *core) siginfo(b []byte) {
	const address = 16 // behind the three numbers and four bytes that align it
	if len(b) < address+8 || c.first().HasCode {
		return
	}
	f := c.first()
	f.Signal, f.Code, f.HasCode = int(int32(c.order.Uint32(b))), int(int32(c.order.Uint32(b[8:]))), true
	f.Address, f.HasAddr = c.order.Uint64(b[address:]), true
	f.Sender = int(int32(c.order.Uint32(b[address:])))
}

// fileList reads NT_FILE: count, page size, then start, end and offset in pages of each, then
// the names.
func (c *core) fileList(b []byte) {
	const head, entry = 16, 24
	if len(b) < head || len(c.files) > 0 {
		return
	}
	count, page := c.order.Uint64(b), c.order.Uint64(b[8:])
	b = b[head:]
	if count > uint64(len(b))/entry {
		return
	}
	if page >= 1<<10 && page <= 1<<20 && page&(page-1) == 0 {
		c.out.PageBytes = page
	}
	names := b[count*entry:]
	c.files = make([]mapped, 0, count)
	for ; count > 0; count-- {
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return
		}
		names = rest
		m := mapped{Range: procmaps.Range{Start: c.order.Uint64(b), End: c.order.Uint64(b[8:])}, path: string(name)}
		m.offset = c.order.Uint64(b[16:]) * page
		if !m.Empty() {
			c.files = append(c.files, m)
		}
		b = b[entry:]
	}
}

// Keys of the auxiliary vector.
const (
	auxVDSO   = 33 // AT_SYSINFO_EHDR
	auxRandom = 25 // AT_RANDOM: 16 bytes on the stack, put there by the kernel
)

// rows makes the list of mappings of the program headers and NT_FILE.
func (c *core) rows() {
	byStart := func(a, b mapped) int { return cmp.Compare(a.Start, b.Start) }
	slices.SortStableFunc(c.files, byStart)
	slices.SortStableFunc(c.loads, func(a, b segment) int { return cmp.Compare(a.addr, b.addr) })
	var rows []explain.Row
	for _, s := range c.loads {
		r := procmaps.Range{Start: s.addr, End: s.addr + s.size}
		row := explain.Row{Mapping: procmaps.Mapping{Range: r, Mode: modeOf(s.flags)}, Known: explain.AccessOnly}
		if m := c.fileAt(r.Start); m != nil {
			row.Name, row.Offset = m.path, m.offset+(r.Start-m.Start)
		} else {
			row.Name = c.special(r)
		}
		rows = append(rows, row)
	}
	for _, m := range c.files {
		if !slices.ContainsFunc(c.overlapping(m.Range), m.Overlaps) {
			rows = append(rows, explain.Row{
				Mapping: procmaps.Mapping{Range: m.Range, Offset: m.offset, Name: m.path}, Known: explain.NoMode,
			})
		}
	}
	slices.SortStableFunc(rows, func(a, b explain.Row) int { return cmp.Compare(a.Start, b.Start) })
	c.out.Rows = apart(rows)
	switch {
	case len(c.loads) == 0 && len(c.files) == 0:
		c.out.Missing = "the core has no mappings: neither PT_LOAD nor NT_FILE"
	case len(c.files) == 0:
		c.out.Missing = "the core has no NT_FILE: which files were mapped is not known"
	}
}

// overlapping returns the segments that may overlap a range: the last below and what begins in it.
func (c *core) overlapping(r procmaps.Range) []procmaps.Range {
	i, _ := slices.BinarySearchFunc(c.loads, r.Start, func(s segment, at uint64) int { return cmp.Compare(s.addr, at) })
	var all []procmaps.Range
	for _, s := range c.loads[max(i-1, 0):min(i+1, len(c.loads))] {
		all = append(all, procmaps.Range{Start: s.addr, End: s.addr + s.size})
	}
	return all
}

// apart drops rows that begin inside of the one before: the kernel writes none.
func apart(rows []explain.Row) []explain.Row {
	end := uint64(0)
	return slices.DeleteFunc(rows, func(r explain.Row) bool {
		if r.Start < end {
			return true
		}
		end = r.End
		return false
	})
}

// fileAt is the file that is mapped at an address, nil if there is none.
func (c *core) fileAt(addr uint64) *mapped {
	i, found := slices.BinarySearchFunc(c.files, addr, func(m mapped, at uint64) int { return cmp.Compare(m.Start, at) })
	if !found {
		i--
	}
	if i >= 0 && c.files[i].Contains(addr) {
		return &c.files[i]
	}
	return nil
}

// special names what the auxiliary vector tells of, as maps does.
func (c *core) special(r procmaps.Range) string {
	switch {
	case c.auxv[auxVDSO] == r.Start && r.Start != 0:
		return "[vdso]"
	case c.auxv[auxRandom] != 0 && r.Contains(c.auxv[auxRandom]):
		return "[stack]"
	case c.out.Arch == "amd64" && r.Start == 0xffffffffff600000:
		return "[vsyscall]"
	}
	return ""
}

// modeOf turns the flags of a segment into a mode.
func modeOf(flags uint32) (m procmaps.Mode) {
	f := elf.ProgFlag(flags)
	if f&elf.PF_R != 0 {
		m |= procmaps.Read
	}
	if f&elf.PF_W != 0 {
		m |= procmaps.Write
	}
	if f&elf.PF_X != 0 {
		m |= procmaps.Exec
	}
	return m
}

// buildID reads the build ID of a file from its first page, which the kernel dumps unless it
// was told not to (coredump_filter bit 4); "" if the file has none.
func (c *core) buildID(path string) (string, error) {
	const most = 64 << 10
	for i := range c.loads {
		s := &c.loads[i]
		m := c.fileAt(s.addr)
		if s.file == 0 || s.off > 1<<62 || m == nil || m.path != path || m.offset+(s.addr-m.Start) != 0 {
			continue
		}
		n := int64(min(s.file, most))
		mod, err := symbol.ReadModule(io.NewSectionReader(c.r, int64(s.off), n), n, symbol.Options{})
		if err != nil {
			return "", err
		}
		return mod.BuildID(), nil
	}
	return "", ErrNoHeader
}
