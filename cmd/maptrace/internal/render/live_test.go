package render

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/growth"
)

// found is a finding of a label.
func found(l growth.Label, subject string) attribution.Finding {
	return attribution.Finding{
		Subject: subject,
		Evidence: attribution.Evidence{Finding: growth.Finding{
			Label: l, Growth: 4 << 20, Slope: 1 << 18, Last: growth.Holding{Resident: 9 << 20, Mapped: 12 << 20},
			Series: []growth.Point{{High: growth.Holding{Resident: 5 << 20}}, {High: growth.Holding{Resident: 9 << 20}}},
		}},
	}
}

func TestWhatIsSaidBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	charged := func(first, last uint64) attribution.ProcessView {
		return attribution.ProcessView{
			Watched: 5 * time.Second, Ticks: fewLooks,
			First: attribution.Charges{Anon: first, PageTables: 1 << 20}, Last: attribution.Charges{Anon: last, PageTables: 1 << 20},
		}
	}
	soon := func(p attribution.ProcessView) attribution.ProcessView {
		p.Ticks = fewLooks - 1
		return p
	}
	with := func(p attribution.ProcessView, l growth.Label) attribution.ProcessView {
		p.Findings = []attribution.Finding{found(l, "[heap]")}
		return p
	}
	leak, plateau := found(growth.Leaks, "[heap]"), found(growth.Plateau, "[heap]")
	for _, tt := range []struct {
		name  string
		p     attribution.ProcessView
		want  string
		style tui.Style
	}{
		{"nothing yet", soon(charged(1<<20, 1<<20)), "too short to judge", tui.Plain},
		{"more, soon", soon(charged(1<<20, 9<<20)), "8.0 MiB more than 5 s ago: too short to judge", tui.Plain},
		{"more", charged(1<<20, 9<<20), "8.0 MiB more than 5 s ago: none of it goes on growing", tui.Plain},
		{"nothing", charged(9<<20, 9<<20), "nothing has grown so far", tui.Plain},
		{"less", charged(9<<20, 1<<20), "nothing has grown so far", tui.Plain},
		{"churn", with(charged(9<<20, 9<<20), growth.Churns), "nothing has grown so far", tui.Plain},
		{"a plateau", with(charged(1<<20, 9<<20), growth.Plateau), Sentence(&plateau), tui.Plain},
		{"a leak", with(charged(1<<20, 9<<20), growth.Leaks), Sentence(&leak), tui.Bad},
	} {
		got, style := SoFar(&tt.p)
		if got != tt.want || style != tt.style {
			t.Errorf("%s: %q in style %d, want %q in %d", tt.name, got, style, tt.want, tt.style)
		}
	}
}

func TestALookHasWhatGrowsAndWhatIsCharged(t *testing.T) {
	t.Parallel()
	var l LiveGrowth
	head := tui.Head{Command: "maptrace grow"}
	if got := l.Look(head, nil); got.Command != head.Command || !strings.HasPrefix(got.Sentence, "watching") {
		t.Errorf("before the first view: %+v", got)
	}
	maps := found(growth.Grows, "[ anon ]")
	maps.Measure, maps.Growth, maps.Slope, maps.AliveOf, maps.AliveShare = growth.Mappings, 30, 2, 10, 0.5
	var got *tui.Grow
	for i := range uint64(3) {
		view := &attribution.View{Processes: []attribution.ProcessView{
			{
				PID: 12, Name: "a\x1b[2J", Space: 1, Ticks: fewLooks, Findings: []attribution.Finding{found(growth.Leaks, "[heap]"), maps},
				First: attribution.Charges{Anon: 100}, Last: attribution.Charges{Anon: 100 + i, Hugetlb: 7},
			},
			{PID: 13, Name: "b", Space: 2, Exited: true, Findings: []attribution.Finding{found(growth.Churns, "[stack]")}},
			{PID: 14, Name: "c", Space: 3, Findings: []attribution.Finding{found(growth.Plateau, "cache.db")}},
		}}
		l.Look(head, view)
		got = l.Look(head, view) // the same, which is one point of the course
	}
	heap := tui.Finding{
		Verdict: "leaks", Style: tui.Bad, Grew: "+4.0 MiB", PerMinute: "+15.0 MiB", Resident: "9.0 MiB", Swapped: "0 B", Mapped: "12.0 MiB", Alive: "-",
		Series: []float64{5 << 20, 9 << 20}, Least: tui.LeastMove, What: "[heap]",
	}
	more, flat := heap, heap
	more.Verdict, more.Style, more.Grew, more.PerMinute, more.Alive, more.What, more.Series, more.Least = "grows", tui.Warn, "+30 maps", "+120 maps", "50 %", "[ anon ]", []float64{0, 0}, 1
	flat.Verdict, flat.Style, flat.PerMinute, flat.What = "plateau", tui.Plain, "-", "cache.db"
	leak := found(growth.Leaks, "[heap]")
	want := &tui.Grow{
		Head: head, Sentence: `12 a\x1b[2J: ` + Sentence(&leak), Style: tui.Bad,
		Account: []tui.Class{
			{Name: "anonymous", Bytes: 102, Grown: 2, Series: []float64{100, 101, 102}},
			{Name: "hugetlb", Bytes: 7, Grown: 7, Series: []float64{7, 7, 7}},
		},
		Findings: []tui.Finding{heap, more},
		Others: []tui.Process{
			{Name: "13 b, ended", Finding: tui.Finding{Verdict: "steady", PerMinute: "-"}},
			{Name: "14 c", Finding: flat},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// What is kept of a long watch, or of processes that come and go, has bounds.
func TestCoursesAreBounded(t *testing.T) {
	t.Parallel()
	var l LiveGrowth
	for i := range uint64(10 * longestCourse) {
		l.Look(tui.Head{}, &attribution.View{Processes: []attribution.ProcessView{
			{Space: 1, Last: attribution.Charges{Anon: i + 1}},
			{Space: 1000 + i, Last: attribution.Charges{Anon: 1}},
		}})
	}
	if len(l.courses) != 2 {
		t.Errorf("%d processes are remembered", len(l.courses))
	}
	values := l.courses[1].values[0]
	if n := len(values); n > longestCourse || n < longestCourse/4 {
		t.Errorf("%d values are kept", n)
	}
	if values[len(values)-1] != 10*longestCourse {
		t.Errorf("the last is %v", values[len(values)-1])
	}
	for i := range values[1:] {
		if values[i] >= values[i+1] {
			t.Fatalf("%v is before %v", values[i], values[i+1])
		}
	}
}
