package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// mapped is an mmap of one page, by a site.
func mapped(at, time uint64, id uint64, site uint32) Operation {
	return Operation{Time: time, Space: id, TGID: int(id), TID: int(id), Body: &Call{Call: &space.Call{
		Op: space.OpMmap, Time: time, Site: uint64(MakeBlame(site, 0)), Ret: int64(at * page),
		Args: [6]uint64{at * page, page, 3, 0x32}, // private, fixed, anonymous
	}}}
}

// cells are those of all trees.
func (m *Model) cells() (n int) {
	for _, sp := range m.spaces {
		n += sp.tree.Cells()
	}
	return n
}

func TestTheMemoryOfTreesIsNotTheTargetsChoice(t *testing.T) {
	t.Parallel()
	const memory = 1 << 20
	most := memory / space.CellBytes
	call := func(m *Model, op Operation) {
		if eff := m.Apply(&op).Effect; len(eff.Doubts) > 0 {
			t.Fatalf("doubts %v", eff.Doubts)
		}
		if n := m.cells(); n > most+1000 {
			t.Fatalf("%d cells, of which %d fit in the memory", n, most)
		}
	}
	for _, tc := range []struct {
		name      string
		run       func(m *Model)
		coarsened uint64
	}{
		{"calls that map page after page", func(m *Model) {
			for i := range uint64(100_000) {
				call(m, mapped(0x1000+i, 1000+i, 1, 7))
			}
		}, 1},
		{"calls of two sites in turn", func(m *Model) {
			for i := range uint64(100_000) {
				call(m, mapped(0x1000+i, 1000+i, 1, 7+uint32(i%2)))
			}
		}, 1},
		{"pages that are unmapped and others that are mapped", func(m *Model) {
			for i := range uint64(100_000) {
				call(m, mapped(0x1000+i, 1000+2*i, 1, 7))
				if i >= 10 {
					call(m, Operation{Time: 1001 + 2*i, Space: 1, TGID: 1, Body: &Call{Call: &space.Call{
						Op: space.OpMunmap, Time: 1001 + 2*i, Args: [6]uint64{(0x1000 + i - 10) * page, page},
					}}})
				}
			}
		}, 0},
		{"children that inherit it", func(m *Model) {
			for i := range uint64(1500) {
				call(m, mapped(0x1000+i, 1000+i, 1, 7))
			}
			for id := range uint64(100) {
				m.Apply(&Operation{Time: 10_000 + id, Space: 2 + id, TGID: int(2 + id), Body: Clone{Parent: 1}})
				m.Apply(&Operation{Time: 10_000 + id, Space: 2 + id, TGID: int(2 + id), Body: Join{Comm: "child"}})
				call(m, mapped(0x8000, 10_000+id, 2+id, 7))
			}
		}, 1 + 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := New(Options{Memory: memory})
			for _, op := range begun(1, 1) {
				m.Apply(&op)
			}
			tc.run(m)
			if got := m.Report().Stats.Coarsened; got > tc.coarsened || got == 0 && tc.coarsened > 0 {
				t.Errorf("%d are coarsened, want at most %d", got, tc.coarsened)
			}
		})
	}
}

// Little memory changes who made what, not what there is: what comes too late is in doubt,
// and with it read again all is the same.
func TestWithLittleMemoryTheTreesAreTheSame(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	ops := begun(1, 1)
	for i := range uint64(20_000) {
		at := 0x1000 + rnd.Uint64N(2000)
		op := mapped(at, 10_000+10*i-rnd.Uint64N(5000), 1, 7+uint32(i%3))
		if rnd.IntN(3) == 0 {
			op.Body = &Call{Call: &space.Call{Op: space.OpMunmap, Time: op.Time, Args: [6]uint64{at * page, 3 * page}}}
		}
		ops = append(ops, op)
	}
	run := func(memory int) (*Model, int) {
		m, doubts := New(Options{Memory: memory}), 0
		for i := range ops {
			if eff := m.Apply(&ops[i]).Effect; eff != nil {
				doubts += len(eff.Doubts)
			}
		}
		return m, doubts
	}
	much, none := run(0)
	little, some := run(64 << 10)
	if some == 0 || none > 0 {
		t.Fatalf("seed %d: %d doubts with little memory, %d with much", seed, some, none)
	}
	var rows []space.Row
	for _, r := range much.Tree(1).Regions(nil) {
		rows = append(rows, space.Row{Mapping: r.Mapping})
	}
	for _, r := range little.Tree(1).Doubts() {
		read := Operation{Time: 1_000_000, Space: 1, TGID: 1, Body: Reread{Range: r, Rows: rows, Ended: 1_000_001, Op: space.OpReread}}
		little.Apply(&read)
	}
	mappings := func(m *Model) (all []procmaps.Mapping) {
		for _, r := range m.Tree(1).Regions(nil) {
			all = append(all, r.Mapping)
		}
		return all
	}
	if d := cmp.Diff(mappings(much), mappings(little)); d != "" {
		t.Errorf("seed %d (-much +little):\n%s", seed, d)
	}
}

