package tracer

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// smapsRows reads the rows of smaps. Take is called before every few rows, with how many
// these are; its error ends the read.
func smapsRows(p *procmaps.Process, take func(rows int) error) ([]space.Row, error) {
	var rows []space.Row
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
		return addRow(&rows, n, space.Row{Mapping: m.Mapping, Flags: known, Known: rowKnown}, take)
	})
	if !found {
		rows = nil
	}
	return rows, err
}

// mapsRows is smapsRows for maps.
func mapsRows(p *procmaps.Process, take func(rows int) error) ([]space.Row, error) {
	var rows []space.Row
	found, err := p.ScanMaps(func(n int, m *procmaps.Mapping) error {
		return addRow(&rows, n, space.Row{Mapping: *m}, take)
	})
	if !found {
		rows = nil
	}
	return rows, err
}

// addRow adds row n.
func addRow(rows *[]space.Row, n int, row space.Row, take func(rows int) error) error {
	const some = 256
	if n < len(*rows) {
		*rows = (*rows)[:n] // the address space was replaced: what was taken suffices for these
	}
	if n%some == 0 {
		if err := take(some); err != nil {
			return err
		}
	}
	*rows = append(*rows, row)
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
