//go:build linux

// Package container finds the processes of cgroups, systemd units and
// containers. It asks no daemon: what runs where is in /proc/PID/cgroup, and
// what a container is called is in the files that its runtime keeps.
//
// The files of rootless runtimes belong to their users, and names in all of them
// are whatever somebody chose. So what is read of each user is bounded, only regular files are
// read, and what cannot be understood is an error that is told if nothing else is
// found.
package container

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// errAmbiguous says that more than one thing answers to a name.
var errAmbiguous = errors.New("it may be any of several")

// Finder looks at a machine. The zero value looks at this one.
type Finder struct {
	Proc procmaps.FS
	// Root is the directory that stands for /, for the files of the runtimes and
	// /sys/fs/cgroup.
	Root string

	reads *quota.Run // of tests
}

func (f Finder) path(name string) string { return filepath.Join("/", f.Root, name) }

// Container is a container with running processes.
type Container struct {
	ID      string
	Runtime string   // docker, containerd, cri-o, podman; empty if its cgroup does not tell
	Names   []string // what it answers to, the shortest first; none if they could not be read
	Group
}

// String is what people know it by.
func (c *Container) String() string {
	s := shortID(c.ID)
	if len(c.Names) > 0 {
		s += fmt.Sprintf(" (%q)", c.Names[len(c.Names)-1])
	}
	return s
}

// shortID is what the runtimes print.
func shortID(id string) string {
	const digits = 12
	if isID(id) {
		return id[:digits]
	}
	return id
}

// answers tells how well a container answers to a word: 2 for the whole ID or a
// whole name, 1 for the begin of either.
func (c *Container) answers(word string) int {
	best := 0
	for _, n := range append([]string{c.ID}, c.Names...) {
		switch {
		case n == word:
			return 2
		case strings.HasPrefix(n, word):
			best = 1
		}
	}
	return best
}

// Container finds a container by its ID, its name, or the begin of either; whole
// ones go before. No such container is an error that matches [procmaps.ErrGone]
// and says what was looked at; more than one, one that matches errAmbiguous and
// lists them.
//
// Names in Kubernetes are those of the container, of its pod and it (pod/name), and
// with the namespace (namespace/pod/name); a pod's own container, which only waits,
// has none.
func (f Finder) Container(word string) (*Container, error) {
	all, doubts, err := f.containers()
	if err != nil {
		return nil, err
	}
	if word == "" {
		return nil, errors.New("a container has a name, or an ID")
	}
	var found []*Container
	best := 1
	for _, c := range all {
		switch n := c.answers(word); {
		case n > best:
			best, found = n, []*Container{c}
		case n == best:
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, noContainer(word, all, doubts)
	}
	return nil, fmt.Errorf("container %q: %w: %s", word, errAmbiguous, list(found))
}

// noContainer says what was looked at.
func noContainer(word string, all []*Container, doubts []error) error {
	text := "no process in /proc is in one"
	if len(all) > 0 {
		text = "running are " + list(all)
	}
	const most = 3 // those who may not read one mostly may read none
	for i, d := range doubts {
		if i == most {
			text += fmt.Sprintf("; and %d more", len(doubts)-most)
			break
		}
		text += "; " + d.Error()
	}
	return fmt.Errorf("no running container has an ID or name that begins with %q: %w (%s)", word, procmaps.ErrGone, text)
}

// list names some containers.
func list[T fmt.Stringer](all []T) string {
	const most = 10
	var names []string
	for i, c := range all {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		names = append(names, c.String())
	}
	return strings.Join(names, ", ")
}

// Containers lists the containers that have running processes, by ID, with those of their
// names that could be read.
func (f Finder) Containers() ([]*Container, error) {
	all, _, err := f.containers()
	return all, err
}

// containers lists the containers that have running processes, by ID. Doubts are
// what of their names could not be read.
func (f Finder) containers() (all []*Container, doubts []error, err error) {
	groups, err := f.processes()
	if err != nil {
		return nil, nil, err
	}
	byID := make(map[string]*Container)
	for pid, lines := range groups {
		for _, line := range lines {
			for _, m := range membersOf(line.Path) {
				c := byID[m.id]
				if c == nil {
					c = &Container{ID: m.id, Runtime: m.runtime}
					byID[m.id] = c
				}
				c.Runtime = cmp.Or(c.Runtime, m.runtime)
				c.add(f, groupOf(line, m.path), pid)
			}
		}
	}
	doubts = f.name(byID, groups)
	all = slices.SortedFunc(maps.Values(byID), func(a, b *Container) int { return cmp.Compare(a.ID, b.ID) })
	for _, c := range all {
		slices.Sort(c.pids)
		c.pids = slices.Compact(c.pids)
		slices.SortFunc(c.Names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		c.Names = slices.Compact(c.Names)
	}
	return all, doubts, nil
}

// processes reads the cgroups of every process.
func (f Finder) processes() (map[int][]procmaps.Cgroup, error) {
	pids, err := f.Proc.Pids()
	if err != nil {
		return nil, err
	}
	all := make(map[int][]procmaps.Cgroup, len(pids))
	for _, pid := range pids {
		lines, err := f.cgroupsOf(pid)
		if errors.Is(err, procmaps.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[pid] = lines
	}
	return all, nil
}

func (f Finder) cgroupsOf(pid int) ([]procmaps.Cgroup, error) {
	p, err := f.Proc.Process(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Cgroup()
}
