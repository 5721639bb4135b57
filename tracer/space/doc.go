// Package space keeps the extent tree of one address space: which piece of
// memory is mapped, how, by which call of which thread, exact at every moment
// although the calls arrive out of order.
//
// # Model
//
// An address space is a map from addresses to a handful of last-writer-wins
// registers: what is mapped there (or that nothing is), its protection, its
// two fork advices, its name. Every register carries the commit stamp of the
// operation that wrote it last: the monotonic time in nanoseconds, taken while
// the kernel held the mmap lock, so a later change of the same address space
// has a later stamp. A write that is older than its register is dropped, a
// newer one replaces it, and registers do not look at each other. Hence maps,
// unmaps, protections, advices and names commute and are idempotent: any
// permutation of a history, duplicates included, ends in the tree of the
// commit order. A protection that arrives before the older mmap it changed
// waits in the register of a hole.
//
// Runs of addresses with equal registers are cells. A mapped cell is an
// extent, an unmapped one a hole: the memory of an unmapping, kept until
// [Space.Prune]. Regions, the rows of /proc/PID/maps, are computed from
// extents and never stored.
//
// Three calls read the state they change: mremap(2), shmdt(2) and
// remap_file_pages(2). So do failed calls that stopped half way: what they did
// follows from the state they found. Applied out of order, or with an older
// operation arriving after them, their result cannot be known; the range is
// reported as a doubt, and the caller reads it again ([Space.Reread]). A read of maps is
// just another writer, stamped with the time before it began, of the registers
// that maps shows; so a torn read does no harm.
//
// The package is pure: it knows neither BPF nor /proc. A Space has one owner;
// nothing here is safe for concurrent use.
package space
