package main

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

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

// sizeValue is a number of bytes on the command line: 4096, 64K, 1M, 2G.
type sizeValue uint64

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(*v), 10)
}

func (v *sizeValue) Type() string { return "size" }

func (v *sizeValue) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	*v = sizeValue(n)
	return nil
}

// parseSize reads a number of bytes: 65536, 64K, 64KiB.
func parseSize(s string) (uint64, error) {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	shift := 0
	if n := len(t); n > 0 {
		if i := strings.IndexByte("KMGT", t[n-1]); i >= 0 {
			shift, t = 10*(i+1), t[:n-1]
		}
	}
	n, err := strconv.ParseUint(t, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("size %q: want a number of bytes, or one with K, M, G or T", s)
	}
	return n << shift, nil
}
