package malloc

import "testing"

func TestWhatIsSaidOfAHeap(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	of := func(n int, a Arena) (all []Arena) {
		for range n {
			all = append(all, a)
		}
		return all
	}
	one := Arena{
		System: 64 * mib, Walked: 64 * mib, InUse: Amount{10 * mib, 1000}, Bins: Amount{50 * mib, 20}, Fast: Amount{2 * mib, 100},
		Tcache: Amount{mib, 50}, Top: mib, Trimmable: 48 * mib, Resident: 60 * mib, ResidentTrim: 44 * mib, ResidentTop: mib / 2,
	}
	part := one
	part.Walked, part.Estimated = 32*mib, true
	for _, tt := range []struct {
		name string
		heap Heap
		want string
	}{
		{
			"all of it",
			Heap{Arenas: of(31, one), Complete: true, Counted: true, MappedKnown: true, Mapped: Amount{300 * mib, 12}},
			"glibc's malloc has 1.9 GiB in 31 arenas, 1.8 GiB of it resident: 310.0 MiB in use by 31000 blocks, 1.6 GiB free (1.5 GiB in bins, " +
				"62.0 MiB in fast bins, 31.0 MiB in caches of threads, 31.0 MiB at the ends). malloc_trim would give back 1.3 GiB. " +
				"15.5 MiB at the ends of threads' arenas stay resident even then. 12 blocks of 300.0 MiB in all have mappings of their own.",
		},
		{
			"pages were not counted",
			Heap{Arenas: of(1, one), Complete: true, MappedKnown: true, Mapped: Amount{mib, 1}},
			"glibc's malloc has 64.0 MiB in 1 arena: 10.0 MiB in use by 1000 blocks, 54.0 MiB free (50.0 MiB in bins, 2.0 MiB in fast bins, " +
				"1.0 MiB in caches of threads, 1.0 MiB at the ends). malloc_trim would give back 48.0 MiB, less what is not resident. " +
				"1 block of 1.0 MiB in all has a mapping of its own.",
		},
		{
			"a part",
			Heap{Arenas: of(1, part), Why: "as much was read as may be"},
			"glibc's malloc has 64.0 MiB in 1 arena: of the 32.0 MiB that were read, 10.0 MiB in use by 1000 blocks, 54.0 MiB free " +
				"(50.0 MiB in bins, about 2.0 MiB in fast bins, 1.0 MiB in caches of threads, 1.0 MiB at the ends). " +
				"malloc_trim would give back 48.0 MiB, less what is not resident. Not all of it is known: as much was read as may be.",
		},
		{
			"nothing free that is resident",
			Heap{Arenas: []Arena{{System: mib, Walked: mib, InUse: Amount{mib - 512, 3}, Top: 512, Resident: mib}}, Complete: true, Counted: true},
			"glibc's malloc has 1.0 MiB in 1 arena, 1.0 MiB of it resident: 1023.5 KiB in use by 3 blocks, 512 B free. malloc_trim would give nothing back.",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.heap.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
