// Package procmaps reads what Linux says about the memory of a process: the
// files maps, smaps, smaps_rollup, stat, status, cmdline, comm and cgroup of
// /proc/PID, and where the threads' stack pointers are (task/TID/syscall); and
// infers from them what the mappings are for.
//
// The parsers are pure functions over bytes or readers, run on any operating
// system, and are strict: text that does not have the kernel's form is a
// *ParseError, and a read that fails half-way is an error, never a short list.
// Names are kept byte for byte. Keys of smaps that this package has never heard
// of are kept, in the order of the file.
//
// An [FS] is rooted at any directory laid out like /proc, so everything that
// works on a live process works on a copy of its files.
package procmaps
