//go:build linux

package sample

import (
	"errors"
	"io/fs"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
)

// Group is a cgroup that is watched beside its processes.
type Group struct {
	Name string
	// Memory reads what it is charged for. One that has nothing to tell is an error that
	// matches [fs.ErrNotExist].
	Memory func() (procmaps.GroupMemory, error)
	// Files lists the files that its processes have open, with what of them is in the page
	// cache; nil if that is not asked.
	Files func() ([]procmaps.CachedFile, error)
}

// filesEvery is how often the files of a cgroup's processes are looked at.
const filesEvery = 10 * time.Second

// groups are those, and when they are to be read next.
type groups struct {
	all      []Group
	due      uint64
	filesDue uint64
	busy     bool
	unfiled  bool // files cannot be looked at, as was told
}

// lookAtGroups has the cgroups read if it is time.
func (s *Sampler) lookAtGroups(now uint64) {
	g := &s.groups
	if len(g.all) == 0 || g.busy || now < g.due {
		return
	}
	g.busy, g.due = true, now+uint64(s.opts.Interval)
	all, files := g.all, now >= g.filesDue && !g.unfiled
	if files {
		g.filesDue = now + uint64(filesEvery)
	}
	s.ask(func() func() {
		read := make([]procmaps.GroupMemory, len(all))
		errs := make([]error, len(all))
		open := make([][]procmaps.CachedFile, len(all))
		var unfiled error
		for i := range all {
			if read[i], errs[i] = all[i].Memory(); files && all[i].Files != nil {
				var err error
				open[i], err = all[i].Files()
				unfiled = errors.Join(unfiled, err)
			}
		}
		return func() {
			g.busy = false
			if unfiled != nil {
				g.unfiled = true
				s.opts.Log.Info("look at what of a cgroup's files is in the page cache", "error", unfiled)
			}
			for i := range all {
				if errs[i] == nil {
					s.opts.Emit(&event.Record{At: s.kernel.Now(), Body: event.Group{Name: all[i].Name, GroupMemory: read[i], Files: open[i]}})
				} else if !errors.Is(errs[i], fs.ErrNotExist) {
					s.opts.Log.Warn("read what a cgroup is charged for", "cgroup", all[i].Name, "error", errs[i])
				}
			}
		}
	})
}
