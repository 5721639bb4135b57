package space

import "strconv"

// Op says what changed an address space, or made an extent.
type Op uint8

// The operations. The first group are system calls and are given to
// [Space.Apply]; the second are not, and mark the origin of extents.
const (
	OpMmap Op = 1 + iota
	OpMunmap
	OpBrk
	OpMremap
	OpMprotect
	OpMadvise
	OpMlock
	OpShmat
	OpShmdt
	OpRemapFilePages
	OpMbind
	OpSetVMA // prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)

	OpFork
	OpExec
	OpExit
	OpStack // growth of a stack by a fault
	OpOther // the kernel did it: io_uring, aio, uprobes, a driver
	OpSeed  // was there when the tracing began
	OpReread
)

var opNames = [...]string{
	OpMmap: "mmap", OpMunmap: "munmap", OpBrk: "brk", OpMremap: "mremap",
	OpMprotect: "mprotect", OpMadvise: "madvise", OpMlock: "mlock",
	OpShmat: "shmat", OpShmdt: "shmdt", OpRemapFilePages: "remap_file_pages",
	OpMbind: "mbind", OpSetVMA: "name", OpFork: "fork", OpExec: "exec",
	OpExit: "exit", OpStack: "stack", OpOther: "other", OpSeed: "seed",
	OpReread: "re-read",
}

// String returns the word used in output.
func (o Op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return "op(" + strconv.Itoa(int(o)) + ")"
}

// Sub tells the system calls apart that share an [Op]. It matters for
// printing, and for process_madvise and mlockall, whose arguments are no range.
type Sub uint8

// The variants. Zero is the call the Op is named after.
const (
	SubMlock2 Sub = 1 + iota
	SubMunlock
	SubMlockall
	SubMunlockall
	SubPkeyMprotect
	SubProcessMadvise
	SubSetMempolicyHomeNode
	SubMseal
)

var subNames = [...]string{
	SubMlock2: "mlock2", SubMunlock: "munlock", SubMlockall: "mlockall",
	SubMunlockall: "munlockall", SubPkeyMprotect: "pkey_mprotect",
	SubProcessMadvise:       "process_madvise",
	SubSetMempolicyHomeNode: "set_mempolicy_home_node",
	SubMseal:                "mseal",
}

// String returns the name of the system call, or "" for zero.
func (u Sub) String() string {
	if int(u) < len(subNames) {
		return subNames[u]
	}
	return "sub(" + strconv.Itoa(int(u)) + ")"
}
