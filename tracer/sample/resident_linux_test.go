//go:build amd64 || arm64

package sample

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/resident"
	"github.com/maptrace/maptrace/tracer/site"
	"github.com/maptrace/maptrace/tracer/space"
)

func TestMain(m *testing.M) {
	code := m.Run()
	bpftest.Clean()
	os.Exit(code) //nolint:forbidigo // the end of a test binary
}

// phased is testdata/phases.c under the tracer, with what is counted of its processes.
type phased struct {
	t     *testing.T
	sites *site.Sites
	live  *tracer.Live
	tr    *tracer.Tracer
	pid   int
	sets  map[uint64]*resident.Set

	stops   int       // how often it was compared
	stopped time.Time // since when it stands still; zero: it runs

	rows, children int
	bytes          uint64 // that smaps tells of, all together
	worst          uint64 // the largest difference of a row, in bytes
	huge           uint64 // bytes of huge pages seen
	again, mapped  uint64 // bytes that were counted, and that could have been
}

// behind is how long a stopped program may be ahead of its tree.
const behind = 10 * time.Second

func (p *phased) change(c *tracer.Change) {
	if c.Kind == tracer.KindBegin && c.Process != nil {
		p.sets[c.Space] = resident.New(bpf.PieceBytes())
		return
	}
	if set := p.sets[c.Space]; set != nil {
		set.Change(c)
	}
}

// idle compares, once the program has stopped and the trees are what is mapped,
// and lets it go on.
func (p *phased) idle() error {
	fs := procmaps.Default()
	pr, err := fs.Process(p.pid)
	if err != nil {
		return nil // it has ended, and the loop will
	}
	defer pr.Close()
	st, err := pr.Stat()
	if errors.Is(err, procmaps.ErrGone) || err == nil && st.State != 'T' {
		p.stopped = time.Time{}
		return nil
	}
	if err != nil {
		return err
	}
	if p.stopped.IsZero() {
		p.stopped = time.Now() // what happened before may not have been read yet
		return nil
	}
	r := p.tr.Report()
	if why := p.ready(&r); why != "" {
		if time.Since(p.stopped) > behind {
			return fmt.Errorf("stop %d: %s", p.stops, why)
		}
		return nil
	}
	touches, err := p.live.Touched(nil)
	if err != nil {
		return err
	}
	for _, at := range touches {
		if set := p.sets[at.Space]; set != nil {
			set.Touch(at.Addr)
		}
	}
	for i := range r.Spaces {
		if sp := &r.Spaces[i]; !sp.Process.Exited {
			if err := p.compare(sp); err != nil {
				return err
			}
		}
	}
	p.stops++
	p.stopped = time.Time{}
	return unix.Kill(p.pid, unix.SIGCONT)
}

// stretch is memory next to each other that may be used in the same way.
type stretch struct {
	procmaps.Range
	perm procmaps.Mode
}

func joined(all []stretch, r procmaps.Range, m procmaps.Mode) []stretch {
	m &= procmaps.Perm
	if last := len(all) - 1; last >= 0 && all[last].End == r.Start && all[last].perm == m {
		all[last].End = r.End
		return all
	}
	return append(all, stretch{r, m})
}

// ready is why the trees cannot be compared yet: "" if they can.
func (p *phased) ready(r *tracer.Report) string {
	living := 0
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		if sp.Process.Exited {
			continue
		}
		living++
		pr, err := procmaps.Default().Process(sp.Process.PID)
		if err != nil {
			return err.Error()
		}
		rows, err := pr.Maps()
		pr.Close()
		if err != nil {
			return err.Error()
		}
		var kernel []stretch
		for i := range rows {
			if rows[i].Kind() != procmaps.KindSpecial {
				kernel = joined(kernel, rows[i].Range, rows[i].Mode)
			}
		}
		var tree []stretch
		for e := range p.tr.Tree(sp.Process.Space).Extents(space.All) {
			if e.Kind != procmaps.KindSpecial {
				tree = joined(tree, e.Range, e.Mode)
			}
		}
		if !slices.Equal(kernel, tree) {
			return fmt.Sprintf("process %d has %v, and its tree %v", sp.Process.PID, kernel, tree)
		}
	}
	if living == 0 {
		return "no process is known"
	}
	if living > 1 {
		p.children++
	}
	return ""
}

