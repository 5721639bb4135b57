package crash

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/explain"
)

// made is a core file that is made up.
type made struct {
	machine  elf.Machine
	segments []segment
	notes    []byte
	extended bool // with more program headers than the ELF header can count
}

func (m *made) note(kind uint32, desc []byte) {
	b := binary.LittleEndian.AppendUint32(m.notes, 5)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(append(b, "CORE\x00\x00\x00\x00"...), desc...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	m.notes = b
}

// words is a note of numbers of 8 bytes at some places.
func words(size int, at map[int]uint64) []byte {
	b := make([]byte, size)
	for off, v := range at {
		binary.LittleEndian.PutUint64(b[off:], v)
	}
	return b
}

// fileNote is an NT_FILE.
func fileNote(entries [][3]uint64, names string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(entries)))
	b = binary.LittleEndian.AppendUint64(b, 4096)
	for _, e := range entries {
		for _, v := range e {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	return append(b, names...)
}

func (m *made) bytes() []byte {
	const header, entry, section = 64, 56, 64
	all := append([]segment{{kind: uint32(elf.PT_NOTE), file: uint64(len(m.notes))}}, m.segments...)
	b := make([]byte, header, 1<<12)
	copy(b, elf.ELFMAG+"\x02\x01\x01")
	put16, put64 := binary.LittleEndian.PutUint16, binary.LittleEndian.PutUint64
	put16(b[16:], uint16(elf.ET_CORE))
	put16(b[18:], uint16(m.machine))
	put64(b[32:], header)
	put16(b[54:], entry)
	put16(b[56:], uint16(len(all)))
	all[0].off = uint64(header + entry*len(all) + section)
	for _, s := range all {
		e := make([]byte, entry)
		binary.LittleEndian.PutUint32(e, s.kind)
		binary.LittleEndian.PutUint32(e[4:], s.flags)
		for i, v := range []uint64{s.off, s.addr, 0, s.file, s.size} {
			put64(e[8+8*i:], v)
		}
		b = append(b, e...)
	}
	if m.extended {
		put16(b[56:], 0xffff)
		put64(b[40:], uint64(len(b)))
	}
	first := make([]byte, section)
	binary.LittleEndian.PutUint32(first[44:], uint32(len(all)))
	return append(append(b, first...), m.notes...)
}

// someCore is of a process that wrote to its code.
func someCore() *made {
	load := func(start, end uint64, flags elf.ProgFlag) segment {
		return segment{kind: uint32(elf.PT_LOAD), flags: uint32(flags), addr: start, size: end - start}
	}
	m := &made{machine: elf.EM_X86_64, segments: []segment{
		load(0x401000, 0x402000, elf.PF_R|elf.PF_X), load(0x403000, 0x404000, elf.PF_R|elf.PF_W),
		load(0x7ffc00000000, 0x7ffc00021000, elf.PF_R|elf.PF_W), load(0x7ffc00030000, 0x7ffc00032000, elf.PF_R|elf.PF_X),
	}}
	status := words(336, map[int]uint64{statusRegisters + 16*8: 0x401010, statusRegisters + 19*8: 0x7ffc00020000})
	binary.LittleEndian.PutUint16(status[12:], 11)
	binary.LittleEndian.PutUint32(status[32:], 77)
	m.note(noteStatus, status)
	process := words(136, nil)
	binary.LittleEndian.PutUint32(process[24:], 77)
	copy(process[40:], "server\x1b[2J\x00")
	m.note(noteProcess, process)
	signal := words(128, map[int]uint64{0: 11, 8: 2, 16: 0x401020})
	m.note(noteSiginfo, signal)
	m.note(noteAuxv, words(48, map[int]uint64{0: auxVDSO, 8: 0x7ffc00030000, 16: auxRandom, 24: 0x7ffc00020100}))
	m.note(noteFile, fileNote([][3]uint64{{0x401000, 0x402000, 1}, {0x500000, 0x501000, 0}}, "/opt/server\x00/data/not dumped\x00"))
	return m
}

func TestCores(t *testing.T) {
	t.Parallel()
	row := func(start, end uint64, mode procmaps.Mode, offset uint64, name string) explain.Row {
		return explain.Row{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: start, End: end}, Mode: mode, Offset: offset, Name: name}, Known: explain.AccessOnly}
	}
	notDumped := row(0x500000, 0x501000, 0, 0, "/data/not dumped")
	notDumped.Known = explain.NoMode
	want := &Crash{
		PID: 77, Comm: "server\x1b[2J",
		Space: explain.Space{
			Arch: "amd64", PageBytes: 4096, Threads: []procmaps.Thread{{TID: 77, SP: 0x7ffc00020000}},
			Rows: []explain.Row{
				row(0x401000, 0x402000, procmaps.Read|procmaps.Exec, 0x1000, "/opt/server"), row(0x403000, 0x404000, procmaps.Read|procmaps.Write, 0, ""), notDumped,
				row(0x7ffc00000000, 0x7ffc00021000, procmaps.Read|procmaps.Write, 0, "[stack]"), row(0x7ffc00030000, 0x7ffc00032000, procmaps.Read|procmaps.Exec, 0, "[vdso]"),
			},
		},
		Faults: []explain.Fault{{Signal: 11, Code: 2, HasCode: true, Address: 0x401020, HasAddr: true, TID: 77, IP: 0x401010, SP: 0x7ffc00020000, HasIP: true}},
	}
	for _, extended := range []bool{false, true} {
		m := someCore()
		m.extended = extended
		c, err := ReadCore(bytes.NewReader(m.bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.BuildID("/opt/server"); !errors.Is(err, ErrNoHeader) {
			t.Errorf("a build ID: %v", err)
		}
		c.BuildID = nil
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("extended %v: -want +got:\n%s", extended, diff)
		}
	}
}

