package tracer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/order"
)

// DefaultPoll is the time between two looks unless told otherwise: ten looks a
// second at a process of 500 mappings take about 2 % of a CPU.
const DefaultPoll = 100 * time.Millisecond

// Poll is a Source, and its World, that needs no permission but to read /proc/PID/maps:
// it looks at that of every traced process again and again, and tells what it finds.
// What comes and goes between two looks it does not see, nor which call or
// thread it was. Children are found by their parent: those of a parent that was
// born and has ended between two looks are not.
//
// What it gives are KindLook, with the mappings if they have changed, and KindFork,
// KindExec, KindExit and KindGone, at the time when they were noticed, all with
// the flag Polled. Next is for one goroutine; the methods of World may be called
// from another at the same time.
type Poll struct {
	fs       procmaps.FS
	every    time.Duration
	noFollow bool
	calls    *await.Calls // nil for no bounds

	mu    sync.Mutex
	procs map[int]*polled
	seen  map[int]bool // processes known not to be ours, at the last look
	looks int
	space uint64 // the last number given
	due   uint64 // when the next look is
	last  bool   // one more look, and no other
	over  bool
	ready []Event // found and not told yet
}

// polled is a traced process.
type polled struct {
	pid     int
	dir     *procmaps.Process
	mem     *procmaps.AddressSpace // nil if it may not be read, or is not yet there
	err     error                  // why it may not
	space   uint64
	layout  layout
	start   uint64 // CLOCK_BOOTTIME, ns
	comm    string
	shares  *polled // whose address space this is too; nil for its own
	rows    []procmaps.Mapping
	spare   []procmaps.Mapping // what the next look is read into
	visible bool               // its addresses are, and so is how it ends
	stale   bool               // rows are older than the last look, which is told
}

// layout tells one image of a process from another, all but for certain: the
// kernel chooses the addresses anew at each execve.
type layout struct{ code, stack uint64 }

// errExecuting says that a process is amid its execve: what it has now is neither
// of the old image nor all of the new one.
var errExecuting = errors.New("it is executing a program")

// fullScan is after how many looks all processes are asked for their parents
// again, known ones too: a number may have been used again.
const fullScan = 20

// NewPoll returns a Poll that looks every so often; 0 means DefaultPoll. With
// noFollow it leaves the children of traced processes alone. Calls bounds the waiting for
// what processes can delay; nil sets no bounds.
func NewPoll(every time.Duration, noFollow bool, calls *await.Calls) *Poll {
	if every <= 0 {
		every = DefaultPoll
	}
	return &Poll{
		fs: procmaps.Default(), every: every, noFollow: noFollow, calls: calls,
		procs: make(map[int]*polled), seen: make(map[int]bool),
	}
}

// Now implements World.
func (l *Poll) Now() uint64 { return bpf.Now() }

// Trace begins to trace processes and returns those of all traced ones that
// have an address space.
func (l *Poll) Trace(pids ...int) ([]Task, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, pid := range pids {
		if l.procs[pid] != nil {
			continue
		}
		_, err := l.open(pid)
		for tries := 0; errors.Is(err, errExecuting) && tries < 100; tries++ {
			time.Sleep(time.Millisecond)
			_, err = l.open(pid)
		}
		if err != nil && !errors.Is(err, procmaps.ErrGone) && !errors.Is(err, procmaps.ErrNoMemory) {
			return nil, err
		}
	}
	if l.due == 0 {
		l.due = l.Now() + uint64(l.every)
	}
	return l.tasks(), nil
}

