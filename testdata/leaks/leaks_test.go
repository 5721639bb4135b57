package leaks_test

import (
	"debug/elf"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/leaks"
)

// dir holds the programs, built once for all tests.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "leaks-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err = os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code) //nolint:forbidigo // this is a main function
}

// state is what a program has at one moment, in bytes.
type state struct {
	resident, mapped uint64
	at               time.Time
}

func look(t *testing.T, p *procmaps.Process) state {
	t.Helper()
	s, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	now := state{resident: s.SumKB("Rss") << 10, at: time.Now()}
	for i := range s.Rows {
		if !s.Rows[i].Reserved() {
			now.mapped += s.Rows[i].Len()
		}
	}
	return now
}

// TestProgramsLeakAsFastAsTheyAreTold looks at all programs while several run
// side by side, and no tool watches. They may be slower, as the machine may be
// busy, but none leaks more than it was told and all go on.
func TestProgramsLeakAsFastAsTheyAreTold(t *testing.T) {
	const (
		rate   = 8 << 20
		settle = 1500 * time.Millisecond
		grown  = 12 << 20 // more than innocents go up by
		noise  = 8 << 20  // the most that those go up or down by
		limit  = time.Minute
	)
	type running struct {
		leaks.Case
		*leaks.Program
		p          *procmaps.Process
		ready      time.Time
		first, now state
		done       bool
	}
	// What a program was behind when first seen it makes up for later.
	most := func(watched time.Duration) int64 { return int64((settle+watched).Seconds()*rate*1.2) + noise }
	var all []*running
	argvs := map[string][]string{} // compilers are done before the first program runs
	for _, c := range slices.Concat(leaks.Cases(), leaks.Servers()) {
		if err := c.Missing(); err != nil {
			t.Logf("%s left out: %v", c.Name, err)
			continue
		}
		argvs[c.Name] = leaks.Args(c.Build(t, dir), limit, rate)
		all = append(all, &running{Case: c})
	}
	for group := range slices.Chunk(all, 8) {
		for _, r := range group {
			r.Program, r.ready = leaks.Start(t, t.TempDir(), argvs[r.Name]), time.Now()
			p, err := procmaps.Default().Process(r.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			r.p = p
		}
		for _, r := range group {
			time.Sleep(time.Until(r.ready.Add(settle)))
			r.first = look(t, r.p)
		}
		for left := len(group); left > 0; time.Sleep(50 * time.Millisecond) {
			for _, r := range group {
				if r.done {
					continue
				}
				r.now = look(t, r.p)
				watched := r.now.at.Sub(r.first.at)
				// A vector that is moved is there twice for a moment.
				grew := int64(r.now.resident - r.first.resident)
				r.done = grew > grown && grew <= most(watched) || watched > limit/3 ||
					r.What == leaks.Nothing && watched > 2*time.Second
				if r.done {
					left--
					if err := r.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, r := range all {
		t.Run(r.Name, func(t *testing.T) {
			watched := r.now.at.Sub(r.first.at)
			resident := int64(r.now.resident - r.first.resident)
			mapped := int64(r.now.mapped - r.first.mapped)
			t.Logf("in %.1f s resident %+.1f MiB, mapped %+.1f MiB", watched.Seconds(), float64(resident)/(1<<20), float64(mapped)/(1<<20))
			if r.What == leaks.Nothing {
				if max(resident, mapped) > noise {
					t.Errorf("it grew, resident by %d bytes and mapped by %d", resident, mapped)
				}
				return
			}
			if limit := most(watched); resident < grown || resident > limit {
				t.Errorf("resident memory grew by %d bytes, want %d to %d", resident, grown, limit)
			}
			if r.What == leaks.Pages && mapped > noise {
				t.Errorf("mapped memory grew by %d bytes, want nothing", mapped)
			}
		})
	}
}

func TestProgramsEndWhenTheyAreTold(t *testing.T) {
	for _, c := range slices.Concat(leaks.Cases(), leaks.Servers()) {
		if c.Stripped || c.Missing() != nil {
			continue
		}
		began := time.Now()
		p := leaks.Start(t, dir, leaks.Args(c.Build(t, dir), 200*time.Millisecond, 1<<20))
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		if took := time.Since(began); took < 200*time.Millisecond {
			t.Errorf("%s ended after %v", c.Name, took)
		}
	}
}

func TestCulpritsAreWhereTheProgramSays(t *testing.T) {
	offsets := 0
	var missing error
	for _, c := range slices.Concat(leaks.Cases(), leaks.Servers()) {
		if !c.Prints || c.What == leaks.Nothing {
			continue
		}
		if err := c.Missing(); err != nil {
			missing = err
			continue
		}
		argv := c.Build(t, dir)
		p := leaks.Start(t, dir, leaks.Args(argv, time.Minute, 1<<20))
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		f, err := elf.Open(argv[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.Symbols()
		if c.Stripped {
			if err == nil {
				t.Errorf("%s has %d symbols", c.Name, len(symbols))
			}
			if p.Offset == 0 {
				t.Errorf("%s does not say where its culprit is", c.Name)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		offsets++
		for _, name := range append(c.Innocents, c.Culprit...) {
			// A mangled name has the parts of the name in it, in order.
			last := name[strings.LastIndexByte(name, ':')+1:]
			i := slices.IndexFunc(symbols, func(s elf.Symbol) bool {
				return elf.ST_TYPE(s.Info) == elf.STT_FUNC && strings.Contains(s.Name, last) && !strings.HasSuffix(s.Name, ".cold")
			})
			switch {
			case i < 0:
				t.Errorf("%s: no function %s", c.Name, name)
			case name == c.Culprit[0] && symbols[i].Value != p.Offset:
				t.Errorf("%s: %s is at %#x, and the program says %#x", c.Name, name, symbols[i].Value, p.Offset)
			}
		}
	}
	if offsets == 0 {
		if missing == nil {
			t.Fatal("no case was looked at")
		}
		t.Skip(missing)
	}
}

func TestCasesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range slices.Concat(leaks.Cases(), leaks.Servers()) {
		if seen[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		seen[c.Name] = true
		if (c.What == leaks.Nothing) != (len(c.Culprit) == 0) || len(c.Innocents) == 0 || len(c.Needs) == 0 {
			t.Errorf("%+v", c)
		}
	}
}
