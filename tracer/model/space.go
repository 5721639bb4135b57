package model

import (
	"time"

	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/space"
)

// state is how far an address space has come.
//
//	           Begin                 Exec of its only process
//	waiting ──────────▶ known ──────────────────────────────▶ replaced
//	   ▲                  │                                       ▲
//	   └────── Exec ──────┘          likewise from waiting ───────┘
//
// When nobody lives in it any more it is kept for the report as it is; a replaced one is
// forgotten when it is gone.
type state uint8

const (
	waiting  state = iota // what is mapped at its beginning is not known yet
	known                 // it is
	replaced              // by exec: its figures count, its table is of no use
)

// Space is one address space.
type Space struct {
	id       uint64
	state    state
	numbered bool // the kernel numbers the write sections of its lock
	tree     *space.Space
	procs    []*Process // those that live in it
	owner    *Process   // the first of them, and
	first    *Process   // who was the first of all: its owner again when none lives

	start space.Packed // what it was when it became known, and
	began uint64       // when that was

	memory    *budget.Holder // of what the tree has beyond a cell for each region
	compacted int            // cells when the tree was compacted last, and
	fresh     int            // how many more there are now
	coarse    bool           // some origins were given up
	rows      int            // what the tree needs
	unkept    bool           // it was given up: the tree is empty, whatever is mapped

	picture    Picture
	violations uint64
	drift      uint64

	audited    bool         // something of it was compared
	unverified []Unverified // what was not for long, as of
	auditedAt  uint64       // the last audit that told
}

// notVerified is what no audit has compared.
func (sp *Space) notVerified() (n NotVerified) {
	for _, u := range sp.unverified {
		mapped := uint64(0)
		for e := range sp.tree.Extents(u.Range) {
			mapped += e.Intersect(u.Range).Len()
		}
		// Where nothing is mapped now something may be the next moment. That is not said of
		// half the address space.
		const wide = 1 << 40
		if mapped == 0 && u.Len() < wide {
			mapped = u.Len()
		}
		n.Bytes += mapped
		n.For = max(n.For, time.Duration(sp.auditedAt-u.Since))
	}
	return n
}

// Tree is what is mapped; nil if not even the beginning of that is known. It is for
// looking only.
func (sp *Space) Tree() *space.Space { return sp.tree }

// Kept reports whether what is mapped is kept: if it is not, the tree is empty, nothing
// changes it, and calls are only counted.
func (sp *Space) Kept() bool { return !sp.unkept }

// Inhabitants is how many processes live in it.
func (sp *Space) Inhabitants() int { return len(sp.procs) }

// Owner is the first of those who live in it, or when none does the first who ever did; nil if
// nobody has.
func (sp *Space) Owner() *Process { return sp.owner }

// Picture is how far the tree can be trusted.
func (sp *Space) Picture() Picture { return sp.picture }

// wait has it wait for the mappings of a new image.
func (sp *Space) wait() {
	if sp.state == known {
		sp.state = waiting
	}
}

// begin notes that what is mapped is known.
func (sp *Space) begin(at uint64) {
	if sp.state == waiting {
		sp.state = known
	}
	sp.began, sp.start = at, sp.tree.Packed()
}

// close says that there is nobody left who could be asked about what is in doubt.
func (sp *Space) close() {
	if sp.tree != nil && sp.tree.Doubtful() {
		sp.picture.approximate(unread)
	}
}
