package growth

import "time"

// Note is one thing that a verdict rests on. Size and Other are in the unit of the
// finding's measure; which of the numbers say something depends on the kind.
type Note struct {
	Kind  NoteKind
	Size  float64
	Time  time.Duration
	Count int
	Other int
}

// NoteKind says what a note is about. In brackets are the numbers that belong to it.
type NoteKind uint8

// The kinds of notes. The first note of a finding says what it did, up to DidNotGrow,
// unless only the notes after it are worth saying.
const (
	Unobserved NoteKind = iota + 1 // no observation yet
	Grew                           // [Size, Time]
	Shrank                         // [Size, Time]
	Churned                        // the finding's Flow was mapped and unmapped, without growth
	Wavered                        // moved within [Size], without a trend
	DidNotGrow

	StillAlive // the finding's AliveShare of what was mapped
	NeverShrank
	InSteps // grew in [Count] steps

	// What makes a leak of what looks like less.
	Replaces     // its mappings take the place of smaller ones
	Settled      // what outlives the first moments stays
	LessEachTime // it falls back, but by less than it grew

	// What speaks against a leak.
	Once           // grew at one moment, [Time] before the end
	OneStep        // grew in one step
	FewSteps       // grew in [Count] steps only
	Stopped        // not in the last [Time]
	Late           // nearly all of it in the last [Time]
	Bursts         // with long pauses
	Slowing        // the rate falls
	Unsteady       // a random walk may do the same
	GaveBack       // up to [Size]
	Restless       // up and down at every turn
	FellBack       // [Count] times, by up to [Size]
	FallsBack      // by up to [Size] all the time
	LowsRise       // of a sawtooth
	LowsStay       // of a sawtooth: they do not rise
	Young          // it has been there for [Time] only
	Droppable      // pages of a file, which the kernel can drop
	Bounded        // it can grow by [Size] more
	KernelHuge     // [Size] of it are huge pages that the kernel has made without a page fault
	LazilyFreed    // up to [Size] of it the program has given back: the kernel takes it where memory is needed
	UntilCollected // it is a heap that fills up to a limit before its garbage is collected
	AsNeeded       // as many page tables as what has grown needs
	WithMappings   // it goes with the mappings that it is for
	AfterFork      // it is as much as was shared, at most, and goes with the other process or the pages
	CanBeDropped   // the kernel drops it where memory is needed, once it is written back
	Unevictable    // [Size] of what grew the kernel cannot drop
	CanShrink      // most of it are dentries, inodes and the like, which the kernel drops where memory is needed
	MayShrink      // it is not known whether it is dentries and inodes
	OfFiles        // it is as much as is mapped of files, at most
	HasName        // a file that is there until its name is removed
	MostUnmapped   // most of what is mapped goes again
	SomeUnmapped   // some of what is mapped goes again
	PerhapsChance  // the growth may be chance

	// The watch was too short.
	TooShort     // [Count] observations after the warm-up: for any verdict
	TooShortThis // for a verdict on what is seen
	TooShortMore // for a worse verdict

	// Where it is.
	SwappedOut // [Size] of the growth is swapped out

	// What the allocator says.
	InUseLess // no more than [Size] more are in use, which may be below 0; the rest is free inside malloc
	Trimmable // malloc_trim would give back [Size]

	// What the other measures say.
	InsideMappings // that stay as large
	ResidentLess   // resident grew by [Size] only

	// Together is of the group Other: [Count] groups lost their places, for they held
	// nothing or memory was short; [Other] is how many at most held something at once
	// without one.
	Together
)
