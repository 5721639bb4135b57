//go:build amd64 || arm64

package tracer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/order"
	"github.com/maptrace/maptrace/tracer/space"
)

// refusal marks an error that means a lack of permission. To those who may not, the first
// refusal may look like that of an old kernel.
func refusal(err error) error {
	denied := errors.Is(err, os.ErrPermission)
	if !denied && errors.Is(err, ebpf.ErrNotSupported) {
		denied = slices.ContainsFunc(bpf.Probe(), func(c bpf.Check) bool { return errors.Is(c.Err, os.ErrPermission) })
	}
	if denied {
		return &permissionError{err}
	}
	return err
}

// permissionError prints as ErrPermission, and is an os.ErrPermission.
type permissionError struct{ err error }

func (r *permissionError) Error() string   { return ErrPermission.Error() }
func (r *permissionError) Unwrap() []error { return []error{ErrPermission, os.ErrPermission, r.err} }

// Live is the running kernel: a Source of its events, and the World they are
// about. Next is for one goroutine; the methods of World may be called from
// another at the same time.
type Live struct {
	hooks *bpf.Hooks
	fs    procmaps.FS
	page  uint64
	ev    bpf.Event
	block bpf.Block
	// byTime makes as if this kernel did not number sections; for tests.
	byTime bool
	// The losses that events have told of.
	dropped, skipped uint64

	info   Info
	stacks *stackStore       // nil unless asked for
	calls  *await.Calls      // nil for no bounds
	sizes  map[uint64]uint64 // of segments, in bytes, by number

	mu    sync.Mutex
	procs map[int]*procmaps.Process // open directories of traced processes
}

// OpenLive loads and attaches the programs. Errors are those of bpf.Open; ErrPermission
// marks those that mean a lack of permission.
func OpenLive(opts LiveOptions) (*Live, error) {
	l := &Live{
		fs: procmaps.Default(), page: uint64(os.Getpagesize()), calls: opts.Calls,
		procs: make(map[int]*procmaps.Process), sizes: make(map[uint64]uint64),
	}
	if err := l.findGate(); err != nil {
		return nil, err
	}
	// Without it the tree takes a segment's identity from the next look.
	l.info.Shm, _ = procmaps.ShmDevice()
	var err error
	l.hooks, err = bpf.Open(bpf.Options{RingBytes: opts.RingBytes, NoFollow: opts.NoFollow, Stacks: opts.Stacks, Latency: opts.Latency})
	if err != nil {
		return nil, refusal(err)
	}
	l.info.MovesMany, l.info.Memory = movesMany(), l.hooks.RingBytes()
	if opts.Stacks != nil {
		l.info.Sampling = l
	}
	if opts.Latency != nil {
		l.info.Latency = l
	}
	if opts.Stacks != nil || opts.Latency != nil {
		l.stacks = newStackStore(l.hooks)
		if opts.Latency != nil {
			l.stacks.timings = l.readTimings
		}
	}
	return l, nil
}

// findGate looks for the row that belongs to no VMA: arch/x86/entry/vsyscall.
func (l *Live) findGate() error {
	self, err := l.fs.Process(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	rows, err := self.Maps()
	if err != nil {
		return err
	}
	for _, m := range rows {
		if m.Name == "[vsyscall]" {
			l.info.Gate = space.Row{Mapping: m}
		}
	}
	return nil
}

// Trace begins to trace processes and returns those of all traced ones that
// have an address space.
func (l *Live) Trace(pids ...int) ([]Task, error) {
	tasks, err := l.hooks.Trace(pids...)
	if err != nil {
		return nil, refusal(err)
	}
	return l.convertTasks(tasks), nil
}

// Tasks implements World.
func (l *Live) Tasks() ([]Task, error) {
	tasks, err := l.hooks.List()
	return l.convertTasks(tasks), err
}

func (l *Live) convertTasks(in []bpf.Task) []Task {
	out := make([]Task, len(in))
	for i, t := range in {
		out[i] = Task{
			PID: t.TGID, Inner: t.Inner, Space: t.Space, StartTime: t.StartTime,
			StartBrk: t.StartBrk, Brk: t.Brk, StartStack: t.StartStack,
			Section: t.Section, HasSection: t.HasSection && !l.byTime, Comm: t.Comm,
		}
	}
	return out
}

// Now implements World.
func (l *Live) Now() uint64 { return bpf.Now() }

// process returns the open directory of a traced process.
func (l *Live) process(pid int) (*procmaps.Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.procs[pid]; p != nil {
		return p, nil
	}
	p, err := l.fs.Process(pid)
	if err != nil {
		return nil, err
	}
	l.procs[pid] = p
	return p, nil
}

// Forget implements World.
func (l *Live) Forget(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.procs[pid]; p != nil {
		_ = p.Close() // a directory opened for reading: nothing can be lost
		delete(l.procs, pid)
	}
}

// everything is the whole address space.
var everything = procmaps.Range{Start: 0, End: ^uint64(0)}

// smapsLimit is how much resident memory smaps may be asked about, in KiB. The
// kernel holds the target's mmap lock meanwhile, 10 ms for a GiB of small pages.
const smapsLimit = 16 << 20

// Look implements World.
func (l *Live) Look(pid int, r procmaps.Range, full bool, take func(rows int) error) (Look, error) {
	look, err := l.look(pid, r, full, take)
	if errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("process %d: %w", pid, procmaps.ErrGone) // forgotten meanwhile
	}
	if errors.Is(err, procmaps.ErrGone) {
		l.Forget(pid)
	}
	return look, err
}

