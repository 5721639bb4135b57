package procmaps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Unlimited stands for a limit that is none.
const Unlimited = math.MaxUint64

// AddressSpaceLimit returns the soft limit RLIMIT_AS of the process, in bytes,
// from /proc/PID/limits (2.6.24+).
func (p *Process) AddressSpaceLimit() (uint64, error) {
	data, err := p.read("limits")
	if err != nil {
		return 0, err
	}
	return parseAddressSpaceLimit(data, p.file("limits"))
}

// parseAddressSpaceLimit finds the row that fs/proc/base.c:proc_pid_limits calls
// "Max address space".
func parseAddressSpaceLimit(data []byte, file string) (uint64, error) {
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return 0, err
		}
		rest, ok := bytes.CutPrefix(line, []byte("Max address space"))
		if !ok {
			continue
		}
		word, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte{' '})
		if string(word) == "unlimited" {
			return Unlimited, nil
		}
		n, err := strconv.ParseUint(string(word), 10, 64)
		if err != nil {
			return 0, parseError(file, l.n, line, "bad limit")
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s: no limit of the address space", file)
}

// MaxMapCount returns vm.max_map_count: how many mappings a process may have.
func (f FS) MaxMapCount() (int, error) {
	return f.sysctl("vm.max_map_count")
}

// PerfEventParanoid returns kernel.perf_event_paranoid: what is refused of perf events to
// those without privileges. Above 2, which distributions have added, perf_event_open(2)
// takes CAP_SYS_ADMIN.
func (f FS) PerfEventParanoid() (int, error) {
	return f.sysctl("kernel.perf_event_paranoid")
}

func (f FS) sysctl(name string) (int, error) {
	data, err := os.ReadFile(filepath.Join(f.Root(), "sys", strings.ReplaceAll(name, ".", "/")))
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

// CgroupMemory is what a group of processes may use and uses, in bytes.
type CgroupMemory struct {
	Name      string // of the file that sets the limit, such as memory.max
	Used, Max uint64 // Max is Unlimited where nothing sets a limit
}

// MemoryOf returns the memory limit that the groups of a process reach first:
// its own or that of a group around it, in cgroup v2 or v1. Root is where the
// groups are mounted, "" for /sys/fs/cgroup. Groups that are not to be seen from
// here, as in a container with a namespace of its own, have no limit.
func MemoryOf(groups []Cgroup, root string) (CgroupMemory, error) {
	if root == "" {
		root = "/sys/fs/cgroup"
	}
	best := CgroupMemory{Max: Unlimited}
	for _, g := range groups {
		dir, limit, usage := root, "memory.max", "memory.current"
		switch {
		case g.Hierarchy != 0 && !slices.Contains(g.Controllers, "memory"):
			continue
		case g.Hierarchy != 0:
			dir, limit, usage = filepath.Join(root, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
		}
		if strings.HasPrefix(g.Path, "/..") {
			continue
		}
		for path := filepath.Clean("/" + g.Path); ; path = filepath.Dir(path) {
			m, err := groupMemory(filepath.Join(dir, path), limit, usage)
			switch {
			case errors.Is(err, fs.ErrNotExist): // the root group has no limit
			case err != nil:
				return best, err
			case m.Max != Unlimited && (best.Max == Unlimited || m.left() < best.left()):
				best = m
			}
			if path == "/" {
				break
			}
		}
	}
	return best, nil
}

func (m CgroupMemory) left() uint64 { return m.Max - min(m.Used, m.Max) }

func groupMemory(dir, limit, usage string) (CgroupMemory, error) {
	m := CgroupMemory{Name: limit}
	var err error
	if m.Max, err = groupNumber(filepath.Join(dir, limit)); err != nil {
		return m, err
	}
	m.Used, err = groupNumber(filepath.Join(dir, usage))
	return m, err
}

// groupNumber reads one number of a group. "max", and v1's largest number of
// whole pages, are no limit.
func groupNumber(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	word := string(bytes.TrimSpace(data))
	if word == "max" {
		return Unlimited, nil
	}
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	if n >= math.MaxInt64&^0xffff {
		n = Unlimited
	}
	return n, nil
}
