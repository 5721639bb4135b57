// Package growth judges which memory of a process grows, and whether it is a
// leak.
//
// Addresses come and go, so growth is judged for groups: all memory of one
// purpose, one name and one creating site ([Key]). The caller walks the address
// space at every tick and says what each group holds ([Watch.Observe]);
// between ticks it hands over what was mapped and unmapped ([Watch.Born],
// [Watch.Died]). [Watch.Findings] gives each group a label and what it rests on,
// worst first.
//
// # What is a leak
//
// A group leaks if, after its warm-up, it
//
//   - rose from beginning to end: the Mann-Kendall test, corrected for
//     autocorrelation after Hamed and Rao, and the confidence interval of the
//     Theil-Sen slope both say so, and each third of the time has its part;
//   - rose by drift and not by luck: a random walk passes any test for trends,
//     so the mean of the changes from tick to tick is tested against their
//     scatter. Growth in rare steps (an arena, a break moved by 132 KiB) has no
//     such mean: it needs three steps, spread over the time, and none back;
//   - did not slow down towards a level, as caches do that fill;
//   - never gave back more than a small share of its growth; where it falls
//     again and again, as under a garbage collector, all this is asked of the
//     troughs;
//   - still holds at least 90 % of the bytes mapped during the watch; or of what
//     does not die at once, as large a share of the old ones as of the younger;
//     or is one block that moves to larger ones.
//
// It takes a dozen observations after the warm-up to say so. Whatever rose and misses one of these is said to grow. Each of the measures
// (resident, writable, mapped bytes, number of mappings) is judged, and the
// worst is reported: reserved address space is no leak as long as it stays the
// same, and a leak inside an old mapping shows in resident bytes alone.
//
// # Sampling
//
// What repeats at nearly the interval of the ticks looks like slow growth. Ticks
// that are not quite regular avoid that; the package takes times as they come.
// A watch that outlasts [Options.MaxPoints] ticks keeps every second, fourth, …
// moment, each with the lowest and the highest state since the one before, so
// nothing of this kind is added.
//
// Many watches may share their memory ([Options.Share]); what is given up where it
// is too little is told at [Watch.Shrink].
//
// The package is pure: it knows neither BPF nor /proc nor the clock. A Watch
// has one owner; nothing here is safe for concurrent use.
package growth
