package heap

import "math"

// What is freed of what was there before.
//
// All that a cache makes in a watch may stay, if what it holds lives for longer than that. It
// keeps nothing all the same: as much is freed of what it had before, and of that there are no
// samples. But of glibc it is known what it has in use, by classes of sizes. A function keeps no
// more blocks than there come to be more of its classes: what seems to be more is made up for by
// others.

// InUse gives by how many blocks of some classes in use all memory of an allocator grows a
// second, at most.
type InUse func(of func(class uint8) bool) float64

// most is how many bytes a second a keeper keeps at most; infinite if that is not known.
func (u InUse) most(k *Keeper) float64 {
	if u == nil || len(k.classes) == 0 || k.classes[0] {
		return math.Inf(1)
	}
	return slack * u(func(class uint8) bool { return k.classes[class] }) * k.each
}