// compare compares the resident memory of each row of smaps with what is counted
// where something has changed since it was compared last.
func (p *phased) compare(sp *tracer.SpaceReport) error {
	pr, err := procmaps.Default().Process(sp.Process.PID)
	if err != nil {
		return err
	}
	defer pr.Close()
	res, err := pr.OpenResidency()
	if err != nil {
		return err
	}
	defer res.Close()
	set := p.sets[sp.Process.Space]
	if set == nil {
		return fmt.Errorf("process %d is not known", sp.Process.PID)
	}
	ranges := extents(nil, p.tr.Tree(sp.Process.Space))
	todo := set.Plan(nil, ranges)
	counts := make([]procmaps.Resident, len(todo))
	if err = res.Count(todo, counts); err != nil {
		return err
	}
	set.Counted(counts)
	found := set.Totals(nil)
	for i := range todo {
		p.again += todo[i].Len()
		p.huge += counts[i].HugeBytes
	}
	smaps, err := pr.Smaps()
	if err != nil {
		return err
	}
	at := 0
	var got, want uint64 // since the last place where both a row and a range ended
	for i := range smaps.Rows {
		row := &smaps.Rows[i]
		if row.Kind() == procmaps.KindSpecial {
			continue // the kernel's own, [vdso] say, which nobody counts
		}
		for at < len(ranges) && ranges[at].Start < row.End {
			got += found[at].Bytes
			p.mapped += ranges[at].Len()
			at++
		}
		kb, _ := row.KB("Rss")
		want += kb << 10
		p.rows++
		p.bytes += kb << 10
		if at > 0 && ranges[at-1].End > row.End {
			continue // the kernel shows what one call made as two rows
		}
		diff := max(got, want) - min(got, want)
		p.worst = max(p.worst, diff)
		if diff > want/50 || diff > 256<<10 {
			p.t.Errorf("stop %d, process %d: up to %v %s %d KiB are resident, counted %d", p.stops, sp.Process.PID, row.Range, row.Name, want>>10, got>>10)
		}
		got, want = 0, 0
	}
	if got != want {
		return fmt.Errorf("process %d: the last range ends behind the last row", sp.Process.PID)
	}
	if at < len(ranges) {
		return fmt.Errorf("process %d: %v is counted, which is not mapped", sp.Process.PID, ranges[at])
	}
	return nil
}

// TestResidentMemoryIsWhatSmapsHas stops programs that use memory of all kinds at
// random, and compares each time.
func TestResidentMemoryIsWhatSmapsHas(t *testing.T) {
	bin := bpftest.BuildC(t, "testdata", "phases")
	const phases = 12
	for seed := range 5 {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			p := &phased{t: t, sites: site.New(site.Options{}), sets: make(map[uint64]*resident.Set)}
			defer p.sites.Close()
			p.run(bin, fmt.Sprint(seed), fmt.Sprint(phases), filepath.Join(t.TempDir(), "file"))
			t.Logf("%d mappings at %d stops, %d with a child, %d MiB resident, %d in huge pages; at most %d bytes off; %d of %d MiB counted",
				p.rows, p.stops, p.children, p.bytes>>20, p.huge>>20, p.worst, p.again>>20, p.mapped>>20)
			if p.again >= p.mapped {
				t.Errorf("%d of %d bytes were counted: not only what had changed", p.again, p.mapped)
			}
			if p.stops != phases+1 || p.children != phases/3 {
				t.Errorf("it stopped %d times, %d with a child, want %d and %d", p.stops, p.children, phases+1, phases/3)
			}
		})
	}
}

// run runs the program to its end.
func (p *phased) run(argv ...string) {
	t := p.t
	t.Helper()
	var err error
	if p.live, err = tracer.OpenLive(tracer.LiveOptions{Stacks: &bpf.StackOptions{FaultRate: 1000}}); err != nil {
		bpftest.SkipIfRefused(t, err)
		t.Fatalf("%+v", err)
	}
	defer p.live.Close()
	c, err := tracer.StartCommand(argv, nil, os.Stderr, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	p.pid = c.PID()
	tasks, err := p.live.Trace(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	opts := tracer.Options{Sites: p.sites, PageSize: uint64(os.Getpagesize()), OnChange: p.change, OnIdle: p.idle}
	info := p.live.Info()
	opts.Gate, opts.MovesMany = info.Gate, info.MovesMany
	p.tr = tracer.New(p.live, p.live, opts)
	if err := p.tr.Add(tasks, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Continue(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.tr.Run(ctx, p.live.Detach); err != nil {
		_ = unix.Kill(p.pid, unix.SIGKILL) // not waited for yet: the number is its own
		_, _ = c.Wait()
		t.Fatal(err)
	}
	if status, err := c.Wait(); err != nil || status != 0 {
		t.Fatalf("it ended with status %d, %v", status, err)
	}
}
