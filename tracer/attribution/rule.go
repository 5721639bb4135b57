package attribution

import (
	"fmt"
	"strings"

	"github.com/maptrace/maptrace/tracer/growth"
)

// Rule is something that must not be so: that a process leaks, or that its memory, or
// that of a kind, grows faster than a limit.
type Rule struct {
	Text  string // as it was given
	leaks bool
	what  growth.What
	total bool
	limit float64 // bytes a second
}

// ParseRule reads 'leaks', 'growth > SIZE/TIME', which is about all memory of a process, or
// 'KIND growth > SIZE/TIME'; size reads a SIZE, in bytes.
func ParseRule(text string, size func(string) (uint64, error)) (Rule, error) {
	r := Rule{Text: text}
	words := strings.Fields(strings.ReplaceAll(text, ">", " > "))
	bad := func(why string) (Rule, error) {
		return r, fmt.Errorf("%q: %s: want 'leaks', 'growth > 10MiB/min' (of all memory), or 'KIND growth > 10MiB/min', as 'heap growth > 1M/s'", text, why)
	}
	if len(words) == 1 && words[0] == "leaks" {
		r.leaks = true
		return r, nil
	}
	n := len(words)
	if n < 3 || words[n-2] != ">" || words[n-3] != "growth" {
		return bad("not understood")
	}
	name := strings.Join(words[:n-3], " ")
	if name == "" || name == "total" || name == "all" {
		r.total = true
	} else if what, ok := growth.ParseWhat(name); ok {
		r.what = what
	} else {
		return bad("unknown kind " + name)
	}
	amount, per, ok := strings.Cut(words[n-1], "/")
	seconds := map[string]float64{"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "hour": 3600}[per]
	if !ok || seconds == 0 {
		return bad("no time after / (s, min or h)")
	}
	bytes, err := size(amount)
	if err != nil {
		return bad("no size before / (64K, 10MiB)")
	}
	r.limit = float64(bytes) / seconds
	return r, nil
}

// Broken is how a process breaks a rule: by a finding that leaks, or by a rate in bytes
// a second.
type Broken struct {
	Leak *Finding
	Rate float64
}

// CheckGroup tells whether several processes together break the rule, but for one on all
// memory: that is about each.
func (r *Rule) CheckGroup(g *Group) (b Broken, broken bool) {
	if r.total {
		return b, false
	}
	return r.Check(g.Findings)
}

// CheckProcess tells whether a process breaks the rule. One on all memory is about what the
// kernel charges it for, where that was read, and broken if that grows for sure.
func (r *Rule) CheckProcess(p *Process) (b Broken, broken bool) {
	if r.total && p.Account != nil {
		b.Rate = p.Account.Rate.PerSecond
		return b, b.Rate > r.limit && p.Account.Rate.Low > 0
	}
	return r.Check(p.Findings)
}

// Check tells whether what was found of a process breaks the rule. What malloc retains is no
// leak, but it grows.
func (r *Rule) Check(found []Finding) (b Broken, broken bool) {
	for i := range found {
		f := &found[i]
		if r.leaks && f.Label == growth.Leaks {
			return Broken{Leak: f}, true
		}
		if f.Label < growth.Retained || !f.Measure.OfMemory() {
			continue
		}
		if r.total || f.What == r.what || r.what == growth.Anon && f.What == growth.Pool {
			b.Rate += max(f.Slope, 0)
		}
	}
	return b, !r.leaks && b.Rate > r.limit
}
