package table

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
)

// Layout is one of pmap's tables.
type Layout uint8

// The layouts, by pmap's option.
const (
	LayoutDefault  Layout = iota // none: address, size, mode, name
	LayoutExtended               // -x: resident and dirty sizes
	LayoutDevice                 // -d: offset and device
	LayoutDetails                // -X: what smaps has, less eight keys
	LayoutAll                    // -XX: all that smaps has
	LayoutFields                 // -c, -C: the columns of Options.Fields, in the order of -XX
)

// NeedsSmaps reports whether the layout shows numbers that only smaps has.
func (l Layout) NeedsSmaps() bool { return l == LayoutExtended || l.details() }

// details reports whether the layout is one of those whose columns are what
// smaps happens to have.
func (l Layout) details() bool { return l == LayoutDetails || l == LayoutAll || l == LayoutFields }

// Compat is a version of procps-ng whose output is imitated.
type Compat uint8

// The versions that differ in what they print. Earlier ones than these are not
// imitated: before 3.3.12 each row of -x came twice.
const (
	// Compat407 is the newest, 4.0.7: bytes of names that are no characters of
	// the locale become '?', control characters pass, and -A holds for -X.
	Compat407 Compat = iota
	// Compat402 is 4.0.2: every byte of a name outside printable ASCII becomes
	// '?', -X shows all rows whatever -A says, and its totals go on from one
	// process to the next.
	Compat402
)

// Limit selects rows by address, both ends included, as pmap -A does: a row
// shows when it shares a byte with it.
type Limit struct{ Low, High uint64 }

// ParseLimit parses the argument of pmap -A: LOW,HIGH in hex with or without 0x.
// LOW alone means that address; a missing end means no limit on that side. As
// with strtoul(3), which pmap uses, spaces and a sign may come first, and what is
// too large is the largest number.
func ParseLimit(s string) (Limit, error) {
	low, high, two := strings.Cut(s, ",")
	l := Limit{0, math.MaxUint64}
	for _, part := range [2]struct {
		text string
		dst  *uint64
	}{{low, &l.Low}, {high, &l.High}} {
		if part.text == "" {
			continue
		}
		v, rest := parseHex(part.text)
		if rest != "" {
			return Limit{}, fmt.Errorf("address range %q: want LOW[,HIGH] in hex", s)
		}
		*part.dst = v
	}
	if !two && low != "" {
		l.High = l.Low
	}
	return l, nil
}

// parseHex is strtoul(3) in base 16: it returns the number and what follows it,
// which is all of s when there is none.
func parseHex(s string) (v uint64, rest string) {
	digits := strings.TrimLeft(s, " \t\n\v\f\r")
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	isHex := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
	if len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' && isHex(digits[2]) {
		digits = digits[2:]
	}
	n := 0
	for n < len(digits) && isHex(digits[n]) {
		n++
	}
	if n == 0 {
		return 0, s
	}
	v, err := strconv.ParseUint(digits[:n], 16, 64) // the largest number if out of range
	if negative && err == nil {
		v = -v
	}
	return v, digits[n:]
}

// Options say how a Printer prints. The zero value is pmap without options.
type Options struct {
	Layout Layout
	// Quiet leaves out the heading and the totals (-q).
	Quiet bool
	// ShowPath prints paths whole instead of their last element (-p).
	ShowPath bool
	// KernelNames prints [heap] and the like as the kernel does (-k). It has no
	// effect on LayoutDetails and its kin, which always do.
	KernelNames bool
	// Limit selects rows (-A); nil prints all.
	Limit *Limit
	// Fields are the columns of LayoutFields, by the names of -XX's headings.
	// Names that no column has are passed over.
	Fields map[string]bool
	// Compat is the version to imitate where versions differ.
	Compat Compat
	// CLocale replaces what is not ASCII in names and command lines, as pmap does
	// in the C locale; otherwise text is UTF-8.
	CLocale bool
	// Escape makes names and command lines safe for a terminal, see [Escape],
	// instead of what pmap does to some bytes and not to others.
	Escape bool
	// Human prints sizes with a unit, rounded, instead of in KiB.
	Human bool
}

// Values gives the numbers of one row. [*procmaps.SmapsRow] implements it.
type Values interface {
	// Value returns the number for Process.Keys[key], or false if there is none.
	Value(key int) (uint64, bool)
}

