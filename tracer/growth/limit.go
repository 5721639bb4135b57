package growth

import (
	"math"
	"slices"
	"time"
)

// Limit is a bound on what the process, or its cgroup, may hold: memory.max
// bounds Resident, RLIMIT_AS bounds Mapped, vm.max_map_count bounds Mappings.
type Limit struct {
	Name      string
	Measure   Measure
	Used, Max uint64 // in the unit of Measure
	// PerSecond is how fast Used itself was seen to rise; 0 if it was not, or was read once
	// only. It matters for mappings: neighbours that are told apart here are one to the
	// kernel.
	PerSecond float64
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
	perSecond := r.PerSecond
	if l.Measure == Mappings {
		perSecond = min(perSecond, l.PerSecond)
	}
	left := float64(l.Max-l.Used) / perSecond // +Inf if nothing rises
	if left > farAway.Seconds() || math.IsNaN(left) {
		return 0, false
	}
	return time.Duration(left * float64(time.Second)), true
}

// Since are the limits as they are now, with how fast what is used of them has risen since
// they were read at first, some time before.
func (ls Limits) Since(first Limits, before time.Duration) Limits {
	now := slices.Clone(ls)
	for i := range now {
		l := &now[i]
		at := slices.IndexFunc(first, func(f Limit) bool { return f.Name == l.Name })
		if at >= 0 && before > 0 && l.Used > first[at].Used {
			l.PerSecond = float64(l.Used-first[at].Used) / before.Seconds()
		}
	}
	return now
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
