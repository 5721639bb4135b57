package table

import (
	"bytes"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// hiddenKeys are the keys that -X leaves out; it shows all others, those of
// later kernels too.
var hiddenKeys = map[string]bool{
	"AnonHugePages": true, "KernelPageSize": true, "MMUPageSize": true,
	"Shared_Dirty": true, "Private_Dirty": true, "Shared_Clean": true, "Private_Clean": true,
}

// keyName is the stable name of a number of smaps.
func keyName(k procmaps.Key) string {
	name := strings.ToLower(k.Name)
	if k.KB {
		name += "_kb"
	}
	return name
}

// field reports whether the layout has the column with this heading.
func (p *Printer) field(name string) bool {
	switch p.opt.Layout {
	case LayoutDetails:
		return !hiddenKeys[name] && name != "VmFlags"
	case LayoutFields:
		return p.opt.Fields[name]
	}
	return true
}

// fitDetails prepares the table of -X and -XX for the current process and reports
// whether it has rows at all.
func (p *Printer) fitDetails() bool {
	some := false
	for range p.proc.rows() {
		some = true
		break
	}
	if p.aligned != nil {
		for i := range p.aligned.columns {
			if !p.aligned.columns[i].Sum {
				p.aligned.widths[i] = 0
			}
		}
	}
	if !some {
		return false
	}
	if p.aligned == nil {
		for _, k := range p.proc.Keys {
			if p.field(k.Name) {
				p.keys = append(p.keys, k)
			}
		}
		p.keyAt = make([]int, len(p.keys))
		p.aligned = p.newAligned(p.detailColumns()...)
	}
	for i, k := range p.keys {
		p.keyAt[i] = keyIndex(p.proc.Keys, k.Name)
	}
	if !p.opt.Quiet {
		p.aligned.fitHeader()
		// The totals so far go on where they were not reset.
		sums := Sums(p.aligned.columns, p.shown())
		for i, v := range sums {
			if p.opt.Compat == Compat402 {
				v = v.add(p.aligned.sums[i])
			}
			p.aligned.widen(i, v)
		}
	}
	// Rows out of the limit count for the fixed columns, as in pmap.
	p.aligned.fitCells(p.proc.rows(), 0, p.fixed)
	end := len(p.aligned.columns)
	if p.field("Mapping") {
		end-- // the last column is not padded, this one
	}
	p.aligned.fitCells(p.shown(), p.fixed, end)
	return true
}

func (p *Printer) detailColumns() []Column[Row] {
	start, off := address(0), offset(0)
	start.Format, off.Format = hexDigits(8), hexDigits(8) // as the kernel does
	columns := []Column[Row]{
		start,
		{Name: "Perm", Key: "mode", Value: func(r Row) Value { return Text(kernelModes[r.Mapping.Mode&15]) }},
		off,
		{Name: "Device", Key: "device", Value: func(r Row) Value { return Text(p.device(r.Mapping.Dev, "%02x:%02x")) }},
		{Name: "Inode", Key: "inode", Value: func(r Row) Value { return Uint(r.Mapping.Inode) }},
	}
	// The address is always shown.
	columns = slices.DeleteFunc(columns, func(c Column[Row]) bool { return c.Name != "Address" && !p.field(c.Name) })
	p.fixed = len(columns)
	for i, k := range p.keys {
		// pmap adds up page sizes and flags as well.
		c := Column[Row]{Name: k.Name, Key: keyName(k), Sum: true, Value: func(r Row) Value {
			if r.Values == nil || p.keyAt[i] < 0 {
				return Value{}
			}
			v, ok := r.Values.Value(p.keyAt[i])
			if !ok {
				return Value{}
			}
			return Uint(v)
		}}
		if k.KB && p.opt.Human {
			c.Format = formatHuman
		}
		columns = append(columns, c)
	}
	if p.field("VmFlags") {
		columns = append(columns, Column[Row]{
			Name: "VmFlags", Key: "vmflags",
			Value: func(r Row) Value { return Text(r.Flags.String()) },
		})
	}
	for i := range columns {
		columns[i].Align = Right
	}
	if !p.field("Mapping") {
		return columns
	}
	return append(columns, Column[Row]{
		Name: "Mapping", Key: "mapping",
		Value: func(r Row) Value { return Text(p.kernelName(r.Mapping)) },
	})
}

// kernelName is the name in -X and -XX: the kernel's, cut to its last element.
func (p *Printer) kernelName(m *procmaps.Mapping) string {
	name := m.Name
	if !p.opt.ShowPath && !strings.HasPrefix(name, "[") {
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	if p.opt.Escape {
		return Escape(name)
	}
	return name
}

// appendDetailsFooter appends two lines below the keys: a rule and the totals.
func (p *Printer) appendDetailsFooter() {
	if len(p.keys) == 0 {
		return
	}
	gap := 0
	for _, w := range p.aligned.widths[:p.fixed] {
		gap += w + 1
	}
	p.buf = appendSpaces(p.buf, gap)
	for i := range p.keys {
		p.buf = append(p.buf, bytes.Repeat([]byte{'='}, p.aligned.widths[p.fixed+i])...)
		p.buf = append(p.buf, ' ')
	}
	p.buf = append(p.buf, '\n')
	p.buf = appendSpaces(p.buf, gap)
	for i := range p.keys {
		total := p.aligned.columns[p.fixed+i].append(nil, p.aligned.Total(p.fixed+i))
		p.buf = appendSpaces(p.buf, p.aligned.widths[p.fixed+i]-len(total))
		p.buf = append(append(p.buf, total...), ' ')
	}
	if p.opt.Human {
		p.buf = append(p.buf, '\n')
		return
	}
	p.buf = append(p.buf, "KB \n"...)
}
