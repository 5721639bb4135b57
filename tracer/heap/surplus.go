package heap

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

// portion is what of its blocks a function keeps in one class.
type portion struct{ bytes, blocks float64 }

// portions are what a function keeps of each class, by those of its samples that are there;
// nil if their classes are not known.
func (b *Book) portions(own []*block) map[uint8]portion {
	of := make(map[uint8]portion)
	for _, s := range own {
		if s.ended != 0 {
			continue
		}
		if s.Class == 0 {
			return nil
		}
		bytes, n := b.stands(s), of[s.Class]
		of[s.Class] = portion{n.bytes + bytes, n.blocks + bytes/float64(s.Bytes)}
	}
	return of
}

// most is how many bytes a second a keeper keeps at most; false if that is not known.
func (u InUse) most(k *Keeper) (bytes float64, known bool) {
	var sum portion
	for class := range k.portions {
		sum.bytes += k.portions[class].bytes
		sum.blocks += k.portions[class].blocks
	}
	if u == nil || sum.blocks == 0 {
		return 0, false
	}
	more := u(func(class uint8) bool { _, ok := k.portions[class]; return ok })
	return slack * more * sum.bytes / sum.blocks, true
}
