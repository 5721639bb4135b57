package growth

import (
	"math"
	"time"
)

// Limit is a bound on what the process, or its cgroup, may hold: memory.max
// bounds Resident, RLIMIT_AS bounds Mapped, vm.max_map_count bounds Mappings.
type Limit struct {
	Name      string
	Measure   Measure
	Used, Max uint64 // in the unit of Measure
}

// Limits are those that apply to a process.
type Limits []Limit

// farAway is a time beyond which no trend is worth following: ten years.
const farAway = 10 * 365 * 24 * time.Hour

// timeTo returns how long the growth that was found takes to reach a limit,
// and false if it does not, or cannot be known to: the group neither leaks nor
// grows, the interval of its slope reaches to 0, or the limit is years away.
// A finding of [Watch.Total] tells about all groups together.
func timeTo(f Finding, l Limit) (time.Duration, bool) {
	if f.Label < Grows || l.Measure >= measures {
		return 0, false
	}
	r := f.Rates[l.Measure]
	if r.PerSecond <= 0 || r.Low <= 0 {
		return 0, false
	}
	if l.Used >= l.Max {
		return 0, true
	}
	left := float64(l.Max-l.Used) / r.PerSecond
	if left > farAway.Seconds() || math.IsNaN(left) {
		return 0, false
	}
	return time.Duration(left * float64(time.Second)), true
}

// Soonest returns the limit that the growth reaches first, and how long that
// takes; false if it reaches none.
func (ls Limits) Soonest(f Finding) (Limit, time.Duration, bool) {
	var soonest Limit
	left, any := time.Duration(0), false
	for _, l := range ls {
		if d, ok := timeTo(f, l); ok && (!any || d < left) {
			soonest, left, any = l, d, true
		}
	}
	return soonest, left, any
}
