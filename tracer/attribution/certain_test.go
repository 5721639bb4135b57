package attribution

import (
	"testing"
	"time"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/stack"
)

// TestWhatIsCertainIsNotWatchedForLonger has a view each second, and tells after which of
// them it is enough.
func TestWhatIsCertainIsNotWatchedForLonger(t *testing.T) {
	t.Parallel()
	leak := func(by string, label growth.Label) *Finding {
		f := &Finding{From: stack.Plain(by)}
		f.Label, f.Key = label, growth.Key{What: growth.Anon, Site: 3}
		if by == "" {
			f.From = stack.Name{}
		}
		return f
	}
	always := func(f *Finding) func(int) []*Finding { return func(int) []*Finding { return []*Finding{f} } }
	shared := leak("", growth.Leaks)
	shared.Shared, shared.Kept, shared.Words, shared.Separation = true, []Stack{{By: stack.Plain("keep")}}, 9, 0.97
	sure := *shared
	sure.Separation = 0.995
	for name, tt := range map[string]struct {
		worst func(second int) []*Finding
		want  int // seconds; 0 for never
	}{
		"a leak":                                {always(leak("leak", growth.Leaks)), 20},
		"nothing":                               {always(nil), 0},
		"a plateau":                             {always(leak("fill", growth.Plateau)), 0},
		"what only grows":                       {always(leak("grow", growth.Grows)), 0},
		"a leak by nobody who is known":         {always(leak("", growth.Leaks)), 0},
		"a heap, kept by one rather surely":     {always(shared), 0},
		"a heap, kept by one for sure":          {always(&sure), 20},
		"a leak beside a process that grows":    {func(int) []*Finding { return []*Finding{leak("leak", growth.Leaks), leak("x", growth.Grows)} }, 0},
		"a leak beside a process that does not": {func(int) []*Finding { return []*Finding{leak("leak", growth.Leaks), nil, leak("x", growth.Plateau)} }, 20},
		"another at each look":                  {func(s int) []*Finding { return []*Finding{leak([]string{"a", "b"}[s%2], growth.Leaks)} }, 0},
		"another from some time on": {func(s int) []*Finding {
			if s < 18 {
				return []*Finding{leak("a", growth.Leaks)}
			}
			return []*Finding{leak("b", growth.Leaks)}
		}, 26},
	} {
		var c Certainty
		got := 0
		for s := 1; s <= 60 && got == 0; s++ {
			v := &View{Watched: time.Duration(s) * time.Second}
			for i, f := range tt.worst(s) {
				p := ProcessView{Space: uint64(i) + 1}
				if f != nil {
					p.Findings = []Finding{*f}
				}
				v.Processes = append(v.Processes, p)
			}
			if c.Take(v) {
				got = s
			}
		}
		if got != tt.want {
			t.Errorf("%s: enough after %d s, want %d", name, got, tt.want)
		}
	}
}
