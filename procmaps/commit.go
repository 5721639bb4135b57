package procmaps

import "strings"

// Commit says how much of one mapping the kernel has promised to back. The parts
// are in KiB and do not overlap; what of the mapping is in none of them is backed
// by a file, was never writable, or is charged page by page as it is used.
type Commit struct {
	// ReservedKB is private anonymous memory without access: addresses set
	// aside. Nothing is charged for it.
	ReservedKB uint64
	// NoReserveKB is memory that would be charged but for MAP_NORESERVE: it can be
	// written to at once, but no more than the hope for free memory is behind it.
	NoReserveKB uint64
	// CommittedKB is charged to Committed_AS of /proc/meminfo, and with
	// vm.overcommit_memory=2 counts against CommitLimit. That of shared memory is
	// charged once however many map it, so that sums over processes are too high.
	CommittedKB uint64
}

// Commit tells the parts from the row's VmFlags: "ac" is VM_ACCOUNT and "nr"
// VM_NORESERVE. Without that line (kernels before 3.8) or for rows of maps, it
// goes by what mm/mmap.c:accountable_mapping() (mm/vma.c since 6.12) asks: a
// mapping is charged, whole, when it is private, writable and neither of huge
// pages nor MAP_NORESERVE, which is then not seen.
//
// Memory that is charged stays so when access to it is taken away, so that a row
// without access can be committed. Shared memory never has "ac": the object is
// charged when it is made (mm/shmem.c:shmem_acct_size()), of which the mapping
// shows a part; memfds and files on tmpfs are charged by the page and count nothing.
func (r *SmapsRow) Commit() Commit {
	kb := r.Len() / 1024
	known := r.Flags != VmFlags{}
	noReserve, private := r.Flags.Has("nr"), r.Mode&Shared == 0
	huge := r.Flags.Has("ht") || strings.HasPrefix(r.Name, "/anon_hugepage") // accounted for by itself
	charged := false
	switch {
	case huge:
	case private && known:
		charged = r.Flags.Has("ac")
	case private:
		charged = r.Mode&Write != 0
	default:
		charged = chargedWhole(r.Name) && !noReserve
	}
	switch {
	case charged:
		return Commit{CommittedKB: kb}
	case r.Reserved():
		return Commit{ReservedKB: kb}
	case noReserve && !huge && (private && r.Mode&Write != 0 || !private && chargedWhole(r.Name)):
		return Commit{NoReserveKB: kb}
	}
	return Commit{}
}

// chargedWhole knows the shared memory that is charged when it is made: shared
// anonymous and System V.
func chargedWhole(name string) bool {
	base, deleted := strings.CutSuffix(name, DeletedSuffix)
	return deleted && (base == "/dev/zero" || isSysV(base)) || strings.HasPrefix(name, "[anon_shmem:")
}

// Add adds the parts of o, for sums over rows.
func (c *Commit) Add(o Commit) {
	c.ReservedKB += o.ReservedKB
	c.NoReserveKB += o.NoReserveKB
	c.CommittedKB += o.CommittedKB
}
