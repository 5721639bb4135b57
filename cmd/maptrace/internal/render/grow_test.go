package render

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/stack"
)

// name is what a function is called: those of package main are of a larger program, whose
// import path is not for people.
func name(short string) stack.Name {
	n := stack.Plain(short)
	if strings.HasPrefix(short, "main.") {
		n.Full = "example.org/shop/" + short
	}
	return n
}

func named(short ...string) (names []stack.Name) {
	for _, s := range short {
		names = append(names, name(s))
	}
	return names
}

// rising is a series of resident sizes, one a second.
func rising(from, by uint64) (out []growth.Point) {
	for i := range 31 {
		h := growth.Holding{Resident: from + by*uint64(i), Mapped: 2 * (from + by*uint64(i)), Mappings: i}
		out = append(out, growth.Point{At: time.Duration(i) * time.Second, Low: h, High: h})
	}
	return out
}

// watches is what a person may see: a leak with stacks, growth of mappings, memory
// that is steady, and a process where nothing grows.
func watches() []Growth {
	leak := attribution.Finding{
		Evidence: attribution.Evidence{
			Finding: growth.Finding{
				Key: growth.Key{What: growth.Anon, Site: 7}, Label: growth.Leaks,
				Reason: []growth.Note{{Kind: growth.Grew, Size: 30 << 20, Time: 30 * time.Second}, {Kind: growth.NeverShrank}}, Measure: growth.Resident,
				Growth: 30 << 20, Slope: 1 << 20, SlopeLow: 1 << 19, SlopeHigh: 1 << 21, Monotone: 1,
				Last: growth.Holding{Mapped: 64 << 20, Writable: 62 << 20, Resident: 31 << 20, Mappings: 30},
				Flow: growth.Flow{Born: 60 << 20, Died: 1 << 20}, AliveShare: 0.985, AliveOf: 50 << 20, MedianAge: 12 * time.Second,
				Series: rising(1<<20, 1<<20),
			},
			Faults: 900,
		},
		Subject: "[ anon ]", From: name("leak (server.c:88)"), Limit: &attribution.Reached{Limit: growth.Limit{Name: "memory.max"}, In: 41 * time.Minute},
		Made: []attribution.Stack{
			{Share: 0.9, Bytes: 54 << 20, Frames: named("mmap (libc.so.6)", "leak (server.c:88)", "serve (server.c:120)", "main (server.c:10)")},
			{Share: 0.1, Bytes: 6 << 20, Frames: named("server+0x1234"), End: "truncated"},
		},
		Touched: []attribution.Stack{{Share: 0.75, Frames: named("fill (server.c:90)")}, {Share: 0.25}},
	}
	maps := attribution.Finding{
		Evidence: attribution.Evidence{Finding: growth.Finding{
			Key: growth.Key{What: growth.File, Name: "/var/lib/data"}, Label: growth.Grows,
			Reason: []growth.Note{{Kind: growth.Grew, Size: 90, Time: 30 * time.Second}}, Measure: growth.Mappings, Growth: 90, Slope: 3,
			Last: growth.Holding{Mapped: 1 << 20, Resident: 4096, Mappings: 91}, Series: rising(0, 0),
		}},
		Subject: "data",
	}
	shrinks := attribution.Finding{
		Evidence: attribution.Evidence{Finding: growth.Finding{
			Key: growth.Key{What: growth.Heap}, Label: growth.Steady, Reason: []growth.Note{{Kind: growth.DidNotGrow}}, Growth: -8192, Slope: -273.06,
			Last: growth.Holding{Mapped: 132 << 10, Resident: 100 << 10, Mappings: 1}, Series: rising(100<<10, 0),
		}},
		Subject: "[heap]",
	}
	shared := attribution.Finding{
		Evidence: attribution.Evidence{
			Finding: growth.Finding{
				Key: growth.Key{What: growth.Pool, Name: "Go heap"}, Label: growth.Grows,
				Reason: []growth.Note{{Kind: growth.Grew, Size: 8 << 20, Time: 30 * time.Second}}, Measure: growth.Resident, Growth: 8 << 20, Slope: 1 << 18,
				Last: growth.Holding{Mapped: 12 << 20, Resident: 9 << 20}, Series: rising(1<<20, 1<<18),
			},
			Faults: 2000, Words: 20, Decided: 31, Separation: 0.9785, Shared: true,
		},
		Subject: "Go heap", Settle: 5 * time.Second,
		Made:    []attribution.Stack{{Share: 1, Bytes: 8 << 20, Frames: named("runtime.sysMap (mem.go:279)", "main.churn (main.go:56)")}},
		Touched: []attribution.Stack{{Share: 0.8, Frames: named("main.churn (main.go:56)")}},
		Kept: []attribution.Stack{
			{By: name("main.leak (main.go:47)"), Share: 0.9, Frames: named("runtime.memclr (memclr.s:1)", "main.leak (main.go:47)", "main.main (main.go:9)")},
			{By: name("main.cache (main.go:60)"), Share: 0.1, Frames: named("main.cache (main.go:60)"), End: "truncated"},
		},
	}
	return []Growth{
		{
			Process: attribution.Process{
				PID: 4711, Comm: "server", Watched: 30 * time.Second, Ticks: 31,
				Findings: []attribution.Finding{leak, shared, maps, shrinks}, Estimated: true, Unsampled: 12 << 20,
				Unwatched: "no debug register is free",
			},
			Accuracy: "exact",
		},
		{Process: attribution.Process{PID: 4712, Comm: "postgres", Title: "postgres: check\x1bpointer", Exited: true, Watched: 9 * time.Second, Ticks: 9, Findings: []attribution.Finding{shrinks}}, Accuracy: "not kept"},
		{Process: attribution.Process{PID: 4713, Comm: "idle", Watched: 30 * time.Second, Ticks: 31}, Accuracy: "approximate: events were lost"},
	}
}

func noNotes(io.Writer) error { return nil }

