package model

// Stratum is a set of calls that are alike as far as that is known without their
// stacks: they come from the same place by the hashes of the kernel side, and their
// stacks were sent with the same probability. So of the calls of a stratum those with a
// stack are a random sample, whatever became of what they made. Zero is the stratum of
// calls whose stacks were not asked for.
type Stratum uint32

// asked tells a stratum from none, anyOf one from what stands for several, and anyPaths
// those of one path from all: all else in them may be 0.
const (
	asked    Stratum = 1 << 31
	anyOf    Stratum = 1 << 30
	anyPaths Stratum = 1 << 29
)

// Mixed stands for all strata: it is that of memory of which it is only known that it was
// made by several calls.
const Mixed = asked | anyOf | anyPaths

// MakeStratum returns the stratum of calls from a place, by the hashes of its return
// addresses and of its depth, with the chance 2^-chance.
//
// Preconditions: chance < 32.
func MakeStratum(path uint16, depth, chance uint8) Stratum {
	return asked | Stratum(chance)<<24 | Stratum(depth)<<16 | Stratum(path)
}

// Path stands for all strata with the same return addresses, whatever their depth and
// chance. It is no stratum itself.
func (s Stratum) Path() Stratum { return s&(asked|anyPaths|1<<16-1) | anyOf }

// Weight is for how many calls of the stratum one with a stack stands on average.
func (s Stratum) Weight() uint64 { return 1 << (s >> 24 & 31) }

// Blame is what an origin's site holds: the number of a site and the stratum of the
// call. Zero is no site.
type Blame uint64

// MakeBlame returns that of a call; the site is 0 if its stack is not there.
func MakeBlame(site uint32, of Stratum) Blame { return Blame(of)<<32 | Blame(site) }

// Missing tells whether it is that of a call without the stack it should have.
func (b Blame) Missing() bool { return b.Site() == 0 && b.Stratum() != 0 }

// Site is the number that Sites gave.
func (b Blame) Site() uint32 { return uint32(b) }

// Stratum is the stratum of the call.
func (b Blame) Stratum() Stratum { return Stratum(b >> 32) }

// Mix is that of memory of which it is not known any more which part is whose.
func (b Blame) Mix(o Blame) Blame {
	switch s := b.Stratum(); {
	case b == o:
		return b
	case s == o.Stratum() && s != 0:
		return MakeBlame(0, s)
	case s != 0 && o.Stratum() != 0 && s.Path() == o.Stratum().Path():
		return MakeBlame(0, s.Path())
	}
	return MakeBlame(0, Mixed)
}
