package render

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// TestScreens has each shape of an answer on a terminal of 80 columns: the first ten lines
// say what grows, how fast, who is to blame or why that is not known, and what to do next.
func TestScreens(t *testing.T) {
	t.Parallel()
	account := &attribution.Account{
		First: event.Account{Anon: 4 << 20, File: 3 << 20, Resident: 7 << 20, PageTables: 200 << 10},
		Last:  event.Account{Anon: 34 << 20, File: 3 << 20, Resident: 37 << 20, PageTables: 260 << 10},
		Grown: 30 << 20, Explained: 30 << 20,
	}
	one := func(change func(g *Growth, leak, heap *attribution.Finding)) Growth {
		g := watches()[0]
		g.Estimated, g.Unwatched, g.Account = false, "", account
		leak, shared := g.Findings[0], g.Findings[1]
		g.Findings = nil
		change(&g, &leak, &shared)
		return g
	}
	sampled := func(f *attribution.Finding, confidence float64) {
		k := heap.Keeper{Share: 0.9, Samples: 224, Alive: 212, Times: 60, Survival: 0.94, Allocated: 1 << 19, Kept: 1 << 18, Low: 1 << 17, High: 1 << 19}
		f.Heap = &heap.Result{
			Samples: 264, Alive: 216, Watched: 30 * time.Second, Kept: 1 << 18, Low: 1 << 17, High: 1 << 19, Growth: 1 << 18, Confidence: confidence, Keepers: []heap.Keeper{k},
		}
		f.Keepers = []attribution.HeapKeeper{{Keeper: k, By: name("login (server.c:78)"), Frames: named("xmalloc (server.c:57)", "login (server.c:78)", "main (server.c:212)")}}
		f.Subject, f.Label, f.Kept, f.Words, f.Decided, f.Separation = "[heap]", growth.Leaks, nil, 0, 0, 0
		f.Reason = append(f.Reason, growth.Note{Kind: growth.NeverShrank})
	}
	several := func() []Growth {
		all := watches()
		for i := range all {
			all[i].Estimated, all[i].Unwatched = false, ""
		}
		return all
	}
	for file, tt := range map[string]struct {
		g    Growth
		want string // what is in the first ten lines
	}{
		"grow-leak": {one(func(g *Growth, leak, _ *attribution.Finding) {
			g.Findings = []attribution.Finding{*leak}
		}), `^LEAK  .*/min, allocated by leak \(server\.c:88\)`},
		"grow-heap": {one(func(g *Growth, _, shared *attribution.Finding) {
			sampled(shared, 0.9785)
			g.Findings = []attribution.Finding{*shared}
		}), `^LEAK  \[heap\] .*/min, kept by login \(server\.c:78\), 90 % of it, 98 %\s+sure`},
		"grow-unknown": {one(func(g *Growth, _, shared *attribution.Finding) {
			sampled(shared, 0.6)
			g.Findings = []attribution.Finding{*shared}
		}), `^LEAK  \[heap\] .*/min; who keeps it is not known yet`},
		"grow-script": {one(func(g *Growth, _, shared *attribution.Finding) {
			g.Exe, g.Comm = "/usr/bin/python3.11", "python3.11"
			shared.Subject, shared.Kept, shared.Words, shared.Decided, shared.Touched = "pymalloc", nil, 0, 0, nil
			shared.Made = []attribution.Stack{{Share: 1, Bytes: 8 << 20, Frames: []stack.Name{stack.Plain("python3.11+0x62d080")}}}
			g.Findings = []attribution.Finding{*shared}
		}), `^GROWS pymalloc .*/min; who keeps it is not known yet[^\x00]*\nnext  Python 3\.11 gives its functions no names`},
		"grow-callers": {one(func(g *Growth, _, shared *attribution.Finding) {
			sampled(shared, 0)
			shared.Heap.Keepers[0].Unsure, shared.Keepers[0].Unsure = true, true
			g.Findings = []attribution.Finding{*shared}
		}), `^LEAK  \[heap\] .*/min; who keeps it is not known yet: the samples do not\s+tell whether login \(server\.c:78\) keeps it`},
		"grow-pools": {one(func(g *Growth, _, shared *attribution.Finding) {
			kept := shared.Kept
			sampled(shared, 0)
			shared.Heap.Keepers[0].Pools, shared.Keepers[0].Pools = true, true
			shared.Kept, shared.Words, shared.Decided, shared.Separation = kept, 4, 4, 0.3
			g.Findings = []attribution.Finding{*shared}
		}), `^LEAK  \[heap\] .*/min; who keeps it is not known yet: its blocks may be[^\x00]*\nnext  most of it is asked for by login \(server\.c:78\)`},
		"grow-collector": {one(func(g *Growth, _, shared *attribution.Finding) {
			g.Exe, g.Comm = "/usr/bin/node", "node"
			shared.Subject, shared.Separation, shared.Moved = "V8 heap", 0, shared.Words
			g.Findings = []attribution.Finding{*shared}
		}), `^GROWS V8 heap .*/min; who keeps it is not known: a garbage collector\s+moves\s+it [^\x00]*\nnext  a heap snapshot`},
		"grow-retained": {one(func(g *Growth, leak, _ *attribution.Finding) {
			leak.Label, leak.Subject, leak.Shared, leak.Limit = growth.Retained, "[heap]", true, nil
			leak.Reason = append(leak.Reason, growth.Note{Kind: growth.InUseLess, Size: 400 << 10}, growth.Note{Kind: growth.Trimmable, Size: 31 << 20})
			g.Findings = []attribution.Finding{*leak}
		}), `^RETAINED \[heap\] .*/min\nwhy   [^\x00]*free\s+inside malloc`},
		"grow-holes": {one(func(g *Growth, leak, _ *attribution.Finding) {
			leak.Label, leak.Subject, leak.Shared, leak.Limit = growth.Retained, "[heap]", true, nil
			leak.Reason = append(leak.Reason, growth.Note{Kind: growth.InUseLess, Size: 400 << 10}, growth.Note{Kind: growth.Trimmable, Size: 100 << 10})
			g.Findings = []attribution.Finding{*leak}
		}), `^RETAINED \[heap\] .*/min\nwhy   [^\x00]*hardly any of\s+it back\)\nnext  it is free between blocks`},
		"grow-refused": {one(func(g *Growth, _, _ *attribution.Finding) {
			g.Refused = []attribution.Refused{{
				Op: space.OpMmap, Calls: 150, Bytes: 1 << 20, By: name("open_segment (cases.c:356)"),
				Limits: []growth.Limit{{Name: "RLIMIT_AS", Used: 63 << 20, Max: 64 << 20}},
			}}
		}), `^REFUSED mmap of 1\.0 MiB was refused 150 times \(ENOMEM\), asked for by\s+open_segment`},
		"grow-uncounted": {one(func(g *Growth, _, _ *attribution.Finding) {
			g.Uncounted, g.Account = "permission denied", nil
		}), `^UNKNOWN its resident memory cannot be counted: permission denied`},
		"grow-long-names": {one(func(g *Growth, leak, shared *attribution.Finding) {
			long := "std::panicking::catch_unwind::do_call::<{closure#0}, isize> (panicking.rs:581) in __rust_begin_short_backtrace"
			for _, f := range []*attribution.Finding{leak, shared} {
				f.From, f.Subject = name(long), "memory of /a/file/with/a/name/that/has/many/elements/and/is/longer than a terminal"
				f.Touched = []attribution.Stack{{Share: 0.9, Frames: named(long)}}
				f.Kept = []attribution.Stack{{Share: 0.9, By: name(long), Frames: named(long)}}
				f.Made = []attribution.Stack{{Share: 0.9, Frames: named(long)}}
			}
			shared.Separation = 0
			g.Findings = []attribution.Finding{*leak, *shared}
		}), `^LEAK  memory of [^\x00]*/min, allocated by\s+std::panicking`},
		"grow-short": {one(func(g *Growth, _, _ *attribution.Finding) {
			g.Watched, g.Ticks = 5*time.Second, 5
		}), `^SHORT grew 30\.0 MiB in 5 s: too short to judge`},
		"grow-nothing": {one(func(g *Growth, _, _ *attribution.Finding) {
			quiet := *account
			quiet.First, quiet.Grown, quiet.Explained = quiet.Last, 0, 0
			g.Account = &quiet
		}), `^STEADY nothing grew in 30 s`},
	} {
		screen(t, file, []Growth{tt.g}, false, tt.want)
	}
	screen(t, "grow-several", several(), false, `^LEAK  server\[4711\]: \[ anon \] .*/min, allocated by`)
	screen(t, "grow-gone", nil, false, `^UNKNOWN no process was there for long enough`)
	screen(t, "grow-interrupted", nil, true, `^SHORT ended before the first look: too short to judge`)
}

// screen compares an answer on a terminal of 80 columns with what it was, and wants its
// first ten lines to tell.
func screen(t *testing.T, file string, all []Growth, interrupted bool, want string) {
	t.Helper()
	const columns, first = 80, 10
	var b strings.Builder
	o := GrowthOptions{Most: 10, Frames: 16, Width: columns, Interrupted: interrupted}
	if err := WriteGrowth(&b, nil, all, o, noNotes); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("screens", file+".80x24.txt"), b.String())
	lines := strings.SplitAfter(b.String(), "\n")
	top := strings.Join(lines[:min(first, len(lines))], "")
	if !regexp.MustCompile(want).MatchString(top) || !strings.Contains(top, "\nnext  ") {
		t.Errorf("%s: its first lines do not tell:\n%s", file, top)
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%s: %d columns: %s", file, n, line)
		}
	}
}
