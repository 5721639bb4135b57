// Package model turns ordered operations on address spaces into region trees,
// processes and changes.
//
// Everything that is a matter of the moment (the order of arrival, losses, reads of
// /proc, what is in doubt) has been settled before: an [Operation] is final, and has
// all that it needs with it, names of files and numbers of sites too. So a [Model] asks
// nobody anything. The same operations give the same trees, the same changes and the
// same report, which is what lets a recording stand in for a live run.
//
//	order ── Operation ──▶ Model ── Change ──▶ sinks
//	  ▲                      │
//	  └────── Feedback ──────┘
//
// A Model has one owner, and so has all that it hands out.
package model
