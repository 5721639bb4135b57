package procmaps

import (
	"bytes"
	"math"
	"strconv"
)

// Status is the content of /proc/PID/status, as far as it concerns memory and
// identity. Lines that a kernel does not print leave their field at zero.
type Status struct {
	Name      string // the comm; newlines and backslashes are decoded
	State     byte   // as in Stat
	Tgid      int    // the process
	Pid       int    // the thread
	PPid      int
	TracerPid int
	UID, GID  [4]uint32 // real, effective, saved, file system
	// NSpid are the thread's numbers in its pid namespaces, the outermost that
	// the reader may see first; NStgid those of the process.
	NSpid, NStgid []int
	Threads       int
	Seccomp       int // prctl(2) PR_GET_SECCOMP: 0 none, 1 strict, 2 a filter
	// Kthread is always false before 6.11; Stat.KernelThread works everywhere.
	Kthread bool
	// HasMemory says that the Vm lines are there: the thread has an address
	// space. It does not for kernel threads and for threads that have ended.
	HasMemory bool

	VmPeakKB, VmSizeKB, VmLckKB, VmPinKB    uint64
	VmHWMKB, VmRSSKB                        uint64
	RssAnonKB, RssFileKB, RssShmemKB        uint64 // approximate, like VmRSSKB
	VmDataKB, VmStkKB, VmExeKB, VmLibKB     uint64
	VmPTEKB, VmSwapKB, HugetlbPagesKB       uint64
	VoluntarySwitches, NonvoluntarySwitches uint64
}

// ParseStatus parses the text of a status file. Unknown lines are skipped;
// malformed text is a [*ParseError] that names file.
func ParseStatus(data []byte, file string) (*Status, error) {
	s := &Status{}
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return nil, err
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			return nil, parseError(file, l.n, line, "no colon")
		}
		if !s.set(string(name), bytes.TrimLeft(value, " \t")) {
			return nil, parseError(file, l.n, line, "bad value")
		}
	}
	if s.Pid == 0 {
		return nil, parseError(file, l.n, nil, "no Pid line")
	}
	return s, nil
}

func (s *Status) set(name string, value []byte) bool {
	switch name {
	case "Name":
		s.Name = unescapeName(value)
		return true
	case "State":
		if len(value) == 0 {
			return false
		}
		s.State = value[0]
		return true
	case "Kthread":
		s.Kthread = string(value) == "1"
		return len(value) == 1 && (value[0] == '0' || value[0] == '1')
	case "Uid":
		return parseIDs(&s.UID, value)
	case "Gid":
		return parseIDs(&s.GID, value)
	case "NSpid":
		return parsePIDs(&s.NSpid, value)
	case "NStgid":
		return parsePIDs(&s.NStgid, value)
	case "VmSize":
		s.HasMemory = true
	}
	if p := s.intField(name); p != nil {
		v, err := strconv.ParseUint(string(value), 10, 31)
		*p = int(v)
		return err == nil
	}
	if p := s.kbField(name); p != nil {
		v, unit, ok := cutDec(value)
		*p = v
		return ok && string(unit) == " kB"
	}
	if p := s.countField(name); p != nil {
		v, rest, ok := cutDec(value)
		*p = v
		return ok && len(rest) == 0
	}
	return true
}

func (s *Status) intField(name string) *int {
	switch name {
	case "Tgid":
		return &s.Tgid
	case "Pid":
		return &s.Pid
	case "PPid":
		return &s.PPid
	case "TracerPid":
		return &s.TracerPid
	case "Threads":
		return &s.Threads
	case "Seccomp":
		return &s.Seccomp
	}
	return nil
}

func (s *Status) kbField(name string) *uint64 {
	switch name {
	case "VmPeak":
		return &s.VmPeakKB
	case "VmSize":
		return &s.VmSizeKB
	case "VmLck":
		return &s.VmLckKB
	case "VmPin":
		return &s.VmPinKB
	case "VmHWM":
		return &s.VmHWMKB
	case "VmRSS":
		return &s.VmRSSKB
	case "RssAnon":
		return &s.RssAnonKB
	case "RssFile":
		return &s.RssFileKB
	case "RssShmem":
		return &s.RssShmemKB
	case "VmData":
		return &s.VmDataKB
	case "VmStk":
		return &s.VmStkKB
	case "VmExe":
		return &s.VmExeKB
	case "VmLib":
		return &s.VmLibKB
	case "VmPTE":
		return &s.VmPTEKB
	case "VmSwap":
		return &s.VmSwapKB
	case "HugetlbPages":
		return &s.HugetlbPagesKB
	}
	return nil
}

func (s *Status) countField(name string) *uint64 {
	switch name {
	case "voluntary_ctxt_switches":
		return &s.VoluntarySwitches
	case "nonvoluntary_ctxt_switches":
		return &s.NonvoluntarySwitches
	}
	return nil
}

// unescapeName undoes fs/proc/array.c:proc_task_name(), which escapes the
// newline and the backslash.
func unescapeName(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	name := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) && (b[i+1] == 'n' || b[i+1] == '\\') {
			i++
			if b[i] == 'n' {
				name = append(name, '\n')
				continue
			}
		}
		name = append(name, b[i])
	}
	return string(name)
}

// parseInts parses numbers separated by tabs or spaces, none above limit.
func parseInts[T int | uint32](value []byte, limit uint64) ([]T, bool) {
	var got []T
	for f := range bytes.FieldsSeq(value) {
		v, rest, ok := cutDec(f)
		if !ok || len(rest) != 0 || v > limit {
			return nil, false
		}
		got = append(got, T(v))
	}
	return got, true
}

func parseIDs(dst *[4]uint32, value []byte) bool {
	got, ok := parseInts[uint32](value, math.MaxUint32)
	return ok && copy(dst[:], got) == len(got) && len(got) == len(dst)
}

func parsePIDs(dst *[]int, value []byte) (ok bool) {
	*dst, ok = parseInts[int](value, math.MaxInt32)
	return ok
}
