package render

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

// encoded is the line encoding/json gives.
func encoded(tb testing.TB, e *Event, clock Clock) string {
	tb.Helper()
	var b bytes.Buffer
	if err := json.NewEncoder(JSONWriter(&b)).Encode(e.Object(clock)); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestTheWrittenLineIsTheEncodedOne(t *testing.T) {
	t.Parallel()
	clock := NewClock(time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC), 1000)
	full := Event{
		Op: "mremap", Time: 2_000_001, PID: 1, TID: 2, Space: 3, Delta: -4096, Mapped: true, Late: true,
		Range: procmaps.Range{Start: 0x7f0000001000, End: 0x7f0000003000}, From: procmaps.Range{Start: 0x1000, End: 0x2000},
		Now:    space.Extent{Mode: procmaps.Read | procmaps.Shared, Kind: procmaps.KindShm, Name: "/memfd:x (deleted)"},
		Detail: "by system call 206", Errno: unix.ENOMEM,
		Displaced: []space.Displaced{
			{Extent: space.Extent{Range: procmaps.Range{Start: 1 << 12, End: 2 << 12}, Kind: procmaps.KindAnon}, How: space.Moved},
			{Extent: space.Extent{Kind: procmaps.KindFile, Name: "/a"}, How: space.Replaced, Partial: true},
		},
	}
	for name, e := range map[string]Event{
		"everything": full, "little": {Op: "exit", PID: 7, Detail: "status 0"}, "nothing": {},
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
