package table

import (
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
)

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