// Row is one mapping of a Process.
type Row struct {
	Mapping *procmaps.Mapping
	Values  Values // nil when only the mapping is known
	Flags   procmaps.VmFlags
	About   *About // nil unless the rows were explained
}

// Process is an address space to print, wherever it was read or kept.
type Process struct {
	PID     int    // of the process, not of a thread
	Command string // see CommandLine; neither cleaned nor escaped
	// StartStack is an address in the main thread's stack: Stat.StartStack.
	// With 0 no mapping is called a stack.
	StartStack uint64
	// ShmDevice is procmaps.ShmDevice of the kernel that the rows are from. With
	// the zero value System V segments are shown as files.
	ShmDevice procmaps.Device
	// Keys are the numbers that the rows have.
	Keys []procmaps.Key
	// Rows yields the rows in address order. It is called more than once by
	// layouts that fit their columns. Nil means no rows.
	Rows iter.Seq[Row]
}

// MapsRows makes rows of mappings without numbers.
func MapsRows(rows []procmaps.Mapping) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for i := range rows {
			if !yield(Row{Mapping: &rows[i]}) {
				return
			}
		}
	}
}

// SmapsRows makes rows of smaps; their numbers are those of s.Keys.
func SmapsRows(s *procmaps.Smaps) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for i := range s.Rows {
			r := &s.Rows[i]
			if !yield(Row{Mapping: &r.Mapping, Values: r, Flags: r.Flags}) {
				return
			}
		}
	}
}

// PackedRows makes rows of packed ones; their numbers are those of t.Keys. Each is
// valid until the next one.
func PackedRows(t *procmaps.Packed) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for r := range t.All() {
			row := Row{Mapping: &r.Mapping, Flags: r.Flags}
			if len(t.Keys) > 0 {
				row.Values = r
			}
			if !yield(row) {
				return
			}
		}
	}
}

// Describe reads everything about a process but its rows. Where the reader may
// not know an address or the shared memory device, it stays 0 as with pmap.
func Describe(p *procmaps.Process) (*Process, error) {
	st, err := p.Stat()
	if err != nil {
		return nil, err
	}
	status, err := p.Status()
	if err != nil {
		return nil, err
	}
	args, err := p.Cmdline()
	if err != nil {
		return nil, err
	}
	return &Process{
		PID:        status.Tgid,
		Command:    CommandLine(args, st.Comm, st.State == 'Z'),
		StartStack: st.StartStack,
	}, nil
}

// Load reads the rows that the layout needs, from maps or smaps.
func (t *Process) Load(p *procmaps.Process, l Layout) error {
	if l.NeedsSmaps() {
		s, err := p.Smaps()
		if err != nil {
			return err
		}
		t.Keys, t.Rows = s.Keys, SmapsRows(s)
		return nil
	}
	rows, err := p.Maps()
	if err != nil {
		return err
	}
	t.Keys, t.Rows = nil, MapsRows(rows)
	return nil
}

// LoadPacked is Load with rows that are valid until the next one, which is all that
// printing in address order needs, and takes much less memory.
func (t *Process) LoadPacked(p *procmaps.Process, l Layout) error {
	read := p.PackedMaps
	if l.NeedsSmaps() {
		read = p.PackedSmaps
	}
	rows, err := read()
	if err != nil {
		return err
	}
	t.Keys, t.Rows = rows.Keys, PackedRows(rows)
	return nil
}

// CommandLine makes the text that follows the PID out of the raw command line
// (of which pmap takes 128 KiB less one), and of the comm where there is none. It is empty
// when all arguments are.
func CommandLine(args []byte, comm string, zombie bool) string {
	const longestCommand = 128<<10 - 1 // library/readproc.c: MAX_BUFSZ, less the NUL at its end
	switch {
	case zombie:
		return "[" + comm + "] <defunct>"
	case len(args) == 0:
		return "[" + comm + "]"
	}
	args = bytes.TrimRight(args[:min(len(args), longestCommand)], "\x00")
	return strings.NewReplacer("\x00", " ", "\n", " ").Replace(string(args))
}

