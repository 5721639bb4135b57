package crash

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/explain"
)

// Limits on a report. A log of the JVM with 65,530 mappings has some 7 MB.
const (
	maxReportRows   = 1 << 20
	maxReportFaults = 16
	maxReportBytes  = 256 << 20
	maxLine         = 64 << 10 // bytes of a line that are looked at
	maxTries        = 8        // to find a row in a line: each reads all of the rest
)

// ErrNoReport is matched by the error about a text that has neither mappings nor a fault.
var ErrNoReport = errors.New("neither a fault nor a listing of mappings")

// ReadReport finds the mappings and the faults in the text of a crash report. It knows
// rows of /proc/PID/maps with anything but hex digits before them, as in the logs of the
// JVM (hs_err_pid), abrt and Chromium; the shorter rows that sanitizers print; and the lines
// that say which address was touched: those of the kernel's log on x86, of the JVM, Go,
// sanitizers, Android and Chromium.
//
// Where there are several listings the first is taken, and Missing says so. A text that has
// nothing of all this is an error that matches [ErrNoReport].
func ReadReport(r io.Reader) (*Crash, error) {
	p := report{out: &Crash{}}
	limited := &io.LimitedReader{R: r, N: maxReportBytes}
	in := bufio.NewReaderSize(limited, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		p.line(strings.TrimRight(string(line), "\r\n"))
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n') // the rest of a line that no one writes
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read report: %w", err)
		}
	}
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("read report: it has more than %d MiB", maxReportBytes>>20)
	case len(p.out.Rows) == 0 && len(p.out.Faults) == 0:
		return nil, ErrNoReport
	}
	p.settle()
	return p.out, nil
}

// settle says what is missing, and what follows from the first fault, once all is read.
func (p *report) settle() {
	var missing []string
	switch {
	case len(p.out.Rows) == 0 && p.executed.Range != (procmaps.Range{}):
		p.out.Rows, p.out.Partial = []explain.Row{p.executed}, true
		missing = append(missing, "the report has no listing of mappings but that of the instruction")
	case len(p.out.Rows) == 0:
		missing = append(missing, "the report has no listing of mappings")
	case p.further:
		missing = append(missing, "of several listings of mappings the first was taken")
	}
	if n := len(p.out.Faults); n > 1 {
		missing = append(missing, "of "+strconv.Itoa(n)+" faults the first was taken")
	}
	p.out.Missing = strings.Join(missing, "; ")
	for i := range p.out.Faults {
		f := &p.out.Faults[i]
		f.Settle()
		if i > 0 {
			continue
		}
		p.out.Comm = f.Comm
		if f.SP != 0 {
			p.out.Threads = []procmaps.Thread{{TID: f.TID, Comm: f.Comm, SP: f.SP}}
		}
		if p.kernel && f.SP >= 1<<32 {
			p.out.Arch = "amd64" // only x86 has these lines, and a 32-bit process shorter addresses
		}
	}
}

// report is a text that is being read.
type report struct {
	out     *Crash
	ended   bool // the first listing is over
	further bool // there is another
	kernel  bool // the first fault is the kernel's line
	// executed is the mapping of the instruction that the kernel's line names, if it does.
	executed explain.Row
	context  *explain.Fault // of the last line about one; nil before
	ip       uint64         // of a fault that is still to come, 0 if it is not known
}

// line looks at one line.
func (p *report) line(line string) {
	if row, ok := rowIn(line); ok {
		p.row(row)
		return
	}
	p.faultIn(line)
}

// row adds a row to the listing. One that does not follow the last begins another.
func (p *report) row(row explain.Row) {
	rows := p.out.Rows
	switch {
	case p.ended || len(rows) >= maxReportRows:
		p.further = true
	case len(rows) > 0 && row.Start < rows[len(rows)-1].End:
		p.ended, p.further = true, true
	default:
		p.out.Rows = append(rows, row)
	}
}

