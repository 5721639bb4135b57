package model

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// told keeps what a model tells, as text: it is valid for a moment only.
type told []string

func (l *told) change(c *Change) {
	s := fmt.Sprintf("%d of %d by %d", c.Kind, c.Space, c.TGID)
	if c.Process != nil {
		s += fmt.Sprintf(" in %d, generation %d, exited %v", c.Process.Space, c.Process.Generation, c.Process.Exited)
	}
	if c.Effect != nil {
		s += fmt.Sprintf(" %+v", *c.Effect)
	}
	*l = append(*l, s+fmt.Sprintf(" %v %v %v", c.At, c.Found, c.Drift))
}

const page = 4096

// operations makes operations of bytes, on few processes and address spaces so that they
// meet. Most are such as no order of events would give.
func operations(b []byte) (ops []Operation) {
	for n := uint64(1); len(b) >= 8; n, b = n+1, b[8:] {
		arg := uint64(binary.LittleEndian.Uint16(b[4:]))
		r := procmaps.Range{Start: (arg%64 + 1) * page, End: (arg%64 + 2 + uint64(b[6]%8)) * page}
		rows := []space.Row{{Mapping: procmaps.Mapping{Range: r, Mode: procmaps.Mode(b[7] & 7)}}}
		op := Operation{Time: n*100 - uint64(b[3]), Space: uint64(b[1] % 5), TGID: int(b[2] % 4), Flags: Flags(b[7])}
		op.TID = op.TGID
		bodies := [...]Body{
			Layout{},
			Join{Comm: "a", Inner: int(b[6])},
			Exec{Comm: "b"},
			Fork{Child: int(b[6] % 4), ChildSpace: arg % 5},
			Clone{Parent: arg % 5},
			Exit{Status: uint32(arg)},
			Gone{},
			Seed{Rows: rows, Ended: op.Time + 10},
			Begin{},
			Complete(b[6]%2 == 0),
			&Call{Call: &space.Call{Op: space.OpMmap, Time: op.Time, Args: [6]uint64{0, r.Len(), 3, 0x22}, Ret: int64(r.Start)}, Fate: Fate(b[7] % 4)},
			&Call{Call: &space.Call{Op: space.OpMunmap, Time: op.Time, Args: [6]uint64{r.Start, r.Len()}}, Fate: Fate(b[7] % 4)},
			Stack{Range: r, Mode: 3},
			Reread{Range: r, Rows: rows, Ended: op.Time + 10, Op: space.OpReread},
			Seen{Rows: rows, Began: op.Time, Ended: op.Time + 10},
			Doubt(r),
			Undecoded{},
			SetLayout{StartBrk: arg},
			Prune{},
			Drift{{Range: r}},
			Approximate("why"),
			Missed{},
			Resynced{},
			Lost(arg),
			Fault{Addr: r.Start, Weight: 1},
			Write{Addr: r.Start},
			Made{HeldID: procmaps.HeldID{Kind: procmaps.HeldMemfd, Inode: arg}},
			Timed{Call: &space.Call{}, Timing: &Timing{}},
			Figures{Records: arg},
			Violations(b[6]),
			Audit{Compared: b[6]%2 == 0, Unverified: []Unverified{{Range: r, Since: n * 90}}},
		}
		op.Body = bodies[int(b[0])%len(bodies)]
		ops = append(ops, op)
	}
	return ops
}

// applied applies operations to a model of its own.
func applied(ops []Operation, also func(*Model)) (told, *Model) {
	var l told
	m := New(Options{OnChange: l.change, PageSize: page, KeepExited: 2, Verify: true, Memory: 1 << 10})
	for i := range ops {
		op := ops[i].Clone()
		m.Apply(&op)
		also(m)
	}
	return l, m
}

