package tracer

import (
	"bufio"
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/order"
	"github.com/maptrace/maptrace/tracer/space"
)

const workloads = "../testdata/workload"

func TestMain(m *testing.M) {
	code := m.Run()
	bpftest.Clean()
	os.Exit(code) //nolint:forbidigo // the end of a test binary
}

// openLive attaches, or skips where that is not permitted.
func openLive(t *testing.T, opts LiveOptions) *Live {
	t.Helper()
	l, err := OpenLive(opts)
	if err != nil {
		bpftest.SkipIfRefused(t, err)
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// tee is a Source that keeps a copy of what passes.
type tee struct {
	Source
	events []Event
}

func (s *tee) Next(ev *Event) error {
	err := s.Source.Next(ev)
	if err == nil {
		s.events = append(s.events, *ev)
	}
	return err
}

// calm is a Source that ends the run once all has been read, and nothing is in doubt any more.
type calm struct {
	*Live
	doubt func() bool
	end   atomic.Pointer[context.CancelFunc]
	late  time.Time // when it ends at the latest
}

func (s *calm) Next(ev *Event) error {
	err := s.Live.Next(ev)
	end := s.end.Load()
	if end == nil || !errors.Is(err, ErrIdle) {
		return err
	}
	if s.late.IsZero() {
		s.late = time.Now().Add(4 * time.Second) // of some it stays in doubt
	}
	if !s.doubt() || time.Now().After(s.late) {
		(*end)()
	}
	return err
}

// traced is a run of a program under the tracer.
type traced struct {
	t    *testing.T
	live *Live
	calm *calm
	src  Source
	tr   *Tracer
	opts Options
	log  strings.Builder
	find []string // what audits and impossible events said
}

func newTraced(t *testing.T, opts LiveOptions, verify time.Duration) *traced {
	t.Helper()
	r := &traced{t: t, live: openLive(t, opts)}
	r.calm = &calm{Live: r.live, doubt: func() bool {
		return strings.HasPrefix(r.tr.Report().Picture.String(), "approximate")
	}}
	r.src = r.calm
	r.opts = Options{
		Verify: verify, PageSize: uint64(os.Getpagesize()),
		Log: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnChange: func(c *Change) {
			for _, d := range c.Drift {
				r.find = append(r.find, fmt.Sprintf("drift %v %v: tree %+v, kernel %+v", d.Range, d.What, d.Tree, d.Row))
			}
		},
	}
	info := r.live.Info()
	r.opts.Gate, r.opts.MovesMany, r.opts.Shm = info.Gate, info.MovesMany, info.Shm
	return r
}

// command starts a program stopped at its first instruction, traced.
func (r *traced) command(argv []string, stdin io.Reader, stdout io.Writer) *Command {
	r.t.Helper()
	c, err := StartCommand(argv, stdin, stdout, os.Stderr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.add(true, c.PID())
	if err := c.Continue(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// ends has the run end once all that was done until now is read: on a busy machine that
// takes longer than what is waited for at an end.
func (r *traced) ends(cancel context.CancelFunc) { r.calm.end.Store(&cancel) }

// standing is what a program reads and writes that says a line when nothing moves any more, and
// stands still until it is released.
type standing struct {
	in      io.Reader
	out     io.Writer
	said    <-chan string
	release func()
}

// untilSaid is the context of a run that ends when such a program says so.
func (r *traced) untilSaid() (context.Context, *standing) {
	in, hold := io.Pipe()
	out, say := io.Pipe()
	ctx, cancel := context.WithCancel(r.t.Context())
	r.t.Cleanup(func() {
		cancel()
		_ = out.Close()
	})
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		said <- line
		r.ends(cancel)
	}()
	return ctx, &standing{in: in, out: say, said: said, release: func() {
		if err := hold.Close(); err != nil {
			r.t.Error(err)
		}
	}}
}

func (r *traced) add(now bool, pids ...int) {
	r.t.Helper()
	tasks, err := r.live.Trace(pids...)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, pid := range pids {
		traced := slices.ContainsFunc(tasks, func(task Task) bool { return task.PID == pid })
		if !traced && alive(pid) {
			r.t.Fatalf("traced %d of %d processes, and not %d", len(tasks), len(pids), pid)
		}
	}
	if len(tasks) == 0 {
		r.t.Fatal("none is left to be traced")
	}
	r.tr = New(r.src, r.live, r.opts)
	if err := r.tr.Add(tasks, now); err != nil {
		r.t.Fatal(err)
	}
}

// alive tells whether a process has not ended. Servers have some that do so soon.
func alive(pid int) bool {
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		return !errors.Is(err, procmaps.ErrGone)
	}
	defer p.Close()
	st, err := p.Stat()
	return !errors.Is(err, procmaps.ErrGone) && (err != nil || !st.Dead())
}

func (r *traced) run(ctx context.Context) Report {
	r.t.Helper()
	if err := r.tr.Run(ctx, r.live.Detach); err != nil {
		r.t.Fatal(err)
	}
	return r.tr.Report()
}

// mustBeExact is the claim of the whole program.
func (r *traced) mustBeExact(rep Report) {
	r.t.Helper()
	s := rep.Stats
	// A process may end just after something that no call tells of, and says so.
	if rep.Picture.Why == "gone before its last changes could be read" {
		rep.Picture.Why = ""
	}
	if s.Lost+s.Missed+s.Violations+s.Drift+s.LostOwners > 0 || rep.Picture.String() != "exact" {
		r.t.Errorf("lost %d, missed %d, violations %d, drift %d, picture %s\n%s\n%s",
			s.Lost, s.Missed, s.Violations, s.Drift, rep.Picture, strings.Join(r.find, "\n"), r.log.String())
	}
	if s.Calls == 0 || rep.Ordering == "section" && s.Sections == 0 {
		r.t.Errorf("nothing was seen: %+v", s)
	}
}

// mustEqualMaps compares the tree of a process that stands still with maps.
func (r *traced) mustEqualMaps(rep Report, pid int) {
	r.t.Helper()
	rows := mapsOf(r.t, pid)
	for _, sp := range rep.Spaces {
		if sp.Process.PID != pid {
			continue
		}
		if got := sp.Picture.String(); got != "exact" && got != "resynced" {
			r.t.Errorf("picture of %d: %s", pid, got)
		}
		drift, _ := r.tr.Tree(sp.Process.Space).Verify(rows, space.All, ^uint64(0))
		for _, d := range drift {
			r.t.Errorf("at the end: %v %v: tree %+v, kernel %+v", d.Range, d.What, d.Tree, d.Row)
		}
		if len(rows) < 10 {
			r.t.Errorf("only %d rows to compare with", len(rows))
		}
		return
	}
	r.t.Errorf("process %d is not in the report", pid)
}

// mapsOf is what the kernel has of a process.
func mapsOf(t *testing.T, pid int) []procmaps.Mapping {
	t.Helper()
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// churn runs the churn workload traced until it has done its work and stands
// still, and checks the claim and the end state.
func churn(t *testing.T, attach bool, args ...string) {
	t.Helper()
	churnWith(t, attach, false, args...)
}

func churnWith(t *testing.T, attach, byTime bool, args ...string) {
	t.Helper()
	program := bpftest.BuildC(t, workloads, "churn")
	args = append(args, "-W")
	// On a busy machine it is long until we are let run.
	r := newTraced(t, LiveOptions{RingBytes: 32 << 20}, 20*time.Millisecond)
	r.live.byTime = byTime
	ctx, still := r.untilSaid()
	var pid int
	var wait func() error
	if attach {
		cmd := exec.Command(program, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = still.in, still.out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid, wait = cmd.Process.Pid, cmd.Wait
		waitForThreads(t, pid)
		r.add(false, pid)
	} else {
		c := r.command(append([]string{program}, args...), still.in, still.out)
		pid = c.PID()
		wait = func() error {
			if code, err := c.Wait(); err != nil || code != 0 {
				return fmt.Errorf("exit status %d, %w", code, err)
			}
			return nil
		}
	}
	rep := r.run(ctx)
	r.mustBeExact(rep)
	r.mustEqualMaps(rep, pid)
	if rep.Stats.Suppressed > 0 {
		t.Errorf("%d calls are taken for suppressed, and all were executed", rep.Stats.Suppressed)
	}
	still.release()
	if err := wait(); err != nil {
		t.Errorf("churn: %v", err)
	}
	t.Logf("%v: %d calls, %d sections, %d others, %d late, %d audits (%d unfinished), %d re-reads, %d forks",
		args, rep.Stats.Calls, rep.Stats.Sections, rep.Stats.Others, rep.Stats.Late, rep.Stats.Audits,
		rep.Stats.AuditsUnfinished, rep.Stats.Rereads, rep.Stats.Forks)
}

// waitForThreads waits until a program is in the middle of its work.
func waitForThreads(t *testing.T, pid int) {
	t.Helper()
	p, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		rows, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > 100 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the program does not get to work")
}

func TestExactFromTheFirstInstruction(t *testing.T) {
	for _, c := range []struct{ mix, threads, ops string }{
		{"all", "1", "15000"}, {"all", "4", "10000"}, {"mm", "4", "30000"}, {"files", "8", "4000"}, {"nofork", "16", "3000"},
	} {
		t.Run(c.mix+" with "+c.threads+" threads", func(t *testing.T) {
			churn(t, false, "-m", c.mix, "-t", c.threads, "-n", c.ops, "-s", "1")
		})
	}
}

func TestExactWhenAttachedInTheMiddle(t *testing.T) {
	for _, threads := range []string{"1", "8"} {
		t.Run(threads+" threads", func(t *testing.T) {
			churn(t, true, "-m", "all", "-t", threads, "-n", "12000", "-s", "2")
		})
	}
}

// TestExactByTime is what kernels before 6.4 have: no numbers of sections.
func TestExactByTime(t *testing.T) {
	for _, mix := range []string{"mm", "all"} {
		t.Run(mix, func(t *testing.T) {
			churnWith(t, false, true, "-m", mix, "-t", "4", "-n", "8000", "-s", "5")
		})
	}
}

// TestExactLong is the same in 30 runs of millions of operations.
func TestExactLong(t *testing.T) {
	bpftest.Long(t)
	mixes := []string{"all", "mm", "nofork", "files", "all", "nofork"}
	for seed := range 30 {
		threads := []int{1, 4, 8, 16}[seed%4]
		ops := 200000 / threads
		t.Run(fmt.Sprintf("seed %d, %s, %d threads", seed, mixes[seed%len(mixes)], threads), func(t *testing.T) {
			churn(t, seed%3 == 2, "-m", mixes[seed%len(mixes)], "-t", strconv.Itoa(threads),
				"-n", strconv.Itoa(ops), "-s", strconv.Itoa(100+seed))
		})
	}
}

// TestOrderOfArrivalIsWrong shows that the tests above can fail. The events of a
// real run are taken in the order in which they would have arrived had their
// threads been preempted for up to 5 ms between the release of the lock and the
// end of the call, which happens; a thread's own order stays. By commit order they
// give an exact tree, by order of arrival impossible states.
func TestOrderOfArrivalIsWrong(t *testing.T) {
	program := bpftest.BuildC(t, workloads, "churn")
	r := newTraced(t, LiveOptions{}, 0)
	kept := &tee{Source: r.calm}
	r.src = kept
	ctx, still := r.untilSaid()
	c := r.command([]string{program, "-m", "mm", "-t", "8", "-n", "4000", "-s", "1", "-W"}, still.in, still.out)
	packed := r.tr.Report().Spaces[0].Start
	start := packed.Snapshot()
	rep := r.run(ctx)
	still.release()
	if _, err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	r.mustBeExact(rep)

	seed := rand.Uint64()
	late := preempted(kept.events, rand.New(rand.NewPCG(seed, 0)))
	byArrival := seeded(start)
	impossible, stale, newest := 0, 0, uint64(0)
	for i := range late {
		if late[i].Time < newest {
			stale++
		}
		newest = max(newest, late[i].Time)
		call := late[i].Call
		call.Time = uint64(i) + 2
		impossible += byArrival.Apply(&call).Violations
	}
	if impossible == 0 || stale == 0 {
		t.Errorf("seed %d: %d of %d events arrive late and %d are impossible: this must not look right", seed, stale, len(late), impossible)
	}

	byCommit := New(&given{events: append(imageOf(start, late), late...)}, nil, Options{PageSize: uint64(os.Getpagesize())})
	if err := byCommit.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// What no call did, as the kernel may where memory is short, is not among late.
	owned, others := make(map[uint32]bool), make(map[uint32]bool)
	for i := range late {
		owned[late[i].Section] = true
	}
	for i := range kept.events {
		if ev := &kept.events[i]; ev.Flags&order.HasSection != 0 && !owned[ev.Section] {
			others[ev.Section] = true
		}
	}
	if s := byCommit.Stats(); s.Violations > 0 || s.Missed > uint64(len(others)) {
		t.Errorf("seed %d: by commit order %d violations, %d sections missed that %d others may have", seed, s.Violations, s.Missed, len(others))
	}
	id := rep.Spaces[0].Process.Space
	want, got := r.tr.Tree(id).Regions(nil), byCommit.Tree(id).Regions(nil)
	if diff := cmp.Diff(ranges(want), ranges(got)); diff != "" {
		t.Errorf("seed %d: the tree differs from that of the run (-run +replay):\n%s", seed, diff)
	}
	t.Logf("%d events, %d late, %d impossible by order of arrival", len(late), stale, impossible)
}

func ranges(regions []space.Region) (out []string) {
	for _, r := range regions {
		out = append(out, r.String()+" "+r.Mode.String())
	}
	return out
}

// seeded is a tree that begins as a snapshot.
func seeded(start space.Snapshot) *space.Space {
	tree := space.New(space.Options{PageSize: uint64(os.Getpagesize())})
	rows := make([]space.Row, len(start.Regions))
	for i := range start.Regions {
		rows[i] = space.Row{Mapping: start.Regions[i].Mapping}
	}
	tree.Reread(space.Read{Range: space.All, Rows: rows, Began: 1, Op: space.OpSeed})
	tree.SetComplete(true)
	return tree
}

// given is a Source of given events.
type given struct{ events []Event }

func (g *given) Next(ev *Event) error {
	if len(g.events) == 0 {
		return io.EOF
	}
	*ev, g.events = g.events[0], g.events[1:]
	return nil
}

// imageOf is the image that calls were made in: it begins as a snapshot, at the section
// of the earliest of them, which need not be the first.
func imageOf(start space.Snapshot, calls []Event) []Event {
	head := Event{
		Kind: KindExec, Flags: order.HasSection, TGID: calls[0].TGID, TID: calls[0].TGID, Time: 1,
		Space: calls[0].Space, First: calls[0].Section,
	}
	for i := range calls {
		if s := calls[i].Section; int32(s-head.First) < 0 {
			head.First = s
		}
	}
	image := []Event{head}
	for i := range start.Regions {
		row := head
		row.Kind, row.Row = order.KindRow, space.Row{Mapping: start.Regions[i].Mapping}
		image = append(image, row)
	}
	head.Kind, head.Pages = order.KindSeeded, int64(len(start.Regions))
	return append(image, head)
}

// preempted returns the calls that own a section in an order in which they may
// arrive.
func preempted(events []Event, rng *rand.Rand) []Event {
	const longest = 5_000_000 // ns
	var calls []Event
	arrival := make(map[uint64]uint64) // by commit time, which is unique
	last := make(map[int]uint64)       // by thread
	for _, ev := range events {
		if ev.Kind != KindCall || ev.Flags&order.HasSection == 0 {
			continue
		}
		at := max(ev.Time+rng.Uint64N(longest), last[ev.TID]+1)
		arrival[ev.Time], last[ev.TID] = at, at
		calls = append(calls, ev)
	}
	slices.SortStableFunc(calls, func(a, b Event) int { return stdcmp.Compare(arrival[a.Time], arrival[b.Time]) })
	return calls
}

func TestEveryLossIsToldAndHealed(t *testing.T) {
	program := bpftest.BuildC(t, workloads, "churn")
	r := newTraced(t, LiveOptions{RingBytes: 64 << 10}, 50*time.Millisecond)
	var told uint64
	stalls := 0
	r.opts.OnChange = func(c *Change) {
		if c.Kind == KindLost {
			told += c.Lost
		}
	}
	r.opts.OnIdle = func() error {
		if stalls < 3 {
			stalls++
			time.Sleep(200 * time.Millisecond) // a reader that does not read: the ring must overflow
		}
		return nil
	}
	ctx, still := r.untilSaid()
	c := r.command([]string{program, "-m", "nofork", "-t", "4", "-n", "15000", "-s", "7", "-W"}, still.in, still.out)
	rep := r.run(ctx)
	s := rep.Stats
	if s.Lost == 0 || told != s.Lost {
		t.Errorf("lost %d, told of %d", s.Lost, told)
	}
	if s.Violations+s.Drift+s.Missed > 0 {
		t.Errorf("violations %d, drift %d, missed %d: a loss explains them\n%s", s.Violations, s.Drift, s.Missed, r.log.String())
	}
	if got := rep.Picture.String(); got != "resynced" {
		t.Errorf("picture %q, want resynced", got)
	}
	r.mustEqualMaps(rep, c.PID())
	still.release()
	if code, err := c.Wait(); err != nil || code != 0 {
		t.Errorf("churn: %d, %v", code, err)
	}
	t.Logf("lost %d of %d, %d re-reads", s.Lost, s.Lost+s.Records, s.Rereads)
}

// Where more comes than can be handled, the ring is never empty, and what tells of a loss
// does not come after it: the loss has to be asked for.
func TestWhatAFloodHasLostIsNotMissed(t *testing.T) {
	program := bpftest.BuildC(t, workloads, "churn")
	r := newTraced(t, LiveOptions{RingBytes: os.Getpagesize()}, 0)
	script := strings.Repeat(program+` -m nofork -t 1 -n 8000 -s $$ & `, 4) + "wait"
	c := r.command([]string{"sh", "-c", script}, nil, io.Discard)
	rep := r.run(t.Context())
	if code, err := c.Wait(); err != nil || code != 0 {
		t.Errorf("churn: %d, %v", code, err)
	}
	s := rep.Stats
	if s.Lost == 0 || s.Missed+s.Violations > 0 || rep.Picture.String() == "exact" {
		t.Errorf("lost %d, missed %d, violations %d, picture %s\n%s", s.Lost, s.Missed, s.Violations, rep.Picture, r.log.String())
	}
	t.Logf("lost %d of %d, %d sections, %d re-reads", s.Lost, s.Lost+s.Records, s.Sections, s.Rereads)
}