// rowIn finds a row of mappings in a line.
func rowIn(line string) (row explain.Row, ok bool) {
	dash := strings.IndexByte(line, '-')
	for tries := 0; dash > 0 && tries < maxTries; {
		begin := dash
		for begin > 0 && isHex(line[begin-1]) {
			begin--
		}
		switch {
		case dash-begin < 4:
		case modeBehind(line[dash+1:]):
			tries++
			if all, err := procmaps.ParseMaps([]byte(line[begin:]+"\n"), "report"); err == nil && len(all) == 1 {
				return explain.Row{Mapping: all[0]}, true
			}
		case begin >= 2 && line[begin-2:begin] == "0x" && strings.HasPrefix(line[dash:], "-0x"):
			if row, ok = shortRow(line[begin:]); ok {
				return row, true
			}
		}
		next := strings.IndexByte(line[dash+1:], '-')
		if next < 0 {
			break
		}
		dash += 1 + next
	}
	return explain.Row{}, false
}

// modeBehind tells whether a text begins with an address and a mode: only then it is worth to
// read all of it.
func modeBehind(text string) bool {
	const most, mode = 16, 4
	end := 0
	for end < len(text) && end <= most && isHex(text[end]) {
		end++
	}
	text = text[end:]
	return end > 0 && len(text) > mode && text[0] == ' ' && (text[1] == 'r' || text[1] == '-') && (text[2] == 'w' || text[2] == '-')
}

// shortRow reads "START-0xEND\tPATH", as sanitizers print it without the first 0x
// (sanitizer_common: DumpProcessMap); there may be modes or sizes in brackets, which are
// passed over.
func shortRow(text string) (row explain.Row, ok bool) {
	const address = 16
	first, rest, _ := strings.Cut(text, "-0x")
	end := strings.IndexByte(rest[:min(len(rest), address+1)], '\t')
	if end < 0 {
		return row, false
	}
	last, name := rest[:end], rest[end+1:]
	start, err1 := strconv.ParseUint(first, 16, 64)
	limit, err2 := strconv.ParseUint(last, 16, 64)
	if err1 != nil || err2 != nil || limit <= start {
		return row, false
	}
	row.Range, row.Name, row.Known = procmaps.Range{Start: start, End: limit}, strings.TrimSpace(name), explain.NoMode
	row.NoOffset = true
	return row, true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

// faultIn finds in a line what a thread was refused.
func (p *report) faultIn(line string) {
	for _, find := range []func(string) (explain.Fault, bool){kernelFault, generalFault, goFault, jvmFault, sanitizerFault, androidFault, chromiumFault} {
		if f, ok := find(line); ok {
			p.fault(line, f)
			return
		}
	}
	// "#  SIGSEGV (0xb) at pc=0x…" of the JVM comes before the address.
	if ip, ok := hexAfter(line, " at pc=0x"); ok && p.context == nil {
		p.ip = ip
	}
	if p.context != nil && p.context.Access == 0 {
		p.about(line)
	}
}

// fault adds a fault.
func (p *report) fault(line string, f explain.Fault) {
	if len(p.out.Faults) >= maxReportFaults {
		return
	}
	if !f.HasIP && p.ip != 0 {
		f.IP, f.HasIP = p.ip, true
	}
	if len(p.out.Faults) == 0 && (f.HasError || f.General) {
		p.kernel = true
		p.executed = executedIn(line, f.IP)
	}
	p.out.Faults = append(p.out.Faults, f)
	p.context = &p.out.Faults[len(p.out.Faults)-1]
}

// about takes what the lines after the first say of the same fault.
func (p *report) about(line string) {
	switch {
	case strings.Contains(line, "caused by a READ memory access"):
		p.context.Access = explain.Reads
	case strings.Contains(line, "caused by a WRITE memory access"):
		p.context.Access = explain.Writes
	}
}

// executedIn reads " in NAME[OFFSET,START+LENGTH]" at the end of the kernel's line, or what
// older kernels have: NAME[START+LENGTH] (mm/memory.c:print_vma_addr). The offset is
// that of the instruction in the file.
func executedIn(line string, ip uint64) (row explain.Row) {
	_, text, _ := strings.Cut(line, " error")
	_, text, _ = strings.Cut(text, " in ")
	open := strings.LastIndexByte(text, '[')
	if open < 0 {
		return row
	}
	name, place := text[:open], text[open+1:]
	offset, ok := hexAfter(place, "")
	if first, rest, found := strings.Cut(place, ","); found && isHexWord(first) {
		place = rest
	} else {
		ok = false
	}
	start, ok1 := hexAfter(place, "")
	length, ok2 := hexAfter(place, "+")
	if !ok1 || !ok2 || start+length <= start || ip < start || ip >= start+length {
		return row
	}
	row.Range, row.Name, row.Known = procmaps.Range{Start: start, End: start + length}, name, explain.NoMode
	row.Offset, row.NoOffset = offset-(ip-start), !ok
	if !ok {
		row.Offset = 0
	}
	return row
}

func isHexWord(s string) bool {
	for i := range len(s) {
		if !isHex(s[i]) {
			return false
		}
	}
	return s != ""
}

// hexAfter reads the hex number behind some words.
func hexAfter(line, words string) (n uint64, ok bool) {
	_, rest, found := strings.Cut(line, words)
	rest = strings.TrimPrefix(rest, "0x")
	end := 0
	for end < len(rest) && (isHex(rest[end]) || 'A' <= rest[end] && rest[end] <= 'F') {
		end++
	}
	n, err := strconv.ParseUint(rest[:end], 16, 64)
	return n, found && err == nil
}

// numberAfter reads the decimal number behind some words.
func numberAfter(line, words string) (n int, ok bool) {
	_, rest, found := strings.Cut(line, words)
	end := 0
	for end < len(rest) && ('0' <= rest[end] && rest[end] <= '9' || end == 0 && rest[end] == '-') {
		end++
	}
	v, err := strconv.ParseInt(rest[:end], 10, 32)
	return int(v), found && err == nil
}

// kernelFault reads the kernel's line about a page fault (arch/x86/mm/fault.c:show_signal_msg):
//
//	a.out[1234]: segfault at 18 ip 000055… sp 00007f… error 4 in a.out[1136,55…+1000] likely on CPU 1
func kernelFault(line string) (f explain.Fault, ok bool) {
	before, rest, found := strings.Cut(line, ": segfault at ")
	if !found {
		return f, false
	}
	address, ok1 := hexAfter(line, ": segfault at ")
	ip, ok2 := hexAfter(rest, " ip ")
	sp, ok3 := hexAfter(rest, " sp ")
	code, ok4 := hexAfter(rest, " error ")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return f, false
	}
	f = explain.Fault{
		Signal: explain.SignalNumber("SIGSEGV"), Address: address, HasAddr: true, IP: ip, SP: sp, HasIP: true,
		Error: code, HasError: true, Access: explain.AccessOf(code),
	}
	f.Comm, f.TID = threadIn(before)
	return f, true
}

