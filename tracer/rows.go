package tracer

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// smapsRows reads the rows of smaps. Take is called before every few rows, with how many
// these are; its error ends the read.
func smapsRows(p *procmaps.Process, take func(rows int) error) ([]space.Row, error) {
	list := rowList{take: take}
	flags := make(map[procmaps.VmFlags]space.Flags) // few are different
	found, err := p.ScanSmaps(func(n int, m *procmaps.SmapsRow) error {
		known, ok := flags[m.Flags]
		if !ok {
			for code, flag := range rowFlags {
				if m.Flags.Has(code) {
					known |= flag
				}
			}
			flags[m.Flags] = known
		}
		return list.add(n, space.Row{Mapping: m.Mapping, Flags: known, Known: rowKnown})
	})
	if !found {
		list.rows = nil
	}
	return list.rows, err
}

// mapsRows is smapsRows for maps.
func mapsRows(p *procmaps.Process, take func(rows int) error) ([]space.Row, error) {
	list := rowList{take: take}
	found, err := p.ScanMaps(func(n int, m *procmaps.Mapping) error {
		return list.add(n, space.Row{Mapping: *m})
	})
	if !found {
		list.rows = nil
	}
	return list.rows, err
}

// rowList is the rows of a read so far, and for how many of them room was taken.
type rowList struct {
	rows  []space.Row
	taken int
	take  func(rows int) error
}

// add adds row n, which is 0 again when the address space was replaced. What was taken for
// the rows of that suffices for as many.
func (l *rowList) add(n int, row space.Row) error {
	const some = 256
	if n == l.taken {
		if err := l.take(some); err != nil {
			return err
		}
		l.taken += some
	}
	l.rows = append(l.rows[:n], row)
	return nil
}

// rowFlags are the codes of smaps' VmFlags that the tree keeps.
var rowFlags = map[string]space.Flags{
	"gd": space.GrowsDown, "dc": space.DontFork, "wf": space.WipeOnFork,
	"um": space.Userfault, "uw": space.Userfault, "ui": space.Userfault,
}

const rowKnown = space.GrowsDown | space.DontFork | space.WipeOnFork | space.Userfault

// rowsOf makes rows of mappings.
func rowsOf(maps []procmaps.Mapping) []space.Row {
	rows := make([]space.Row, len(maps))
	for i, m := range maps {
		rows[i] = space.Row{Mapping: m}
	}
	return rows
}
