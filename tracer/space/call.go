package space

import "github.com/maptrace/maptrace/procmaps"

// Call is one finished system call of a thread on this address space. It is
// plain data; [Space.Apply] keeps no reference to it.
type Call struct {
	Op   Op
	Sub  Sub
	Exec bool   // the thread's personality has READ_IMPLIES_EXEC
	TID  uint32 // of the thread that made the call, for the origin
	Time uint64 // commit stamp, ns, never 0
	Site uint64 // creation stack, kept in the origin of what the call makes; 0 for none

	Args [6]uint64 // the raw arguments of the system call
	Ret  int64     // its result, -errno on failure

	// OldBrk is, for OpBrk, the program break just before the call, as of its
	// commit. Ret is the break after it.
	OldBrk uint64

	// File identifies what OpMmap of a file and OpShmat map, and is used where
	// known for shared anonymous and hugetlb memory. With device and inode zero
	// the identity is unknown: the extent then agrees with any row of its class,
	// and takes its identity from there.
	File File

	// VMA is what OpShmat and OpMmap have mapped, where the arguments do not tell: as
	// the size of a segment, or of huge pages. It must not include neighbours the kernel
	// merged it with. Empty if unknown. Of OpSetVMA it is, with Found, where the name was
	// seen: user memory, where the call found it, may hold another by now.
	VMA procmaps.Range

	// Mode, Flags and Offset are, with Found, what a mapping of OpMmap and OpShmat became,
	// whatever the arguments say: a driver may forbid that a child inherits it, a mount
	// that it is executed.
	Found  bool
	Mode   procmaps.Mode
	Flags  Flags
	Offset uint64 // of its first byte in the file, bytes

	// Unsure says that what OpMmap or OpShmat has mapped was not seen, or not all.
	Unsure bool

	// ReadOnly says that what OpMmap maps can never be written: of shared memory, that
	// the file is open for reading only.
	ReadOnly bool

	// Pages is by how many pages what is mapped has changed with the call, as the
	// kernel counts them. Counted says that the tree must change by as many.
	Pages   int64
	Counted bool

	Name string // for OpSetVMA, the new name, "" to take it away
}

// The system call arguments that matter here, from the kernel's uapi headers;
// they are the same on amd64 and arm64.
const (
	protRead      = 0x1
	protWrite     = 0x2
	protExec      = 0x4
	protSem       = 0x8
	protGrowsDown = 0x01000000
	protGrowsUp   = 0x02000000

	mapTypeMask       = 0x0f
	mapShared         = 0x01
	mapSharedValidate = 0x03
	mapDroppable      = 0x08
	mapFixed          = 0x10
	mapAnonymous      = 0x20
	mapGrowsDown      = 0x0100
	mapHugeTLB        = 0x40000
	mapFixedNoReplace = 0x100000
	mapHugeShift      = 26
	mapHugeMask       = 0x3f

	mremapFixed     = 0x2
	mremapDontUnmap = 0x4

	madvSequential = 2
	madvDontFork   = 10
	madvDoFork     = 11
	madvMergeable  = 12
	madvDoDump     = 17
	madvWipeOnFork = 18
	madvKeepOnFork = 19

	shmReadOnly = 0o10000
	shmRemap    = 0o40000
	shmExec     = 0o100000

	errnoBadFile  = 9
	errnoNoMemory = 12
	errnoAccess   = 13
	errnoFault    = 14
	errnoInvalid  = 22
	errnoMax      = 4095
)

// KeepsSource reports whether an mremap leaves the mapping that it moves where it was, empty
// (MREMAP_DONTUNMAP, since 5.7).
func (c *Call) KeepsSource() bool { return c.Args[3]&mremapDontUnmap != 0 }

// Failed reports whether the call returned an error.
func (c *Call) Failed() bool { return c.Ret < 0 && c.Ret >= -errnoMax }

// modeOf imitates calc_vm_prot_bits and the READ_IMPLIES_EXEC rule of
// mm/mmap.c:do_mmap and mm/mprotect.c:do_mprotect_pkey.
func (c *Call) modeOf(prot uint64) procmaps.Mode {
	if c.Exec && prot&protRead != 0 {
		prot |= protExec
	}
	return procmaps.Mode(prot) & procmaps.Perm
}