// generalFault reads its line about a general protection fault (arch/x86/kernel/traps.c),
// which has no address:
//
//	traps: a.out[1234] general protection fault ip:55… sp:7f… error:0 in a.out[55…+1000]
func generalFault(line string) (f explain.Fault, ok bool) {
	before, rest, found := strings.Cut(line, " general protection ")
	ip, ok1 := hexAfter(rest, "ip:")
	sp, ok2 := hexAfter(rest, "sp:")
	if !found || !ok1 || !ok2 {
		return f, false
	}
	f = explain.Fault{Signal: explain.SignalNumber("SIGSEGV"), IP: ip, SP: sp, HasIP: true, General: true}
	f.Comm, f.TID = threadIn(before)
	return f, true
}

// threadIn reads NAME[TID] at the end of a text, behind what a log puts before it. A name may
// have spaces and colons: it is what follows the last "] " or ": ".
func threadIn(text string) (comm string, tid int) {
	const longest = 15 // TASK_COMM_LEN less the zero byte
	open := strings.LastIndexByte(text, '[')
	if open < 0 || !strings.HasSuffix(text, "]") {
		return "", 0
	}
	tid, _ = strconv.Atoi(text[open+1 : len(text)-1])
	comm = text[max(0, open-longest):open]
	for _, end := range []string{"] ", ": "} {
		if i := strings.LastIndex(comm, end); i >= 0 {
			comm = comm[i+len(end):]
		}
	}
	return comm, tid
}

