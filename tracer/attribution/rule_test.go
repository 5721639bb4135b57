package attribution

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
)

// parse reads a rule whose sizes are in bytes, or in K, M or G.
func parse(text string) (Rule, error) {
	return ParseRule(text, func(s string) (uint64, error) {
		digits := strings.TrimSuffix(strings.TrimSuffix(s, "B"), "i")
		shift := 0
		if n := len(digits); n > 0 {
			if i := strings.IndexByte("KMGT", digits[n-1]); i >= 0 {
				shift, digits = 10*(i+1), digits[:n-1]
			}
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err == nil && n<<shift>>shift != n {
			err = fmt.Errorf("size %q", s)
		}
		return n << shift, err
	})
}

func TestRulesOfFailOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want Rule
	}{
		{"leaks", Rule{leaks: true}},
		{" leaks ", Rule{leaks: true}},
		{"anon growth > 10MiB/min", Rule{what: growth.Anon, limit: 10 << 20 / 60.0}},
		{"anon growth>10MiB/min", Rule{what: growth.Anon, limit: 10 << 20 / 60.0}},
		{"heap growth > 1K/s", Rule{what: growth.Heap, limit: 1024}},
		{"heap growth > 1K/sec", Rule{what: growth.Heap, limit: 1024}},
		{"malloc arena growth > 36G/h", Rule{what: growth.Arena, limit: 36 << 30 / 3600.0}},
		{"thread   stack growth > 3600/hour", Rule{what: growth.ThreadStack, limit: 1}},
		{"file growth > 0/m", Rule{what: growth.File}},
		{"growth > 60M/m", Rule{total: true, limit: 1 << 20}},
		{"growth>10MiB/min", Rule{total: true, limit: 10 << 20 / 60.0}},
		{"total growth > 60M/m", Rule{total: true, limit: 1 << 20}},
		{"all growth > 60M/m", Rule{total: true, limit: 1 << 20}},
	} {
		tt.want.Text = tt.text
		got, err := parse(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"":                          "not understood",
		"leak":                      "not understood",
		"leaks leaks":               "not understood",
		"growth":                    "not understood",
		"growth > 1K":               "no time after /",
		"anon grows > 1K/s":         "not understood",
		"anon growth < 1K/s":        "not understood",
		"anon growth >":             "not understood",
		"anon growth >= 1K/s":       "not understood",
		"anon growth > 1 K/s":       "not understood",
		"slab growth > 1K/s":        "unknown kind slab",
		"anon anon growth > 1K/s":   "unknown kind anon anon",
		"anon growth > 1K":          "no time after /",
		"anon growth > 1K/":         "no time after /",
		"anon growth > 1K/day":      "no time after /",
		"anon growth > /s":          "no size before /",
		"anon growth > -1K/s":       "no size before /",
		"anon growth > 1.5K/s":      "no size before /",
		"anon growth > 99999999T/s": "no size before /",
	} {
		_, err := parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

// found is a finding of a kind with a verdict and bytes a second.
func found(what growth.What, label growth.Label, measure growth.Measure, slope float64) Finding {
	return Finding{
		Subject: what.String(),
		Evidence: Evidence{Finding: growth.Finding{
			Key: growth.Key{What: what}, Label: label, Measure: measure, Slope: slope, Reason: []growth.Note{{Kind: growth.Grew}},
		}},
	}
}

func TestRulesThatAreBroken(t *testing.T) {
	t.Parallel()
	g := &Process{Findings: []Finding{
		found(growth.Heap, growth.Leaks, growth.Resident, 1000),
		found(growth.Anon, growth.Grows, growth.Writable, 600),
		found(growth.Anon, growth.Grows, growth.Mapped, 500),
		found(growth.Pool, growth.Retained, growth.Resident, 70),
		found(growth.File, growth.Plateau, growth.Resident, 9000),
		found(growth.Memfd, growth.Grows, growth.Mappings, 8000),
	}}
	for text, want := range map[string]float64{ // bytes a second; below 0: not broken
		"leaks":                      0,
		"heap growth > 999/s":        1000,
		"heap growth > 1000/s":       -1,
		"anon growth > 1169/s":       1170, // three groups together
		"anon growth > 1170/s":       -1,
		"runtime heap growth > 69/s": 70, // malloc keeps it, but it grows
		"file growth > 1/s":          -1, // it is flat now
		"memfd growth > 1/s":         -1, // that is no size
		"total growth > 2169/s":      2170,
		"total growth > 2170/s":      -1,
		"reserve growth > 0/hour":    -1,
	} {
		r, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		b, broken := r.Check(g.Findings)
		if broken != (want >= 0) || broken && b.Rate != want || (b.Leak != nil) != (text == "leaks") {
			t.Errorf("%q: %+v, %v, want %g", text, b, broken, want)
		}
	}
	leaks := Rule{leaks: true}
	if b, broken := leaks.Check(g.Findings[1:]); broken {
		t.Errorf("nothing leaks, and it says %+v", b)
	}
	if _, broken := leaks.Check([]Finding{found(growth.Anon, growth.Leaks, growth.Mappings, 100)}); !broken {
		t.Error("mappings leak, and it says nothing")
	}
}

// TestARuleOnAllMemoryIsAboutTheAccount has memory grow that no group of the listed kinds has,
// and memory come and go.
func TestARuleOnAllMemoryIsAboutTheAccount(t *testing.T) {
	t.Parallel()
	const mib, second = 1 << 20, uint64(1e9)
	course := func(looks int, total func(i int) uint64) *Account {
		var c charges
		for i := range looks {
			c.account(uint64(i)*second/10, event.Account{Resident: total(i) / 2, Swapped: total(i) / 4, PageTables: total(i) / 4})
		}
		return c.figures(nil)
	}
	step := func(at int) func(int) uint64 {
		return func(i int) uint64 {
			if i < at {
				return 64 * mib
			}
			return 512 * mib
		}
	}
	for _, tt := range []struct {
		name   string
		a      *Account
		rule   string
		broken bool
	}{
		{"it grows", course(100, func(i int) uint64 { return uint64(i) * mib }), "growth > 599MiB/min", true},
		{"it grows slower", course(100, func(i int) uint64 { return uint64(i) * mib }), "growth > 601MiB/min", false},
		{"of a kind nothing is known", course(100, func(i int) uint64 { return uint64(i) * mib }), "anon growth > 1MiB/min", false},
		{"for an hour", course(36_000, func(i int) uint64 { return uint64(i) * mib / 10 }), "growth > 59MiB/min", true},
		{"at the beginning", course(100, step(8)), "growth > 0/min", false},
		{"once", course(100, step(50)), "growth > 10MiB/min", false},
		{"it comes and goes", course(100, func(i int) uint64 { return uint64(i%7) * mib }), "growth > 0/min", false},
		{"one look", course(1, func(int) uint64 { return mib }), "growth > 0/min", false},
		{"it was not read", nil, "growth > 0/min", false},
	} {
		r, err := parse(tt.rule)
		if err != nil {
			t.Fatal(err)
		}
		if b, broken := r.CheckProcess(&Process{Account: tt.a}); broken != tt.broken {
			t.Errorf("%s, %q: %v, %+v", tt.name, tt.rule, broken, b)
		}
	}
}

func FuzzRule(f *testing.F) {
	for _, text := range []string{"leaks", "anon growth > 10MiB/min", "thread stack growth>1/h", "total growth > 18446744073709551615/s", ">>//"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parse(text)
		if err != nil {
			return
		}
		if math.IsNaN(r.limit) || r.limit < 0 || r.limit > math.MaxUint64 || r.Text != text {
			t.Errorf("%q: %+v", text, r)
		}
		again, err := parse(r.Text)
		if err != nil || again != r {
			t.Errorf("%q: %+v, then %+v, %v", text, r, again, err)
		}
		r.Check([]Finding{found(r.what, growth.Grows, growth.Resident, r.limit+1)})
	})
}
