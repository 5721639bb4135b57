package tracer

import (
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

func smapsRows(p *procmaps.Process) ([]space.Row, error) {
	s, err := p.Smaps()
	if err != nil {
		return nil, err
	}
	rows := make([]space.Row, len(s.Rows))
	for i := range s.Rows {
		m := &s.Rows[i]
		rows[i] = space.Row{Mapping: m.Mapping, Known: rowKnown}
		for code, flag := range rowFlags {
			if m.Flags.Has(code) {
				rows[i].Flags |= flag
			}
		}
	}
	return rows, nil
}

// rowFlags are the codes of smaps' VmFlags that the tree keeps.
var rowFlags = map[string]space.Flags{
	"gd": space.GrowsDown, "dc": space.DontFork, "wf": space.WipeOnFork,
	"um": space.Userfault, "uw": space.Userfault, "ui": space.Userfault,
}

const rowKnown = space.GrowsDown | space.DontFork | space.WipeOnFork | space.Userfault

func mapsRows(maps []procmaps.Mapping) []space.Row {
	rows := make([]space.Row, len(maps))
	for i, m := range maps {
		rows[i] = space.Row{Mapping: m}
	}
	return rows
}