func growthText(t *testing.T, all []Growth, most, frames int, ascii bool) string {
	t.Helper()
	var b strings.Builder
	if err := WriteGrowth(&b, nil, all, GrowthOptions{Most: most, Frames: frames, ASCII: ascii}, noNotes); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// grownGroups are a cgroup whose page cache grows, and processes that become ever more.
func grownGroups() []attribution.Group {
	grew := func(what growth.What, label growth.Label, subject string, note growth.NoteKind) attribution.Finding {
		return attribution.Finding{Subject: subject, Evidence: attribution.Evidence{Finding: growth.Finding{
			Key: growth.Key{What: what}, Label: label, Measure: growth.Resident, Growth: 40 << 20, Slope: 1 << 20, Series: rising(1<<20, 1<<20),
			Last:   growth.Holding{Resident: 90 << 20},
			Reason: []growth.Note{{Kind: growth.Grew, Size: 40 << 20, Time: 27 * time.Second}, {Kind: note}},
		}}}
	}
	cache := grew(growth.PageCache, growth.Grows, "page cache of the cgroup", growth.CanBeDropped)
	crowd := grew(growth.Processes, growth.Leaks, "57 processes \"wor\x1bker\" (6 at first)", growth.NeverShrank)
	crowd.From = name("spawn (main.c:9)")
	crowd.Made = []attribution.Stack{{Share: 1, Frames: named("fork (fork.c:1)", "spawn (main.c:9)")}}
	return []attribution.Group{
		{
			Name: "/docker/a\x1bb", Watched: 30 * time.Second, Ticks: 31,
			Files: []attribution.FileGrowth{
				{CachedFile: procmaps.CachedFile{Path: "/data/a\x1bb.log", Bytes: 90 << 20, Dirty: 2 << 20}, Grown: 38 << 20},
				{CachedFile: procmaps.CachedFile{Path: "/data/index", Bytes: 9 << 20}, Grown: 2 << 20},
			},
			First:    procmaps.GroupMemory{Used: 100 << 20, Max: 512 << 20, Anon: 50 << 20, File: 50 << 20},
			Last:     procmaps.GroupMemory{Used: 140 << 20, Max: 512 << 20, Anon: 49 << 20, File: 90 << 20, Kernel: 1 << 20, Swap: 3 << 20},
			Findings: []attribution.Finding{cache},
		},
		{Name: "/quiet", Watched: 30 * time.Second, Ticks: 31, First: procmaps.GroupMemory{Used: 1 << 20, Max: procmaps.Unlimited, Anon: 1 << 20}, Last: procmaps.GroupMemory{Used: 1 << 20, Max: procmaps.Unlimited, Anon: 1 << 20}},
		{
			Name: "/dev-shm", Watched: 30 * time.Second, Ticks: 31, Anon: 8 << 20, Shmem: 1 << 20, Elsewhere: attribution.Unowned{Anon: 12 << 20, Shmem: 59 << 20},
			First: procmaps.GroupMemory{Used: 80 << 20, Max: procmaps.Unlimited, Anon: 20 << 20, Shmem: 60 << 20},
			Last:  procmaps.GroupMemory{Used: 80 << 20, Max: procmaps.Unlimited, Anon: 20 << 20, Shmem: 60 << 20},
		},
		{Watched: 29 * time.Second, Ticks: 30, Before: 7, Now: 58, Findings: []attribution.Finding{crowd}},
	}
}

// together is a report of these, with many processes in which nothing grows.
func together(t *testing.T) string {
	t.Helper()
	all := watches()[:1]
	for i := range 5 {
		all = append(all, Growth{Process: attribution.Process{PID: 5000 + i, Comm: "worker", Watched: 30 * time.Second, Ticks: 31}, Accuracy: "exact"})
	}
	var b strings.Builder
	if err := WriteGrowth(&b, grownGroups(), all, GrowthOptions{Most: 1, Frames: NoStacks}, noNotes); err != nil {
		t.Fatal(err)
	}
	if err := WriteGrowth(&b, grownGroups()[3:], all[1:], GrowthOptions{Frames: 2}, noNotes); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGroupsAreJSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	enc := json.NewEncoder(table.JSONWriter(&b))
	for _, g := range grownGroups() {
		if err := EncodeGroup(enc, &g, time.Unix(1, 0).UTC()); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "growth-groups.json", b.String())
}

// TestNothingGrowsIsNotSaidOfMoreThanThereWas has processes that grew, but not to the end.
func TestNothingGrowsIsNotSaidOfMoreThanThereWas(t *testing.T) {
	t.Parallel()
	with := func(more uint64, ticks int, findings ...attribution.Finding) Growth {
		g := watches()[1]
		g.Ticks, g.Findings = ticks, findings
		g.Account = &attribution.Account{First: event.Account{Resident: 200 << 20}, Last: event.Account{Resident: 200<<20 + more}, Grown: int64(more)}
		return g
	}
	steady := watches()[1].Findings[0]
	early := steady
	early.Subject, early.First, early.Last = "cache", growth.Holding{Resident: 2 << 20}, growth.Holding{Resident: 12 << 20}
	churns := steady
	churns.Label, churns.Growth, churns.Subject = growth.Churns, 8<<20, "[he\x1bap]"
	churns.Reason = []growth.Note{{Kind: growth.Churned}}
	churns.Measure = growth.Resident
	plateau := churns
	plateau.Label, plateau.Reason = growth.Plateau, []growth.Note{{Kind: growth.Grew, Size: 188 << 20, Time: time.Minute}, {Kind: growth.Stopped, Time: 20 * time.Second}}
	for _, tt := range []struct {
		all  []Growth
		want string
	}{
		{[]Growth{with(11<<20, 9, steady)}, "SHORT grew 11.0 MiB in 9 s: too short to judge\n"},
		{[]Growth{with(11<<20, 9, steady, churns)}, `SHORT grew 11.0 MiB in 9 s, most of it [he\x1bap]: too short to judge` + "\n"},
		{[]Growth{with(1<<20, 9, steady)}, "SHORT watched for 9 s, with 9 looks: too short to judge\n"}, // of 200 MiB
		{[]Growth{with(1<<20, 9, steady, churns)}, "SHORT grew 8.0 MiB in 9 s"},
		{[]Growth{with(11<<20, 90, steady)}, "GROWS +11.0 MiB in 9 s, of no mapping in particular\n"},
		{[]Growth{with(0, 90, steady)}, "STEADY nothing grew in 9 s\n"},
		{[]Growth{with(11<<20, 90, steady, early)}, "PLATEAU cache grew 10.0 MiB at the beginning of the watch, and not since\n"},
		{[]Growth{with(11<<20, 5, steady), with(0, 90)}, "SHORT grew 11.0 MiB in 9 s: too short to judge\n"},
		{[]Growth{with(0, 90, steady, plateau)}, `PLATEAU [he\x1bap] grew 188.0 MiB in 60 s, but not in the last 20 s` + "\n"},
		{[]Growth{with(11<<20, 90), with(11<<20, 90)}, "GROWS +22.0 MiB in 9 s, in 2 processes together, but in none of them to the end\n"},
		{[]Growth{with(0, 9), with(0, 9)}, "SHORT watched 2 processes for 9 s, with 9 looks: too short to judge\n"},
		{[]Growth{with(0, 90), with(0, 90)}, "STEADY nothing grew in 9 s, in any of 2 processes\n"},
		{nil, "UNKNOWN no process was there for long enough to be looked at\nnext  look more often"},
	} {
		got := growthText(t, tt.all, 10, 16, true)
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("want %q first in\n%s", tt.want, got)
		}
		if strings.Contains(got, "nothing grew") && strings.Contains(got, "MiB more than") && !strings.Contains(got, "to the end") {
			t.Errorf("nothing and something:\n%s", got)
		}
	}
}

