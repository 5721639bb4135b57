//go:build amd64 || arm64

package bpf

import (
	"fmt"
	"unsafe"
)

// Op says what an Event is about. The values are those of enum mm_op.
type Op uint8

// The operations a record can report.
const (
	OpMmap           = Op(mmMmOpMM_OP_MMAP)
	OpMunmap         = Op(mmMmOpMM_OP_MUNMAP)
	OpBrk            = Op(mmMmOpMM_OP_BRK) // Args[1] is the break before the call, as of its commit
	OpMremap         = Op(mmMmOpMM_OP_MREMAP)
	OpMprotect       = Op(mmMmOpMM_OP_MPROTECT)
	OpPkeyMprotect   = Op(mmMmOpMM_OP_PKEY_MPROTECT)
	OpMadvise        = Op(mmMmOpMM_OP_MADVISE)
	OpProcessMadvise = Op(mmMmOpMM_OP_PROCESS_MADVISE) // Args[4:6] are the first range's address and length
	OpMlock          = Op(mmMmOpMM_OP_MLOCK)
	OpMlock2         = Op(mmMmOpMM_OP_MLOCK2)
	OpMunlock        = Op(mmMmOpMM_OP_MUNLOCK)
	OpMlockall       = Op(mmMmOpMM_OP_MLOCKALL)
	OpMunlockall     = Op(mmMmOpMM_OP_MUNLOCKALL)
	OpShmat          = Op(mmMmOpMM_OP_SHMAT)
	OpShmdt          = Op(mmMmOpMM_OP_SHMDT)
	OpRemapFilePages = Op(mmMmOpMM_OP_REMAP_FILE_PAGES)
	OpMbind          = Op(mmMmOpMM_OP_MBIND)
	OpMseal          = Op(mmMmOpMM_OP_MSEAL)
	OpSetVMA         = Op(mmMmOpMM_OP_SET_VMA)  // prctl(PR_SET_VMA); the name is File.Name
	OpFork           = Op(mmMmOpMM_OP_FORK)     // Args: child tgid, its space (0: not followed), its first section, its start time, its number in its own pid namespace
	OpExec           = Op(mmMmOpMM_OP_EXEC)     // Space is the new one; Args: old space, start_brk, brk, start_stack, first section; File.Name is the comm
	OpExit           = Op(mmMmOpMM_OP_EXIT)     // the process' last thread; Args[0] is the wait status
	OpGone           = Op(mmMmOpMM_OP_GONE)     // the address space itself
	OpOther          = Op(mmMmOpMM_OP_OTHER)    // a section no decoded call owns, or if it has none, whose it is is not clear; NR is the system call, Args[1] 1 for a write release
	OpStack          = Op(mmMmOpMM_OP_STACK)    // the stack grew, by Args[2] pages
	OpAnnounce       = Op(mmMmOpMM_OP_ANNOUNCE) // the section's call has committed and returns much later
	OpVMA            = Op(mmMmOpMM_OP_VMA)      // one VMA of the image that OpExec told of
	OpSeeded         = Op(mmMmOpMM_OP_SEEDED)   // the last of them was sent, of which Pages says how many there are: some were not if a lock was busy
	OpLayout         = Op(mmMmOpMM_OP_LAYOUT)   // where the heap and the stack lie was set by prctl(PR_SET_MM), or by the parent some time; Args: start_brk, brk, start_stack
)

// Flags qualify an Event. The values are those of enum mm_flag.
type Flags uint8

// The flags of an Event.
const (
	Stamped     = Flags(mmMmFlagMM_F_STAMPED)   // Time was taken under the mmap lock
	HasSection  = Flags(mmMmFlagMM_F_SECTION)   // Section is set
	HasFile     = Flags(mmMmFlagMM_F_FILE)      // File is set
	ReadExec    = Flags(mmMmFlagMM_F_READ_EXEC) // personality(READ_IMPLIES_EXEC)
	Remote      = Flags(mmMmFlagMM_F_REMOTE)    // the caller belongs to another address space
	SharesSpace = Flags(mmMmFlagMM_F_SHARED)    // OpFork: parent and child share the space
	NoLock      = Flags(mmMmFlagMM_F_NO_LOCK)   // a call: it has let go of no mmap lock since its entry; the bit of SharesSpace
	Unseeded    = Flags(mmMmFlagMM_F_UNSEEDED)  // OpExec: no VMAs follow, this kernel cannot list them
	Unsampled   = Flags(mmMmFlagMM_F_UNSAMPLED) // the call made memory larger, and its stack was not sent
)

// FileFlags qualify a File. The values are those of enum mm_file_flag.
type FileFlags uint32

