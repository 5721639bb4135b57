// Package budget divides the memory that is kept of a node among the processes of it.
//
// Nothing is allocated here: holders say what they have, and ask how much of it they must
// give up. Who has less than an equal part need not give up anything, so one process
// cannot take from the others what they need, and what they do not need it may have.
//
// All of it has one owner; nothing is safe for concurrent use.
package budget

// Node bounds what is kept of all processes of a node together. 0 stands for the usual bound
// of whoever keeps it, and a nil Share is one without bounds.
type Node struct {
	Stacks  int    // bytes of stacks, which name the sites
	Extents int    // bytes of the extents of trees beyond one for each row of maps
	Rows    int    // rows of maps; a number, not bytes
	Series  *Share // of what the groups of memory held at each observation
	Parts   *Share // of which stacks made, touch and keep which memory
}

// What a row of maps takes, in bytes, as measured: the tree's, and what counting its pages
// and saying who made them takes beside.
const (
	traceRow = 200
	growRow  = 300
)

// rows is for how many rows there is memory. It is beside all else, as what is read of
// programs' files is: without rows there is nothing to be said of a process. A few large
// processes have room whatever is said.
func rows(bytes uint64, row int) int {
	const least = 32 << 20
	return int(max(3*bytes/8, least)) / row
}

// Of divides so many bytes where growth is judged: it gives each field of a Node its part.
// Half of them are not given to anybody, as Go's runtime takes about as much for garbage as
// there is in use. Rows come on top, see rows.
func Of(bytes uint64) Node {
	part := int(bytes / 8)
	// To count the pages of an extent takes as much again as the extent.
	return Node{Stacks: part, Extents: part / 2, Rows: rows(bytes, growRow), Series: New(part), Parts: New(part)}
}

// OfTrace is Of where changes are only told, and neither series nor parts are kept.
func OfTrace(bytes uint64) Node {
	part := int(bytes / 8)
	return Node{Stacks: 3 * part, Extents: part, Rows: rows(bytes, traceRow)}
}

// Share is so many bytes that several holders have together. Nil is one without bounds, of
// which nothing is counted.
type Share struct {
	most    int
	used    int
	peak    int
	holders int
}

// New returns a share of so many bytes.
func New(most int) *Share { return &Share{most: most} }

// Most is how many bytes there are, Used how many of them are held, and Peak how many
// were at most.
func (s *Share) Most() int { return s.most }

// Used is explained at [Share.Most].
func (s *Share) Used() int {
	if s == nil {
		return 0
	}
	return s.used
}

// Peak is explained at [Share.Most].
func (s *Share) Peak() int {
	if s == nil {
		return 0
	}
	return s.peak
}

// Holder is one of those who have a share. Nil is one that may have everything.
type Holder struct {
	of    *Share
	bytes int
}

// Join adds a holder, which has nothing yet. Of a nil Share it is nil.
func (s *Share) Join() *Holder {
	if s == nil {
		return nil
	}
	s.holders++
	return &Holder{of: s}
}

// Leave gives back all that a holder has. It holds nothing after that.
func (h *Holder) Leave() {
	if h == nil || h.of == nil {
		return
	}
	h.Hold(0)
	h.of.holders--
	h.of = nil
}

// Hold says what a holder has now.
func (h *Holder) Hold(bytes int) {
	if h == nil || h.of == nil {
		return
	}
	h.of.used += bytes - h.bytes
	h.of.peak = max(h.of.peak, h.of.used)
	h.bytes = bytes
}

// Excess is how many bytes a holder must give up: 0 while there is room for all, or if it
// has no more than an equal part. An eighth is kept free, for what others add before it
// is their turn to give up something.
func (h *Holder) Excess() int {
	if h == nil || h.of == nil {
		return 0
	}
	limit := h.of.most - h.of.most/8
	return max(0, min(h.of.used-limit, h.bytes-limit/h.of.holders))
}