// Printer prints processes one after the other, as one run of pmap does: with
// LayoutDetails and its kin the numbers are those of the first process, and their
// widths never shrink. It is not safe for concurrent use.
//
// It departs from pmap where that is wrong: lines of any length are read whole,
// the totals of -x cover the rows shown, names that the kernel puts in brackets
// are not cut at a slash, -X does not cut names after 127 bytes, nor flags before
// one without letters, and shows every key that some row has, for those rows only.
type Printer struct {
	w   io.Writer
	opt Options
	buf []byte

	proc    *Process
	aligned *Aligned[Row] // nil before the first process of -X
	rss     int           // indexes of proc.Keys, -1 for none
	dirty   [2]int
	keys    []procmaps.Key // the columns of -X
	keyAt   []int          // their indexes in proc.Keys
	fixed   int            // how many columns precede them
	devices map[procmaps.Device]string
	lastDev procmaps.Device // rows of one file are neighbours
	devText string          // of lastDev
	summary summary
}

// summary is the last line of -d, in KiB.
type summary struct{ mapped, private, shared uint64 }

// NewPrinter returns a printer that writes to w in large pieces, and has written
// everything when its methods return.
func NewPrinter(w io.Writer, opt Options) *Printer {
	p := &Printer{w: w, opt: opt, devices: map[procmaps.Device]string{}}
	switch opt.Layout {
	case LayoutDefault:
		size := p.size("")
		if !opt.Human {
			size.Format = func(dst []byte, v Value) []byte { return append(v.Append(dst), 'K') }
		}
		p.aligned = p.newAligned(address(16), size, mode(), p.name())
	case LayoutExtended:
		p.aligned = p.newAligned(address(16), p.size(p.opt.sizeName()), p.rssKB(), p.dirtyKB(), mode(), p.name())
	case LayoutDevice:
		p.aligned = p.newAligned(address(16), p.size(p.opt.sizeName()), mode(), offset(16), p.wideDevice(), p.name())
	}
	return p
}

func (p *Printer) newAligned(columns ...Column[Row]) *Aligned[Row] {
	a := NewAligned(columns)
	a.keepSpaces = true // names may end in spaces, and pmap's own lines do
	return a
}

// PrintHead prints the line with the command, which pmap prints even when it then
// may not read the mappings.
func (p *Printer) PrintHead(proc *Process) error {
	p.buf = strconv.AppendInt(p.buf, int64(proc.PID), 10)
	p.buf = append(p.buf, ":   "...)
	p.buf = append(p.buf, p.cleanCommand(proc.Command)...)
	p.buf = append(p.buf, '\n')
	return p.flush()
}

