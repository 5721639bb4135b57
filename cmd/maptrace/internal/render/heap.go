package render

import (
	"cmp"
	"fmt"

	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/heap"
)

// HeapObject is who keeps a heap that many share, by a sample of what is allocated in it.
// Rates are in bytes a second, with intervals of 95 %.
type HeapObject struct {
	// Source is whose sample that is: "sampled blocks" of a malloc heap, or "go profile", the
	// one that the runtime of a Go program keeps. There, samples are those allocated in the
	// second half of the time, and of what there was before as many are taken off alive as
	// were freed.
	Source string `json:"source"`
	// RateAssumed: how many bytes a sample of a go profile stands for is likely, but not known.
	RateAssumed bool    `json:"rate_assumed,omitempty"`
	Samples     int     `json:"samples"`
	Alive       int     `json:"alive"` // of the samples
	Seconds     float64 `json:"seconds"`
	Kept        float64 `json:"kept"`
	KeptLow     float64 `json:"kept_low"`
	KeptTop     float64 `json:"kept_high"`
	// Explained is what is kept, as a part of what the heap grows by.
	Explained float64 `json:"explained"`
	// Confidence is that the first of the functions keeps more than any other.
	Confidence float64            `json:"confidence"`
	Functions  []HeapKeeperObject `json:"functions"` // who keeps the most first
}

// HeapKeeperObject is a function that keeps blocks.
type HeapKeeperObject struct {
	By        string   `json:"by"`
	Share     float64  `json:"share"` // of what all keep
	Samples   int      `json:"samples"`
	Alive     int      `json:"alive"`
	Survival  float64  `json:"survival"` // the part of what it allocates that stays
	Allocated float64  `json:"allocated"`
	Kept      float64  `json:"kept"`
	KeptLow   float64  `json:"kept_low"`
	KeptTop   float64  `json:"kept_high"`
	Frames    []string `json:"frames"` // of the stack on which it keeps the most, innermost first
	End       string   `json:"end,omitempty"`
}

func heapObject(f *attribution.Finding) *HeapObject {
	r := f.Heap
	if r == nil {
		return nil
	}
	o := &HeapObject{
		Source: r.Source.String(), RateAssumed: r.Assumed, Samples: r.Samples, Alive: r.Alive, Seconds: r.Watched.Seconds(), Kept: r.Kept, KeptLow: r.Low, KeptTop: r.High,
		Explained: r.Explained(), Confidence: r.Confidence, Functions: []HeapKeeperObject{},
	}
	for i := range f.Keepers {
		k := &f.Keepers[i]
		o.Functions = append(o.Functions, HeapKeeperObject{
			By: k.By.Full, Share: k.Share, Samples: k.Samples, Alive: k.Alive, Survival: k.Survival, Allocated: k.Allocated,
			Kept: k.Kept, KeptLow: k.Low, KeptTop: k.High, Frames: fullNames(k.Frames), End: k.End,
		})
	}
	return o
}

// sampled is how much is known of who keeps a heap by a sample of its blocks.
func sampled(r *heap.Result) string {
	if r.Source == heap.ByProfile {
		return fmt.Sprintf("of %s in the program's own profile %d stayed", units.Count(uint64(r.Samples), "sample"), r.Alive)
	}
	return fmt.Sprintf("of %s %d stayed", units.Count(uint64(r.Samples), "sampled block"), r.Alive)
}

// perMinute is a rate for people.
func perMinute(rate float64) string { return units.Bytes(rate*60) + "/min" }

// heap appends who keeps a heap.
func (r *growthReport) heap(f *attribution.Finding) {
	const most = 3
	for i := range f.Keepers {
		k := &f.Keepers[i]
		if i == 0 {
			by := "a sample of " + units.Count(uint64(f.Heap.Samples), "block")
			if f.Heap.Source == heap.ByProfile {
				by = units.Count(uint64(f.Heap.Samples), "sample") + " of the program's own heap profile"
				if f.Heap.Assumed {
					by += " (whose rate is likely, but not known)"
				}
			}
			kept := "kept by"
			if pooled(f) {
				kept = "asked for, in blocks that may be handed out in pieces, by"
			}
			r.text(fmt.Sprintf("  by %s in %s, what stays is %s (%s to %s), %s of the growth, %s",
				by, units.Span(f.Heap.Watched), perMinute(f.Heap.Kept),
				units.Bytes(f.Heap.Low*60), units.Bytes(f.Heap.High*60), units.Percent(f.Heap.Explained()), kept), 2)
		}
		if i >= most || i > 0 && k.Share < leastShare {
			break
		}
		r.text(fmt.Sprintf("  %5s %s: %s (%s to %s), %s of what it allocates (%d of %s)", units.Percent(k.Share), table.Escape(cmp.Or(k.By.Short, attribution.UnknownPlace)),
			perMinute(k.Kept), units.Bytes(k.Low*60), units.Bytes(k.High*60), units.Percent(k.Survival), k.Alive, units.Count(uint64(k.Samples), "sample")), 8)
		r.stack(k.Frames, k.End)
	}
}

// HeapsObject is what sampling heaps has cost.
type HeapsObject struct {
	Processes uint64  `json:"processes"`
	Bursts    uint64  `json:"bursts"`
	Probed    float64 `json:"probed_seconds"` // for how long allocators were probed, of
	Watched   float64 `json:"seconds"`
	Calls     uint64  `json:"calls"` // of allocators that were seen
	Blocks    uint64  `json:"blocks"`
	Dropped   uint64  `json:"dropped"`      // samples or their ends
	Cost      float64 `json:"cost_seconds"` // what the calls took longer by, about
	// GoProfiles is how often profiles were read that Go programs keep of their heaps.
	GoProfiles uint64  `json:"go_profiles"`
	GoCPU      float64 `json:"go_profile_cpu_seconds"` // that it took maptrace
}
