//go:build linux

package sample

import (
	"errors"
	"io/fs"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
)

// Group is a cgroup that is watched beside its processes.
type Group struct {
	Name string
	// Memory reads what it is charged for. One that has nothing to tell is an error that
	// matches [fs.ErrNotExist].
	Memory func() (procmaps.GroupMemory, error)
}

// groups are those, and when they are to be read next.
type groups struct {
	all  []Group
	due  uint64
	busy bool
}

// lookAtGroups has the cgroups read if it is time.
func (s *Sampler) lookAtGroups(now uint64) {
	g := &s.groups
	if len(g.all) == 0 || g.busy || now < g.due {
		return
	}
	g.busy, g.due = true, now+uint64(s.opts.Interval)
	all := g.all
	s.ask(func() func() {
		read := make([]procmaps.GroupMemory, len(all))
		errs := make([]error, len(all))
		for i := range all {
			read[i], errs[i] = all[i].Memory()
		}
		return func() {
			g.busy = false
			for i := range all {
				if errs[i] == nil {
					s.opts.Emit(&event.Record{At: s.kernel.Now(), Body: event.Group{Name: all[i].Name, GroupMemory: read[i]}})
				} else if !errors.Is(errs[i], fs.ErrNotExist) {
					s.opts.Log.Warn("read what a cgroup is charged for", "cgroup", all[i].Name, "error", errs[i])
				}
			}
		}
	})
}
