package model

import "github.com/maptrace/maptrace/tracer/latency"

// Timing is how long one call took, in ns.
type Timing struct {
	Duration  uint64 // from its entry to its return
	Wait      uint64 // of that, waiting for mmap locks
	Hold      uint64 // holding them
	WriteHold uint64 // holding them for writing
	Longest   uint64 // single hold
	Locks     uint32 // how often it got one
	Slow      bool   // it took at least what is called slow
	Name      string // of the operation, as in Latency
	// Weight is for how many calls of its operation, as slow or not, it stands on
	// average: it was taken by chance. Skipped are those that were passed over since
	// the last that was not; not all that this one stands for, nor only.
	Weight  uint64
	Skipped latency.Sums
}

// Sums is the call by itself.
func (t *Timing) Sums() latency.Sums {
	return latency.Sums{Calls: 1, Duration: t.Duration, Wait: t.Wait, Hold: t.Hold}
}

// Latency is what all calls of an operation took: counted, not sampled. The
// histograms of what is no call (Call is false) are of the holds of the mmap lock,
// and Duration is empty.
type Latency struct {
	Name      string
	Call      bool
	Failed    uint64
	Slow      uint64
	Duration  latency.Hist
	Wait      latency.Hist // of the calls that asked for a lock
	Hold      latency.Hist // likewise
	WriteHold uint64       // of the time held, that for writing
	Longest   uint64       // single hold
}

// TimingCounters tell what is missing from what was measured.
type TimingCounters struct {
	Dropped    uint64 // calls that were to be told, and the ring had no room for
	Unstacked  uint64 // calls that were told without their stack
	Unmeasured uint64 // calls and holds of locks for which the kernel had no memory
}
