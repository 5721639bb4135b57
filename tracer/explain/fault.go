package explain

import (
	"slices"
	"strconv"

	"github.com/maptrace/maptrace/procmaps"
)

// Access is what was tried at an address.
type Access uint8

// The kinds of access. The zero value is not known.
const (
	Reads Access = 1 + iota
	Writes
	Executes
)

// String returns the word used in JSON, "" for what is not known.
func (a Access) String() string {
	switch a {
	case Reads:
		return "read"
	case Writes:
		return "write"
	case Executes:
		return "execute"
	}
	return ""
}

// Bits of the error code of a page fault (arch/x86/include/asm/trap_pf.h).
const (
	ErrorPresent = 1 << 0
	ErrorWrite   = 1 << 1
	ErrorFetch   = 1 << 4
	ErrorKey     = 1 << 5
)

// Fault is a signal that a thread got for an access. What is not known is 0.
type Fault struct {
	Signal  int  // number
	Code    int  // si_code, if it is known:
	HasCode bool //
	Access  Access
	// Inferred says that the access is not told, but follows from what was permitted.
	Inferred bool
	Error    uint64 // of a page fault on x86, if it is known:
	HasError bool
	Address  uint64 // si_addr, if the signal has one that means something:
	HasAddr  bool
	TID      int
	Comm     string // raw
	IP, SP   uint64
	Sender   int  // the process that sent it
	HasIP    bool // IP and SP are known
	Sent     bool // a process sent it: there was no access
	// General is a fault of the processor that is about no page, as general protection:
	// it does not say which address it was.
	General bool
}

// Numbers and codes of signals, which are the same on all machines but alpha, mips, parisc and
// sparc (include/uapi/asm-generic/signal.h, siginfo.h).
const (
	sigILL  = 4
	sigTRAP = 5
	sigABRT = 6
	sigBUS  = 7
	sigFPE  = 8
	sigSEGV = 11

	codeKernel = 0x80 // SI_KERNEL

	segvMapErr = 1
	segvAccErr = 2
	segvKeyErr = 4

	busAdrAln = 1
	busAdrErr = 2
	busMceAR  = 4
	busMceAO  = 5
)

// SignalName is the name of a signal.
func (f *Fault) SignalName() string {
	switch f.Signal {
	case 0:
		return ""
	case sigILL:
		return "SIGILL"
	case sigTRAP:
		return "SIGTRAP"
	case sigABRT:
		return "SIGABRT"
	case sigBUS:
		return "SIGBUS"
	case sigFPE:
		return "SIGFPE"
	case sigSEGV:
		return "SIGSEGV"
	}
	return "signal " + strconv.Itoa(f.Signal)
}

// SignalNumber is the number of a signal that has an address, 0 for other names.
func SignalNumber(name string) int {
	switch name {
	case "SIGILL":
		return sigILL
	case "SIGTRAP":
		return sigTRAP
	case "SIGABRT":
		return sigABRT
	case "SIGBUS":
		return sigBUS
	case "SIGFPE":
		return sigFPE
	case "SIGSEGV":
		return sigSEGV
	}
	return 0
}

// codeNames are the names of the codes of a signal, from 1.
func codeNames(signal int) []string {
	switch signal {
	case sigSEGV:
		return []string{"SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"}
	case sigBUS:
		return []string{"BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"}
	}
	return nil
}

// CodeName is the name of the si_code of a fault, "" if it has none.
func (f *Fault) CodeName() string {
	names := codeNames(f.Signal)
	switch {
	case !f.HasCode:
	case f.Code == codeKernel:
		return "SI_KERNEL"
	case f.Code > 0 && f.Code <= len(names):
		return names[f.Code-1]
	}
	return ""
}

// CodeNumber is the si_code of a signal that has this name.
func CodeNumber(signal int, name string) (code int, ok bool) {
	i := slices.Index(codeNames(signal), name)
	return i + 1, i >= 0
}

// Settle derives the rest of what the signal says, once Signal, Code, Address and IP are
// there: whether the address is one (kernel/signal.c:siginfo_layout()).
func (f *Fault) Settle() {
	if !f.HasCode {
		return
	}
	faults := f.Signal == sigSEGV || f.Signal == sigBUS || f.Signal == sigILL || f.Signal == sigFPE
	switch {
	case f.Code <= 0:
		f.Sent, f.HasAddr = true, false
	case f.Code == codeKernel && f.Signal == sigSEGV:
		f.General, f.HasAddr = true, false
	case !faults:
		f.HasAddr = false
	case f.HasIP && f.HasAddr && f.IP == f.Address && (f.Signal == sigSEGV || f.Signal == sigBUS):
		f.Access = Executes
	}
	if !f.Sent {
		f.Sender = 0
	}
}

// Reason is why an access was refused.
type Reason uint8

