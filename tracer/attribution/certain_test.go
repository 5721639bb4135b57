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
		f.Label, f.Key, f.Growth = label, growth.Key{What: growth.Anon, Site: 3}, 100
		if by == "" {
			f.From = stack.Name{}
		}
		return f
	}
	type processes = [][]*Finding // what is found of each
	always := func(found ...*Finding) func(int) processes { return func(int) processes { return processes{found} } }
	little := leak("x", growth.Grows)
	little.Growth = 4
	shared := leak("", growth.Leaks)
	shared.Shared, shared.Kept, shared.Words, shared.Separation = true, []Stack{{By: stack.Plain("keep")}}, 9, 0.97
	sure := *shared
	sure.Separation = 0.995
	for name, tt := range map[string]struct {
		found func(second int) processes
		want  int // seconds; 0 for never
	}{
		"a leak":                                {always(leak("leak", growth.Leaks)), 20},
		"nothing":                               {always(), 0},
		"a plateau":                             {always(leak("fill", growth.Plateau)), 0},
		"what only grows":                       {always(leak("grow", growth.Grows)), 0},
		"a leak by nobody who is known":         {always(leak("", growth.Leaks)), 0},
		"a heap, kept by one rather surely":     {always(shared), 0},
		"a heap, kept by one for sure":          {always(&sure), 20},
		"a leak beside a process that grows":    {func(int) processes { return processes{{leak("leak", growth.Leaks)}, {leak("x", growth.Grows)}} }, 0},
		"a leak beside a process that does not": {func(int) processes { return processes{{leak("leak", growth.Leaks)}, nil, {leak("x", growth.Plateau)}} }, 20},
		"another at each look":                  {func(s int) processes { return processes{{leak([]string{"a", "b"}[s%2], growth.Leaks)}} }, 0},
		"another from some time on": {func(s int) processes {
			if s < 18 {
				return processes{{leak("a", growth.Leaks)}}
			}
			return processes{{leak("b", growth.Leaks)}}
		}, 26},
	} {
		var c Certainty
		got := 0
		for s := 1; s <= 60 && got == 0; s++ {
			v := &View{Watched: time.Duration(s) * time.Second}
			for i, found := range tt.found(s) {
				p := ProcessView{Space: uint64(i) + 1}
				for _, f := range found {
					p.Findings = append(p.Findings, *f)
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