// The flags of a File.
const (
	FileCharDevice = FileFlags(mmMmFileFlagMM_FILE_CHARDEV)
	FileRegular    = FileFlags(mmMmFileFlagMM_FILE_REGULAR)
	FileFromVMA    = FileFlags(mmMmFileFlagMM_FILE_VMA)     // the VMA was found; without, nothing else is set
	FileNone       = FileFlags(mmMmFileFlagMM_FILE_NONE)    // the VMA has no file
	FileSpecial    = FileFlags(mmMmFileFlagMM_FILE_SPECIAL) // the kernel's own mapping; Name is its name
	FileKernel     = FileFlags(mmMmFileFlagMM_FILE_KERNEL)  // on a mount of the kernel's own, where nobody else gives names
	FileShmem      = FileFlags(mmMmFileFlagMM_FILE_SHMEM)   // of tmpfs
	FileAnonInode  = FileFlags(mmMmFileFlagMM_FILE_ANON_INODE)
	FilePieces     = FileFlags(mmMmFileFlagMM_FILE_PIECES) // what is left of a mapping that others have changed since is of one file
	FileAlike      = FileFlags(mmMmFileFlagMM_FILE_ALIKE)  // and is the same in all else
)

// MaxFileName is how much of the name of a file is sent, bytes.
const MaxFileName = len(mmMmVma{}.File.Name) - 1

// File is what was found at the address of a mapping when the call that made it returned:
// that mapping, or what has replaced it since.
type File struct {
	Inode   uint64
	Start   uint64 // of the VMA
	End     uint64
	VMFlags uint64 // vm_flags of include/linux/mm.h
	Offset  uint64 // vm_pgoff: in pages
	Size    uint64 // of the file, in bytes
	Block   uint64 // of its file system, in bytes: of hugetlbfs, the size of its pages
	Dev     uint32 // the kernel's dev_t: major<<20 | minor
	Section uint32 // the first that cannot have changed what was found
	Flags   FileFlags
	Name    string // basename, cut to MaxFileName bytes
}

// Covers reports whether the VMA that was found holds all addresses from start to before end.
func (f *File) Covers(start, end uint64) bool {
	return f.Flags&FileFromVMA != 0 && f.Start <= start && end <= f.End
}

// Event is one decoded record. Times are CLOCK_MONOTONIC in ns; process and
// thread numbers are those of our pid namespace; 0 for who has none in it.
type Event struct {
	Time    uint64
	Space   uint64 // the address space's number in this run
	Section uint32
	TGID    uint32
	TID     uint32
	Op      Op
	Flags   Flags
	NR      uint16
	Ret     int64
	Args    [6]uint64
	Stack   uint32 // ID of the Stack that was sent before; 0 for none
	Caller  Caller // of a call that made memory larger, where stacks are asked for
	Pages   int64  // by how many pages the section of a call changed what is mapped; 0 without a section. OpFork: how many the child has; OpSeeded: how many VMAs there are
	File    File   // zero unless HasFile is set or Op is OpVMA
}

// Caller is what is known without a stack of where a call came from, and with which
// chance its stack was sent: 2^-Chance. Of calls with equal Callers, those with a stack
// are a random sample.
type Caller struct {
	Path   uint16 // a hash of the program counter and the return addresses
	Depth  uint8  // of the stack pointer
	Chance uint8
}

// The sizes of the records, as the C side defines them.
const (
	callSize     = int(unsafe.Sizeof(mmMmCall{}))
	fileCallSize = int(unsafe.Sizeof(mmMmFileCall{}))
	vmaSize      = int(unsafe.Sizeof(mmMmVma{}))
)

// decode fills ev from one record of the ring. Records are copied before they
// are looked at: the sample need not be aligned, and is reused by the reader.
func decode(raw []byte, ev *Event) error {
	var (
		c    mmMmCall
		file []byte
	)
	switch len(raw) {
	case callSize, fileCallSize:
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), callSize), raw)
		file = raw[callSize:]
	case vmaSize:
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c.Head)), raw)
		file = raw[unsafe.Sizeof(c.Head):]
	default:
		return fmt.Errorf("decode record: %d bytes is the size of none", len(raw))
	}
	h := &c.Head
	if h.Op < uint8(OpMmap) || h.Op > uint8(OpLayout) || (len(raw) == vmaSize) != (Op(h.Op) == OpVMA) {
		return fmt.Errorf("decode record: operation %d in %d bytes", h.Op, len(raw))
	}
	ev.Time, ev.Space, ev.Section = h.Time, h.Space, h.Section
	ev.TGID, ev.TID, ev.Op, ev.Flags, ev.NR = h.Tgid, h.Tid, Op(h.Op), Flags(h.Flags), h.Nr
	ev.Ret, ev.Args, ev.Stack, ev.Pages = c.Ret, c.Args, c.Stack, c.Pages
	ev.Caller = Caller{c.Path, c.Depth, c.Chance}
	if len(file) == 0 {
		ev.File = File{}
		return nil
	}
	decodeFile(file, &ev.File)
	return nil
}

func decodeFile(raw []byte, f *File) {
	var m mmMmFileCall
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&m.File)), unsafe.Sizeof(m.File)), raw)
	*f = File{
		Inode: m.File.Inode, Start: m.File.VmStart, End: m.File.VmEnd,
		VMFlags: m.File.VmFlags, Offset: m.File.Offset, Size: m.File.Size, Block: m.File.Block,
		Dev: m.File.Dev, Section: m.File.Section, Flags: FileFlags(m.File.Flags), Name: cString(m.File.Name[:]),
	}
}

// cString returns the bytes before the first NUL.
func cString(b []int8) string {
	u := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), len(b))
	for i, c := range u {
		if c == 0 {
			return string(u[:i])
		}
	}
	return string(u)
}