// goFault reads the line of Go's runtime (runtime/signal_unix.go:fatalsignal):
//
//	[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x47b1c4]
func goFault(line string) (f explain.Fault, ok bool) {
	_, rest, found := strings.Cut(line, "[signal ")
	name, _, _ := strings.Cut(rest, ":")
	code, ok1 := hexAfter(rest, " code=")
	address, ok2 := hexAfter(rest, " addr=")
	ip, ok3 := hexAfter(rest, " pc=")
	signal := explain.SignalNumber(name)
	if !found || !ok1 || !ok2 || !ok3 || signal == 0 {
		return f, false
	}
	return explain.Fault{
		Signal: signal, Code: int(int32(uint32(code))), HasCode: true, Address: address, HasAddr: true, IP: ip, HasIP: true,
	}, true
}

// jvmFault reads the line of the JVM (os/posix/signals_posix.cpp:print_siginfo):
//
//	siginfo: si_signo: 11 (SIGSEGV), si_code: 1 (SEGV_MAPERR), si_addr: 0x0000000000000018
func jvmFault(line string) (f explain.Fault, ok bool) {
	signal, ok1 := numberAfter(line, "si_signo: ")
	code, ok2 := numberAfter(line, "si_code: ")
	address, ok3 := hexAfter(line, "si_addr: ")
	sender, sent := numberAfter(line, "si_pid: ")
	if !ok1 || !ok2 || !ok3 && !sent {
		return f, false
	}
	return explain.Fault{Signal: signal, Code: code, HasCode: true, Address: address, HasAddr: ok3, Sender: sender}, true
}

// sanitizerFault reads the line of AddressSanitizer and its kin:
//
//	==1==ERROR: AddressSanitizer: SEGV on unknown address 0x000000000018 (pc 0x… bp 0x… sp 0x… T0)
//
// Other errors of sanitizers are about memory that is mapped: they are explained by address.
func sanitizerFault(line string) (f explain.Fault, ok bool) {
	_, rest, found := strings.Cut(line, "Sanitizer: SEGV on unknown address")
	ip, ok1 := hexAfter(rest, "(pc ")
	sp, ok2 := hexAfter(rest, " sp ")
	if !found || !ok1 || !ok2 {
		return f, false
	}
	f = explain.Fault{Signal: explain.SignalNumber("SIGSEGV"), IP: ip, SP: sp, HasIP: true}
	// Of a general protection fault it leaves the address out.
	f.Address, f.HasAddr = hexAfter(rest, " 0x")
	if strings.HasPrefix(rest, " (pc") {
		f.Address, f.HasAddr, f.General = 0, false, true
	}
	return f, true
}

// androidFault reads the line of Android's debuggerd:
//
//	signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x18
func androidFault(line string) (f explain.Fault, ok bool) {
	signal, ok1 := numberAfter(line, "signal ")
	code, ok2 := numberAfter(line, ", code ")
	address, ok3 := hexAfter(line, ", fault addr ")
	if !ok1 || !ok2 || !ok3 {
		return f, false
	}
	return explain.Fault{Signal: signal, Code: code, HasCode: true, Address: address, HasAddr: true}, true
}

// chromiumFault reads the line of Chromium (base/debug/stack_trace_posix.cc):
//
//	Received signal 11 SEGV_MAPERR 000000000018
func chromiumFault(line string) (f explain.Fault, ok bool) {
	_, rest, found := strings.Cut(line, "Received signal ")
	words := strings.Fields(rest)
	if !found || len(words) < 3 {
		return f, false
	}
	f.Signal, _ = strconv.Atoi(words[0])
	code, known := explain.CodeNumber(f.Signal, words[1])
	address, ok := hexAfter(words[2], "")
	if !known || !ok {
		return f, false
	}
	f.Code, f.HasCode, f.Address, f.HasAddr = code, true, address, true
	return f, true
}
