package attribution

import (
	"cmp"

	"github.com/maptrace/maptrace/tracer/event"
)

// fileNames tells which files are one group: those of names that differ by numbers alone, as
// programs number what they make (segments, plugins). So many that come one after the other,
// and are small, grow together.
type fileNames struct {
	group map[string]string // by name
	only  map[string]string // by group: the name of all its files, "" if there are several
}

// mostFileNames are kept of a process. Beyond, a group goes by what its names have in common.
const mostFileNames = 4096

// of is the group of a file.
func (n *fileNames) of(name string) string {
	if group, known := n.group[name]; known {
		return group
	}
	group := event.Numberless(name)
	if n.group == nil {
		n.group, n.only = make(map[string]string), make(map[string]string)
	}
	if len(n.group) >= mostFileNames {
		clear(n.group)
	}
	n.group[name] = group
	switch only, known := n.only[group]; {
	case known && only != name:
		n.only[group] = ""
	case !known && len(n.only) < mostFileNames:
		n.only[group] = name
	}
	return group
}

// name is what a group is called: as its file, if it has one, and else with a star for numbers.
func (n *fileNames) name(group string) string { return cmp.Or(n.only[group], group) }

// bytes is what they take, about.
func (n *fileNames) bytes() int {
	const entry = 160 // the names are those of the tree
	return entry * (len(n.group) + len(n.only))
}