// open takes a process on. The error matches procmaps.ErrGone or ErrNoMemory if
// there is nothing to trace; that its memory may not be read is for Look to say.
func (l *Poll) open(pid int) (*polled, error) {
	dir, err := l.fs.Process(pid)
	if err != nil {
		return nil, err
	}
	st, err := dir.Stat()
	switch {
	case err != nil:
	case st.KernelThread() || st.Ended():
		err = fmt.Errorf("process %d: %w", pid, procmaps.ErrNoMemory)
	case executing(st):
		err = fmt.Errorf("process %d: %w", pid, errExecuting)
	}
	p := &polled{pid: pid, dir: dir}
	if err == nil {
		err = p.openMemory()
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	p.adopt(st)
	l.space++
	p.space = l.space
	l.procs[pid] = p
	return p, nil
}

// openMemory opens the address space that a process has now.
func (p *polled) openMemory() error {
	mem, err := p.dir.OpenAddressSpace()
	if errors.Is(err, procmaps.ErrGone) || errors.Is(err, procmaps.ErrNoMemory) {
		return err
	}
	if p.mem != nil {
		_ = p.mem.Close() // it was only read
	}
	p.mem, p.err, p.rows, p.stale = mem, err, p.rows[:0], false
	return nil
}

// adopt takes over what stat says.
func (p *polled) adopt(st *procmaps.Stat) {
	const ticks = 1e9 / 100 // of USER_HZ, which is 100 wherever Go runs
	p.layout, p.comm, p.start = layoutOf(st), st.Comm, st.StartTimeTicks*ticks
	p.visible = st.StartCode > 1
}

// executing tells whether a process is amid its execve. To those who may not see
// its addresses, the one of its code is 1: fs/proc/array.c:do_task_stat.
func executing(st *procmaps.Stat) bool { return st.StartCode == 0 }

func layoutOf(st *procmaps.Stat) layout { return layout{st.StartCode, st.StartStack} }

func (p *polled) close() {
	if p.mem != nil {
		_ = p.mem.Close() // both were only read
	}
	_ = p.dir.Close()
}

// Tasks implements World.
func (l *Poll) Tasks() ([]Task, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tasks(), nil
}

func (l *Poll) tasks() []Task {
	out := make([]Task, 0, len(l.procs))
	for _, p := range l.sorted() {
		out = append(out, Task{PID: p.pid, Space: p.space, StartTime: p.start, Comm: p.comm})
	}
	return out
}

// sorted are the traced processes in the order of their numbers.
func (l *Poll) sorted() []*polled {
	out := make([]*polled, 0, len(l.procs))
	for _, p := range l.procs {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *polled) int { return a.pid - b.pid })
	return out
}

// Look implements World. It never reads smaps. Of every process all rows are kept beside
// those of a look, so it takes room only once it has them.
func (l *Poll) Look(pid int, r procmaps.Range, _ bool, take func(int) error) (Look, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.procs[pid]
	if p == nil {
		return Look{}, fmt.Errorf("process %d: %w", pid, procmaps.ErrGone)
	}
	if p.mem == nil {
		return Look{}, p.err
	}
	look := Look{At: l.Now(), Space: p.space}
	rows, err := l.maps(p, nil)
	if errors.Is(err, procmaps.ErrNoMemory) {
		err = fmt.Errorf("process %d: %w", pid, procmaps.ErrGone) // or has another: see Next
	}
	if err != nil {
		return Look{}, err
	}
	rows = slices.DeleteFunc(rows, func(m procmaps.Mapping) bool { return !m.Overlaps(r) })
	if err := take(len(rows)); err != nil {
		return Look{}, err
	}
	look.Rows, look.Until = rowsOf(rows), l.Now()
	return look, nil
}

// Path implements World. No event asks for one: looks have whole paths.
func (l *Poll) Path(int, uint64, procmaps.Device, uint64) string { return "" }

// Forget implements World.
func (l *Poll) Forget(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(pid)
}

func (l *Poll) forget(pid int) {
	if p := l.procs[pid]; p != nil {
		p.close()
		delete(l.procs, pid)
	}
}

// Due is how long it is until there may be something to read.
func (l *Poll) Due() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.Now(); now < l.due && len(l.ready) == 0 {
		return time.Duration(l.due - now)
	}
	return 0
}