func TestWhatACoreLacksIsSaid(t *testing.T) {
	t.Parallel()
	m := &made{machine: elf.EM_S390}
	c, err := ReadCore(bytes.NewReader(m.bytes()))
	if err != nil || len(c.Faults) != 0 || c.Missing != "the core has no mappings: neither PT_LOAD nor NT_FILE" {
		t.Errorf("%+v, %v", c, err)
	}
	m.segments = someCore().segments
	if c, err = ReadCore(bytes.NewReader(m.bytes())); err != nil || c.Missing != "the core has no NT_FILE: which files were mapped is not known" || c.Arch != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

// counted fails a test that reads much.
type counted struct {
	t    *testing.T
	r    io.ReaderAt
	left int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	if c.left -= len(p); c.left < 0 {
		c.t.Fatal("it reads more than the headers")
	}
	return c.r.ReadAt(p, off)
}

func TestHostileCores(t *testing.T) {
	t.Parallel()
	good := someCore().bytes()
	change := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("no ELF file at all, but long enough to have a header of sixty-four bytes"),
		"32-bit":           change(func(b []byte) { b[elf.EI_CLASS] = 1 }),
		"a program":        change(func(b []byte) { b[16] = byte(elf.ET_EXEC) }),
		"other headers":    change(func(b []byte) { b[54] = 1 }),
		"headers outside":  change(func(b []byte) { binary.LittleEndian.PutUint64(b[32:], 1<<63) }),
		"headers behind":   change(func(b []byte) { binary.LittleEndian.PutUint64(b[32:], 1<<40) }),
		"section outside":  change(func(b []byte) { b[56], b[57] = 0xff, 0xff }),
		"cut in headers":   good[:100],
		"cut in the notes": good[:len(good)-10],
		"notes too large":  change(func(b []byte) { binary.LittleEndian.PutUint64(b[64+32:], 1<<40) }),
	} {
		if c, err := ReadCore(&counted{t, bytes.NewReader(data), 1 << 16}); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// What a note says of its own size is not believed, nor how many files it says to have.
	for name, note := range map[string][]byte{
		"many files": words(16, map[int]uint64{0: 1 << 60, 8: 4096}), "no names": fileNote([][3]uint64{{1, 2, 3}}, ""), "short": {1},
		"names without an end": fileNote([][3]uint64{{1, 2, 3}, {4, 5, 6}}, "/a\x00/b"),
	} {
		for _, kind := range []uint32{noteFile, noteStatus, noteProcess, noteAuxv, noteSiginfo} {
			m := &made{machine: elf.EM_X86_64}
			m.note(kind, note)
			if _, err := ReadCore(bytes.NewReader(m.bytes())); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func FuzzReadCore(f *testing.F) {
	f.Add(someCore().bytes(), uint64(0x401020))
	f.Add((&made{machine: elf.EM_AARCH64, extended: true}).bytes(), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		r := &counted{t, bytes.NewReader(data), 4*len(data) + 1<<12}
		c, err := ReadCore(r)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		checkCrash(t, c, addr)
		if c != nil {
			r.left = math.MaxInt // a module has bounds of its own
			_, _ = c.BuildID("/opt/server")
		}
	})
}
