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

// Rlimits are soft limits of a process (getrlimit(2)), in bytes, [Unlimited] where there is
// none.
type Rlimits struct {
	AddressSpace uint64 // RLIMIT_AS
	Data         uint64 // RLIMIT_DATA
	Locked       uint64 // RLIMIT_MEMLOCK
	Stack        uint64 // RLIMIT_STACK
}

// Rlimits reads /proc/PID/limits (2.6.24+).
func (p *Process) Rlimits() (Rlimits, error) {
	data, err := p.read("limits")
	if err != nil {
		return Rlimits{}, err
	}
	return parseRlimits(data, p.file("limits"))
}

// parseRlimits finds the rows, by what fs/proc/base.c:proc_pid_limits calls them.
func parseRlimits(data []byte, file string) (Rlimits, error) {
	var r Rlimits
	missing := map[string]*uint64{
		"Max address space": &r.AddressSpace, "Max data size": &r.Data, "Max locked memory": &r.Locked, "Max stack size": &r.Stack,
	}
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return Rlimits{}, err
		}
		for name, limit := range missing {
			rest, ok := bytes.CutPrefix(line, []byte(name+" "))
			if !ok {
				continue
			}
			delete(missing, name)
			word, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte{' '})
			if *limit = Unlimited; string(word) == "unlimited" {
				break
			}
			if *limit, err = strconv.ParseUint(string(word), 10, 64); err != nil {
				return Rlimits{}, parseError(file, l.n, line, "bad limit")
			}
			break
		}
	}
	if len(missing) > 0 {
		return Rlimits{}, fmt.Errorf("%s: not all limits of memory", file)
	}
	return r, nil
}

// Commitment is how much memory is promised to all processes, in bytes, and how much may be;
// the latter is [Unlimited] unless vm.overcommit_memory is 2 (proc(5)).
func (f FS) Commitment() (used, most uint64, err error) {
	if mode, e := f.sysctl("vm.overcommit_memory"); e != nil || mode != 2 {
		return 0, Unlimited, e
	}
	name := filepath.Join(f.Root(), "meminfo")
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, Unlimited, err
	}
	return parseCommitment(data, name)
}

func parseCommitment(data []byte, file string) (used, most uint64, err error) {
	found := 0
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return 0, Unlimited, err
		}
		for key, to := range map[string]*uint64{"Committed_AS:": &used, "CommitLimit:": &most} {
			rest, ok := bytes.CutPrefix(line, []byte(key))
			if !ok {
				continue
			}
			kb, unit, ok := cutDec(bytes.TrimLeft(rest, " "))
			if !ok || string(unit) != " kB" {
				return 0, Unlimited, parseError(file, l.n, line, "bad size")
			}
			*to = kb << 10
			found++
		}
	}
	if found != 2 {
		return 0, Unlimited, fmt.Errorf("%s: no commitment of memory", file)
	}
	return used, most, nil
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
