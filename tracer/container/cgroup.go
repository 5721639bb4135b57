//go:build linux

package container

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// cgroupMount is where systemd and the runtimes mount the file systems.
const cgroupMount = "/sys/fs/cgroup"

// group is one directory of one hierarchy.
type group struct {
	path        string
	v2          bool
	controllers string // of v1, as its mount point is called
}

func groupOf(line procmaps.Cgroup, at string) group {
	return group{path: at, v2: line.Hierarchy == 0, controllers: strings.Join(line.Controllers, ",")}
}

// contains tells whether a group, or one below it, is the one of a path.
func (g group) contains(line procmaps.Cgroup) bool {
	same := g.v2 == (line.Hierarchy == 0) && g.controllers == strings.Join(line.Controllers, ",")
	return same && below(line.Path, g.path)
}

// below tells whether a path is at another or below it.
func below(p, top string) bool {
	return top == "/" || p == top || strings.HasPrefix(p, top) && p[len(top)] == '/'
}

// Group is some cgroups and those below them.
type Group struct {
	f      Finder
	groups []group // one in each hierarchy
	pids   []int
}

// add puts a process into it.
func (g *Group) add(f Finder, at group, pid int) {
	g.f = f
	if !slices.Contains(g.groups, at) {
		g.groups = append(g.groups, at)
	}
	g.pids = append(g.pids, pid)
}

// Path is the first of its cgroups, as /proc/PID/cgroup has it.
func (g *Group) Path() string { return g.groups[0].path }

// PIDs are the processes that were in it when it was found, ascending. Kernel
// threads and zombies are among them.
func (g *Group) PIDs() []int { return g.pids }

