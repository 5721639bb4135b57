package attribution

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// ownGroup is from which size on memory that was there before is a group of its
// own, named by its addresses. What is smaller is together by its purpose.
const ownGroup = 4 << 20

// oldRegion is anonymous memory that was there before.
type oldRegion struct {
	procmaps.Range
	role procmaps.Role
}

// key tells the group of an extent, and the site that stands for it. It depends
// on nothing but the extent and what was there before, so that a piece is in the
// same group when it comes, while it is there and when it goes.
func (a *Attribution) key(e *space.Extent) (growth.Key, model.Blame) {
	_, at := e.Blame()
	blame := model.Blame(at)
	k := growth.Key{What: whatOf(e)}
	if blame.Missing() && k.What == growth.NamedAnon {
		k.What = growth.Anon // as below
	}
	switch k.What {
	case growth.File, growth.Memfd:
		// What is mapped may be deleted meanwhile, and is the same.
		k.Name = a.files.of(strings.TrimSuffix(e.Name, procmaps.DeletedSuffix))
		if k.What == growth.File {
			return k, blame // a file is one, whoever maps it
		}
	}
	if blame.Missing() || k.What == growth.Heap {
		return k, blame // a heap is one, whoever makes it larger
	}
	if site := blame.Site(); site != 0 {
		if k.What == growth.NamedAnon {
			k.What = growth.Anon // names come later than the memory, and change
		}
		if k.What == growth.Anon {
			if name := a.sites.Pool(site); name != "" {
				return growth.Key{What: growth.Pool, Name: name}, blame // it is one, whoever makes it larger
			}
		}
		k.Site = a.sites.Group(site)
		return k, blame
	}
	if k.What == growth.NamedAnon {
		k.Name = e.Name
	}
	if k.What == growth.Anon {
		if r, ok := a.before(e.Start); ok {
			k.What = whatRoles[r.role]
			if r.Len() >= ownGroup {
				k.Name = fmt.Sprintf("%x-%x", r.Start, r.End)
			}
		}
	}
	return k, blame
}

// before finds the old region around an address.
func (a *Attribution) before(addr uint64) (oldRegion, bool) {
	i, found := slices.BinarySearchFunc(a.old, addr, func(r oldRegion, addr uint64) int {
		switch {
		case r.End <= addr:
			return -1
		case r.Start > addr:
			return 1
		}
		return 0
	})
	if !found {
		return oldRegion{}, false
	}
	return a.old[i], true
}

// whatRoles are the purposes of anonymous memory.
var whatRoles = map[procmaps.Role]growth.What{
	procmaps.RoleAnon: growth.Anon, procmaps.RoleHeap: growth.Heap, procmaps.RoleStack: growth.Stack,
	procmaps.RoleThreadStack: growth.ThreadStack, procmaps.RoleArena: growth.Arena,
	procmaps.RoleGuard: growth.Anon, procmaps.RoleReserved: growth.Reserve,
}

// whatOf tells what an extent is for by itself.
func whatOf(e *space.Extent) growth.What {
	if e.Origin.Op == space.OpStack {
		return growth.Stack // by itself it is as anonymous as any
	}
	switch e.Kind {
	case procmaps.KindHeap:
		return growth.Heap
	case procmaps.KindStack:
		return growth.Stack
	case procmaps.KindFile:
		return growth.File
	case procmaps.KindShm:
		if strings.HasPrefix(e.Name, procmaps.MemfdPrefix) {
			return growth.Memfd
		}
		return growth.Shm
	case procmaps.KindSpecial:
		return growth.Special
	}
	if e.Name != "" {
		return growth.NamedAnon
	}
	return growth.Anon
}

func mappings(regions []space.Region) []procmaps.Mapping {
	rows := make([]procmaps.Mapping, len(regions))
	for i := range regions {
		rows[i] = regions[i].Mapping
	}
	return rows
}