func TestGrowthReports(t *testing.T) {
	t.Parallel()
	golden(t, "growth.txt", growthText(t, watches(), 0, 0, false))
	golden(t, "growth-short.txt", growthText(t, watches()[:1], 1, 2, true))
	golden(t, "growth-quiet.txt", growthText(t, watches()[1:2], 10, 16, true))
	golden(t, "growth-together.txt", together(t))
	got := growthText(t, []Growth{{Process: attribution.Process{PID: 4714, Comm: "secret", Watched: 30 * time.Second, Uncounted: "permission denied"}, Accuracy: "exact"}}, 10, 16, false)
	const want = `UNKNOWN its resident memory cannot be counted: permission denied
next  maptrace doctor says what is missing

Process 4714 (secret): watched for 30 s, 0 looks, accuracy: exact; its resident memory cannot be counted: permission denied
`
	if got != want {
		t.Errorf("of what cannot be counted it says %q, want %q", got, want)
	}
}

func TestAReportWithoutBlockCharactersIsASCII(t *testing.T) {
	t.Parallel()
	for _, r := range growthText(t, watches()[:1], 1, 2, true) {
		if r > 0x7e {
			t.Errorf("%q is in it", r)
		}
	}
}

// hostile is what a program may call its files, functions and itself.
const hostile = "a\x1b]0;owned\x07\r\nb\x1b[2J\u202e\xff"