// rowsOf are so many neighbouring rows.
func rowsOf(n int) (rows []space.Row) {
	for i := range uint64(n) {
		r := space.Row{}
		r.Start, r.End, r.Mode = (0x1000+i)*page, (0x1001+i)*page, procmaps.Mode(i%2)
		rows = append(rows, r)
	}
	return rows
}

// large are the operations of the beginning of a process with so many rows.
func large(id uint64, rows int) []Operation {
	ops := begun(int(id), id)
	for i := range ops {
		if seed, is := ops[i].Body.(Seed); is {
			seed.Rows = rowsOf(rows)
			ops[i].Body = seed
		}
	}
	return ops
}

func TestAddressSpacesAreGivenUpIfAllHaveTooManyRows(t *testing.T) {
	t.Parallel()
	var told []string
	m := New(Options{Rows: 110, OnChange: func(c *Change) {
		switch c.Kind {
		case KindBegin:
			told = append(told, fmt.Sprintf("%d begins", c.Space))
		case KindUnkept:
			told = append(told, fmt.Sprintf("%d of process %d is not kept", c.Space, c.TGID))
		}
	}})
	run := func(ops ...Operation) {
		for i := range ops {
			m.Apply(&ops[i])
		}
	}
	state := func() (all []string) {
		for _, sp := range m.Report().Spaces {
			id := sp.Process.Space
			all = append(all, fmt.Sprintf("%d: %d of %d, %s", id, m.Tree(id).Totals().Extents, sp.Start.Totals.Extents, sp.Picture))
		}
		return all
	}
	const why = "approximate: its mappings are not kept: memory budget reached"
	// The ranges before and behind take two more of each.
	run(large(1, 60)...)
	m.spaces[1].picture.approximate("it was not exact before")
	run(slices.Concat(large(2, 20), large(3, 30))...) // 1 is the largest
	run(large(4, 101)...)                             // and this at once
	run(large(5, 40)...)
	want := []string{"1: 0 of 0, " + why, "2: 20 of 20, exact", "3: 30 of 30, exact", "4: 0 of 0, " + why, "5: 40 of 40, exact"}
	if diff := cmp.Diff(want, state()); diff != "" {
		t.Errorf("spaces (-want +got):\n%s", diff)
	}
	wantTold := []string{
		"1 begins", "2 begins", "1 of process 1 is not kept", "3 begins",
		"4 begins", "4 of process 4 is not kept", "5 begins",
	}
	if diff := cmp.Diff(wantTold, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}

	// Nothing changes it but an exec, and calls are counted.
	calls := m.Report().Stats.Calls
	op := mapped(0x9000, 20, 1, 0)
	run(op, Operation{Time: 21, Space: 1, Body: Reread{Range: space.All, Rows: rowsOf(5), Ended: 22}})
	if got := state()[0]; got != want[0] || m.Report().Stats.Calls != calls+1 {
		t.Errorf("%s, %d calls", got, m.Report().Stats.Calls-calls)
	}
	run(Operation{Time: 30, Space: 1, TGID: 1, Body: Exec{Comm: "new"}}, Operation{Time: 31, Space: 1, TGID: 1, Body: Begin{}})
	run(mapped(0x9000, 40, 1, 0))
	if got := m.Tree(1).Totals().Extents; got != 1 || !m.Space(1).Kept() {
		t.Errorf("after an exec there are %d extents", got)
	}

	// Those that nobody lives in go first, if they are large.
	run(Operation{Time: 50, Space: 3, TGID: 3, Body: Exit{}}, Operation{Time: 50, Space: 2, TGID: 2, Body: Exit{}})
	run(large(6, 20)...)
	got := make(map[uint64]bool)
	for _, id := range []uint64{2, 3, 5, 6} {
		got[id] = m.Space(id).Kept()
	}
	if diff := cmp.Diff(map[uint64]bool{2: true, 3: false, 5: true, 6: true}, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if n := m.Report().Stats.Unkept; n != 3 {
		t.Errorf("%d were given up, want 3", n)
	}
}
