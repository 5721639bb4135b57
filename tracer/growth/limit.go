package growth

import (
	"math"
	"slices"
	"time"
)

// Limit is a bound on what the process, or its cgroup, may hold: memory.max
// bounds Resident, RLIMIT_AS bounds Mapped and Reserved together and is called a bound of
// Mapped, vm.max_map_count bounds Mappings.
type Limit struct {
	Name      string
	Measure   Measure
	Used, Max uint64 // in the unit of Measure
}

// Names of limits. That of a cgroup is the name of its file.
const (
	RlimitAS      = "RLIMIT_AS"
	RlimitData    = "RLIMIT_DATA"
	RlimitMemlock = "RLIMIT_MEMLOCK"
	MaxMapCount   = "vm.max_map_count"
	Overcommit    = "vm.overcommit_memory"
	// AddressSpace is all that a process can address, whatever its limits.
	AddressSpace = "the address space"
)

// Limits are those that apply to a process.
type Limits []Limit

// farAway is a time beyond which no trend is worth following: ten years. The end of the address
// space is far away for all but those who waste it.
const (
	farAway      = 10 * 365 * 24 * time.Hour
	farAwaySpace = 7 * 24 * time.Hour
)

// timeTo returns how long the growth that was found takes to reach a limit,
// and false if it does not, or cannot be known to: the group does not grow (what is
// retained does), the interval of its slope reaches to 0, or the limit is years away. Rise is
// how much what is used of the limit was seen to rise a second.
func timeTo(f Finding, l Limit, rise float64) (time.Duration, bool) {
	if f.Label < Retained || l.Measure >= measures || l.Name == RlimitData && !f.What.Private() {
		return 0, false
	}
	r := f.Rates[l.Measure]
	if l.Measure == Mapped {
		r = r.plus(f.Rates[Reserved])
	}
	if r.PerSecond <= 0 || r.Low <= 0 || l.Measure == Resident && f.Last.Swapped > f.First.Swapped {
		return 0, false // what is swapped out counts against no limit of what is resident
	}
	if l.Used >= l.Max {
		return 0, true
	}
	perSecond := r.PerSecond
	if l.Measure == Mappings {
		// Neighbours that are told apart here may be one to the kernel.
		perSecond = min(perSecond, rise)
	}
	left := float64(l.Max-l.Used) / perSecond // +Inf if nothing rises
	far := farAway
	if l.Name == AddressSpace {
		far = farAwaySpace
	}
	if left > far.Seconds() || math.IsNaN(left) {
		return 0, false
	}
	return time.Duration(left * float64(time.Second)), true
}

// Readings are the limits as they were read in the course of a watch, the oldest first; the
// last are how they are now.
type Readings []Reading

// Reading is the limits at a time since the watch began.
type Reading struct {
	At time.Duration
	Limits
}

// Add adds a reading. Of a long watch some are kept, at about equal distances from its
// beginning on: the one whose neighbours are the closest to each other goes.
func (rs *Readings) Add(r Reading) {
	const enough = 64
	all := append(*rs, r)
	if len(all) > enough {
		least := 1
		for i := 2; i < len(all)-1; i++ {
			if all[i+1].At-all[i-1].At < all[least+1].At-all[least-1].At {
				least = i
			}
		}
		all = slices.Delete(all, least, least+1)
	}
	*rs = all
}

// Soonest returns the limit that the growth reaches first, and how long that
// takes; false if it reaches none.
func (rs Readings) Soonest(f Finding) (Limit, time.Duration, bool) {
	var soonest Limit
	left, any := time.Duration(0), false
	if len(rs) == 0 {
		return soonest, 0, false
	}
	for _, l := range rs[len(rs)-1].Limits {
		if d, ok := timeTo(f, l, rs.rise(l.Name, f.From)); ok && (!any || d < left) {
			soonest, left, any = l, d, true
		}
	}
	return soonest, left, any
}

// rise is how much what is used of a limit has risen a second since a time; 0 if it has
// not, or was not read since but once.
func (rs Readings) rise(name string, from time.Duration) float64 {
	is := func(l Limit) bool { return l.Name == name }
	last := rs[len(rs)-1]
	now := slices.IndexFunc(last.Limits, is)
	for _, r := range rs[:len(rs)-1] {
		if i := slices.IndexFunc(r.Limits, is); i >= 0 && r.At >= from && r.At < last.At {
			return max(0, float64(last.Limits[now].Used)-float64(r.Limits[i].Used)) / (last.At - r.At).Seconds()
		}
	}
	return 0
}