// Next implements Source: it looks when it is time to. After Detach it looks
// once more, and then says io.EOF.
func (l *Poll) Next(ev *Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ready) == 0 {
		switch {
		case l.over:
			return io.EOF
		case !l.last && l.Now() < l.due:
			return ErrIdle
		}
		if err := l.look(); err != nil {
			return err
		}
		// Looks that take long are not to follow each other at once.
		l.due, l.over = l.Now()+uint64(l.every), l.last
	}
	*ev, l.ready[0] = l.ready[0], Event{}
	l.ready = l.ready[1:]
	return nil
}

// tell queues an event about a process.
func (l *Poll) tell(p *polled, ev Event) {
	ev.Flags |= Polled
	ev.TGID, ev.Space = p.pid, p.space
	l.ready = append(l.ready, ev)
}

// look looks at everything once.
func (l *Poll) look() error {
	l.ready = append(l.ready[:0], Event{Kind: order.KindLook, Flags: Polled, Time: l.Now()})
	for _, p := range l.sorted() {
		if err := l.visit(p); err != nil {
			return err
		}
	}
	if l.noFollow {
		return nil
	}
	return l.findChildren()
}

// visit looks at one process.
func (l *Poll) visit(p *polled) error {
	at := l.Now()
	st, err := p.dir.Stat()
	switch {
	case errors.Is(err, procmaps.ErrGone):
		l.ended(p, at, nil)
		return nil
	case err != nil:
		return err
	case st.Ended():
		l.ended(p, at, st)
		return nil
	}
	// An address space that others share does not end when this process leaves
	// it. Addresses that are hidden now tell nothing.
	if st.StartCode > 1 && (!p.visible || layoutOf(st) != p.layout) {
		l.replaced(p, at)
		return nil
	}
	if p.mem == nil {
		if mem, e := p.dir.OpenAddressSpace(); e == nil {
			_ = mem.Close() // it was only tried
			l.replaced(p, at)
		}
		return nil
	}
	if p.shares != nil {
		if l.procs[p.shares.pid] == p.shares && p.shares.space == p.space {
			return nil // its own look shows it
		}
		p.shares = nil
	}
	err = l.read(p, at)
	if errors.Is(err, procmaps.ErrNoMemory) {
		l.replaced(p, at)
		return nil
	}
	return err
}

// read reads the mappings of a process and tells them if they have changed.
func (l *Poll) read(p *polled, at uint64) error {
	spare := p.spare
	p.spare = nil // it is whose who reads, also if that is not waited for
	rows, err := l.maps(p, spare)
	if errors.Is(err, await.ErrStalled) {
		l.stalled(p, at) // the next look may show it
		return nil
	}
	if err != nil {
		return err
	}
	same := slices.Equal(rows, p.rows)
	p.rows, p.spare, p.stale = rows, p.rows, false
	if !same {
		l.tell(p, Event{Kind: order.KindLook, Time: at, Look: &Look{Rows: rowsOf(rows), At: at, Until: l.Now(), Space: p.space}})
	}
	return nil
}

// stalled tells that the mappings of a process are as they were at an earlier look: once,
// until they are read again.
func (l *Poll) stalled(p *polled, at uint64) {
	if !p.stale {
		l.tell(p, Event{Kind: order.KindLook, Time: at, Look: &Look{Err: await.ErrStalled}})
	}
	p.stale = true
}

// maps reads the mappings of a process, into what it is given where that has room.
func (l *Poll) maps(p *polled, into []procmaps.Mapping) ([]procmaps.Mapping, error) {
	mem := p.mem
	return await.Do(l.calls, p.pid, func() ([]procmaps.Mapping, error) { return mem.Maps(into) }, nil)
}

// ended tells of the end of a process; st is nil if it is not there any more,
// which nobody can be asked about.
func (l *Poll) ended(p *polled, at uint64, st *procmaps.Stat) {
	ev := Event{Kind: KindExit, Time: at}
	if st == nil || !p.visible {
		ev.Flags = NoStatus
	} else {
		ev.Status = st.ExitStatus
	}
	l.tell(p, ev)
	l.leave(p, at)
	l.forget(p.pid)
}

