package symbol

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// A map is looked at for more after perfInterval, and later if that takes long: it is not
// to take a larger part of a CPU than comes back into the budget of the process.
const (
	perfInterval = 250 * time.Millisecond
	perfPause    = 200 // times the CPU time of the last look
	maxPerfPause = 5 * time.Second
)

// PerfFile is the map of one process' JIT compiler, /tmp/perf-PID.map in the
// process' own root and under its own number there. It is read when it is first
// asked, and further when it has grown. It is safe for concurrent use.
//
// Only a regular file that belongs to the process' user or to root is read: /tmp
// is everybody's.
type PerfFile struct {
	pid     int
	account *quota.Account
	maps    *perfMaps

	mu     sync.Mutex
	err    error         // of the last time it was read
	next   time.Time     // when to look again
	took   time.Duration // CPU time of the last look
	file   *regular.File
	info   os.FileInfo
	offset int64
	names  perfMap
}

// PerfFile returns the map of a process, which need not have one. What it holds is a part
// of what the cache may hold, until it is closed or its process has ended.
func (c *Cache) PerfFile(pid int) *PerfFile {
	return newPerfFile(pid, c.opts.Reads.Of("process", pid), &c.perfMaps)
}

func newPerfFile(pid int, account *quota.Account, maps *perfMaps) *PerfFile {
	return &PerfFile{pid: pid, account: account, maps: maps}
}

// Found tells whether the process has such a map, as far as it was asked for.
func (p *PerfFile) Found() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file != nil
}

// Lookup returns the function that was last compiled to addr, where it begins, and its
// size in bytes.
func (p *PerfFile) Lookup(addr uint64) (name string, start, size uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Before(p.next) {
		p.err = p.refresh() // without a map there are no names
		p.next = time.Now().Add(pause(p.took))
	}
	return p.names.lookup(addr)
}

// pause is how long no look is taken after one.
func pause(took time.Duration) time.Duration {
	return min(max(perfInterval, perfPause*took), maxPerfPause)
}

// refresh reads what has been written since. The error matches fs.ErrNotExist
// when there is no map. The lock is held.
func (p *PerfFile) refresh() error {
	op := p.account.Start()
	defer func() {
		op.End()
		p.took = op.Used()
	}()
	if err := op.Take(0); err != nil {
		return fmt.Errorf("read perf map of process %d: %w", p.pid, err)
	}
	f, info, err := p.open()
	if err != nil {
		return fmt.Errorf("read perf map of process %d: %w", p.pid, err)
	}
	if p.file != nil && sameInfo(p.info, info) && info.Size() >= p.offset {
		f.Close()
	} else { // another file, or written anew
		p.close()
		p.file, p.info = f, info
	}
	p.names.most = p.maps.room(p)
	size := info.Size() - p.offset
	n, err := p.names.readFrom(io.NewSectionReader(p.file, p.offset, size), size, op.Take)
	p.offset += n
	p.maps.count(p, p.names.bytes())
	switch {
	case err != nil:
	case p.names.junk > maxPerfJunk:
		err = fmt.Errorf("what is no function in it is %w", ErrTooLarge)
	case p.names.full:
		err = ErrTooLarge
	}
	if err != nil {
		return fmt.Errorf("read perf map of process %d: %w", p.pid, err)
	}
	return nil
}

// Err says why there are not all names of the map that there could be: it is too large
// ([ErrTooLarge]), or nobody pays for it ([quota.ErrSpent]). Of a process without a map it
// is nil.
func (p *PerfFile) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(p.err, ErrTooLarge) || errors.Is(p.err, quota.ErrSpent) {
		return p.err
	}
	return nil
}

// open finds the file and checks whose it is.
func (p *PerfFile) open() (*regular.File, os.FileInfo, error) {
	proc, err := procmaps.Default().Process(p.pid)
	if err != nil {
		return nil, nil, err
	}
	defer proc.Close()
	status, err := proc.Status()
	if err != nil {
		return nil, nil, err
	}
	number := p.pid
	if n := len(status.NStgid); n > 0 {
		number = status.NStgid[n-1]
	}
	f, info, err := regular.Open(fmt.Sprintf("/proc/%d/root", p.pid), fmt.Sprintf("/tmp/perf-%d.map", number), unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 && st.Uid != status.UID[0] && st.Uid != status.UID[1] && st.Uid != status.UID[3] {
		f.Close()
		return nil, nil, fmt.Errorf("%s: belongs to another user", info.Name())
	}
	return f, info, nil
}

// sameInfo tells whether two files are one.
func sameInfo(a, b os.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, also := b.Sys().(*syscall.Stat_t)
	return ok && also && x.Dev == y.Dev && x.Ino == y.Ino
}

func (p *PerfFile) close() {
	if p.file != nil {
		p.file.Close()
	}
	p.file, p.info, p.offset, p.names = nil, nil, 0, perfMap{}
	p.maps.count(p, 0)
}

// closeEnded closes the map if its process has ended, and nobody uses it now.
func (p *PerfFile) closeEnded() {
	if unix.Kill(p.pid, 0) != unix.ESRCH || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	p.close()
}

// Close forgets the map.
func (p *PerfFile) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	return nil
}
