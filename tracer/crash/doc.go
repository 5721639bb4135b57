// Package crash reads what is left of a process that has ended: core files, of which it
// reads the headers and the notes and never the memory, and the texts that runtimes,
// crash reporters and the kernel's log have of crashes.
//
// Both may have been made by somebody else, to do harm: sizes are bounded before memory
// is taken, and what is malformed is an error or is passed over, never a panic.
package crash

import (
	"errors"

	"github.com/maptrace/maptrace/tracer/explain"
)

// ErrNotCore is matched by the error about a file that is not a core file.
var ErrNotCore = errors.New("not a core file")

// ErrNoHeader is matched by the error about a mapped file whose first page the core does not
// have: its build ID is there.
var ErrNoHeader = errors.New("the core does not have the first page of the file")

// Crash is what is known of a process that has ended.
type Crash struct {
	explain.Space
	PID  int    // 0 if it is not known
	Comm string // raw; empty if it is not known
	// Faults are what has ended it, the one that matters first; there may be none.
	Faults []explain.Fault
	// BuildID finds, in a core file, the build ID of the file that has a path; nil for a
	// report. Errors match ErrNoHeader and symbol.ErrNotELF.
	BuildID func(path string) (string, error)
}
