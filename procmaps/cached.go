package procmaps

import (
	"cmp"
	"slices"
)

// FileID tells a file from all others of a machine.
type FileID struct {
	Dev   Device
	Inode uint64
}

// CachedFile is a file that processes have open, and what of it is in the page cache.
type CachedFile struct {
	FileID
	Path  string // as the kernel shows it
	Bytes uint64 // in the page cache, and
	Dirty uint64 // of those, not written back
}

// MergeCached joins what several processes have open: each file once, the largest first.
func MergeCached(all ...[]CachedFile) []CachedFile {
	once := make(map[FileID]CachedFile)
	for _, files := range all {
		for _, f := range files {
			once[f.FileID] = f
		}
	}
	out := make([]CachedFile, 0, len(once))
	for _, f := range once {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b CachedFile) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Inode, b.Inode))
	})
	return out
}

// local are file systems that have a page cache of their own and nothing to do when a
// descriptor is closed that is a copy of another's.
var local = map[string]bool{"ext2": true, "ext3": true, "ext4": true, "xfs": true, "btrfs": true, "overlay": true}