// The reasons. The zero value is not known.
const (
	NothingMapped    Reason = 1 + iota // no mapping is there
	NotWritable                        // a write to a mapping that is not writable
	NotExecutable                      // code is not taken from a mapping that is not executable
	NotReadable                        // the mapping permits no such access
	NoPage                             // by the error code alone: nothing mapped, or without access
	ProtectedWrite                     // by the error code alone: a page is there, and is not writable
	ProtectedFetch                     // likewise, and not executable
	ProtectedRead                      // likewise, and may not be read
	KeyDenied                          // a protection key forbids it (pkeys(7))
	BeyondFile                         // the file ends before it
	NoBacking                          // SIGBUS: beyond the end of the file, or it could not be read
	Misaligned                         // the address is no multiple of what the access needs
	BrokenMemory                       // the hardware reports an error of the memory
	StackFull                          // the stack may not grow there
	NoProcessAddress                   // no process can have anything there
	PermittedNow                       // the mapping permits it: it was made or changed later
)

var reasonNames = [...]string{
	NothingMapped: "not_mapped", NotWritable: "not_writable", NotExecutable: "not_executable", NotReadable: "not_readable",
	NoPage: "no_page", ProtectedWrite: "not_writable", ProtectedFetch: "not_executable", ProtectedRead: "not_readable",
	KeyDenied: "protection_key", BeyondFile: "past_end", NoBacking: "no_backing", Misaligned: "misaligned",
	BrokenMemory: "hardware_error", StackFull: "stack_overflow", NoProcessAddress: "not_of_a_process",
	PermittedNow: "permitted_now",
}

// String returns the word used in JSON, "" for what is not known.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return ""
}

// fault says why the access was refused.
func (s *Space) fault(a *Answer) {
	f := *a.Fault // what is inferred is this answer's
	a.Fault = &f
	switch {
	case f.Sent || f.General:
	case f.Signal == sigBUS:
		a.Reason = busReason(a)
	case f.Signal != sigSEGV:
	case f.HasCode && f.Code == segvKeyErr, f.HasError && f.Error&ErrorKey != 0:
		a.Reason = KeyDenied
	case a.What == NonCanonical, a.What == Kernel:
		a.Reason = NoProcessAddress
	case a.What == Overflow:
		a.Reason = StackFull
	case a.What == Gap, a.What == Null && a.Listed, a.What == StackRoom:
		a.Reason = NothingMapped
	case a.Row != nil && a.Row.Known != NoMode:
		a.Reason = s.refused(a)
	default:
		a.Reason = byError(&f)
	}
	if d := int64(a.Address - f.SP); f.SP != 0 && (a.Reason == NothingMapped || a.Reason == NoPage) && -nearStack <= d && d <= nearStack {
		a.NearStack, a.FromSP = true, d
	}
}

// busReason is the reason of a SIGBUS.
func busReason(a *Answer) Reason {
	f := a.Fault
	switch {
	case !f.HasCode:
	case f.Code == busAdrAln:
		return Misaligned
	case f.Code == busMceAR, f.Code == busMceAO:
		return BrokenMemory
	case f.Code == busAdrErr && a.What == PastEnd:
		return BeyondFile
	case f.Code == busAdrErr && a.Row != nil:
		return NoBacking
	}
	return 0
}

// refused is why a mapping that is there was of no use.
func (s *Space) refused(a *Answer) Reason {
	f, mode := a.Fault, a.Row.Mode
	if a.What == Guard && a.Page != nil && a.Page.Guard {
		return NotReadable
	}
	// A fault that found no mapping was before this one was made.
	if f.HasCode && f.Code == segvMapErr {
		return PermittedNow
	}
	if f.Access == 0 && f.HasCode && f.Code == segvAccErr && mode&procmaps.Perm != 0 {
		switch {
		case mode&procmaps.Read != 0 && mode&procmaps.Write == 0:
			f.Access, f.Inferred = Writes, true // code is executed where the instruction pointer is
		case mode&procmaps.Write != 0:
			return 0
		}
	}
	switch {
	case mode&procmaps.Perm == 0:
		return NotReadable
	case f.Access == Writes && mode&procmaps.Write == 0:
		return NotWritable
	case f.Access == Executes && mode&procmaps.Exec == 0:
		return NotExecutable
	case f.Access == Reads && mode&(procmaps.Read|procmaps.Write) == 0:
		return NotReadable
	case f.Access != 0:
		return PermittedNow
	}
	return 0
}

// byError is what the error code of a page fault says without the mappings.
func byError(f *Fault) Reason {
	switch {
	case f.HasCode && f.Code == segvMapErr:
		return NothingMapped
	case !f.HasError:
		return 0
	case f.Error&ErrorPresent == 0:
		return NoPage
	case f.Error&ErrorFetch != 0:
		return ProtectedFetch
	case f.Error&ErrorWrite != 0:
		return ProtectedWrite
	}
	return ProtectedRead
}

// AccessOf is what the error code of a page fault on x86 says of the access.
func AccessOf(code uint64) Access {
	switch {
	case code&ErrorFetch != 0:
		return Executes
	case code&ErrorWrite != 0:
		return Writes
	}
	return Reads
}