// FuzzOperations has any operations, in any order, do no harm, and give the same twice;
// to ask a model for its report and trees changes nothing.
func FuzzOperations(f *testing.F) {
	f.Add([]byte("\x00\x01\x01\x00\x00\x00\x00\x00\x01\x01\x01\x00\x00\x00\x00\x00\x08\x01\x01\x00\x00\x00\x00\x00\x0a\x01\x01\x00\x05\x00\x04\x00"))
	f.Add([]byte("\x02\x01\x01\x00\x00\x00\x00\x00\x07\x01\x01\x00\x02\x00\x01\x03\x08\x01\x01\x00\x00\x00\x00\x00\x04\x02\x01\x00\x01\x00\x00\x00\x05\x01\x01\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ops := operations(b[:min(len(b), 8*500)])
		once, _ := applied(ops, func(*Model) {})
		again, m := applied(ops, func(m *Model) {
			before := fmt.Sprintf("%#v", m.Report())
			if after := fmt.Sprintf("%#v", m.Report()); before != after {
				t.Errorf("a report changes what is reported: %s", cmp.Diff(before, after))
			}
			for id := range uint64(5) {
				if tree := m.Tree(id); tree != nil {
					tree.Regions(nil)
				}
			}
		})
		if diff := cmp.Diff(once, again); diff != "" {
			t.Errorf("the same operations, looked at meanwhile, give something else:\n%s", diff)
		}
		r := m.Report()
		for i := range r.Spaces {
			if m.Tree(r.Spaces[i].Process.Space) == nil {
				t.Errorf("process %d lives in a space without a tree", r.Spaces[i].Process.PID)
			}
		}
	})
}

// begun is a process with one mapping.
func begun(pid int, id uint64) []Operation {
	op := func(b Body) Operation { return Operation{Time: 100, Space: id, TGID: pid, TID: pid, Body: b} }
	return []Operation{
		op(Layout{}), op(Join{Comm: "a", Numbered: true}),
		op(Seed{Rows: []space.Row{{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: page, End: 2 * page}, Mode: 3}}}, Ended: 101}),
		op(Complete(true)), op(Begin{}),
	}
}

func TestTheOldestOfThoseThatEndedAreForgotten(t *testing.T) {
	t.Parallel()
	m := New(Options{KeepExited: 2, Memory: 1 << 10})
	var forgotten []uint64
	for pid := 1; pid <= 4; pid++ {
		for _, op := range begun(pid, uint64(pid)) {
			m.Apply(&op)
		}
		exit := Operation{Time: 200, Space: uint64(pid), TGID: pid, Body: Exit{}}
		forgotten = append(forgotten, m.Apply(&exit).Forgotten...)
	}
	r := m.Report()
	if diff := cmp.Diff([]uint64{1, 2}, forgotten); diff != "" || r.NotKept != 2 || len(r.Spaces) != 2 || r.Stats.Exits != 4 {
		t.Errorf("not kept %d, kept %d, exits %d; (-want +got):\n%s", r.NotKept, len(r.Spaces), r.Stats.Exits, diff)
	}
}

// TestAnAddressSpaceIsOfItsFirstProcess has a child share it that outlives its parent, as one of
// vfork(2) does when another thread ends the parent.
func TestAnAddressSpaceIsOfItsFirstProcess(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]Operation{
		"it ends":              {Time: 300, Space: 1, TGID: 2, Body: Exit{}},
		"it has another image": {Time: 300, Space: 9, TGID: 2, Body: Exec{Comm: "b"}},
	} {
		m := New(Options{})
		for _, op := range begun(1, 1) {
			m.Apply(&op)
		}
		for _, op := range []Operation{
			{Time: 150, Space: 1, TGID: 2, Body: Join{Parent: 1}},
			{Time: 200, Space: 1, TGID: 1, Body: Exit{}},
			end,
		} {
			m.Apply(&op)
		}
		if r := m.Report(); len(r.Spaces) != 1 || r.Spaces[0].Process.PID != 1 {
			t.Errorf("%s: %+v", name, r.Spaces)
		}
	}
}

// Who enters an address space that was only kept for the report lives in it: it is not
// forgotten, and has an end of its own.
func TestWhoEntersAKeptAddressSpaceLivesInIt(t *testing.T) {
	t.Parallel()
	m := New(Options{KeepExited: 1})
	do := func(ops ...Operation) (forgotten []uint64) {
		for _, op := range ops {
			forgotten = append(forgotten, m.Apply(&op).Forgotten...)
		}
		return forgotten
	}
	do(begun(1, 1)...)
	do(begun(2, 2)...)
	do(begun(3, 3)...)
	if got := do(
		Operation{Time: 200, Space: 1, TGID: 1, Body: Exit{}},
		Operation{Time: 210, Space: 1, TGID: 4, Body: Join{}},
		Operation{Time: 220, Space: 2, TGID: 2, Body: Exit{}},
		Operation{Time: 230, Space: 3, TGID: 3, Body: Exit{}},
	); !cmp.Equal(got, []uint64{2}) || m.Space(1) == nil {
		t.Errorf("forgotten: %v", got)
	}
	if got := do(Operation{Time: 240, Space: 1, TGID: 4, Body: Exit{}}); !cmp.Equal(got, []uint64{3}) {
		t.Errorf("forgotten as process 4 ended: %v", got)
	}
}

