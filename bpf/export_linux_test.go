//go:build amd64 || arm64

package bpf

import (
	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ProgramID tells tests which of the kernel's programs is ours.
func (h *Hooks) ProgramID() (ebpf.ProgramID, error) {
	info, err := h.coll.Programs[mmProgMmSysExit].Info()
	if err != nil {
		return 0, err
	}
	id, _ := info.ID()
	return id, nil
}

// RefusePerfEvents makes the kernel refuse perf events, until undo is called.
func RefusePerfEvents(with error) (undo func()) {
	was := perfEventOpen
	perfEventOpen = func(*unix.PerfEventAttr, int, int, int, int) (int, error) { return -1, with }
	return func() { perfEventOpen = was }
}

// LimitPieces makes room for fewer touched pieces, until undo is called.
func LimitPieces(n uint32) (undo func()) {
	was := mostPieces
	mostPieces = n
	return func() { mostPieces = was }
}

// Sessions tells whether a return is probed only if its entry has said so.
func Sessions() bool { return sessions() }