func TestNamesInGrowthReportsAreEscaped(t *testing.T) {
	t.Parallel()
	all := watches()
	for i := range all {
		all[i].Comm, all[i].Accuracy, all[i].Unwatched = hostile, hostile, hostile
		if len(all[i].Findings) == 0 {
			all[i].Uncounted = hostile
		}
		for j := range all[i].Findings {
			f := &all[i].Findings[j]
			f.Subject, f.From, f.Name = hostile, name(hostile), hostile
			f.Limit = &attribution.Reached{Limit: growth.Limit{Name: hostile}}
			for _, stacks := range [][]attribution.Stack{f.Made, f.Touched, f.Kept} {
				for k := range stacks {
					stacks[k].By, stacks[k].Frames = name(hostile), named(hostile, hostile)
				}
			}
		}
	}
	for _, ascii := range []bool{false, true} {
		text := growthText(t, all, 0, 0, ascii)
		checkPrintable(t, text)
		if strings.Count(text, `a\x1b]0;owned\x07`) < 20 {
			t.Errorf("the names are not there:\n%s", text)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(table.JSONWriter(&b))
	for i := range all {
		if err := EncodeGrowth(enc, &all[i], time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	checkPrintable(t, b.String())
	s := GrowthSummary{Unseen: hostile, Ends: map[string]uint64{}, Missing: map[string]uint64{}}
	b.Reset()
	if err := s.Write(&b, 0); err != nil {
		t.Fatal(err)
	}
	checkPrintable(t, b.String())
}

func TestGrowthAsJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	enc := json.NewEncoder(table.JSONWriter(&b))
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	all := watches()
	for i := range all {
		for j := range all[i].Findings {
			f := &all[i].Findings[j]
			f.Series = f.Series[:min(len(f.Series), 3)]
		}
		if err := EncodeGrowth(enc, &all[i], now); err != nil {
			t.Fatal(err)
		}
	}
	if err := EncodeAnswer(enc, nil, all, false, now); err != nil {
		t.Fatal(err)
	}
	if err := enc.Encode(summary(now)); err != nil {
		t.Fatal(err)
	}
	golden(t, "growth.json", b.String())
}

func TestEveryObjectOfGrowthHasTheSameKeys(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	enc := json.NewEncoder(table.JSONWriter(&b))
	// The least that there can be, for what is left out.
	empty := Growth{Process: attribution.Process{Findings: []attribution.Finding{{Made: make([]attribution.Stack, 1), Touched: make([]attribution.Stack, 1), Kept: make([]attribution.Stack, 1)}}}}
	if err := EncodeGrowth(enc, &empty, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(&b)
	for _, want := range [][]string{
		{"comm", "estimated", "event", "exited", "looks", "picture", "pid", "seconds", "time", "unsampled"},
		{
			"born", "comm", "decided_words", "died", "event", "faults", "growth", "huge", "kept_by", "kept_words", "kind", "made_by", "mapped", "mappings", "measure", "median_age",
			"monotone", "pid", "reason", "reserved", "resident", "sentence", "series", "shared", "slope", "slope_high", "slope_low", "subject", "swapped", "time",
			"touched_by", "verdict", "writable",
		},
	} {
		var object map[string]any
		if err := dec.Decode(&object); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for k, v := range object {
			if stacks, ok := v.([]any); ok && len(stacks) == 1 {
				v = stacks[0].(map[string]any)["frames"]
			}
			if v == nil {
				t.Errorf("%s is null, or has frames that are", k)
			}
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if d := cmp.Diff(want, keys); d != "" {
			t.Errorf("keys (-want +got):\n%s", d)
		}
	}
}

func summary(now time.Time) *GrowthSummary {
	return &GrowthSummary{
		Event: "summary", Time: now, Calls: 1000, Lost: 1, Stacks: 800, Sites: 40,
		Ends:    map[string]uint64{"root": 780, "truncated": 15, "no-fde": 5},
		Missing: map[string]uint64{"passed over by chance": 190, "no room in the ring": 10},
		Faults:  5000, Sampled: 900, Counting: "PAGEMAP_SCAN", CountCalls: 31, CountBusy: 0.0123, CountMost: 0.0011,
		Whole: map[string]uint64{"at its beginning": 3, "it locked its memory": 2},
		Memory: MemoryObject{
			Budget: 256 << 20, Stacks: 5 << 20, StacksEvicted: 70, Series: 3 << 20, SeriesPeak: 4 << 20, GroupsEvicted: 6, Coarsened: 2,
			Parts: 1 << 20, PartsPeak: 2 << 20,
		},
	}
}

func TestEffortOfAWatch(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	s := summary(time.Time{})
	s.Whole["it was stopped"] = 1
	if err := s.WriteEffort(&b); err != nil {
		t.Fatal(err)
	}
	want := `1000 calls, lost 1; 800 stacks, 98 % whole
5000 page faults, 900 sampled; resident pages by PAGEMAP_SCAN: 12.3 ms in all, 1.1 ms at most at once
kept of 256.0 MiB: 5.0 MiB of stacks (70 evicted), 3.0 MiB of series (4.0 MiB at most, 6 groups evicted), 1.0 MiB of their parts (2.0 MiB at most)
everything of a process was counted 3 times: at its beginning
everything of a process was counted twice: it locked its memory
everything of a process was counted once: it was stopped
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestSummaryOfAWatch(t *testing.T) {
	t.Parallel()
	broken := summary(time.Time{})
	broken.Ends = map[string]uint64{"root": 400, "truncated": 395, "no-fde": 5}
	broken.Heaps.Dropped = 7
	for _, tt := range []struct {
		name  string
		s     *GrowthSummary
		width int
		want  string
	}{
		{"one that watched words", &GrowthSummary{Words: WordsObject{Watched: 21, Missed: 2}}, 0, ""},
		{
			"a busy one", summary(time.Time{}), 0, `
lost 1 of the kernel's records: what they tell of was read again
10 calls or faults are without a stack: no room in the ring
neighbouring extents of 2 address spaces were made one, as --memory was reached: which of several sites holds what of them is estimated
`,
		},
		{
			"one with broken stacks", broken, 60, `
lost 1 of the kernel's records: what they tell of was read
  again
10 calls or faults are without a stack: no room in the ring
50 % of 800 stacks are whole, 5 no-fde, 395 truncated
neighbouring extents of 2 address spaces were made one, as
  --memory was reached: which of several sites holds what of
  them is estimated
7 samples of heaps could not be reported
`,
		},
		{"one that saw nothing", &GrowthSummary{}, 0, ""},
		{
			"one without faults", &GrowthSummary{Unseen: "permission denied"}, 0, `
no page faults were seen, so who touches memory is not known: permission denied
`,
		},
	} {
		var b strings.Builder
		if err := tt.s.Write(&b, tt.width); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestTheLastLineNamesTheCulprit has the answer again at the end, whatever is below it.
func TestTheLastLineNamesTheCulprit(t *testing.T) {
	t.Parallel()
	all := watches()
	all[0].Findings[0].From = name("lea\x1bk (server.c:88)")
	var b strings.Builder
	notes := func(w io.Writer) error { _, err := io.WriteString(w, "\nsomething was lost\n"); return err }
	if err := WriteGrowth(&b, nil, all[:1], GrowthOptions{Most: 3, Frames: NoStacks}, notes); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "mmap (libc.so.6)") {
		t.Errorf("there are stacks:\n%s", b.String())
	}
	first, _, _ := strings.Cut(b.String(), "\n")
	if !strings.HasPrefix(first, `LEAK  [ anon ] +60.0 MiB/min, allocated by lea\x1bk (server.c:88)`) || !strings.Contains(b.String(), "\nsomething was lost\n\nnext  ") || !strings.HasSuffix(b.String(), "\n"+first+"\n") {
		t.Errorf("not at both ends:\n%s", b.String())
	}
}

// TestWhatGrewFarMoreComesFirst has a leak beside a heap that has grown far more, and is flat.
func TestWhatGrewFarMoreComesFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		grew float64
		want string
	}{
		{700 << 20, "PLATEAU heap of a runtime grew 700.0 MiB in 60 s, but not in the last 20 s\nnext  "},
		{100 << 20, "LEAK  [ anon ] +60.0 MiB/min, "},
	} {
		g := watches()[0]
		flat := g.Findings[1]
		flat.Subject, flat.Label, flat.Growth = "heap of a runtime", growth.Plateau, tt.grew
		flat.Reason = []growth.Note{{Kind: growth.Grew, Size: tt.grew, Time: time.Minute}, {Kind: growth.Stopped, Time: 20 * time.Second}}
		g.Findings = []attribution.Finding{g.Findings[0], flat}
		if got := growthText(t, []Growth{g}, 10, 16, true); !strings.HasPrefix(got, tt.want) || !strings.Contains(got, "\nLEAK  [ anon ] +60.0 MiB/min") {
			t.Errorf("want %q first, and the leak in\n%s", tt.want, got)
		}
	}
}

// TestStacksThatCannotBeUnwoundAreTheReason has what is known to be made, and by whom not.
func TestStacksThatCannotBeUnwoundAreTheReason(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]bool{"no-fde": true, "truncated": false, "": false} {
		g := watches()[0]
		g.Findings = g.Findings[:1]
		f := &g.Findings[0]
		f.From, f.Shared, f.Touched = stack.Name{}, true, nil
		f.Made = []attribution.Stack{{Share: 0.9, Frames: named("mmap (server)"), End: end}, {Share: 0.1, Frames: named("x (y.c:1)")}}
		if got := growthText(t, []Growth{g}, 10, 16, true); strings.Contains(got, "\nnext  the stacks of its calls end in code that has no unwind tables") != want {
			t.Errorf("ended by %q:\n%s", end, got)
		}
	}
}

func TestWhyNobodyIsNamedInAProgramOf32BitsIsSaid(t *testing.T) {
	t.Parallel()
	for _, blamed := range []bool{false, true} {
		g := watches()[0]
		g.Narrow, g.Findings = true, g.Findings[:1]
		if !blamed {
			g.Findings[0].From = stack.Name{}
		}
		if got := growthText(t, []Growth{g}, 10, 16, true); strings.Contains(got, "\nnext  it is a 32-bit program: ") == blamed {
			t.Errorf("somebody is named: %t\n%s", blamed, got)
		}
	}
}

// TestLinesFitATerminal has a terminal of 80 columns.
func TestLinesFitATerminal(t *testing.T) {
	t.Parallel()
	for _, all := range [][]Growth{watches(), {retained()}} {
		var b strings.Builder
		if err := WriteGrowth(&b, grownGroups(), all, GrowthOptions{All: true, Width: 80}, noNotes); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
	const text = "LEAK a word-that-is-longer-than-a-line and some more"
	if got, want := fold(text, 20, 6), "LEAK a\n      word-that-is-longer-than-a-line\n      and some more"; got != want {
		t.Errorf("folded to %q, want %q", got, want)
	}
	if got, want := fold("page tables 260.0 KiB (+60.0 KiB); 90 % of it", 30, 2), "page tables 260.0 KiB\n  (+60.0 KiB); 90 % of it"; got != want {
		t.Errorf("folded to %q, want %q", got, want)
	}
	if got := fold(text, 0, 6); got != text {
		t.Errorf("without a width: %q", got)
	}
}

func TestSentences(t *testing.T) {
	t.Parallel()
	g, shared := watches()[0].Findings[0], watches()[0].Findings[1]
	for _, tt := range []struct {
		name   string
		change func(*attribution.Finding)
		want   string
	}{
		{
			"made by somebody, touched by another", func(*attribution.Finding) {},
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88), touched by fill (server.c:90), 75 % of it; memory.max in 41 min",
		},
		{
			"made and touched by the same", func(g *attribution.Finding) {
				g.Touched = []attribution.Stack{{Share: 1, Frames: []stack.Name{g.From}}}
			},
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88); memory.max in 41 min",
		},
		{
			"touched now and then by another", func(g *attribution.Finding) {
				g.Touched = []attribution.Stack{{Share: 0.2, Frames: named("x (y.c:1)")}}
			},
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88); memory.max in 41 min",
		},
		{
			"of which the maker is not known, touched by somebody", func(g *attribution.Finding) { g.From = stack.Name{} },
			"LEAK [ anon ] +60.0 MiB/min; memory.max in 41 min",
		},
		{
			"of which the maker is not known, mapped", func(g *attribution.Finding) { g.From, g.Measure, g.Limit = stack.Name{}, growth.Mapped, nil },
			"LEAK [ anon ] +60.0 MiB/min",
		},
		{
			"touched by nobody knows whom", func(g *attribution.Finding) { g.Touched = []attribution.Stack{{Share: 1}} },
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88); memory.max in 41 min",
		},
		{
			"shared, and kept by one", func(g *attribution.Finding) { *g = shared },
			"GROWS Go heap +15.0 MiB/min, kept by main.leak (main.go:47), 90 % of it, 98 % sure",
		},
		{
			"shared, and kept by one, perhaps", func(g *attribution.Finding) { *g = shared; g.Separation = 0.94 },
			"GROWS Go heap +15.0 MiB/min; who keeps it is not known yet: of 31 watched words 20 stayed, and of no function is it sure that it keeps the most",
		},
		{
			"shared, and leaked by nobody knows whom", func(g *attribution.Finding) {
				g.Shared, g.Kept, g.Words, g.Decided = true, shared.Kept, 1, 1
			},
			"LEAK [ anon ] +60.0 MiB/min; memory.max in 41 min; who keeps it is not known yet: of 1 watched word 1 stayed, and of no function is it sure that it keeps the most",
		},
		{
			"shared, and kept by a function without a name", func(g *attribution.Finding) {
				*g = shared
				g.Kept = []attribution.Stack{{Share: 1}}
			},
			"GROWS Go heap +15.0 MiB/min; who keeps it is not known yet: of 31 watched words 20 stayed, but the code that keeps it has no name",
		},
		{
			"shared, and not watched", func(g *attribution.Finding) {
				*g = shared
				g.Kept, g.Words, g.Decided, g.Separation = nil, 0, 0, 0
			},
			"GROWS Go heap +15.0 MiB/min; who keeps it is not known yet: no watched word of it was decided",
		},
		{
			"shared, and moved by a collector", func(g *attribution.Finding) { *g = shared; g.Separation, g.Moved = 0, 18 },
			"GROWS Go heap +15.0 MiB/min; who keeps it is not known: a garbage collector moves it (18 of 20 watched words that stayed)",
		},
		{
			"shared, and of which a collector has moved a word", func(g *attribution.Finding) { *g = shared; g.Separation, g.Moved = 0, 1 },
			"GROWS Go heap +15.0 MiB/min; who keeps it is not known yet: of 31 watched words 20 stayed, and of no function is it sure that it keeps the most",
		},
		{
			"shared, and steady", func(g *attribution.Finding) {
				*g = shared
				g.Label, g.Reason, g.Separation = growth.Steady, []growth.Note{{Kind: growth.DidNotGrow}}, 0.5
			},
			"STEADY Go heap did not grow",
		},
		{
			"made by one for itself, written by another", func(g *attribution.Finding) {
				g.Kept, g.Words = []attribution.Stack{{By: name("fill (server.c:90)"), Share: 1}}, 100
			},
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88), touched by fill (server.c:90), 100 % of it; memory.max in 41 min",
		},
		{
			"made by one for itself, three words of it written by another", func(g *attribution.Finding) {
				g.Kept, g.Words, g.Touched = []attribution.Stack{{By: name("fill (server.c:90)"), Share: 1}}, 3, nil
			},
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88); memory.max in 41 min",
		},
		{
			"made and kept by the same", func(g *attribution.Finding) {
				g.Kept, g.Words, g.Touched = []attribution.Stack{{By: g.From, Share: 1}}, 100, nil
			},
			"LEAK [ anon ] +60.0 MiB/min, allocated by leak (server.c:88); memory.max in 41 min",
		},
		{
			"steady, with a limit that is never reached", func(g *attribution.Finding) {
				g.Label, g.Reason = growth.Steady, []growth.Note{{Kind: growth.DidNotGrow}}
			},
			"STEADY [ anon ] did not grow",
		},
	} {
		f := g
		tt.change(&f)
		if got := Sentence(&f); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestWhomASentenceNamesIsBlamedWithAConfidence looks at the same finding as text and JSON.
func TestWhomASentenceNamesIsBlamedWithAConfidence(t *testing.T) {
	t.Parallel()
	type blame struct {
		Blamed     string
		Confidence float64
		Shared     bool
	}
	all := watches()[0]
	unknown := all.Findings[1]
	unknown.Separation = 0.6
	all.Findings = []attribution.Finding{all.Findings[0], all.Findings[1], unknown}
	for i, want := range []blame{{"leak (server.c:88)", 1, false}, {"example.org/shop/main.leak (main.go:47)", 0.9785, true}, {"", 0, true}} {
		f := &all.Findings[i]
		o := findingObject(&all, f, time.Unix(0, 0))
		if d := cmp.Diff(want, blame{o.Blamed, o.Confidence, o.Shared}); d != "" {
			t.Errorf("%s (-want +got):\n%s", o.Sentence, d)
		}
		if is := strings.Contains(o.Sentence, ".go:") || strings.Contains(o.Sentence, ".c:"); is != (o.Blamed != "") {
			t.Errorf("blamed %q: %s", o.Blamed, o.Sentence)
		}
	}
}

// TestAKeeperWithoutANameIsToldByWhatItCalls has a program without symbols but for what it exports.
func TestAKeeperWithoutANameIsToldByWhatItCalls(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		frames []string
		keeper int
		want   string
	}{
		{[]string{"zmalloc", "sdsnew", "server+0x10", "main"}, 1, "kept by sdsnew, 90 % of it"},
		{[]string{"zmalloc", "sdsnew", "server+0x10", "main"}, 2, "kept by server+0x10 (a caller of sdsnew), 90 % of it"},
		{[]string{"zmalloc", "sdsnew", "server+0x20", "server+0x10"}, 3, "kept by server+0x10 (a caller of sdsnew), 90 % of it"},
		{[]string{"server+0x20", "server+0x10", "main"}, 1, "kept by server+0x10, 90 % of it"},
	} {
		f := watches()[0].Findings[1]
		sampledBlocks(heap.Keeper{Alive: 60, Times: 9, Share: 0.9}, 0.99)(&f)
		f.Keepers[0].Frames = named(tt.frames...)
		f.Keepers[0].By = f.Keepers[0].Frames[tt.keeper]
		if got := Sentence(&f); !strings.Contains(got, tt.want) {
			t.Errorf("%q: want %q", got, tt.want)
		}
	}
}

// TestEvidenceOfAHeapIsNoAccusation has a heap of which nobody knows who keeps it.
func TestEvidenceOfAHeapIsNoAccusation(t *testing.T) {
	t.Parallel()
	all := watches()[:1]
	unknown := all[0].Findings[1]
	unknown.Separation = 0.6
	all[0].Findings, all[0].Estimated, all[0].Unwatched = []attribution.Finding{unknown}, false, ""
	golden(t, "growth-unknown.txt", growthText(t, all, 0, 0, true))
}

// TestWhyNobodyIsNamed has a heap that grows, of which nobody is named.
func TestWhyNobodyIsNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*attribution.Finding)
		want   string
	}{
		{
			"almost enough for a name", func(g *attribution.Finding) { g.Separation = 0.949 },
			"nobody is named: that one of these keeps more than any other has a confidence of 94 %, and a name takes 95 %; a longer watch",
		},
		{
			"all was moved by a collector", func(g *attribution.Finding) { g.Separation, g.Moved = 0, g.Words },
			"nobody is named: a garbage collector moves what stays: who wrote it last tells nothing\n",
		},
		{
			"who keeps it has no name", func(g *attribution.Finding) { g.Kept = []attribution.Stack{{Share: 1}} },
			"nobody is named: the code that keeps it has no name that is known (see maptrace help stacks)\n",
		},
		{
			"no word stayed", func(g *attribution.Finding) { g.Words, g.Separation, g.Kept = 0, 0, nil },
			"nobody is named: no watched word of it stayed; a longer watch",
		},
		{
			"almost enough samples for a name", sampledBlocks(heap.Keeper{Alive: 9, Times: 9}, 0.949),
			"nobody is named: that one of these keeps more than any other has a confidence of 94 %, and a name takes 95 %; a longer watch (--for) samples more",
		},
		{
			"one of its callers may keep all", sampledBlocks(heap.Keeper{Alive: 9, Times: 9, Unsure: true}, 0),
			"nobody is named: the samples do not tell whether the first of these keeps it, or some of its callers; a longer watch (--for) samples",
		},
		{
			"too few samples stayed", sampledBlocks(heap.Keeper{Alive: 1, Times: 1}, 0),
			"nobody is named: of the first of these 1 sample stayed, and a name takes 5; a longer watch (--for) samples",
		},
		{
			"it may be a cache", sampledBlocks(heap.Keeper{Alive: 60, Times: 9, Dies: true}, 0),
			"nobody is named: what the first of these makes still goes when it is old: it may be a cache; a longer watch (--for) samples",
		},
		{
			"too little is explained", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 60, Times: 9}, 0)(g)
				g.Heap.High, g.Heap.Growth = 1<<10, 4<<10
			},
			"nobody is named: these explain 25 % of the growth at most; a longer watch (--for) samples",
		},
		{
			"far too much is explained", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 60, Times: 9}, 0)(g)
				g.Heap.Beyond = true
			},
			"nobody is named: these explain far more than the growth: that estimate is wrong; a longer watch (--for) samples",
		},
		{
			"it comes first", sampledBlocks(heap.Keeper{Alive: 60, Times: 9, First: true}, 0),
			"nobody is named: the first of these comes first among calls that were too many to be seen all; a longer watch (--for) samples",
		},
		{
			"what stayed was made at once", sampledBlocks(heap.Keeper{Alive: 60, Times: 1}, 0),
			"nobody is named: of the first of these what stayed was seen to be made once, and a name takes 5 times; a longer watch (--for) samples",
		},
		{
			"no sample stayed", func(g *attribution.Finding) { g.Heap = &heap.Result{Samples: 7} },
			"nobody is named: of 7 sampled blocks 0 stayed; a longer watch (--for) samples",
		},
		{
			"who keeps the blocks has no name", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 9, Times: 9}, 0.99)(g)
				g.Keepers[0].By = stack.Name{}
			},
			"nobody is named: the code that keeps it has no name that is known (see maptrace help stacks)\n",
		},
		{
			"what is handed out in pieces, by words", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 9, Times: 9, Pools: true}, 0)(g)
				g.Separation = 0.949
			},
			"who keeps it is not known yet: its blocks may be handed out in pieces, and of no function is it sure that it keeps the most\n" +
				"why   grew 8.0 MiB in 30 s; of 31 watched words 20 stayed\nnext  who may keep it is below; a longer watch may tell",
		},
		{
			"what is handed out in pieces, asked for by one", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 9, Times: 9, Share: 0.6, Low: 3, High: 5, Pools: true}, 0)(g)
				g.Keepers = append(g.Keepers, attribution.HeapKeeper{Keeper: heap.Keeper{Share: 0.4, Low: 1, High: 2.9}})
				g.Separation = 0.949
			},
			"next  most of it is asked for by main.leak (main.go:47), for others perhaps; a longer watch may tell",
		},
		{
			"what is handed out in pieces, and no word of it was decided", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 9, Times: 9, Pools: true}, 0)(g)
				g.Words, g.Decided, g.Kept, g.Separation = 0, 0, nil, 0
			},
			"who keeps it is not known yet: its blocks may be handed out in pieces, and of no function is it sure",
		},
		{
			"what is handed out in pieces, asked for by two", func(g *attribution.Finding) {
				sampledBlocks(heap.Keeper{Alive: 9, Times: 9, Share: 0.6, Low: 3, High: 5, Pools: true}, 0)(g)
				g.Keepers = append(g.Keepers, attribution.HeapKeeper{Keeper: heap.Keeper{Share: 0.4, Low: 1, High: 3.1}})
				g.Separation = 0.949
			},
			"next  who may keep it is below; a longer watch may tell",
		},
	} {
		all := watches()[:1]
		f := all[0].Findings[1]
		tt.change(&f)
		all[0].Findings = []attribution.Finding{f}
		if got := growthText(t, all, 0, 0, true); !strings.Contains(got, tt.want) {
			t.Errorf("%s: want %q in\n%s", tt.name, tt.want, got)
		}
	}
}

// sampledBlocks gives a finding a sample of blocks, of which one function keeps the most.
func sampledBlocks(k heap.Keeper, confidence float64) func(*attribution.Finding) {
	return func(g *attribution.Finding) {
		g.Heap = &heap.Result{Samples: 400, Alive: k.Alive, Confidence: confidence, Keepers: []heap.Keeper{k}}
		g.Keepers = []attribution.HeapKeeper{{Keeper: k, By: name("main.leak (main.go:47)")}}
	}
}

// TestJSONBlamesWhomTheSentenceNames has memory that many share and that has a keeper, and memory
// that one made for itself, and labels of what grows to the end and what does not.
func TestJSONBlamesWhomTheSentenceNames(t *testing.T) {
	t.Parallel()
	g := watches()[0]
	for i, least := range []growth.Label{growth.Retained, growth.Grows} { // the label from which on somebody is named
		f := g.Findings[i]
		who := f.Blamed()
		if who.Full == "" || f.Shared != (i == 1) {
			t.Fatalf("%s: %q is blamed, shared %v", f.Subject, who, f.Shared)
		}
		for label := growth.Steady; label <= growth.Leaks; label++ {
			f.Label = label
			o := findingObject(&g, &f, time.Time{})
			named := strings.Contains(o.Sentence, who.Short)
			if named != (label >= least) || named != (o.Blamed == who.Full) || named != (o.Blamed != "") || named != (o.Confidence > 0) {
				t.Errorf("%v: %q blames %q with %g", label, o.Sentence, o.Blamed, o.Confidence)
			}
		}
	}
}

// TestWhateverAWatchFindsIsJSON encodes the findings of watches too short for
// statistics: JSON has no infinity.
func TestWhateverAWatchFindsIsJSON(t *testing.T) {
	t.Parallel()
	for looks := range 8 {
		for _, by := range []uint64{0, 1, 1 << 20, 1 << 62} {
			w := growth.NewWatch(growth.Options{})
			key := growth.Key{What: growth.Heap}
			w.Born(key, time.Second, by, 1)
			for i := range looks {
				h := growth.Holding{Resident: by * uint64(i), Mapped: by * uint64(i), Mappings: i}
				w.Observe(time.Duration(i)*time.Second, map[growth.Key]growth.Holding{key: h}, nil)
			}
			g := Growth{}
			for _, f := range w.Findings() {
				g.Findings = append(g.Findings, attribution.Finding{Evidence: attribution.Evidence{Finding: f}})
			}
			if err := EncodeGrowth(json.NewEncoder(&bytes.Buffer{}), &g, time.Unix(0, 0)); err != nil {
				t.Errorf("%d looks at what grows by %d: %v", looks, by, err)
			}
		}
	}
}

// retained is a process whose heap grows by what malloc keeps.
func retained() Growth {
	heap := attribution.Finding{
		Evidence: attribution.Evidence{
			Finding: growth.Finding{
				Key: growth.Key{What: growth.Heap}, Label: growth.Retained, Measure: growth.Resident, Growth: 46 << 20, Slope: 1 << 20,
				Reason: []growth.Note{
					{Kind: growth.Grew, Size: 46 << 20, Time: 54 * time.Second}, {Kind: growth.InUseLess, Size: 400 << 10}, {Kind: growth.Trimmable, Size: 31 << 20},
				},
				Last: growth.Holding{Mapped: 64 << 20, Writable: 64 << 20, Resident: 62 << 20}, Series: rising(1<<20, 1<<20),
			},
			Shared: true, Words: 30, Decided: 31, Separation: 0.99, Faults: 10,
		},
		Subject: "[heap]", Limit: &attribution.Reached{Limit: growth.Limit{Name: "memory.max"}, In: 41 * time.Minute},
		Kept: []attribution.Stack{{By: stack.Plain("leak (server.c:88)"), Share: 1, Frames: []stack.Name{stack.Plain("leak (server.c:88)")}}},
	}
	return Growth{Accuracy: "exact", Process: attribution.Process{
		PID: 4715, Comm: "server", Watched: time.Minute, Ticks: 61, Findings: []attribution.Finding{heap},
		Malloc: &attribution.Malloc{
			InUse: 154 << 20, Before: 153 << 20, Free: 900 << 20, Top: 1 << 20, Trimmable: 700 << 20, Arenas: 31, Mapped: 12 << 20, Complete: true,
		},
	}}
}

func TestWhatMallocRetainsIsToldAndNobodysDoing(t *testing.T) {
	t.Parallel()
	g := retained()
	golden(t, "growth-retained.txt", growthText(t, []Growth{g}, 0, 0, true))
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	if err := EncodeGrowth(enc, &g, time.Unix(0, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	golden(t, "growth-retained.json", b.String())
}

func TestOneWatchedWordIsNotMany(t *testing.T) {
	t.Parallel()
	g := watches()[0]
	f := g.Findings[1]
	f.Words = 1
	g.Findings = []attribution.Finding{f}
	if got := growthText(t, []Growth{g}, 0, 0, true); !strings.Contains(got, "by 1 watched word then left alone") {
		t.Errorf("one word: %s", got)
	}
}

// TestWhoKeepsABlockHeapIsTold has two functions keep sampled blocks, of which one has no name.
func TestWhoKeepsABlockHeapIsTold(t *testing.T) {
	t.Parallel()
	g := watches()[0]
	f := g.Findings[1]
	first := heap.Keeper{Share: 0.9, Samples: 224, Alive: 212, Survival: 0.94, Allocated: 1 << 19, Kept: 1 << 18, Low: 1 << 17, High: 1 << 19}
	second := heap.Keeper{Share: 0.1, Samples: 40, Alive: 4, Survival: 0.1, Allocated: 1 << 18, Kept: 1 << 15, Low: 1 << 14, High: 1 << 16}
	f.Heap = &heap.Result{
		Samples: 264, Alive: 216, Watched: 30 * time.Second, Kept: 9 << 15, Low: 1 << 17, High: 9 << 16, Growth: 1 << 18,
		Confidence: 0.9785, Keepers: []heap.Keeper{first, second},
	}
	f.Subject, f.Kept, f.Words, f.Decided, f.Separation = "[heap]", nil, 0, 0, 0
	f.Keepers = []attribution.HeapKeeper{
		{Keeper: first, By: name("login (server.c:78)"), Frames: named("xmalloc (server.c:57)", "login (server.c:78)")},
		{Keeper: second, Frames: named("server+0x1234"), End: "truncated"},
	}
	g.Findings = []attribution.Finding{f}
	golden(t, "growth-heap.txt", growthText(t, []Growth{g}, 0, 0, true))
	var b bytes.Buffer
	if err := EncodeGrowth(json.NewEncoder(&b), &g, time.Unix(0, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	golden(t, "growth-heap.json", b.String())
}

func TestWhatMallocHoldsIsOneLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		malloc attribution.Malloc
		want   string
	}{
		{attribution.Malloc{InUse: 3 << 20, Free: 1 << 10, Arenas: 1, Complete: true}, "glibc's malloc has 3.0 MiB in use, 1.0 KiB free in 1 arena"},
		{
			attribution.Malloc{InUse: 154 << 20, Before: 153 << 20, Free: 900 << 20, Trimmable: 700 << 20, Arenas: 31, Mapped: 12 << 20, Complete: true},
			"glibc's malloc has 154.0 MiB in use (153.0 MiB at first), 900.0 MiB free in 31 arenas, of which malloc_trim would give back 700.0 MiB; blocks of 12.0 MiB have mappings of their own",
		},
		{
			attribution.Malloc{InUse: 3 << 20, Arenas: 2, Why: "1 MiB of it is swapped out"},
			"glibc's malloc has 3.0 MiB in use, 0 B free in 2 arenas; not all of it is known: 1 MiB of it is swapped out",
		},
		{
			attribution.Malloc{InUse: 3 << 20, Arenas: 1, Complete: true, Age: 31 * time.Second},
			"glibc's malloc had 3.0 MiB in use 31 s ago, 0 B free in 1 arena",
		},
	} {
		if got := held(&tt.malloc); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestWhatIsNotCollectedYetIsNoPartOfWhatIsKept has a Go heap of which the runtime's profile tells
// how much of its growth is live.
func TestWhatIsNotCollectedYetIsNoPartOfWhatIsKept(t *testing.T) {
	t.Parallel()
	for source, want := range map[heap.Source]string{
		heap.ByBlocks:  "grew 8.0 MiB in 30 s; 60 of 70 samples of what it allocates stayed",
		heap.ByProfile: "grew 8.0 MiB in 30 s; 60 of 70 samples of what it allocates stayed; by the profile live objects grow +30.0 MiB/min",
	} {
		f := watches()[0].Findings[1]
		sampledBlocks(heap.Keeper{Samples: 70, Alive: 60, Times: 9, Share: 0.9}, 0.99)(&f)
		f.Heap.Source, f.Heap.Kept = source, 512<<10
		if got := why(&f); got != want {
			t.Errorf("%v: %q, want %q", source, got, want)
		}
	}
}
