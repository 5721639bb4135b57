package render

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/space"
)

// encoded is the line encoding/json gives.
func encoded(tb testing.TB, e *Event, clock Clock) string {
	tb.Helper()
	var b bytes.Buffer
	if err := json.NewEncoder(table.JSONWriter(&b)).Encode(e.Object(clock)); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestTheWrittenLineIsTheEncodedOne(t *testing.T) {
	t.Parallel()
	clock := NewClock(time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC), 1000)
	full := Event{
		Op: "mremap", Time: 2_000_001, PID: 1, NSPID: 9, TID: 2, Space: 3, Delta: -4096, Mapped: true, Late: true,
		Range: procmaps.Range{Start: 0x7f0000001000, End: 0x7f0000003000}, From: procmaps.Range{Start: 0x1000, End: 0x2000},
		Now:    space.Extent{Mode: procmaps.Read | procmaps.Shared, Kind: procmaps.KindShm, Name: "/memfd:x (deleted)"},
		Detail: "by system call 206", Errno: unix.ENOMEM, Stack: []string{"a (b.c:1)", "\x1b[31m+0x10"},
		Displaced: []space.Displaced{
			{Extent: space.Extent{Range: procmaps.Range{Start: 1 << 12, End: 2 << 12}, Kind: procmaps.KindAnon}, How: space.Moved},
			{Extent: space.Extent{Kind: procmaps.KindFile, Name: "/a"}, How: space.Replaced, Partial: true},
		},
	}
	for name, e := range map[string]Event{
		"everything": full, "an exit": {Op: "exit", PID: 7, Ended: true, Detail: "status 0"}, "a death": {Op: "exit", Ended: true, Signal: 9},
		"a fork": {Op: "fork", Child: 12}, "an exec": {Op: "exec", Comm: "a\x1bb"}, "a loss": {Op: "lost", Lost: 1 << 60}, "nothing": {},
		"a suppressed call": {Op: "munmap", Suppressed: true}, "one with a result": {Op: "mmap", Suppressed: true, Result: 0x7f0000001000},
		"a whole second": {Op: "mmap", Time: 1000 + 321_100_000},
	} {
		if got, want := string(e.AppendJSON(nil, clock)), encoded(t, &e, clock); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func FuzzAppendJSON(f *testing.F) {
	for _, s := range []string{"", "a b", "\x1b[31m\n\t\r\b\f\x00\x7f", "<&>\"\\", "\x9b\xff\xc3", "é\u009b\u2028\u2029", "\U0001f600\U000e0001", "\ufffd"} {
		f.Add(s)
	}
	clock := NewClock(time.Unix(0, 0).UTC(), 0)
	f.Fuzz(func(t *testing.T, name string) {
		e := Event{Op: "mmap", Mapped: true, Now: space.Extent{Name: name}, Detail: name}
		if got, want := string(e.AppendJSON(nil, clock)), encoded(t, &e, clock); got != want {
			t.Fatalf("%q:\n got %s\nwant %s", name, got, want)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	e := Event{
		Op: "mmap", Time: 1e9, PID: 12345, TID: 12345, Space: 1, Delta: 65536, Mapped: true,
		Range: procmaps.Range{Start: 0x7f0000001000, End: 0x7f0000011000},
		Now:   space.Extent{Mode: procmaps.Read | procmaps.Write, Kind: procmaps.KindAnon},
	}
	clock := NewClock(time.Now(), 0)
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = e.AppendJSON(line[:0], clock)
	}
}

// EventObject is one change, as encoding/json sees it: the names that docs/json.md
// promises.
type EventObject struct {
	Event     string            `json:"event"` // the operation
	Time      time.Time         `json:"time"`
	PID       int               `json:"pid,omitempty"`
	NSPID     int               `json:"ns_pid,omitempty"`
	TID       int               `json:"tid,omitempty"`
	Space     uint64            `json:"space,omitempty"` // of the address space, in this run
	Address   *Address          `json:"address,omitempty"`
	Size      uint64            `json:"size,omitempty"` // of the range acted on
	Delta     int64             `json:"delta,omitempty"`
	Mode      string            `json:"mode,omitempty"`
	Kind      string            `json:"kind,omitempty"`
	Mapping   table.Name        `json:"mapping,omitempty"` // as maps prints it; absent for nameless memory
	From      *Address          `json:"from,omitempty"`
	FromSize  uint64            `json:"from_size,omitempty"`
	Displaced []DisplacedObject `json:"displaced,omitempty"`
	Errno     string            `json:"errno,omitempty"`
	// Suppressed is set for a call that was not executed, with its Result.
	Suppressed bool     `json:"suppressed,omitempty"`
	Result     *Address `json:"result,omitempty"`

	Child  int          `json:"child,omitempty"`
	Comm   table.Name   `json:"comm,omitempty"`
	Lost   uint64       `json:"lost,omitempty"`
	Signal int          `json:"signal,omitempty"`
	Status *int         `json:"status,omitempty"`
	Detail table.Name   `json:"detail,omitempty"`
	Late   bool         `json:"late,omitempty"`
	Stack  []table.Name `json:"stack,omitempty"` // innermost first
}

// DisplacedObject is a piece of memory that an operation took away or changed.
type DisplacedObject struct {
	How     string     `json:"how"`
	Address Address    `json:"address"`
	Size    uint64     `json:"size"`
	Mode    string     `json:"mode"`
	Kind    string     `json:"kind"`
	Mapping table.Name `json:"mapping,omitempty"`
	Split   bool       `json:"split,omitempty"` // it reached beyond, and the rest is still there
}

// Object makes the JSON form of an event.
func (e *Event) Object(clock Clock) EventObject {
	o := EventObject{
		Event: e.Op, Time: clock.Time(e.Time), PID: e.PID, NSPID: e.NSPID, TID: e.TID, Space: e.Space,
		Size: e.Range.Len(), Delta: e.Delta, Detail: table.Name(e.Detail), Late: e.Late,
		Child: e.Child, Comm: table.Name(e.Comm), Lost: e.Lost,
	}
	for _, f := range e.Stack {
		o.Stack = append(o.Stack, table.Name(f))
	}
	switch {
	case e.Ended && e.Signal != 0:
		o.Signal = e.Signal
	case e.Ended:
		o.Status = &e.Status
	}
	if !e.Range.Empty() {
		a := Address(e.Range.Start)
		o.Address = &a
	}
	if e.Mapped {
		o.Mode, o.Kind, o.Mapping = e.Now.Mode.String(), e.Now.Kind.String(), table.Name(e.Now.Name)
	}
	if !e.From.Empty() {
		a := Address(e.From.Start)
		o.From, o.FromSize = &a, e.From.Len()
	}
	if e.Errno != 0 {
		o.Errno = errnoName(e.Errno)
	}
	if e.Suppressed {
		a := Address(e.Result)
		o.Suppressed, o.Result = true, &a
	}
	for i := range e.Displaced {
		d := &e.Displaced[i]
		o.Displaced = append(o.Displaced, DisplacedObject{
			How: d.How.String(), Address: Address(d.Start), Size: d.Len(),
			Mode: d.Mode.String(), Kind: d.Kind.String(), Mapping: table.Name(d.Name), Split: d.Partial,
		})
	}
	return o
}
