package procmaps

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
)

// Thread is a thread of a process and where its stack pointer was.
type Thread struct {
	TID  int
	Comm string // raw: it may hold any byte but NUL
	SP   uint64 // in user space; 0 if not known
}

// ThreadInfo lists the threads, by ascending TID; those that end meanwhile are
// left out. The stack pointer comes from task/TID/syscall (2.6.27+), which has it
// only of a thread that waits or is stopped, and only for a reader who may attach
// to it: the files of memory ask for less, so under Yama's ptrace_scope a process
// can have readable mappings and threads all of whose stack pointers are unknown.
// The field of stat is no way around that: it has been 0 since 4.15 but for
// threads that are dumping core.
//
// The threads are read one after the other and not held still.
func (p *Process) ThreadInfo() ([]Thread, error) {
	tids, err := p.Threads()
	if err != nil {
		return nil, err
	}
	threads := make([]Thread, 0, len(tids))
	for _, tid := range tids {
		t, err := p.thread(tid)
		switch {
		case err == nil:
			threads = append(threads, t)
		case !errors.Is(err, ErrGone) && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case p.gone():
			return nil, p.fail("task", ErrGone)
		}
	}
	return threads, nil
}

func (p *Process) thread(tid int) (Thread, error) {
	dir := filepath.Join("task", strconv.Itoa(tid))
	comm, err := p.read(filepath.Join(dir, "comm"))
	if err != nil {
		return Thread{}, err
	}
	t := Thread{TID: tid, Comm: string(bytes.TrimSuffix(comm, []byte("\n")))}
	file := filepath.Join(dir, "syscall")
	data, err := p.read(file)
	// Not to be told differs from nothing to tell, but not for the caller. The
	// file is missing on kernels without CONFIG_HAVE_ARCH_TRACEHOOK.
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return Thread{}, err
	}
	t.SP, err = parseSyscall(data, p.file(file))
	return t, err
}

// parseSyscall returns the stack pointer in the text of a syscall file, or 0 when
// the thread was running. The forms are those of fs/proc/base.c:proc_pid_syscall():
//
//	running
//	-1 SP PC                    outside any system call
//	NR ARG ARG ARG ARG ARG ARG SP PC
func parseSyscall(data []byte, file string) (sp uint64, err error) {
	bad := func(reason string) (uint64, error) { return 0, parseError(file, 1, data, reason) }
	line, ok := bytes.CutSuffix(data, []byte("\n"))
	if !ok {
		return bad("the line has no newline")
	}
	if string(line) == "running" {
		return 0, nil
	}
	digits, outside := bytes.CutPrefix(line, []byte("-"))
	nr, rest, ok := cutDec(digits)
	if !ok || nr > math.MaxInt32 {
		return bad("bad system call number")
	}
	var values [8]uint64
	n := 0
	for ; len(rest) > 0 && n < len(values); n++ {
		if rest, ok = bytes.CutPrefix(rest, []byte(" 0x")); !ok {
			return bad("want a space and a hex number")
		}
		end := bytes.IndexByte(rest, ' ')
		if end < 0 {
			end = len(rest)
		}
		if values[n], ok = parseHex(rest[:end]); !ok {
			return bad("bad hex number")
		}
		rest = rest[end:]
	}
	want := len(values)
	if outside {
		want = 2
	}
	if len(rest) > 0 || n != want {
		return bad("want " + strconv.Itoa(want) + " hex numbers")
	}
	return values[n-2], nil
}

// parseHex parses 1 to 16 lower-case hex digits and nothing else.
func parseHex(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	for _, c := range b {
		d := hexDigit[c]
		if d > 15 {
			return 0, false
		}
		v = v<<4 | uint64(d)
	}
	return v, true
}
