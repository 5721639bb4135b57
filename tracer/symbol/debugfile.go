package symbol

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"strings"

	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// maxChecked limits the size of a debug file that is read as a whole for its
// checksum.
const maxChecked = 2 << 30

// debugFile is a separate file with a module's symbols and debug information.
type debugFile struct {
	file    *regular.File
	head    *header
	symbols *symbols
}

// debugRef says which file that would be; false when nothing tells.
func (m *Module) debugRef() (DebugRef, bool) {
	ref := DebugRef{BuildID: m.buildID}
	// The section: the name, padding to 4 bytes, and the checksum.
	if b := contents(m.head.section(".gnu_debuglink"), 4096); len(b) > 4 {
		name, _, ok := strings.Cut(string(b), "\x00")
		at := (len(name) + 4) &^ 3
		// It is a base name: a path would be somebody's attempt at another file.
		if ok && name != "" && name != "." && name != ".." && !strings.Contains(name, "/") && at+4 <= len(b) {
			ref.Link, ref.CRC = name, m.head.order.Uint32(b[at:])
		}
	}
	return ref, ref.BuildID != "" || ref.Link != ""
}

// debugFile finds the debug file, once.
func (m *Module) debugFile() *debugFile {
	return load(&m.debug, func() *debugFile {
		ref, ok := m.debugRef()
		if !ok || m.opts.Debug == nil {
			return nil
		}
		for f := range m.opts.Debug(ref) {
			if head := m.belongs(f, ref); head != nil {
				d := &debugFile{file: f, head: head}
				d.symbols = m.readSymbols(head, elf.SHT_SYMTAB, FromDebug)
				return d
			}
			f.Close()
		}
		return nil
	})
}

// What is read of a .gnu_debugdata: the largest programs of Fedora have some 20 MiB of
// symbols.
const (
	maxMini   = 64 << 20 // bytes when decompressed
	maxPacked = 32 << 20
)

// readMini reads the symbols that Fedora and RHEL leave in a stripped file: an ELF file
// of its own, compressed, with the functions that .dynsym does not have.
func (m *Module) readMini() *symbols {
	s := m.head.section(".gnu_debugdata")
	if s == nil || !plain(s) {
		return nil
	}
	var b []byte
	err := ErrTooLarge
	if s.Size <= maxPacked {
		b, err = unxz(contents(s, maxPacked), maxMini, m.unpack)
	}
	if errors.Is(err, ErrTooLarge) {
		m.refuse(s)
	}
	if err != nil {
		return nil
	}
	head, err := readHeader(m.inMemory(b), int64(len(b)))
	if err != nil || head.machine != m.head.machine || head.is64 != m.head.is64 {
		return nil
	}
	t := m.readSymbols(head, elf.SHT_SYMTAB, FromMini)
	if t != nil {
		m.bytes.Add(int64(len(b))) // the names stay in it
	}
	return t
}

// belongs checks that a file was split from the module. The build ID decides
// where the module has one.
func (m *Module) belongs(f *regular.File, ref DebugRef) *header {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	head, err := readHeader(&paid{r: f, of: m}, info.Size())
	if err != nil || head.machine != m.head.machine || head.is64 != m.head.is64 {
		return nil
	}
	if ref.BuildID != "" {
		id := ""
		guard(func() { id = head.buildID() })
		if id != ref.BuildID {
			return nil
		}
		return head
	}
	if info.Size() > maxChecked {
		m.refuse(m.head.section(".gnu_debuglink"))
		return nil
	}
	// Half a checksum is of no use, so all of it is paid for at once.
	if m.take(info.Size()) != nil {
		return nil
	}
	sum := crc32.NewIEEE()
	all := io.NewSectionReader(&paid{r: f, of: m, memory: true}, 0, info.Size())
	if _, err := io.Copy(sum, all); err != nil || sum.Sum32() != ref.CRC {
		return nil
	}
	return head
}

// blob is the content of a section: in the file, or in memory once decompressed.
type blob struct {
	r    io.ReaderAt
	size uint64
	held int64 // bytes of memory
}

// at returns n bytes at off, or nil when the section does not have them.
func (b *blob) at(off, n uint64) []byte {
	if off > b.size || n > b.size-off {
		return nil
	}
	buf := make([]byte, n)
	if got, _ := b.r.ReadAt(buf, int64(off)); got < len(buf) {
		return nil
	}
	return buf
}

// from returns up to n bytes at off, fewer at the end of the section.
func (b *blob) from(off, n uint64) []byte {
	if off >= b.size {
		return nil
	}
	return b.at(off, min(n, b.size-off))
}

func (b *blob) string(off uint64) string {
	if off >= b.size {
		return ""
	}
	return readString(b.r, int64(off))
}

// ErrTooLarge is matched by the error about what is larger than is read of any file.
var ErrTooLarge = errors.New("too large")

// debugSection opens a section that may be compressed, in which case it takes its
// size from the budget. A section that is not there is empty.
func (m *Module) debugSection(h *header, name string, budget *int64) (blob, error) {
	s := h.section(".debug_" + name)
	if s == nil {
		return m.oldCompressed(h, name, budget)
	}
	if plain(s) {
		return blob{r: s, size: s.Size}, nil
	}
	return m.inflate(s, s.Open(), s.Size, budget)
}

// oldCompressed reads a section in the form that GNU tools wrote before 2015, and
// Go before 1.20: "ZLIB" and the size in the content.
func (m *Module) oldCompressed(h *header, name string, budget *int64) (blob, error) {
	s := h.section(".zdebug_" + name)
	if s == nil || !plain(s) {
		return blob{r: bytes.NewReader(nil)}, nil
	}
	var b [12]byte
	if n, _ := s.ReadAt(b[:], 0); n < len(b) || string(b[:4]) != "ZLIB" {
		return blob{}, errors.New("malformed compressed section")
	}
	z, err := zlib.NewReader(io.NewSectionReader(s, 12, math.MaxInt64-12))
	if err != nil {
		return blob{}, err
	}
	return m.inflate(s, z, binary.BigEndian.Uint64(b[4:]), budget)
}

// inflate decompresses a section up to the declared size. A bomb is told by what it
// claims: zlib cannot shrink anything more than 1032-fold.
func (m *Module) inflate(s *elf.Section, r io.Reader, size uint64, budget *int64) (blob, error) {
	const most = 1100
	if size > uint64(*budget) || size/most > s.FileSize {
		m.refuse(s)
		return blob{}, ErrTooLarge
	}
	if err := m.unpack(int64(size)); err != nil {
		return blob{}, err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return blob{}, err
	}
	*budget -= int64(size)
	return blob{r: m.inMemory(b), size: size, held: int64(size)}, nil
}
