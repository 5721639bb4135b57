package order

import (
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// name completes the file name of a call that maps one.
func (t *Tracer) name(sp *addressSpace, ev *Event) {
	f := &ev.Call.File
	if f.Name == "" || f.Name[0] == '/' || f.Inode == 0 || f.Class == space.ClassAnonInode {
		return
	}
	if ev.Call.Failed() {
		return
	}
	if full := t.path(sp, procmaps.FileID{Dev: f.Dev, Inode: f.Inode}, f.Name, uint64(ev.Call.Ret)); full != "" {
		f.Name = full
	}
}

// path finds the path of a file that a process has mapped at addr, once per
// file. A file's inode may be used again: the basename must agree.
func (t *Tracer) path(sp *addressSpace, id procmaps.FileID, base string, addr uint64) string {
	const maxTries = 3
	known := t.paths[id]
	if known.name != "" && basename(known.name) == base {
		return known.name
	}
	if t.world == nil || sp.Inhabitants() == 0 || known.tries >= maxTries {
		return ""
	}
	switch known.name = t.world.Path(sp.Owner().PID, addr, id.Dev, id.Inode); {
	case basename(known.name) == base:
		known.tries = 0
	case known.name != "":
		known.name = "" // it was replaced already, or is not what it seems
		known.tries++
	default:
		return "" // the process is gone: another may tell
	}
	const many = 1 << 16 // files come and go for as long as we run
	if len(t.paths) >= many {
		clear(t.paths)
	}
	t.paths[id] = known
	return known.name
}

// basename is the last element of a path as maps prints it.
func basename(path string) string {
	return strings.TrimSuffix(procmaps.ShortName(path), procmaps.DeletedSuffix)
}
