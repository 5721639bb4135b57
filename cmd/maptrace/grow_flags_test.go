package main

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/ledger"
	"github.com/maptrace/maptrace/tracer/space"
)

func TestUsageOfGrow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args string
		want string // in the one line on standard error
	}{
		{"no target", "grow", "say what to trace"},
		{"a process and a command", "grow -p 1 -- true", "say what to trace"},
		{"an unknown form", "grow -p 1 -o xml", `output "xml": want text or json`},
		{"looks too close together", "grow -p 1 --interval 9ms", "want at least 10ms"},
		{"no time between looks", "grow -p 1 --interval 0s", "want at least 10ms"},
		{"too few looks", "grow -p 1 --for 2s --interval 1s", "at least three times"},
		{"a negative time", "grow -p 1 --for -5s", "cannot be negative"},
		{"a negative number of groups", "grow -p 1 --top -1", "cannot be negative"},
		{"a negative number of frames", "grow -p 1 --frames -1", "cannot be negative"},
		{"too large a stack", "grow -p 1 --stack-size 65K", "want 512 to 64K"},
		{"too small a stack", "grow -p 1 --stack-size 511", "want 512 to 64K"},
		{"no stacks", "grow -p 1 --stack-rate 0", "must be at least 1"},
		{"a negative rate of faults", "grow -p 1 --fault-rate -1", "cannot be negative"},
		{"more stacks than can be read", "grow -p 1 --stack-rate 2000000000", "want at most"},
		{"more faults than can be read", "grow -p 1 --fault-rate 1000001", "want at most"},
		{"no budget", "grow -p 1 --smaps-budget 0", "want a percentage"},
		{"too much of a budget", "grow -p 1 --smaps-budget 101", "want a percentage"},
		{"a budget that is no number", "grow -p 1 --smaps-budget NaN", "want a percentage"},
		{"a rule that is none", "grow -p 1 --fail-on often", "not understood"},
		{"one bad rule of two", "grow -p 1 --fail-on leaks --fail-on slab", "not understood"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, strings.Fields(tt.args)...)
			if got.code != exitUsage || got.out != "" {
				t.Errorf("exit code %d, want %d; output %q", got.code, exitUsage, got.out)
			}
			checkOneLine(t, got.stderr, tt.want)
		})
	}
}

func TestRulesOfFailOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want growthRule
	}{
		{"leaks", growthRule{leaks: true}},
		{" leaks ", growthRule{leaks: true}},
		{"anon growth > 10MiB/min", growthRule{what: growth.Anon, limit: 10 << 20 / 60.0}},
		{"anon growth>10MiB/min", growthRule{what: growth.Anon, limit: 10 << 20 / 60.0}},
		{"heap growth > 1K/s", growthRule{what: growth.Heap, limit: 1024}},
		{"heap growth > 1K/sec", growthRule{what: growth.Heap, limit: 1024}},
		{"malloc arena growth > 36G/h", growthRule{what: growth.Arena, limit: 36 << 30 / 3600.0}},
		{"thread   stack growth > 3600/hour", growthRule{what: growth.ThreadStack, limit: 1}},
		{"file growth > 0/m", growthRule{what: growth.File}},
		{"total growth > 60M/m", growthRule{total: true, limit: 1 << 20}},
		{"all growth > 60M/m", growthRule{total: true, limit: 1 << 20}},
	} {
		tt.want.text = tt.text
		got, err := parseGrowthRule(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"":                          "not understood",
		"leak":                      "not understood",
		"leaks leaks":               "not understood",
		"growth > 1K/s":             "not understood",
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
		_, err := parseGrowthRule(text)
		var coded *codedError
		if !errors.As(err, &coded) || coded.code != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want a usage error with %q", text, err, want)
		}
	}
}

// found is a finding of a kind with a verdict and bytes a second.
func found(what growth.What, label growth.Label, measure growth.Measure, slope float64) render.Grown {
	return render.Grown{
		Subject: what.String(),
		Finding: ledger.Finding{Finding: growth.Finding{
			Key: growth.Key{What: what}, Label: label, Measure: measure, Slope: slope, Reason: "grew",
		}},
	}
}

