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
		"grow-short": {one(func(g *Growth, _, _ *attribution.Finding) {
			g.Watched, g.Ticks = 5*time.Second, 5
		}), `^SHORT grew 30\.0 MiB in 5 s: too short to judge`},
		"grow-nothing": {one(func(g *Growth, _, _ *attribution.Finding) {
			quiet := *account
			quiet.First, quiet.Grown, quiet.Explained = quiet.Last, 0, 0
			g.Account = &quiet
		}), `^STEADY nothing grew in 30 s`},
	} {
		const columns, first = 80, 10
		var b strings.Builder
		if err := WriteGrowth(&b, nil, []Growth{tt.g}, GrowthOptions{Most: 10, Frames: 16, Width: columns}, noNotes); err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("screens", file+".80x24.txt"), b.String())
		lines := strings.SplitAfter(b.String(), "\n")
		top := strings.Join(lines[:min(first, len(lines))], "")
		if !regexp.MustCompile(tt.want).MatchString(top) || !strings.Contains(top, "\nnext  ") {
			t.Errorf("%s: its first lines do not tell:\n%s", file, top)
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%s: %d columns: %s", file, n, line)
			}
		}
	}
}
