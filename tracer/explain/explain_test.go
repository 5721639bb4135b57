package explain

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// listing is of a process with a thread, whose stack has a guard, and of a library.
const listing = `00401000-00402000 r-xp 00001000 fe:00 11                                 /opt/server
00403000-00404000 rw-p 00003000 fe:00 11                                 /opt/server
01000000-01021000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 ---p 00000000 00:00 0 
7f0000001000-7f0000801000 rw-p 00000000 00:00 0 
7f0001000000-7f0001100000 ---p 00000000 00:00 0 
7f0002000000-7f0002003000 rw-s 00000000 fe:00 12                         /data/db
7f0003000000-7f0003010000 r-xp 00010000 fe:00 13                         /lib/x.so
7f0003010000-7f0003020000 ---p 00020000 fe:00 13                         /lib/x.so
7f0003020000-7f0003021000 r--p 00020000 fe:00 13                         /lib/x.so
7f0004000000-7f0004010000 rw-p 00000000 00:00 0                          [anon: glibc: pthread stack: 99]
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func space(tb testing.TB, text string) *Space {
	tb.Helper()
	rows, err := procmaps.ParseMaps([]byte(text), "maps")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Space{Threads: []procmaps.Thread{{TID: 42, SP: 0x7f0000800f00}}, Arch: "amd64", StackLimit: 8 << 20}
	for _, r := range rows {
		s.Rows = append(s.Rows, Row{Mapping: r})
	}
	return s
}

// said is what a test wants of an answer.
type said struct {
	What   What
	Row    string // the name of the row, or "-"
	Into   uint64
	TID    int
	Offset uint64 // in a file
	Below  uint64 // distances; math.MaxUint64 for nobody
	Above  uint64
	Reason Reason
	Access Access
}

const nobody = math.MaxUint64

func of(a *Answer) said {
	g := said{What: a.What, Row: "-", Into: a.Into, TID: a.TID, Below: nobody, Above: nobody, Reason: a.Reason}
	if a.Row != nil {
		g.Row = a.Row.Name
	}
	if a.File {
		g.Offset = a.FileOffset
	}
	if a.Below != nil {
		g.Below = a.Below.Distance
	}
	if a.Above != nil {
		g.Above = a.Above.Distance
	}
	if a.Fault != nil {
		g.Access = a.Fault.Access
	}
	return g
}

func TestWhatIsAtAnAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		addr   uint64
		detail Details
		want   said
	}{
		{"code", 0x401010, Details{}, said{Mapped, "/opt/server", 0x10, 0, 0x1010, nobody, 0x1ff0, 0, 0}},
		{"the first byte of data", 0x403000, Details{}, said{Mapped, "/opt/server", 0, 0, 0x3000, 0x1000, 0xbfd000, 0, 0}},
		{"a hole between segments", 0x402008, Details{}, said{Gap, "-", 0, 0, 0, 8, 0xff8, 0, 0}},
		{"the byte behind a mapping", 0x404000, Details{}, said{Gap, "-", 0, 0, 0, 0, 0xbfc000, 0, 0}},
		{"the heap", 0x1000340, Details{}, said{Mapped, "[heap]", 0x340, 0, 0, 0xbfc340, 0x7effff000000 - 0x340, 0, 0}},
		{"a null pointer", 0, Details{}, said{Null, "-", 0, 0, 0, nobody, 0x401000, 0, 0}},
		{"a member of a null pointer", 0x18, Details{}, said{Null, "-", 0, 0, 0, nobody, 0x400fe8, 0, 0}},
		{"below the program, but not near 0", 0x10000, Details{}, said{Gap, "-", 0, 0, 0, nobody, 0x3f1000, 0, 0}},
		{"the guard of a thread", 0x7f0000000ff8, Details{}, said{Guard, "", 0xff8, 42, 0, 0x7f0000000ff8 - 0x1021000, 8, 0, 0}},
		{"the stack of a thread", 0x7f0000800f00, Details{}, said{Mapped, "", 0x7fff00, 42, 0, 0x7fff00, 0x7ff100, 0, 0}},
		{"a stack that glibc has named", 0x7f0004000010, Details{}, said{Mapped, "[anon: glibc: pthread stack: 99]", 0x10, 99, 0, 0xfdf010, 0x7ffc00000000 - 0x7f0004000010, 0, 0}},
		{"a mark in the page tables below a stack", 0x7f0000001100, Details{Page: &procmaps.Page{Guard: true}}, said{Guard, "", 0x100, 42, 0, 0x100, 0xffef00, 0, 0}},
		{"address space set aside", 0x7f0001000000, Details{}, said{NoAccess, "", 0, 0, 0, 0x7ff000, 0x1000000, 0, 0}},
		{"in a file", 0x7f0002000010, Details{FileBytes: 0x1800, FileKnown: true}, said{Mapped, "/data/db", 0x10, 0, 0x10, 0xf00010, 0xfffff0, 0, 0}},
		{"the rest of a file's last page", 0x7f0002001ff8, Details{FileBytes: 0x1800, FileKnown: true}, said{Mapped, "/data/db", 0x1ff8, 0, 0x1ff8, 0xf01ff8, 0xffe008, 0, 0}},
		{"behind a file's last page", 0x7f0002002000, Details{FileBytes: 0x1800, FileKnown: true}, said{PastEnd, "/data/db", 0x2000, 0, 0x2000, 0xf02000, 0xffe000, 0, 0}},
		{"of a file whose size is not known", 0x7f0002002000, Details{}, said{Mapped, "/data/db", 0x2000, 0, 0x2000, 0xf02000, 0xffe000, 0, 0}},
		{"of an empty file", 0x7f0002000000, Details{FileKnown: true}, said{PastEnd, "/data/db", 0, 0, 0, 0xf00000, 0x1000000, 0, 0}},
		{"between a library's segments", 0x7f0003010000, Details{}, said{Guard, "/lib/x.so", 0, 0, 0x20000, 0, 0x10000, 0, 0}},
		{"where the stack may grow", 0x7ffbffffe000, Details{}, said{StackRoom, "-", 0, 0, 0, 0x7ffbffffe000 - 0x7f0004010000, 0x2000, 0, 0}},
		{"where its limit is passed", 0x7ffc00021000 - 8<<20 - 8, Details{}, said{Overflow, "-", 0, 0, 0, 0x7ffc00021000 - 8<<20 - 8 - 0x7f0004010000, 8<<20 + 8 - 0x21000, 0, 0}},
		{"far below the stack", 0x7ff000000000, Details{}, said{Gap, "-", 0, 0, 0, 0x7ff000000000 - 0x7f0004010000, 0xc00000000, 0, 0}},
		{"above the stack", 0x7ffc00021000, Details{}, said{Gap, "-", 0, 0, 0, 0, nobody, 0, 0}},
		{"vsyscall", 0xffffffffff600100, Details{}, said{Vsyscall, "[vsyscall]", 0x100, 0, 0, nobody, nobody, 0, 0}},
		{"the kernel's", 0xffff888000000000, Details{}, said{Kernel, "-", 0, 0, 0, nobody, nobody, 0, 0}},
		{"an error as a pointer", math.MaxUint64 - 21, Details{}, said{Kernel, "-", 0, 0, 0, nobody, nobody, 0, 0}},
		{"not canonical", 0x4141414141414141, Details{}, said{NonCanonical, "-", 0, 0, 0, nobody, nobody, 0, 0}},
		{"not canonical, with its upper half set", 0x8000000000000000, Details{}, said{NonCanonical, "-", 0, 0, 0, nobody, nobody, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := space(t, listing)
			a := s.Address(tt.addr, &tt.detail, nil)
			if diff := cmp.Diff(tt.want, of(a)); diff != "" {
				t.Errorf("%#x: -want +got:\n%s", tt.addr, diff)
			}
		})
	}
}

func TestWhatANumberTells(t *testing.T) {
	t.Parallel()
	s := space(t, listing)
	if a := s.Address(0x4847464544434241, nil, nil); a.Text != "ABCDEFGH" {
		t.Errorf("text %q", a.Text)
	}
	if a := s.Address(0x48474645444342ff, nil, nil); a.Text != "" {
		t.Errorf("text %q", a.Text)
	}
	if a := s.Address(math.MaxUint64-21, nil, nil); a.Below0 != 22 {
		t.Errorf("%d below 0", a.Below0)
	}
	s.Arch = "arm64"
	if a := s.Address(0xb400007f00000010|0x2<<24|0xb4<<56, nil, nil); a.Tag != 0xb4 || a.Address>>56 != 0 {
		t.Errorf("address %#x, tag %#x", a.Address, a.Tag)
	}
	if a := s.Address(0xb4007f0002000010, nil, nil); a.What != Mapped || a.Row.Name != "/data/db" {
		t.Errorf("%v at a tagged address", a.What)
	}
	if a := s.Address(0xffff000012345678, nil, nil); a.What != Kernel || a.Tag != 0 {
		t.Errorf("%v, tag %#x at one of the kernel", a.What, a.Tag)
	}
}

func TestWithoutAListingNothingIsClaimed(t *testing.T) {
	t.Parallel()
	s := &Space{Missing: "no listing"}
	for addr, want := range map[uint64]What{0x18: Null, 0x401000: Unknown, 1 << 62: Unknown, math.MaxUint64: Kernel} {
		a := s.Address(addr, nil, nil)
		if a.What != want || a.Listed || a.Missing != "no listing" || a.Below != nil || a.Above != nil {
			t.Errorf("%#x: %+v", addr, a)
		}
	}
	full := space(t, listing)
	full.Partial = true
	if a := full.Address(0x402008, nil, nil); a.What != Unknown || a.Below != nil {
		t.Errorf("beside some of the rows: %v", a.What)
	}
	if a := full.Address(0x401008, nil, nil); a.What != Mapped {
		t.Errorf("in one of them: %v", a.What)
	}
}

func TestOfRowsWithoutAModeNoneIsInferred(t *testing.T) {
	t.Parallel()
	s := space(t, listing)
	for i := range s.Rows {
		s.Rows[i].Known, s.Rows[i].Mode = NoMode, 0
	}
	for _, addr := range []uint64{0x401010, 0x7f0000000ff8, 0x7f0001000000, 0x7f0003010000} {
		if a := s.Address(addr, nil, nil); a.What != Mapped || a.Row.ModeText() != "" {
			t.Errorf("%#x: %v, %q", addr, a.What, a.Row.ModeText())
		}
	}
}

func TestNoStackGrowsIntoItsNeighbour(t *testing.T) {
	t.Parallel()
	s := space(t, "7ffbfffc0000-7ffbffff0000 rw-p 00000000 00:00 0 \n7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n")
	if a := s.Address(0x7ffbfffff000, nil, nil); a.What != Gap {
		t.Errorf("below the stack, and near to other memory: %v", a.What)
	}
}

func TestWhyAnAccessWasRefused(t *testing.T) {
	t.Parallel()
	segv := func(code int) Fault { return Fault{Signal: sigSEGV, Code: code, HasCode: true} }
	at := func(f Fault, ip uint64) Fault { f.IP, f.HasIP = ip, true; return f }
	by := func(code uint64) Fault {
		return Fault{Signal: sigSEGV, Error: code, HasError: true, Access: AccessOf(code)}
	}
	bus := func(code int) Fault { return Fault{Signal: sigBUS, Code: code, HasCode: true} }
	for _, tt := range []struct {
		name   string
		addr   uint64
		f      Fault
		rows   bool
		want   Reason
		access Access
	}{
		{"null", 0x18, segv(segvMapErr), true, NothingMapped, 0},
		{"a gap", 0x402008, segv(segvMapErr), true, NothingMapped, 0},
		{"a write that is inferred", 0x401010, segv(segvAccErr), true, NotWritable, Writes},
		{"data that is executed", 0x403010, at(segv(segvAccErr), 0x403010), true, NotExecutable, Executes},
		{"code that is executed at 0", 0, at(segv(segvMapErr), 0), true, NothingMapped, Executes},
		{"without access", 0x7f0001000000, segv(segvAccErr), true, NotReadable, 0},
		{"a guard", 0x7f0000000ff8, segv(segvAccErr), true, NotReadable, 0},
		{"what permits it", 0x403010, segv(segvAccErr), true, 0, 0},
		{"mapped since", 0x403010, segv(segvMapErr), true, PermittedNow, 0},
		{"a key", 0x403010, segv(segvKeyErr), true, KeyDenied, 0},
		{"below the stack", 0x7ffbffffff00, segv(segvMapErr), true, StackFull, 0},
		{"far below the stack", 0x7ff000000000, segv(segvMapErr), true, NothingMapped, 0},
		{"the kernel's", 0xffff888000000000, segv(segvMapErr), true, NoProcessAddress, 0},
		{"a read of what may be read", 0x401010, by(4), true, PermittedNow, Reads},
		{"a write by its code", 0x401010, by(7), true, NotWritable, Writes},
		{"a fetch by its code", 0x403010, by(0x15), true, NotExecutable, Executes},
		{"a read of no page", 0x55550000, by(4), false, NoPage, Reads},
		{"a read of no page, near 0", 0x18, by(4), false, NoPage, Reads},
		{"a write to a page", 0x55550000, by(7), false, ProtectedWrite, Writes},
		{"a fetch from a page", 0x55550000, by(0x15), false, ProtectedFetch, Executes},
		{"a read from a page", 0x55550000, by(5), false, ProtectedRead, Reads},
		{"a key by its code", 0x55550000, by(0x25), false, KeyDenied, Reads},
		{"nothing mapped, by the signal", 0x55550000, segv(segvMapErr), false, NothingMapped, 0},
		{"a file's end that is not known", 0x7f0002002000, bus(busAdrErr), true, NoBacking, 0},
		{"not aligned", 0x403001, bus(busAdrAln), true, Misaligned, 0},
		{"broken memory", 0x403001, bus(busMceAR), true, BrokenMemory, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Space{Arch: "amd64"}
			if tt.rows {
				s = space(t, listing)
			}
			tt.f.Address, tt.f.HasAddr = tt.addr, true
			tt.f.Settle()
			a := s.Address(tt.addr, nil, &tt.f)
			if a.Reason != tt.want || a.Fault.Access != tt.access {
				t.Errorf("%v, %q, want %v, %q", a.Reason, a.Fault.Access, tt.want, tt.access)
			}
			if a.Fault == &tt.f {
				t.Error("it shares the fault that it was given")
			}
		})
	}
	d := Details{FileBytes: 0x1800, FileKnown: true}
	f := bus(busAdrErr)
	if a := space(t, listing).Address(0x7f0002002000, &d, &f); a.Reason != BeyondFile {
		t.Errorf("beyond the end of a file: %v", a.Reason)
	}
	near := by(6)
	near.SP = 0x55550100
	if a := (&Space{}).Address(0x55550000, nil, &near); !a.NearStack || a.FromSP != -0x100 {
		t.Errorf("near the stack pointer: %v, %d", a.NearStack, a.FromSP)
	}
}

func TestWhatASignalSays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		f        Fault
		sent     bool
		general  bool
		hasAddr  bool
		name     string
		codeName string
	}{
		{Fault{Signal: sigSEGV, Code: segvMapErr}, false, false, true, "SIGSEGV", "SEGV_MAPERR"},
		{Fault{Signal: sigSEGV, Code: codeKernel}, false, true, false, "SIGSEGV", "SI_KERNEL"},
		{Fault{Signal: sigSEGV, Code: 0, Sender: 7}, true, false, false, "SIGSEGV", ""},
		{Fault{Signal: sigABRT, Code: -6, Sender: 7}, true, false, false, "SIGABRT", ""},
		{Fault{Signal: sigBUS, Code: busAdrErr}, false, false, true, "SIGBUS", "BUS_ADRERR"},
		{Fault{Signal: sigFPE, Code: 1}, false, false, true, "SIGFPE", ""},
		{Fault{Signal: sigTRAP, Code: 1}, false, false, false, "SIGTRAP", ""},
		{Fault{Signal: 31, Code: 1}, false, false, false, "signal 31", ""},
	} {
		f := tt.f
		f.HasCode, f.HasAddr, f.Address = true, true, 0x10
		f.Settle()
		if f.Sent != tt.sent || f.General != tt.general || f.HasAddr != tt.hasAddr || f.SignalName() != tt.name || f.CodeName() != tt.codeName {
			t.Errorf("%+v: %q, %q", f, f.SignalName(), f.CodeName())
		}
		if f.Sender != 0 && !f.Sent {
			t.Errorf("%+v has a sender", f)
		}
	}
	for n := range 12 {
		f := Fault{Signal: n}
		if name := f.SignalName(); SignalNumber(name) != 0 && SignalNumber(name) != n {
			t.Errorf("signal %d is called %s", n, name)
		}
	}
	if n, ok := CodeNumber(sigBUS, "BUS_ADRERR"); n != busAdrErr || !ok {
		t.Errorf("code %d", n)
	}
	if _, ok := CodeNumber(sigSEGV, "BUS_ADRERR"); ok {
		t.Error("SIGSEGV has a code of SIGBUS")
	}
}