// The reasons to be approximate that polling gives belong to the report, not to the space.
func TestAReportChangesNothing(t *testing.T) {
	t.Parallel()
	m := New(Options{Polling: 1e9})
	for _, op := range begun(1, 1) {
		m.Apply(&op)
	}
	want := "approximate: " + Unseen(1e9)
	if r := m.Report(); r.Picture.String() != want || r.Spaces[0].Picture.String() != want || r.Ordering != "polling" {
		t.Errorf("%+v", r)
	}
	if got := m.Space(1).Picture(); got != (Picture{}) {
		t.Errorf("the report has made the space %s", got)
	}
}

func TestWhatWasNotComparedIsReported(t *testing.T) {
	t.Parallel()
	const second = uint64(time.Second)
	body := func(pid int, at uint64, b Body) Operation {
		return Operation{Time: at, Space: uint64(pid), TGID: pid, TID: pid, Body: b}
	}
	over := []Unverified{
		{Range: procmaps.Range{Start: page, End: 3 * page}, Since: second},          // half of it is mapped
		{Range: procmaps.Range{Start: 8 * page, End: 12 * page}, Since: 2 * second}, // nothing is, now
	}
	all := []Unverified{{Range: space.All, Since: second}}
	compared, none := Audit{Compared: true}, Audit{}
	part := Audit{Compared: true, Unverified: over}
	nothing := Audit{Unverified: all}
	ends := Exit{}
	for _, c := range []struct {
		name                  string
		bodies                []Body // one a second, of process 1
		picture               string
		unverified, unaudited uint64
		is                    NotVerified
	}{
		{"compared", []Body{compared, ends}, "exact", 0, 0, NotVerified{}},
		{"no audit at all", []Body{ends}, "approximate: " + NothingVerified, 0, 1, NotVerified{}},
		{"audits that compared nothing", []Body{none}, "approximate: " + NothingVerified, 0, 1, NotVerified{}},
		{
			"a part that could not be compared",
			[]Body{compared, part, ends},
			"approximate: not verified: 20K could not be compared with /proc for 1s", 1, 0,
			NotVerified{20 << 10, time.Second},
		},
		{
			"nothing that could be compared any more",
			[]Body{compared, compared, nothing, ends},
			"approximate: not verified: 4K could not be compared with /proc for 2s", 1, 0,
			NotVerified{4 << 10, 2 * time.Second},
		},
		{"compared again", []Body{part, nothing, compared}, "exact", 0, 0, NotVerified{}},
	} {
		for _, kept := range []int{0, 1} {
			m := New(Options{Verify: true, KeepExited: kept, PageSize: page})
			ops := begun(1, 1)
			for i, b := range c.bodies {
				ops = append(ops, body(1, uint64(i+1)*second, b))
			}
			for i := range ops {
				m.Apply(&ops[i])
			}
			r := m.Report()
			if r.Picture.String() != c.picture || r.Stats.Unverified != c.unverified || r.Stats.Unaudited != c.unaudited || r.Spaces[0].Unverified != c.is {
				t.Errorf("%s: picture %s, unverified %d, unaudited %d, %+v", c.name, r.Picture, r.Stats.Unverified, r.Stats.Unaudited, r.Spaces[0].Unverified)
			}
			if kept == 0 || c.picture == "approximate: "+NothingVerified {
				continue
			}
			// What is not kept counts as before.
			for _, op := range append(begun(2, 2), body(2, 9*second, compared), body(2, 9*second, ends), body(1, 9*second, ends)) {
				m.Apply(&op)
			}
			if r = m.Report(); r.Picture.Why == "" != (c.picture == "exact") || r.Stats.Unverified != c.unverified || r.NotKept != 1 {
				t.Errorf("%s, not kept: picture %s, unverified %d, not kept %d", c.name, r.Picture, r.Stats.Unverified, r.NotKept)
			}
		}
	}
}
