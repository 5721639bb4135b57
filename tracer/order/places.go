package order

import (
	"errors"
	"sync"
)

// How the rows of reads are bounded.
//
// A read of everything has as many rows as the process likes, up to vm.max_map_count, and
// what it gave is kept until the events before its end have been handled. So the rows that
// all reads hold together, under way or waiting for that, are bounded: a read that finds no
// place is given up, and has another turn once there is room for what it lacked. There is
// always a place for a small one, so large ones whose locks are held keep nobody waiting,
// and for one that is alone, however large.

const (
	mostRows = 1 << 17 // twice the usual vm.max_map_count
	fewRows  = 1 << 12
)

// errNoPlace says that a read is to have another turn.
var errNoPlace = errors.New("too many rows are held by other reads")

// roster counts the rows of all reads. It is safe for concurrent use.
type roster struct {
	most, few int

	mu   sync.Mutex
	rows int
}

// place is what one read holds. Nil is one without bounds.
type place struct {
	of    *roster
	rows  int
	needs int // of a read that found no place: how many rows it would have had
}

// take adds rows to what a read holds, if there is room.
func (p *place) take(n int) error {
	if p == nil {
		return nil
	}
	a := p.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if alone := a.rows == p.rows; !alone && a.rows+n > a.most && p.rows+n > a.few {
		p.needs = p.rows + n
		return errNoPlace
	}
	a.rows += n
	p.rows += n
	return nil
}

// leave gives back everything, once.
func (p *place) leave() {
	if p == nil || p.rows == 0 {
		return
	}
	a := p.of
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rows -= p.rows
	p.rows = 0
}

// room tells whether a read that needs so many rows at least may find a place now.
func (a *roster) room(needs int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return needs <= a.few || a.rows == 0 || a.rows+needs <= a.most
}