func (l *Live) look(pid int, r procmaps.Range, full bool, take func(rows int) error) (Look, error) {
	p, err := l.process(pid)
	if err != nil {
		return Look{}, err
	}
	if full {
		st, e := p.Status()
		if e != nil {
			return Look{}, e
		}
		full = st.VmRSSKB <= smapsLimit
	}
	look := Look{At: l.Now()}
	switch {
	case full:
		look.Rows, err = smapsRows(p, take)
	case r == everything:
		look.Rows, err = mapsRows(p, take)
	default:
		var rows []procmaps.Mapping
		if rows, err = p.Query(r); err == nil {
			look.Rows, err = rowsOf(rows), take(len(rows))
		}
	}
	if err != nil {
		return Look{}, err
	}
	look.Until = l.Now()
	tasks, err := l.hooks.List()
	if err != nil {
		return Look{}, err
	}
	for _, t := range tasks {
		if t.TGID == pid {
			look.Space, look.Section, look.HasSection = t.Space, t.Section, t.HasSection && !l.byTime
		}
	}
	if look.Space == 0 {
		return Look{}, fmt.Errorf("process %d: %w", pid, procmaps.ErrGone)
	}
	return look, nil
}

// Path implements World.
func (l *Live) Path(pid int, addr uint64, dev procmaps.Device, inode uint64) string {
	p, err := l.process(pid)
	if err != nil {
		return ""
	}
	rows, err := await.Do(l.calls, pid, func() ([]procmaps.Mapping, error) {
		return p.Query(procmaps.Range{Start: addr, End: addr + 1})
	}, nil)
	if err != nil || len(rows) == 0 || rows[0].Dev != dev || rows[0].Inode != inode {
		return "" // another is there by now
	}
	return rows[0].Name
}

// Next implements Source. Losses come as events, after what was still there.
func (l *Live) Next(ev *Event) error {
	err := l.hooks.Next(&l.ev)
	if errors.Is(err, bpf.ErrEmpty) {
		if l.stacks != nil {
			if ok, e := l.stacks.later(ev); ok || e != nil {
				return e
			}
			if len(l.stacks.next) > 0 {
				return l.Next(ev) // after that one more look
			}
		}
		return l.Loss(ev)
	}
	if err != nil {
		return err
	}
	l.convert(&l.ev, ev)
	if l.ev.Stack == 0 || l.stacks == nil {
		return nil
	}
	if ev.Sample, err = l.stacks.claim(l.ev.Stack); ev.Sample == nil {
		ev.Flags |= Unsampled
	}
	return err
}

// Loss implements order.Lossy.
func (l *Live) Loss(ev *Event) error {
	dropped, skipped, err := l.hooks.Losses()
	if err != nil {
		return err
	}
	switch {
	case dropped > l.dropped:
		*ev = Event{Kind: KindLost, Time: l.Now(), Lost: dropped - l.dropped}
		l.dropped = dropped
	case skipped > l.skipped:
		*ev = Event{Kind: order.KindSkipped, Time: l.Now(), Lost: skipped - l.skipped}
		l.skipped = skipped
	default:
		return ErrIdle
	}
	return nil
}

// Untracked tells how many address spaces and processes did not fit the
// kernel's tables and are not traced.
func (l *Live) Untracked() (uint64, error) {
	c, err := l.hooks.Counters()
	return c.NoSpace + c.NoTask, err
}

// FaultsErr says why no page faults are reported though they were asked for; nil
// if they are, or were not.
func (l *Live) FaultsErr() error { return l.hooks.FaultsErr() }

// Watch implements Sampling.
func (l *Live) Watch(tid int, addr uint64, most int) (Watchpoint, error) {
	p, err := l.hooks.Watch(tid, addr, most)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Births implements Sampling.
func (l *Live) Births(space uint64) (uint64, error) { return l.hooks.Births(space) }

// Touched implements Sampling.
func (l *Live) Touched(dst []Touch) ([]Touch, error) {
	return l.hooks.Touched(dst)
}

// PieceBytes implements Sampling.
func (l *Live) PieceBytes() uint64 { return bpf.PieceBytes() }

// StackCounters implements Sampling.
func (l *Live) StackCounters() (StackCounters, error) {
	c, err := l.hooks.Counters()
	return StackCounters{
		Chance: c.StackChance, Dropped: c.StackDropped, Busy: c.StackBusy, Unread: l.stacks.unread, Faults: c.Faults, Touches: c.Touches,
	}, err
}

// Detach stops the events; those already sent can still be read.
func (l *Live) Detach() error { return l.hooks.Detach() }

// Close detaches and frees everything.
func (l *Live) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for pid, p := range l.procs {
		errs = append(errs, p.Close())
		delete(l.procs, pid)
	}
	return errors.Join(append(errs, l.hooks.Close())...)
}

// Info implements Engine.
func (l *Live) Info() Info { return l.info }
