package model

import (
	"encoding/binary"
	"fmt"
	"testing"

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
		op.Body = [...]Body{
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
			Timed{Call: &space.Call{}, Timing: &Timing{}},
			Figures{Records: arg},
		}[int(b[0])%28]
		ops = append(ops, op)
	}
	return ops
}

// applied applies operations to a model of its own.
func applied(ops []Operation, also func(*Model)) (told, *Model) {
	var l told
	m := New(Options{OnChange: l.change, PageSize: page, KeepExited: 2})
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
			if m.Tree(r.Spaces[i].Process.Space) == nil && r.Spaces[i].Shared > 0 {
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
	m := New(Options{KeepExited: 2})
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
