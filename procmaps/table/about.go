package table

import (
	"fmt"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// About is what can be said of a row beyond its numbers.
type About struct {
	Purpose procmaps.Purpose
	Commit  procmaps.Commit
}

// Explain gives every row of s an About and makes them the rows of t. Threads are
// those of the process, and guards finds guard pages; both may be nil.
func (t *Process) Explain(s *procmaps.Smaps, threads []procmaps.Thread, guards func(procmaps.Range) []procmaps.Range) {
	maps := make([]procmaps.Mapping, len(s.Rows))
	for i := range s.Rows {
		maps[i] = s.Rows[i].Mapping
	}
	rows := make([]Row, len(s.Rows))
	abouts := make([]About, len(s.Rows))
	for i, purpose := range procmaps.Infer(maps, threads, guards) {
		r := &s.Rows[i]
		abouts[i] = About{Purpose: purpose, Commit: r.Commit()}
		rows[i] = Row{Mapping: &r.Mapping, Values: r, Flags: r.Flags, About: &abouts[i]}
	}
	t.Keys, t.Rows = s.Keys, slices.Values(rows)
}

// LoadExplained reads smaps and the threads of p and explains the rows. Threads
// that may not be looked at leave more to be inferred, or unknown. It reads how much its page
// tables take as well, if it can.
func (t *Process) LoadExplained(p *procmaps.Process) error {
	s, err := p.Smaps()
	if err != nil {
		return err
	}
	threads, _ := p.ThreadInfo()
	t.Explain(s, threads, p.Guards)
	if st, err := p.Status(); err == nil {
		t.PageTablesKB = st.VmPTEKB
	}
	return nil
}

// Columns are the columns for programs: everything that is known of a row, with
// names kept from version to version. Addresses are text, since numbers above
// 2^53 do not survive every reader of JSON.
func (t *Process) Columns() []Column[Row] {
	columns := []Column[Row]{
		{Key: "address", Value: func(r Row) Value { return hexText(r.Mapping.Start) }},
		{Key: "end", Value: func(r Row) Value { return hexText(r.Mapping.End) }},
		{Key: "size", Sum: true, Value: func(r Row) Value { return Uint(r.Mapping.Len()) }},
		{Key: "mode", Value: func(r Row) Value { return Text(r.Mapping.Mode.String()) }},
		{Key: "offset", Value: func(r Row) Value { return Uint(r.Mapping.Offset) }},
		{Key: "device", Value: func(r Row) Value { return Text(r.Mapping.Dev.String()) }},
		{Key: "inode", Value: func(r Row) Value { return Uint(r.Mapping.Inode) }},
		{Key: "kind", Value: func(r Row) Value { return Text(r.Mapping.Kind().String()) }},
		{Key: "role", Value: about(func(a *About) Value { return Text(a.Purpose.Role.String()) })},
		{Key: "inferred", Value: about(func(a *About) Value { return yes(a.Purpose.Inferred) })},
		{Key: "tid", Value: about(func(a *About) Value { return positiveInt(a.Purpose.TID) })},
		{Key: "stacks", Value: about(func(a *About) Value { return stacksText(a.Purpose.Stacks) })},
		{Key: "mapping", Value: func(r Row) Value { return Text(r.Mapping.Name) }},
		{Key: "reserved_kb", Sum: true, Value: about(func(a *About) Value { return Uint(a.Commit.ReservedKB) })},
		{Key: "noreserve_kb", Sum: true, Value: about(func(a *About) Value { return Uint(a.Commit.NoReserveKB) })},
		{Key: "committed_kb", Sum: true, Value: about(func(a *About) Value { return Uint(a.Commit.CommittedKB) })},
	}
	for i, k := range t.Keys {
		columns = append(columns, Column[Row]{Key: keyName(k), Sum: k.KB && !isPageSize(k.Name), Value: func(r Row) Value {
			if r.Values == nil {
				return Value{}
			}
			v, ok := r.Values.Value(i)
			if !ok {
				return Value{}
			}
			return Uint(v)
		}})
	}
	return append(columns, Column[Row]{Key: "vmflags", Value: func(r Row) Value { return Text(r.Flags.String()) }})
}

// isPageSize knows the keys of smaps that are KiB but not amounts of memory.
func isPageSize(key string) bool { return key == "KernelPageSize" || key == "MMUPageSize" }

// about makes a value of rows that were explained.
func about(value func(*About) Value) func(Row) Value {
	return func(r Row) Value {
		if r.About == nil {
			return Value{}
		}
		return value(r.About)
	}
}

// stacksText lists stacks that share a mapping, and their threads; 0 is one that nobody is known
// to use.
func stacksText(stacks []procmaps.ThreadStack) Value {
	if len(stacks) == 0 {
		return Value{}
	}
	var b []byte
	for i, s := range stacks {
		if i > 0 {
			b = append(b, ' ')
		}
		b = fmt.Appendf(b, "%x-%x:%d", s.Start, s.End, s.TID)
	}
	return Text(string(b))
}

func hexText(v uint64) Value { return Text("0x" + string(hexDigits(1)(nil, Uint(v)))) }

// yes is 1, or unknown, which machine-readable forms leave out.
func yes(b bool) Value {
	if !b {
		return Value{}
	}
	return Uint(1)
}

func positiveInt(n int) Value {
	if n <= 0 {
		return Value{}
	}
	return Uint(uint64(n))
}
