package main

import (
	"path"
	"slices"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
)

// operations are the words of the OP column.
var operations = []string{
	"mmap", "munmap", "brk", "mremap", "mprotect", "pkey_mprotect", "madvise", "process_madvise",
	"mlock", "mlock2", "munlock", "mlockall", "munlockall", "mseal", "shmat", "shmdt", "remap_file_pages", "mbind",
	"name", "fork", "exec", "exit", "stack", "other", "re-read", "lost", "drift",
}

// filter decides which lines are printed.
type filter struct {
	ops     []string
	kinds   []procmaps.Kind
	tids    []int
	glob    string
	minSize uint64
	failed  bool
}

func (o *traceOptions) filter() filter {
	f := filter{ops: o.ops, tids: o.tids, glob: o.glob, minSize: uint64(o.minSize), failed: o.failed}
	for _, name := range o.kinds {
		if k, err := procmaps.ParseKind(name); err == nil {
			f.kinds = append(f.kinds, k)
		}
	}
	return f
}

func (f *filter) shows(e *render.Event) bool {
	switch {
	case e.Op == "lost" || e.Op == "drift":
		return true // nobody may miss that
	case (e.Errno != 0 && !e.Half || e.Suppressed) && !f.failed:
		return false
	case len(f.ops) > 0 && !slices.Contains(f.ops, e.Op):
		return false
	case len(f.tids) > 0 && !slices.Contains(f.tids, e.TID):
		return false
	case len(f.kinds) > 0 && !slices.Contains(f.kinds, e.Kind()):
		return false
	case f.minSize > 0 && e.Size() < f.minSize:
		return false
	case f.glob != "":
		name := e.Name()
		whole, _ := path.Match(f.glob, name) // checked already
		base, _ := path.Match(f.glob, path.Base(name))
		return name != "" && (whole || base)
	}
	return true
}
