package table

import (
	"bytes"
	"iter"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

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
	// PageTablesKB is what the page tables of the process take, which no row has: VmPTE of
	// status. 0 is not known.
	PageTablesKB uint64
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
