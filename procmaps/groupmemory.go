package procmaps

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// GroupMemory is what a cgroup is charged for, with those below it, in bytes.
type GroupMemory struct {
	Used, Max uint64 // Max is [Unlimited] where nothing sets a limit
	Anon      uint64 // of processes, in memory
	File      uint64 // page cache, without shared memory
	Dirty     uint64 // of File, what is not written back yet
	// Unevictable is what the kernel cannot drop nor swap out: what is locked, or on ramfs.
	Unevictable uint64
	Shmem       uint64 // shared memory and tmpfs
	Kernel      uint64 // slab, kernel stacks, page tables and the like
	// Reclaimable is what of Kernel is dentries, inodes and the like, which go where memory is
	// needed; 0 where that is not told (v1).
	Reclaimable uint64
	Sock        uint64 // buffers of sockets
	Swap        uint64
}

// ReadGroupMemory reads what the cgroup of a directory is charged for, in cgroup v2 or v1. One
// without the memory controller is an error that matches [fs.ErrNotExist]. The root of v2 has
// no such files either.
func ReadGroupMemory(dir string) (GroupMemory, error) {
	number := func(name string) uint64 {
		n, err := groupNumber(filepath.Join(dir, name))
		if err != nil {
			return 0 // an older kernel lacks it
		}
		return n
	}
	m, err := groupMemory(dir, "memory.max", "memory.current")
	v1 := errors.Is(err, fs.ErrNotExist)
	if v1 {
		m, err = groupMemory(dir, "memory.limit_in_bytes", "memory.usage_in_bytes")
	}
	if err != nil {
		return GroupMemory{}, err
	}
	name := filepath.Join(dir, "memory.stat")
	data, err := os.ReadFile(name)
	if err != nil {
		return GroupMemory{}, err
	}
	stat, err := parseFlat(data, name)
	if err != nil {
		return GroupMemory{}, err
	}
	g := GroupMemory{Used: m.Used, Max: m.Max}
	if v1 {
		g.Anon, g.Shmem, g.Dirty, g.Swap = stat["total_rss"], stat["total_shmem"], stat["total_dirty"], stat["total_swap"]
		g.File = stat["total_cache"] - min(g.Shmem, stat["total_cache"])
		g.Unevictable = stat["total_unevictable"]
		g.Kernel, g.Sock = number("memory.kmem.usage_in_bytes"), number("memory.kmem.tcp.usage_in_bytes")
		return g, nil
	}
	g.Anon, g.Shmem, g.Dirty, g.Swap = stat["anon"], stat["shmem"], stat["file_dirty"], number("memory.swap.current")
	g.File = stat["file"] - min(g.Shmem, stat["file"])
	g.Unevictable = stat["unevictable"]
	g.Kernel, g.Reclaimable, g.Sock = stat["kernel"], stat["slab_reclaimable"], stat["sock"]
	if g.Kernel == 0 { // before 5.18
		g.Kernel = stat["slab"] + stat["kernel_stack"] + stat["pagetables"] + stat["percpu"]
	}
	return g, nil
}

// parseFlat reads lines of a key and a number.
func parseFlat(data []byte, file string) (map[string]uint64, error) {
	all := make(map[string]uint64)
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return nil, err
		}
		key, value, ok := bytes.Cut(line, []byte{' '})
		n, rest, is := cutDec(value)
		if !ok || !is || len(rest) > 0 {
			return nil, parseError(file, l.n, line, "want a key and a number")
		}
		all[string(key)] = n
	}
	return all, nil
}
