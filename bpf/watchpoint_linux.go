//go:build amd64 || arm64

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// WordBytes is the size of a watched word, and what its address is a multiple of.
const WordBytes = 8

// hwBreakpointW is HW_BREAKPOINT_W of linux/hw_breakpoint.h.
const hwBreakpointW = 2

// Watchpoint watches one word of memory for the writes of one thread, with a debug
// register of the CPU that the thread is on: each sends a [Stack] of [OpWrite]. What
// the kernel writes for the thread, as read(2) does, is among them on amd64; on arm64 it
// may not be.
type Watchpoint struct {
	fd   int
	link io.Closer
}

// Watch tells of the next writes, most of them, of a thread to the word at addr, a
// multiple of [WordBytes]; when they are used up, writes cost nothing any more. It
// needs [StackOptions].Writes, CAP_PERFMON, and Linux 5.15. The error is ENOSPC where
// the thread has no debug register left (x86 has four), ESRCH where it has ended. One
// write costs the thread a trap and the copy of its stack: 13 µs for the trap alone were
// measured on a virtual machine.
func (h *Hooks) Watch(tid int, addr uint64, most int) (*Watchpoint, error) {
	if addr%WordBytes != 0 || most < 1 {
		return nil, fmt.Errorf("watch %d writes to %#x: want some, and a multiple of %d", most, addr, WordBytes)
	}
	prog := h.coll.Programs[mmProgMmWritten]
	if prog == nil {
		return nil, fmt.Errorf("watch %#x: writes were not asked for", addr)
	}
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_BREAKPOINT, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Sample: 1,
		Bits: unix.PerfBitDisabled, Bp_type: hwBreakpointW, Ext1: addr, Ext2: WordBytes,
	}
	fd, err := perfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch %#x in thread %d: %w", addr, tid, err)
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{Program: prog, Attach: ebpf.AttachPerfEvent, Target: fd})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %#x in thread %d: %w", addr, tid, err), unix.Close(fd))
	}
	w := &Watchpoint{fd, l}
	// It cannot be armed again: kernel/events/hw_breakpoint.c:hw_breakpoint_add does
	// not take back what hw_breakpoint_stop has done at the limit.
	if err = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_REFRESH, most); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %#x in thread %d: %w", addr, tid, err), w.Close())
	}
	return w, nil
}

// Writes is how many writes it has seen, of those that are to be told. Each was, or
// is counted among the stacks that could not be ([Counters]).
func (w *Watchpoint) Writes() (uint64, error) {
	var n [8]byte
	got, err := unix.Read(w.fd, n[:])
	if err == nil && got != len(n) {
		err = io.ErrUnexpectedEOF // of an event in error: kernel/events/core.c:__perf_read
	}
	if err != nil {
		return 0, fmt.Errorf("read watchpoint: %w", err)
	}
	return binary.NativeEndian.Uint64(n[:]), nil
}

// Close takes it off.
func (w *Watchpoint) Close() error { return errors.Join(w.link.Close(), unix.Close(w.fd)) }

// Births is how many threads, and processes that share it, have begun to use an address
// space since it is traced. It needs [StackOptions].Writes.
func (h *Hooks) Births(space uint64) (uint64, error) {
	var n uint64
	err := h.coll.Maps[mmMapBirths].Lookup(space, &n)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read births: %w", err)
	}
	return n, nil
}
