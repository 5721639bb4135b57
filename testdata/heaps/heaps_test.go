package heaps_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/heaps"
	"github.com/maptrace/maptrace/testdata/leaks"
)

// dir holds the programs, built once for all tests.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "heaps-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err = os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code) //nolint:forbidigo // this is a main function
}

// built are the programs that could be built, once they are.
var built []*heaps.Built

// programs are those that can be built here.
func programs(t *testing.T) []*heaps.Built {
	t.Helper()
	if built != nil {
		return built
	}
	for _, c := range heaps.All() {
		if err := c.Missing(t.Context()); err != nil {
			t.Logf("%s is left out: it %v", c.Name, err)
			continue
		}
		b, err := c.Build(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		built = append(built, b)
	}
	if len(built) == 0 {
		t.Skip("no program can be built")
	}
	return built
}

func TestTheTruthIsWhole(t *testing.T) {
	seen := map[string]bool{}
	leak, calm := 0, 0
	for _, c := range heaps.All() {
		if seen[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		seen[c.Name] = true
		for _, name := range c.Keepers {
			if slices.Contains(c.Innocents, name) {
				t.Errorf("%s: %s keeps, and is innocent", c.Name, name)
			}
		}
		if c.Rate <= 0 || c.Times <= 0 || len(c.Innocents) == 0 || c.Blocks[0] <= 0 || c.Blocks[1] < c.Blocks[0] {
			t.Errorf("%+v", c)
		}
		if c.Leaks {
			leak++
		} else {
			calm++
		}
		if c.Leaks == (c.AtMost > 0) || c.Leaks && len(c.Keepers) == 0 || c.Leaks != (c.KeptPerMinute() > 0) {
			t.Errorf("%+v", c)
		}
	}
	if leak < 24 || calm < 6 {
		t.Errorf("%d programs leak and in %d nobody does", leak, calm)
	}
	if six, few := heaps.Six(), heaps.Few(); len(six) != 6 || len(few) != 3 {
		t.Errorf("%d and %d programs are selected, want 6 and 3", len(six), len(few))
	}
}

func TestNoProgramKeepsMoreThanAGibibyte(t *testing.T) {
	for _, c := range heaps.All() {
		for _, run := range []time.Duration{time.Millisecond, 25 * time.Second, time.Hour} {
			if rate := c.RateFor(run); rate > c.Rate || float64(rate)*run.Seconds() > 1<<30 {
				t.Errorf("%s: %d bytes a second for %s", c.Name, rate, run)
			}
		}
	}
}

func TestKeepersAndInnocentsAreFunctionsOfTheProgram(t *testing.T) {
	for _, b := range programs(t) {
		var have []heaps.Function
		for _, path := range b.Named(dir) {
			functions, err := heaps.Functions(path)
			if err != nil {
				t.Fatal(err)
			}
			have = append(have, functions...)
		}
		for _, name := range slices.Concat(b.Keepers, b.Innocents) {
			if slices.ContainsFunc(have, func(f heaps.Function) bool { return f.Name == name }) {
				continue
			}
			if text, err := os.ReadFile(filepath.Join(dir, b.File)); err == nil && strings.Contains(string(text), "\ndef "+name+"(") {
				continue // of a script
			}
			t.Errorf("%s: no function %s", b.Name, name)
		}
	}
}

func TestStrippedProgramsHaveNoNames(t *testing.T) {
	for _, b := range programs(t) {
		argv := b.Argv(time.Second, 1)
		bin := argv[len(argv)-4]
		if functions, err := heaps.Functions(bin); b.Stripped && err == nil {
			t.Errorf("%s has %d functions", b.Name, len(functions))
		}
	}
}

// resident is how many bytes a program has resident.
func resident(t *testing.T, p *procmaps.Process) int {
	t.Helper()
	s, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	return int(s.SumKB("Rss") << 10)
}

// running is a program while it is looked at.
type running struct {
	*heaps.Built
	*leaks.Program
	p          *procmaps.Process
	rate       int
	began      time.Time
	first, now int // bytes resident
	took       time.Duration
	ended      bool
}

// grew is whether it has as much more as it keeps in two seconds.
func (r *running) grew() bool { return r.now-r.first > 2*r.rate }

func (r *running) String() string {
	return fmt.Sprintf("%+.1f MiB to %.1f MiB in %.1f s at %d bytes a second",
		float64(r.now-r.first)/(1<<20), float64(r.now)/(1<<20), r.took.Seconds(), r.rate)
}

// TestProgramsKeepWhatTheySay looks at all of them, several side by side, with no tool
// watching. They may be slower, as the machine may be busy, but all that leak go on
// growing, by no more than they say, and the others do not pass their bound.
func TestProgramsKeepWhatTheySay(t *testing.T) {
	const (
		settle = 1500 * time.Millisecond
		limit  = 2 * time.Minute
		calm   = 8 * time.Second
		noise  = 6 << 20 // what heaps have free
	)
	var all []*running
	for _, b := range programs(t) {
		r := &running{Built: b, rate: b.Rate}
		if b.Leaks { // the innocents bound how much faster it may be
			r.rate = min(400e3, 40e6/b.Times)
		}
		all = append(all, r)
	}
	for group := range slices.Chunk(all, 14) {
		for _, r := range group {
			r.Program, r.began = leaks.Start(t, dir, r.Argv(limit, r.rate)), time.Now()
			p, err := procmaps.Default().Process(r.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			r.p = p
		}
		for _, r := range group {
			time.Sleep(time.Until(r.began.Add(settle)))
			r.first = resident(t, r.p)
		}
		for left := len(group); left > 0; time.Sleep(100 * time.Millisecond) {
			for _, r := range group {
				if r.ended {
					continue
				}
				r.now, r.took = resident(t, r.p), time.Since(r.began)
				r.ended = r.took > limit/2 || r.Leaks && r.grew() || !r.Leaks && (r.took > calm || r.now > r.AtMost)
				if r.ended {
					left--
					r.End()
				}
			}
		}
	}
	for _, r := range all {
		t.Run(r.Name, func(t *testing.T) {
			t.Log(r)
			switch {
			case r.Leaks && !r.grew():
				t.Error("it does not grow:", r)
			// Blocks have headers, and are rounded up.
			case r.Leaks && r.now-r.first > 2*int(r.took.Seconds()*float64(r.rate))+noise:
				t.Error("it grows too fast:", r)
			case !r.Leaks && r.now > r.AtMost:
				t.Errorf("it has more than %d bytes: %s", r.AtMost, r)
			}
		})
	}
}

func TestProgramsEndWhenTheyAreTold(t *testing.T) {
	const run = 200 * time.Millisecond
	for group := range slices.Chunk(programs(t), 10) {
		began, started := time.Now(), make([]*leaks.Program, len(group))
		for i, b := range group {
			started[i] = leaks.Start(t, dir, b.Argv(run, b.Rate))
		}
		for i, b := range group {
			if err := started[i].Wait(); err != nil {
				t.Errorf("%s: %v", b.Name, err)
			}
			if took := time.Since(began); took < run {
				t.Errorf("%s ended after %v", b.Name, took)
			}
		}
	}
}