func TestRulesThatAreBroken(t *testing.T) {
	t.Parallel()
	g := &render.Growth{Findings: []render.Grown{
		found(growth.Heap, growth.Leaks, growth.Resident, 1000),
		found(growth.Anon, growth.Grows, growth.Writable, 600),
		found(growth.Anon, growth.Grows, growth.Mapped, 500),
		found(growth.File, growth.Plateau, growth.Resident, 9000),
		found(growth.Memfd, growth.Grows, growth.Mappings, 8000),
	}}
	for text, want := range map[string]string{
		"leaks":                   "heap grew: leaks",
		"heap growth > 999/s":     "heap growth > 999/s: 58.6 KiB/min",
		"heap growth > 1000/s":    "",
		"anon growth > 1099/s":    "anon growth > 1099/s: 64.5 KiB/min", // two groups together
		"anon growth > 1100/s":    "",
		"file growth > 1/s":       "", // it is flat now
		"memfd growth > 1/s":      "", // that is no size
		"total growth > 2099/s":   "total growth > 2099/s: 123.0 KiB/min",
		"total growth > 2100/s":   "",
		"reserve growth > 0/hour": "",
	} {
		r, err := parseGrowthRule(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.broken(g); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	leaks := growthRule{leaks: true}
	if got := leaks.broken(&render.Growth{Findings: g.Findings[1:]}); got != "" {
		t.Errorf("nothing leaks, and it says %q", got)
	}
	if got := leaks.broken(&render.Growth{Findings: []render.Grown{found(growth.Anon, growth.Leaks, growth.Mappings, 100)}}); got == "" {
		t.Error("mappings leak, and it says nothing")
	}
}

func FuzzGrowthRule(f *testing.F) {
	for _, text := range []string{"leaks", "anon growth > 10MiB/min", "thread stack growth>1/h", "total growth > 18446744073709551615/s", ">>//"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseGrowthRule(text)
		if err != nil {
			var coded *codedError
			if !errors.As(err, &coded) || coded.code != exitUsage {
				t.Errorf("%q: %v is no usage error", text, err)
			}
			return
		}
		if math.IsNaN(r.limit) || r.limit < 0 || r.limit > math.MaxUint64 || r.text != text {
			t.Errorf("%q: %+v", text, r)
		}
		again, err := parseGrowthRule(r.text)
		if err != nil || again != r {
			t.Errorf("%q: %+v, then %+v, %v", text, r, again, err)
		}
		r.broken(&render.Growth{Findings: []render.Grown{found(r.what, growth.Grows, growth.Resident, r.limit+1)}})
	})
}

// endedBook is the book of a process that has ended, after some looks.
func endedBook(w *growthWatch, space uint64, looks int) *openBook {
	b := &openBook{Book: ledger.New(w.sites, ledger.Start{At: 1}, growth.Options{}), pid: int(space)}
	for i := range looks {
		b.Observe(uint64(time.Second)*uint64(i+1), nil, nil)
	}
	w.books[space] = b
	return b
}

func TestBooksOfProcessesThatHaveEndedAreBounded(t *testing.T) {
	t.Parallel()
	w := newGrowthWatch(streams{}, &growOptions{})
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	brief := endedBook(w, 1, fewestLooks-1)
	w.end(1, brief, 5e9)
	if w.books[1] != nil {
		t.Error("a process that was looked at twice is kept")
	}
	looking := endedBook(w, 2, 0)
	looking.looking = true
	w.end(2, looking, 6e9)
	if w.books[2] == nil || looking.settled {
		t.Error("a book was closed while it was counted")
	}
	for space := uint64(10); space < 10+3*mostEnded; space++ {
		w.end(space, endedBook(w, space, fewestLooks), 7e9)
	}
	if n := len(w.books); n != mostEnded+1 {
		t.Errorf("%d books are kept, want %d and the one that is counted", n, mostEnded)
	}
	for _, b := range w.books {
		if got := b.watchedTo(90e9); b != looking && got != 7*time.Second-1 {
			t.Errorf("a process that ended after 7 s was watched for %v", got)
		}
	}
}

// A process that was found amid its exec begins twice.
func TestABookThatIsReplacedHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newGrowthWatch(streams{}, &growOptions{budget: 1})
	w.attached = &attached{live: &tracer.Live{}}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	begin := &tracer.Change{
		Event: &tracer.Event{Kind: tracer.KindBegin, Space: 1, Time: 1}, Process: &tracer.Process{PID: os.Getpid()},
		Start: &space.Snapshot{},
	}
	w.open(begin)
	first := w.books[1]
	w.open(begin)
	second := w.books[1]
	if first.pages != nil || second.pages == nil {
		t.Errorf("pages %v of the first book, %v of the second", first.pages, second.pages)
	}
	second.looking = true
	w.open(begin)
	if second.pages == nil {
		t.Error("a book was closed while it was counted")
	}
	w.looked(counted{books: []*openBook{second}})
	if second.pages != nil || w.books[1].pages == nil {
		t.Error("a book that is not counted any more is still open")
	}
}

func TestCPUsAreCounted(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]int{"0\n": 1, "0-3\n": 4, "0-3,8,10-11\n": 7, "": 0} {
		if got := cpusOf(list); got != want {
			t.Errorf("%q: %d CPUs, want %d", list, got, want)
		}
	}
}

func FuzzCPUsOf(f *testing.F) {
	for _, list := range []string{"0", "0-3,8", "", "3-1", "0-9223372036854775807,0-9223372036854775807", "-1-5", "a,1"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		n := cpusOf(list)
		if more := cpusOf(strings.TrimSpace(list) + ",7"); n < 0 || more != n+1 {
			t.Errorf("%d CPUs, and %d with another", n, more)
		}
	})
}