// leave tells that an address space is gone, if nobody else lives in it.
func (l *Poll) leave(p *polled, at uint64) {
	for _, o := range l.procs {
		if o != p && o.space == p.space {
			return
		}
	}
	l.tell(p, Event{Kind: order.KindGone, Time: at})
}

// replaced tells that a process has another address space than it had. If it is
// not done with its execve, or about to end, the next look shows what it is.
func (l *Poll) replaced(p *polled, at uint64) {
	st, err := p.dir.Stat()
	if err != nil || executing(st) || p.openMemory() != nil {
		return
	}
	old := *p
	p.adopt(st)
	l.space++
	p.space, p.shares = l.space, nil
	ev := Event{Kind: KindExec, Time: at, Comm: p.comm}
	if p.mem == nil {
		ev.Flags = order.Incomplete // Look says why
	}
	l.tell(p, ev)
	l.leave(&old, at)
	if p.mem != nil {
		_ = l.read(p, at) // if it fails so will the next look, which says so
	}
}

// findChildren takes on the processes that the traced ones have made.
func (l *Poll) findChildren() error {
	pids, err := l.fs.Pids()
	if err != nil {
		return err
	}
	if l.looks++; l.looks%fullScan == 0 {
		clear(l.seen)
	}
	now := make(map[int]bool, len(pids))
	parents := make(map[int]int)
	for _, pid := range pids {
		switch {
		case l.procs[pid] != nil, pid == os.Getpid():
		case l.seen[pid]:
			now[pid] = true
		default:
			st, err := statOf(l.fs, pid)
			if err != nil {
				continue // it has ended, or is hidden
			}
			parents[pid] = st.PPID
		}
	}
	for found := true; found; { // a child may have a lower number than its parent
		found = false
		for _, pid := range pids {
			ppid, ok := parents[pid]
			if !ok || l.procs[ppid] == nil {
				continue
			}
			found = true
			delete(parents, pid)
			if err := l.born(pid, l.procs[ppid]); err != nil {
				return err
			}
		}
	}
	for pid := range parents {
		now[pid] = true
	}
	l.seen = now
	return nil
}

// born tells of a new child.
func (l *Poll) born(pid int, parent *polled) error {
	at := l.Now()
	p, err := l.open(pid)
	switch {
	case errors.Is(err, procmaps.ErrGone), errors.Is(err, procmaps.ErrNoMemory), errors.Is(err, errExecuting):
		return nil // it was there for too short a time, or the next look shows it
	case errors.Is(err, fs.ErrPermission):
		return nil // it is somebody else's by now, and hidden
	}
	if err != nil {
		return err
	}
	flags := Flags(0)
	switch {
	case p.layout == parent.layout && sameMemory(pid, parent.pid):
		p.shares, p.space = parent, parent.space
		flags = SharesSpace
	case p.mem == nil:
		flags = order.Incomplete // Look says why
	}
	l.tell(parent, Event{Kind: KindFork, Time: at, Flags: flags, Child: pid, ChildSpace: p.space, StartTime: p.start})
	if p.shares != nil || p.mem == nil {
		return nil
	}
	if p.layout != parent.layout && p.visible && parent.visible {
		// It has executed something since.
		l.tell(p, Event{Kind: KindExec, Time: at, Comm: p.comm})
	}
	_ = l.read(p, at) // if it fails so will the next look, which says so
	return nil
}

// sameMemory tells whether two processes share their address space, as after
// vfork. Where the kernel does not tell (CONFIG_KCMP) they are taken for two.
func sameMemory(a, b int) bool {
	const kcmpVM = 1 // include/uapi/linux/kcmp.h
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && r == 0
}

// Detach has one more look taken, which is the last.
func (l *Poll) Detach() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = true
	return nil
}

// Close frees everything.
func (l *Poll) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pid := range l.procs {
		l.forget(pid)
	}
	return nil
}

// Untracked is how many processes are not traced for want of room: none.
func (l *Poll) Untracked() (uint64, error) { return 0, nil }

// Info implements Engine. Looks show what the kernel does: there is no gate to be added.
func (l *Poll) Info() Info { return Info{Polling: l.every} }
