package attribution

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/stack"
)

// The heap of a JVM is one range of addresses that is reserved at its start, below 32 GiB if it
// is no larger than that (HotSpot: -XX:+UseCompressedOops, the default). More and more of it is
// touched as objects are made, up to -Xmx, before their garbage is collected: that it grows is
// no leak, nor does it tell whether there is one.
const (
	mostCompressed = 32 << 30
	leastJavaHeap  = 1 << 20
)

// addressesOf are those of memory that was there before, by the name of its group.
func addressesOf(name string) (start, end uint64, ok bool) {
	first, last, _ := strings.Cut(name, "-")
	start, err1 := strconv.ParseUint(first, 16, 64)
	end, err2 := strconv.ParseUint(last, 16, 64)
	return start, end, err1 == nil && err2 == nil && start < end
}

// javaHeap tells whether a group is the heap of a JVM, or a part of it.
func (a *Attribution) javaHeap(k growth.Key) bool {
	if k.What == growth.Pool {
		return k.Name == growth.JVMPool
	}
	start, end, ok := addressesOf(k.Name)
	return a.jvm && ok && k.What == growth.Anon && k.Site == 0 && end <= mostCompressed && end-start >= leastJavaHeap
}

// judgeJava takes back the verdict that the heap of a JVM leaks.
func (a *Attribution) judgeJava(found []growth.Finding) {
	a.jvm = a.jvm || slices.ContainsFunc(found, func(f growth.Finding) bool {
		r, _ := stack.RuntimeOf(path.Base(f.Name))
		return f.What == growth.File && r == stack.JVM
	})
	for i := range found {
		f := &found[i]
		if f.Label >= growth.Grows && f.Measure.OfMemory() && a.javaHeap(f.Key) {
			f.Label = growth.Grows
			f.Reason = append(f.Reason, growth.Note{Kind: growth.UntilCollected})
		}
	}
}

// UntilCollected tells whether it is the heap of a garbage collector that lets it grow up to a
// limit, and moves what is in it.
func (f *Finding) UntilCollected() bool {
	return slices.ContainsFunc(f.Reason, func(n growth.Note) bool { return n.Kind == growth.UntilCollected })
}
