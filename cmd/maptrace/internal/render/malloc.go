package render

import (
	"fmt"
	"time"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
)

// MallocObject is what glibc's malloc holds, in bytes.
type MallocObject struct {
	InUse     uint64 `json:"in_use"`                  // in arenas, by blocks that were not freed
	Before    uint64 `json:"in_use_before,omitempty"` // the same at the first complete reading
	Free      uint64 `json:"free"`                    // in arenas, kept
	Top       uint64 `json:"free_top"`                // of that, at their ends
	Trimmable uint64 `json:"trimmable"`               // malloc_trim would give it back
	Arenas    int    `json:"arenas"`
	Mapped    uint64 `json:"mapped"` // by blocks that have mappings of their own
	Complete  bool   `json:"complete"`
	Why       string `json:"why,omitempty"` // what is missing if it is not complete
	// Age is for how long no other reading was complete.
	Age time.Duration `json:"age_ns"`
}

// leastTrim is what malloc_trim would give back that is worth calling it, in bytes.
const leastTrim = 1 << 20

// mostAge is how old a reading may be that is said to tell what is there now.
const mostAge = 2 * time.Second

// malloc appends what malloc holds.
func (r *growthReport) malloc(m *attribution.Malloc) {
	if m != nil {
		r.text(held(m), 2)
	}
}

// held is what malloc holds.
func held(m *attribution.Malloc) string {
	size := func(n uint64) string { return units.Bytes(float64(n)) }
	b := fmt.Appendf(nil, "glibc's malloc has %s in use", size(m.InUse))
	if m.Age > mostAge {
		b = fmt.Appendf(nil, "glibc's malloc had %s in use %s ago", size(m.InUse), units.Length(m.Age))
	}
	if m.Before != 0 {
		b = fmt.Appendf(b, " (%s at first)", size(m.Before))
	}
	b = fmt.Appendf(b, ", %s free in %s", size(m.Free), units.Count(uint64(m.Arenas), "arena"))
	if m.Trimmable >= leastTrim {
		b = fmt.Appendf(b, ", of which malloc_trim would give back %s", size(m.Trimmable))
	}
	if m.Mapped > 0 {
		b = fmt.Appendf(b, "; blocks of %s have mappings of their own", size(m.Mapped))
	}
	if !m.Complete {
		b = fmt.Appendf(b, "; not all of it is known: %s", table.Escape(m.Why))
	}
	return string(b)
}