// PrintTable prints the heading, the rows and the totals.
func (p *Printer) PrintTable(proc *Process) error {
	p.proc, p.summary = proc, summary{}
	p.rss = keyIndex(proc.Keys, "Rss")
	p.dirty = [2]int{keyIndex(proc.Keys, "Shared_Dirty"), keyIndex(proc.Keys, "Private_Dirty")}
	some := true
	if p.opt.Layout.details() {
		some = p.fitDetails()
	}
	if p.aligned == nil {
		return nil // no process has told the columns yet
	}
	if !p.opt.Layout.details() || p.opt.Compat != Compat402 {
		p.aligned.ResetTotals()
	}
	if !some {
		// pmap leaves the heading out and prints the last lines.
		if !p.opt.Quiet {
			p.appendDetailsFooter()
		}
		return p.flush()
	}
	if !p.opt.Quiet && p.opt.Layout != LayoutDefault {
		p.buf = p.aligned.AppendHeader(p.buf)
		if p.opt.Layout.details() && !p.field("Mapping") {
			p.buf = append(p.buf[:len(p.buf)-1], " \n"...) // every other heading is followed by a space
		}
	}
	for r := range p.shown() {
		p.buf = p.aligned.AppendRow(p.buf, r)
		p.summary.add(r.Mapping)
		if len(p.buf) >= 16<<10 {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	if !p.opt.Quiet {
		p.appendFooter()
	}
	return p.flush()
}

// flush hands what was printed so far to the writer.
func (p *Printer) flush() error {
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	if err != nil {
		return fmt.Errorf("print mappings: %w", err)
	}
	return nil
}

// shown yields the rows inside the limit.
func (p *Printer) shown() iter.Seq[Row] {
	l := p.opt.Limit
	if l == nil || p.opt.Compat == Compat402 && p.opt.Layout.details() {
		return p.proc.rows()
	}
	return func(yield func(Row) bool) {
		for r := range p.proc.rows() {
			if l.holds(r.Mapping) && !yield(r) {
				return
			}
		}
	}
}

func (s *summary) add(m *procmaps.Mapping) {
	kb := m.Len() / 1024
	s.mapped += kb
	switch {
	case m.Mode&procmaps.Shared != 0:
		s.shared += kb
	case m.Mode&procmaps.Write != 0:
		s.private += kb
	}
}

func (p *Printer) appendFooter() {
	switch p.opt.Layout {
	case LayoutDefault:
		p.buf = fmt.Appendf(p.buf, " total %17s\n", p.amount(p.summary.mapped))
	case LayoutExtended:
		p.buf = p.aligned.AppendRule(p.buf)
		label := "total kB"
		if p.opt.Human {
			label = "total"
		}
		p.buf = p.aligned.AppendTotals(p.buf, label)
	case LayoutDevice:
		p.buf = fmt.Appendf(p.buf, "mapped: %s    writeable/private: %s    shared: %s\n",
			p.amount(p.summary.mapped), p.amount(p.summary.private), p.amount(p.summary.shared))
	default:
		p.appendDetailsFooter()
	}
}

// amount is a sum of KiB with its unit.
func (p *Printer) amount(kb uint64) string {
	if p.opt.Human {
		return string(units.AppendHuman(nil, kb))
	}
	return strconv.FormatUint(kb, 10) + "K"
}

// The columns of the tables with fixed widths.

func address(digits int) Column[Row] {
	return Column[Row]{
		Name: "Address", Key: "address", Width: digits,
		Value:  func(r Row) Value { return Uint(r.Mapping.Start) },
		Format: hexDigits(digits),
	}
}

func (p *Printer) size(name string) Column[Row] {
	return amountColumn(&p.opt, name, "size_kb", 7, func(r *Row) uint64 { return r.Mapping.Len() / 1024 })
}

func (p *Printer) rssKB() Column[Row] {
	return amountColumn(&p.opt, "RSS", "rss_kb", 7, func(r *Row) uint64 { return number(*r, p.rss) })
}

func (p *Printer) dirtyKB() Column[Row] {
	return amountColumn(&p.opt, "Dirty", "dirty_kb", 7, func(r *Row) uint64 {
		return number(*r, p.dirty[0]) + number(*r, p.dirty[1])
	})
}

// number returns a number of the row, or 0 if there is none, as pmap does.
func number(r Row, key int) uint64 {
	if key < 0 || r.Values == nil {
		return 0
	}
	v, _ := r.Values.Value(key)
	return v
}

func mode() Column[Row] {
	return Column[Row]{
		Name: "Mode", Key: "mode", Width: 5,
		Value: func(r Row) Value { return Text(pmapModes[r.Mapping.Mode&15]) },
	}
}

func offset(digits int) Column[Row] {
	return Column[Row]{
		Name: "Offset", Key: "offset", Width: digits,
		Value:  func(r Row) Value { return Uint(r.Mapping.Offset) },
		Format: hexDigits(digits),
	}
}

// wideDevice prints the device as -d does, in three and five digits.
func (p *Printer) wideDevice() Column[Row] {
	return Column[Row]{
		Name: "Device", Key: "device", Width: 9,
		Value: func(r Row) Value { return Text(p.device(r.Mapping.Dev, "%03x:%05x")) },
	}
}

// device formats each device once.
func (p *Printer) device(d procmaps.Device, format string) string {
	if d == p.lastDev && p.devText != "" {
		return p.devText
	}
	s, ok := p.devices[d]
	if !ok {
		s = fmt.Sprintf(format, d.Major, d.Minor)
		p.devices[d] = s
	}
	p.lastDev, p.devText = d, s
	return s
}

func (p *Printer) name() Column[Row] {
	return Column[Row]{
		Name: "Mapping", Key: "mapping",
		Value: func(r Row) Value { return Text(p.pmapName(r.Mapping)) },
	}
}

// pmapModes and kernelModes are the two ways to print a mode.
var pmapModes, kernelModes = func() (pmap, kernel [16]string) {
	for i := range pmap {
		m := procmaps.Mode(i)
		kernel[i] = m.String()
		// The fifth place was for "reserved" on SunOS.
		pmap[i] = strings.Replace(kernel[i], "p", "-", 1) + "-"
	}
	return pmap, kernel
}()

// hexDigits formats a number in at least so many hex digits.
func hexDigits(digits int) func([]byte, Value) []byte {
	return func(dst []byte, v Value) []byte {
		n := v.Uint64()
		for w := digits; w > 1 && n>>(4*(w-1)) == 0; w-- {
			dst = append(dst, '0')
		}
		return strconv.AppendUint(dst, n, 16)
	}
}

// pmapName is the name in the tables with fixed widths. The first rule that fits
// wins. Rules look for characters in the line of maps, all of which can only be
// in its name.
func (p *Printer) pmapName(m *procmaps.Mapping) string {
	// A name the kernel made up is not a path, whatever a program made it say.
	bracketed := strings.HasPrefix(m.Name, "[")
	switch {
	case p.proc.ShmDevice != procmaps.Device{} && m.Dev == p.proc.ShmDevice && strings.Contains(m.Name, "/SYSV"):
		return fmt.Sprintf("  [ shmid=0x%x ]", m.Inode)
	case !bracketed && strings.IndexByte(m.Name, '/') >= 0:
		return p.cleanName(p.path(m.Name))
	case p.opt.KernelNames && strings.HasSuffix(m.Name, "]") && strings.Contains(m.Name, "["):
		return p.cleanName(m.Name[strings.IndexByte(m.Name, '['):])
	// The end is included, as in pmap.
	case m.Start <= p.proc.StartStack && p.proc.StartStack <= m.End:
		return "  [ stack ]"
	}
	return "  " + procmaps.AnonName
}

// path cuts a name with a slash to the part to show.
func (p *Printer) path(name string) string {
	if p.opt.ShowPath {
		return name[strings.IndexByte(name, '/'):]
	}
	if last := strings.LastIndexByte(name, '/'); last < len(name)-1 {
		return name[last+1:]
	}
	return "/"
}

func (p *Printer) cleanName(s string) string {
	switch {
	case p.opt.Escape:
		return Escape(s)
	case p.opt.Compat == Compat402:
		return replaceBad(s, func(s string) (int, byte) {
			if isASCII(s[0]) {
				return 1, 0
			}
			return 1, '?'
		})
	case p.opt.CLocale:
		return replaceBad(s, func(s string) (int, byte) {
			if s[0] < utf8.RuneSelf {
				return 1, 0
			}
			return 1, '?'
		})
	}
	return replaceBad(s, func(s string) (int, byte) {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			return n, '?'
		}
		return n, 0
	})
}

// cleanCommand replaces characters as library/escape.c of procps does.
func (p *Printer) cleanCommand(s string) string {
	switch {
	case p.opt.Escape:
		return Escape(s)
	case s == "" && p.opt.Compat == Compat402:
		return "?"
	case s == "":
		return "-"
	case p.opt.Compat == Compat402:
		return replaceBad(s, oldEscape(p.opt.CLocale))
	case p.opt.CLocale:
		return replaceBad(s, func(s string) (int, byte) {
			if isASCII(s[0]) {
				return 1, 0
			}
			return 1, '?'
		})
	}
	return replaceBad(s, func(s string) (int, byte) {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || unicode.Is(unicode.Co, r) || unicode.IsControl(r) {
			return 1, '?' // one for each byte: the rest of it is no character
		}
		return n, 0
	})
}

// oldEscape judges the characters of a command line as procps 4.0.2 does, one
// after the other. In a UTF-8 locale it looks at first bytes only, and from the
// first one that cannot be one it takes everything for the C locale's.
func oldEscape(cLocale bool) func(string) (int, byte) {
	return func(s string) (int, byte) {
		c := s[0]
		n := 1
		if !cLocale && c >= utf8.RuneSelf {
			switch {
			case 0xc2 <= c && c <= 0xdf:
				n = 2
			case 0xe0 <= c && c <= 0xef:
				n = 3
			case 0xf0 <= c && c <= 0xf4:
				n = 4
			}
			cLocale = n == 1 || n > len(s)
		}
		switch {
		case isASCII(c):
			return 1, 0
		case !cLocale && c >= utf8.RuneSelf:
			return n, 0
		case cLocale && c < utf8.RuneSelf:
			return 1, '.'
		}
		return 1, '?'
	}
}

func isASCII(c byte) bool { return ' ' <= c && c < 0x7f }

// replaceBad replaces characters. For the first character of a string, judge
// returns its length and what to put in its place, 0 for itself.
func replaceBad(s string, judge func(string) (n int, instead byte)) string {
	var out []byte // nil while all is good
	for i := 0; i < len(s); {
		n, instead := judge(s[i:])
		switch {
		case instead != 0:
			if out == nil {
				out = append(make([]byte, 0, len(s)), s[:i]...)
			}
			out = append(out, instead)
		case out != nil:
			out = append(out, s[i:i+n]...)
		}
		i += n
	}
	if out == nil {
		return s
	}
	return string(out)
}