// Now lists the processes that are in it now, ascending; none if it is gone. It
// reads its directories, which is cheap, or, where they are not to be seen, looks
// at every process there is.
func (g *Group) Now() ([]int, error) {
	var pids []int
	seen := false
	for _, at := range g.groups {
		dir, ok := g.f.dir(at)
		if !ok {
			continue
		}
		seen = true
		found, err := procsBelow(dir)
		if err != nil {
			return nil, err
		}
		pids = append(pids, found...)
	}
	if !seen {
		all, err := g.f.processes()
		if err != nil {
			return nil, err
		}
		for pid, lines := range all {
			if slices.ContainsFunc(g.groups, func(at group) bool { return slices.ContainsFunc(lines, at.contains) }) {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// Memory reads what it is charged for. The error matches [fs.ErrNotExist] where its memory
// controller is not to be seen, or it is gone.
func (g *Group) Memory() (procmaps.GroupMemory, error) {
	for _, at := range g.groups {
		if !at.v2 && !slices.Contains(strings.Split(at.controllers, ","), "memory") {
			continue
		}
		dir, ok := g.f.dir(at)
		if !ok {
			continue
		}
		m, err := procmaps.ReadGroupMemory(dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
	}
	return procmaps.GroupMemory{}, fmt.Errorf("read the memory of cgroup %s: %w", g.Path(), fs.ErrNotExist)
}

// Files lists the files that its processes have open, with what of them is in the page cache, the
// largest first: of so many processes, and so many descriptors of each.
func (g *Group) Files() ([]procmaps.CachedFile, error) {
	const processes, descriptors = 64, 1024
	pids, err := g.Now()
	if err != nil {
		return nil, err
	}
	var all [][]procmaps.CachedFile
	var failed error
	for _, pid := range pids[:min(len(pids), processes)] {
		p, err := g.f.Proc.Process(pid)
		if err != nil {
			continue // it has ended
		}
		files, err := p.CachedFiles(descriptors)
		_ = p.Close() // it was only read
		if err != nil && !errors.Is(err, procmaps.ErrGone) {
			failed = err
		}
		all = append(all, files)
	}
	if found := procmaps.MergeCached(all...); len(found) > 0 {
		return found, nil
	}
	return nil, failed
}

// dir is a group's directory. Whether its hierarchy is to be seen is told by the
// root's list of processes; the group itself may be gone.
func (f Finder) dir(at group) (string, bool) {
	var mounts []string
	switch {
	case at.v2:
		mounts = []string{"", "unified"} // the whole, or beside v1
	case strings.HasPrefix(at.controllers, "name="):
		mounts = []string{strings.TrimPrefix(at.controllers, "name=")}
	default:
		mounts = []string{at.controllers}
	}
	for _, m := range mounts {
		root := filepath.Join(f.path(cgroupMount), m)
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil {
			return filepath.Join(root, at.path), true
		}
	}
	return "", false
}

// procsBelow reads the lists of processes of a directory and those below it.
func procsBelow(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			var found []int
			found, err = readProcs(filepath.Join(p, "cgroup.procs"))
			pids = append(pids, found...)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		return err
	})
	return pids, err
}

// readProcs reads one list. That of a threaded group cannot be read: its processes
// are in the list of the one above.
func readProcs(name string) ([]int, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var pids []int
	for in := bufio.NewScanner(file); ; {
		if !in.Scan() {
			if err := in.Err(); err != nil && !errors.Is(err, errThreaded) && !errors.Is(err, errRemoved) {
				return nil, fmt.Errorf("read cgroup: %w", err)
			}
			return pids, nil
		}
		// 0 is a process of another pid namespace, which has no number here.
		if pid, err := strconv.Atoi(in.Text()); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
}

// Cgroup finds a cgroup: by its path as /proc/PID/cgroup has it, by that of its
// directory below /sys/fs/cgroup, or by the name of a systemd unit or slice. No
// process in it is an error that matches [procmaps.ErrGone]; a name that more than
// one cgroup has, one that matches errAmbiguous.
func (f Finder) Cgroup(word string) (*Group, error) {
	all, err := f.processes()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(word, "/") && word != "" {
		return f.unit(word, all)
	}
	if !path.IsAbs(word) {
		return nil, fmt.Errorf("cgroup %q: want a path from /, or the name of a unit", word)
	}
	clean := path.Clean(word)
	within := func(line procmaps.Cgroup) (string, bool) { return clean, below(line.Path, clean) }
	if rest, ok := strings.CutPrefix(clean, cgroupMount); ok && (rest == "" || rest[0] == '/') {
		within = func(line procmaps.Cgroup) (string, bool) {
			at, ok := belowMount(line, rest)
			return at, ok && below(line.Path, at)
		}
	}
	g := f.pick(all, within)
	if len(g.pids) == 0 {
		return nil, f.noCgroup(word, clean, len(all))
	}
	return g, nil
}

// noCgroup tells an empty group from one that is not there, as far as can be seen.
func (f Finder) noCgroup(word, clean string, processes int) error {
	if !below(clean, cgroupMount) {
		clean = path.Join(cgroupMount, clean)
	}
	if _, err := os.Stat(f.path(clean)); err == nil {
		return fmt.Errorf("cgroup %q: no process is in it, nor below it: %w", word, procmaps.ErrGone)
	}
	return fmt.Errorf("cgroup %q: none of the %d processes in /proc is in it: %w", word, processes, procmaps.ErrGone)
}

// belowMount tells which path in a line's hierarchy a path below /sys/fs/cgroup
// stands for.
func belowMount(line procmaps.Cgroup, rest string) (string, bool) {
	name := strings.TrimPrefix(strings.Join(line.Controllers, ","), "name=")
	if line.Hierarchy == 0 {
		// Beside v1 it is in a directory of its own.
		if at, ok := strings.CutPrefix(rest, "/unified"); ok && (at == "" || at[0] == '/') {
			return path.Clean("/" + at), true
		}
		return path.Clean("/" + rest), true
	}
	first, at, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	// Controllers that are mounted together have links of their own.
	if first == "" || first != name && !slices.Contains(line.Controllers, first) {
		return "", false
	}
	return path.Clean("/" + at), true
}

// pick gathers the processes whose cgroups are wanted; within says of which group
// they are then.
func (f Finder) pick(all map[int][]procmaps.Cgroup, within func(procmaps.Cgroup) (string, bool)) *Group {
	g := &Group{f: f}
	for pid, lines := range all {
		for _, line := range lines {
			if at, ok := within(line); ok {
				g.add(f, groupOf(line, at), pid)
			}
		}
	}
	slices.Sort(g.pids)
	g.pids = slices.Compact(g.pids)
	return g
}

// unit finds the group that systemd made for a unit: the last element of its path
// is the unit's name. "nginx" is short for nginx.service.
func (f Finder) unit(word string, all map[int][]procmaps.Cgroup) (*Group, error) {
	for _, name := range []string{word, word + ".service"} {
		found := make(map[string]bool)
		g := f.pick(all, func(line procmaps.Cgroup) (string, bool) {
			at, ok := upTo(line.Path, name)
			if ok {
				found[at] = true
			}
			return at, ok
		})
		if len(found) > 1 {
			return nil, fmt.Errorf("cgroup %q: %w: %s", word, errAmbiguous, list(quoted(found)))
		}
		if len(found) == 1 {
			return g, nil
		}
	}
	return nil, fmt.Errorf("cgroup %q: none of the %d processes in /proc is in a cgroup of this name: %w", word, len(all), procmaps.ErrGone)
}

// upTo cuts a path behind the first element of a name.
func upTo(p, name string) (string, bool) {
	rest := p
	for rest != "" {
		rest = strings.TrimPrefix(rest, "/")
		element, after, _ := strings.Cut(rest, "/")
		if element == name {
			return strings.TrimSuffix(p[:len(p)-len(after)], "/"), true
		}
		rest = after
	}
	return "", false
}

type quotedPath string

func (q quotedPath) String() string { return strconv.Quote(string(q)) }

func quoted(paths map[string]bool) []quotedPath {
	var all []quotedPath
	for p := range paths {
		all = append(all, quotedPath(p))
	}
	slices.Sort(all)
	return all
}
