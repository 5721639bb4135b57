package malloc

import (
	"strings"

	"github.com/maptrace/maptrace/procmaps/units"
)

// String says in a sentence or two what malloc holds, what of it is free, and what
// malloc_trim would give back.
func (h *Heap) String() string {
	var b strings.Builder
	say := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
	}
	sum := h.Total()
	say("glibc's malloc has ", size(sum.System), " in ", units.Count(uint64(len(h.Arenas)), "arena"))
	if h.Counted {
		say(", ", size(sum.Resident), " of it resident")
	}
	say(": ")
	if sum.Walked < sum.System-sum.System/64 {
		say("of the ", size(sum.Walked), " that were read, ")
	}
	say(size(sum.InUse.Bytes), " in use by ", units.Count(sum.InUse.Blocks, "block"), ", ", size(sum.Free()), " free")
	var free []string
	for _, f := range []struct {
		bytes uint64
		where string
	}{
		{sum.Bins.Bytes, "in bins"},
		{sum.Fast.Bytes, "in fast bins"},
		{sum.Tcache.Bytes, "in caches of threads"},
		{sum.Top, "at the ends"},
	} {
		if f.bytes >= 1<<10 {
			about := ""
			if sum.Estimated && f.where == "in fast bins" {
				about = "about "
			}
			free = append(free, about+size(f.bytes)+" "+f.where)
		}
	}
	if len(free) > 0 {
		say(" (", strings.Join(free, ", "), ")")
	}
	say(".")
	switch {
	case h.Counted && sum.ResidentTrim > 0:
		say(" malloc_trim would give back ", size(sum.ResidentTrim), ".")
	case h.Counted && sum.Free() > 0:
		say(" malloc_trim would give nothing back.")
	case sum.Trimmable > 0:
		say(" malloc_trim would give back ", size(sum.Trimmable), ", less what is not resident.")
	}
	if h.Counted && sum.ResidentTop >= 1<<20 {
		say(" ", size(sum.ResidentTop), " at the ends of threads' arenas stay resident even then.")
	}
	if h.MappedKnown && h.Mapped.Blocks > 0 {
		say(" ", units.Count(h.Mapped.Blocks, "block"), " of ", size(h.Mapped.Bytes), " in all ", has(h.Mapped.Blocks), ".")
	}
	if !h.Complete {
		say(" Not all of it is known: ", h.Why, ".")
	}
	return b.String()
}

func size(n uint64) string { return units.Bytes(float64(n)) }

func has(n uint64) string {
	if n == 1 {
		return "has a mapping of its own"
	}
	return "have mappings of their own"
}
