package procmaps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Stat is the content of /proc/PID/stat, as far as it concerns memory and
// identity. The addresses, StartBrk among them, are 0 (or 1 for code) to a
// reader who may not trace the process.
type Stat struct {
	PID        int
	Comm       string // raw, at most 15 bytes, or more for kernel threads
	State      byte   // 'R', 'S', 'D', 'T', 't', 'Z', 'X', 'I'
	PPID       int
	PGRP       int
	Session    int
	Flags      uint64 // the kernel's PF_* bits
	MinFlt     uint64 // page faults without I/O
	MajFlt     uint64 // page faults with I/O
	UTimeTicks uint64
	STimeTicks uint64
	NumThreads int
	// StartTimeTicks is when the process started, in clock ticks after boot.
	// With the PID it identifies a process among all since boot.
	StartTimeTicks uint64
	VSizeBytes     uint64
	RSSPages       uint64 // approximate, see Rollup for a correct value

	StartCode, EndCode uint64
	StartStack         uint64
	StartData, EndData uint64
	StartBrk           uint64
	ArgStart, ArgEnd   uint64
	EnvStart, EnvEnd   uint64

	// ExitStatus is the wait status of a zombie, as wait(2) has it; 0 to a reader
	// who may not trace it.
	ExitStatus uint32
}

// RSS returns how much of a process is resident, in bytes, by the sum that the kernel
// keeps: VmRSS of status, without the rest of it, and without a descriptor that is
// held. It is 0 for one without an address space, and for one whose leader has ended
// before other threads. What has another's number by now is not told apart.
func (f FS) RSS(pid int) (uint64, error) {
	name := filepath.Join(f.Root(), strconv.Itoa(pid), "statm")
	data, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return 0, fmt.Errorf("read %s: %w", name, ErrGone)
	case err != nil:
		return 0, fmt.Errorf("read RSS: %w", err)
	}
	pages, err := parseStatm(data, name)
	return pages * uint64(os.Getpagesize()), err
}

// parseStatm returns the second number of a statm file: resident pages.
func parseStatm(data []byte, file string) (uint64, error) {
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return 0, parseError(file, 1, data, "no resident pages")
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0, parseError(file, 1, data, "bad number of resident pages")
	}
	return pages, nil
}

// KernelThread reports whether the process lives in the kernel and has no
// address space of its own.
func (s *Stat) KernelThread() bool {
	const pfKthread = 0x00200000 // include/linux/sched.h
	return s.Flags&pfKthread != 0
}

// Dead reports whether the thread has ended: it is a zombie or being removed.
// When that is the leader, other threads of the process may still live, or be
// about to end, which all do by themselves: see [Stat.Ended].
func (s *Stat) Dead() bool { return s.State == 'Z' || s.State == 'X' || s.State == 'x' }

// Ended reports whether a process has ended with all its threads. Each lets go of
// the address space by itself, and only then is not counted any more: until the
// last has, there may be one, whatever the state of the leader.
func (s *Stat) Ended() bool { return s.Dead() && s.NumThreads <= 1 }

// ParseStat parses the text of a stat file. Fields that a kernel does not have
// are 0; malformed text is a [*ParseError] that names file.
func ParseStat(data []byte, file string) (*Stat, error) {
	bad := func(reason string) (*Stat, error) { return nil, parseError(file, 1, data, reason) }
	// The name may hold spaces, parentheses and newlines; nothing after it does.
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return bad("no command name")
	}
	s := &Stat{Comm: string(data[open+1 : end])}
	pid, err := strconv.Atoi(string(bytes.TrimSuffix(data[:open], []byte(" "))))
	if err != nil || pid < 0 {
		return bad("bad pid")
	}
	s.PID = pid
	rest := bytes.TrimSuffix(data[end+1:], []byte("\n"))
	if len(rest) < 2 || rest[0] != ' ' || rest[1] <= ' ' {
		return bad("bad state")
	}
	s.State = rest[1]
	rest = rest[2:]

	const enough = 24 // every kernel has these fields
	var fields [53]signedNumber
	field := 3
	for len(rest) > 0 {
		field++
		n, tail, ok := cutSigned(rest)
		if !ok {
			return bad("field " + strconv.Itoa(field) + " is not a number")
		}
		rest = tail
		if field < len(fields) {
			fields[field] = n
		}
	}
	if field < enough {
		return bad("too few fields")
	}
	for _, i := range [...]int{4, 5, 6, 20} {
		if fields[i].abs > math.MaxInt32 {
			return bad("field " + strconv.Itoa(i) + " is out of range")
		}
	}
	for _, i := range [...]int{9, 10, 12, 14, 15, 22, 23, 24, 26, 27, 28, 45, 46, 47, 48, 49, 50, 51} {
		if fields[i].negative {
			return bad("field " + strconv.Itoa(i) + " is negative")
		}
	}
	s.PPID, s.PGRP, s.Session = fields[4].signed(), fields[5].signed(), fields[6].signed()
	s.Flags, s.MinFlt, s.MajFlt = fields[9].abs, fields[10].abs, fields[12].abs
	s.UTimeTicks, s.STimeTicks = fields[14].abs, fields[15].abs
	s.NumThreads, s.StartTimeTicks = fields[20].signed(), fields[22].abs
	s.VSizeBytes, s.RSSPages = fields[23].abs, fields[24].abs
	s.StartCode, s.EndCode, s.StartStack = fields[26].abs, fields[27].abs, fields[28].abs
	s.StartData, s.EndData, s.StartBrk = fields[45].abs, fields[46].abs, fields[47].abs
	s.ArgStart, s.ArgEnd = fields[48].abs, fields[49].abs
	s.EnvStart, s.EnvEnd = fields[50].abs, fields[51].abs
	s.ExitStatus = uint32(fields[52].abs)
	return s, nil
}

type signedNumber struct {
	negative bool
	abs      uint64
}

func (n signedNumber) signed() int {
	if n.negative {
		return -int(n.abs)
	}
	return int(n.abs)
}

// cutSigned reads one space and a decimal number, up to the next space or the end.
func cutSigned(b []byte) (n signedNumber, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != ' ' {
		return n, nil, false
	}
	b = b[1:]
	if b[0] == '-' {
		n.negative = true
		b = b[1:]
	}
	n.abs, rest, ok = cutDec(b)
	return n, rest, ok && (len(rest) == 0 || rest[0] == ' ')
}
