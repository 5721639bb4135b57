package procmaps

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
)

// FS is a directory laid out like /proc. The zero value is /proc itself.
type FS struct{ root string }

// Default returns the machine's own /proc.
func Default() FS { return FS{} }

// NewFS returns the FS rooted at the directory root.
func NewFS(root string) (FS, error) {
	info, err := os.Stat(root)
	if err != nil {
		return FS{}, fmt.Errorf("open proc root: %w", err)
	}
	if !info.IsDir() {
		return FS{}, fmt.Errorf("open proc root %s: %w", root, syscall.ENOTDIR)
	}
	return FS{root: root}, nil
}

// Root returns the directory.
func (f FS) Root() string {
	if f.root == "" {
		return "/proc"
	}
	return f.root
}

// Pids lists the processes, ascending. Any of them may be gone when it is opened.
func (f FS) Pids() ([]int, error) {
	entries, err := os.ReadDir(f.Root())
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return numbers(entries), nil
}

func numbers(entries []fs.DirEntry) []int {
	var ids []int
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && id > 0 && e.IsDir() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Process opens the directory of a process, or of any of its threads by its
// thread ID. All later reads go through it: they are about that process and
// fail with [ErrGone] once it has been reaped, even when the number is in use again.
// The caller must Close it. A process that does not exist is ErrGone.
func (f FS) Process(pid int) (*Process, error) {
	dir := filepath.Join(f.Root(), strconv.Itoa(pid))
	root, err := os.OpenRoot(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return nil, fmt.Errorf("open %s: %w", dir, ErrGone)
	case err != nil:
		return nil, fmt.Errorf("open process: %w", err)
	}
	return &Process{pid: pid, dir: dir, root: root}, nil
}

// Process reads the files of one process. It holds one file descriptor and is
// safe for concurrent use.
//
// Errors match [ErrGone] when the process has ended and has been reaped, and
// [fs.ErrPermission] when the reader may not see the file: maps, smaps and their
// kin want the right to trace the process.
type Process struct {
	pid  int
	dir  string
	root *os.Root
	rows atomic.Int64 // mappings found last, to allocate once for the next read
}

// PID returns the number the process was opened with.
func (p *Process) PID() int { return p.pid }

// Close releases the descriptor. Reads after it fail.
func (p *Process) Close() error { return p.root.Close() }

// Maps reads the mappings, in address order. The result is empty, without an
// error, for a process without an address space: a kernel thread or a zombie.
// When the leader has ended and other threads live on, theirs are read.
//
// The kernel does not hold the process still while it is read: mappings made or
// removed meanwhile may or may not show. A row that the kernel began before the
// end of the last one is cut to the part that follows it, so the result never
// overlaps. When the address space is replaced meanwhile (exec), it is read again.
func (p *Process) Maps() ([]Mapping, error) {
	var rows []Mapping
	found, err := p.memory("maps", func(r io.Reader, file string) (int, error) {
		hint := p.rows.Load()
		parser := mapsParser{mend: true}
		var err error
		rows, err = parser.all(newLines(r, file), make([]Mapping, 0, hint+hint/16+64))
		return len(rows), err
	})
	if !found || err != nil {
		return nil, err
	}
	p.rows.Store(int64(len(rows)))
	return rows, nil
}

// RowFunc takes the rows of maps or smaps as they are read, in address order. What it is
// given is valid until it returns; an error ends the read. N is how many rows came before
// this one: if that is 0 again, the address space was replaced, and what came before does
// not count.
type RowFunc[R any] func(n int, row *R) error

// ScanMaps is [Process.Maps] row by row, in constant memory. Found is whether there is an
// address space.
func (p *Process) ScanMaps(fn RowFunc[Mapping]) (found bool, err error) {
	return p.memory("maps", func(r io.Reader, file string) (n int, err error) {
		parser := mapsParser{mend: true}
		err = parser.scan(newLines(r, file), func(m *Mapping) error {
			n++
			return fn(n-1, m)
		})
		return n, err
	})
}

// ScanSmaps is [Process.Smaps] row by row, as [Process.ScanMaps] is.
func (p *Process) ScanSmaps(fn RowFunc[SmapsRow]) (found bool, err error) {
	return p.memory("smaps", func(r io.Reader, file string) (n int, err error) {
		parser := newSmapsParser()
		parser.maps.mend = true
		parser.emit = func(row *SmapsRow, _ []uint64) error {
			n++
			return fn(n-1, row)
		}
		_, err = parser.parse(newLines(r, file))
		return n, err
	})
}

// Smaps reads smaps, under the rules of [Process.Maps]. It makes the kernel walk
// the page tables and is 10 times as slow as Maps, or more; the target's own
// mapping calls wait for pieces of that.
func (p *Process) Smaps() (*Smaps, error) {
	var s *Smaps
	found, err := p.memory("smaps", func(r io.Reader, file string) (int, error) {
		parser := newSmapsParser()
		parser.maps.mend = true
		parser.hint = int(p.rows.Load())
		var err error
		if s, err = parser.parse(newLines(r, file)); err != nil {
			return 0, err
		}
		return len(s.Rows), nil
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return &Smaps{}, nil
	}
	p.rows.Store(int64(len(s.Rows)))
	return s, nil
}

// Rollup reads smaps_rollup, the sum of smaps (4.14+). It returns nil, without
// an error, for a process without an address space.
func (p *Process) Rollup() (*SmapsRow, error) {
	var row *SmapsRow
	found, err := p.memory("smaps_rollup", func(r io.Reader, file string) (int, error) {
		data, err := io.ReadAll(r)
		if err != nil || len(data) == 0 {
			return 0, err
		}
		if row, err = ParseRollup(data, file); err != nil {
			return 0, err
		}
		return 1, nil
	})
	if !found || err != nil {
		return nil, err
	}
	return row, nil
}

// Stat reads stat.
func (p *Process) Stat() (*Stat, error) { return p.stat(".") }

func (p *Process) stat(dir string) (*Stat, error) {
	name := filepath.Join(dir, "stat")
	data, err := p.read(name)
	if err != nil {
		return nil, err
	}
	return ParseStat(data, p.file(name))
}

// Status reads status. Where the leader has ended before other threads, the lines
// about memory are those of a thread that has some.
func (p *Process) Status() (*Status, error) {
	s, err := p.status(".")
	if err != nil || s.HasMemory || !p.leaderEnded() {
		return s, err
	}
	p.anyThread(func(dir string) bool {
		t, e := p.status(dir)
		if e != nil || !t.HasMemory {
			return false
		}
		t.Name, t.State, t.Pid, t.NSpid, t.TracerPid = s.Name, s.State, s.Pid, s.NSpid, s.TracerPid
		t.UID, t.GID = s.UID, s.GID
		t.VoluntarySwitches, t.NonvoluntarySwitches = s.VoluntarySwitches, s.NonvoluntarySwitches
		s = t
		return true
	})
	return s, nil
}

func (p *Process) status(dir string) (*Status, error) {
	name := filepath.Join(dir, "status")
	data, err := p.read(name)
	if err != nil {
		return nil, err
	}
	return ParseStatus(data, p.file(name))
}

// Cgroup reads cgroup: the leader's, or that of a thread which outlives it. Of a
// thread that has ended the kernel shows the root of each v1 hierarchy
// (kernel/cgroup/cgroup.c:proc_cgroup_show()), and of v2 where it was then: the
// others may have been moved since.
func (p *Process) Cgroup() ([]Cgroup, error) {
	groups, err := p.cgroup(".")
	if err != nil || !p.leaderEnded() {
		return groups, err
	}
	p.anyThread(func(dir string) bool {
		if st, e := p.stat(dir); e != nil || st.Dead() {
			return false
		}
		living, e := p.cgroup(dir)
		if e == nil {
			groups = living
		}
		return e == nil
	})
	return groups, nil
}

// leaderEnded reports whether the leader has ended before other threads. What
// cannot be read has not: a copy of the files may lack it.
func (p *Process) leaderEnded() bool {
	st, err := p.Stat()
	return err == nil && st.Dead() && !st.Ended()
}

func (p *Process) cgroup(dir string) ([]Cgroup, error) {
	name := filepath.Join(dir, "cgroup")
	data, err := p.read(name)
	if err != nil {
		return nil, err
	}
	return ParseCgroup(data, p.file(name))
}

// Cmdline reads the raw command line: arguments that each end in a NUL, unless
// the process has overwritten them. It is empty for kernel threads and zombies.
func (p *Process) Cmdline() ([]byte, error) { return p.read("cmdline") }

// Comm reads the thread's name, raw: it may hold any byte but NUL.
func (p *Process) Comm() (string, error) {
	data, err := p.read("comm")
	return string(bytes.TrimSuffix(data, []byte("\n"))), err
}

// Exe returns the path of the executable as the kernel shows it, also if the leader
// has ended before other threads. The error matches [fs.ErrNotExist] when there is
// none: kernel threads and zombies.
func (p *Process) Exe() (string, error) {
	path, err := p.root.Readlink("exe")
	if err == nil {
		return path, nil
	}
	if errors.Is(err, fs.ErrNotExist) && p.leaderEnded() && p.anyThread(func(dir string) bool {
		var e error
		path, e = p.root.Readlink(filepath.Join(dir, "exe"))
		return e == nil
	}) {
		return path, nil
	}
	return "", p.fail("exe", err)
}

// Threads lists the thread IDs, ascending. It includes a leader that has ended.
func (p *Process) Threads() ([]int, error) {
	d, err := p.root.Open("task")
	if err != nil {
		return nil, p.fail("task", err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, p.fail("task", err)
	}
	return numbers(entries), nil
}

// anyThread calls f with the directory of each thread, the leader's too, until f has
// found what it looks for, and reports whether it has. A process that is gone, or a
// copy of the files that lacks them, has no threads.
func (p *Process) anyThread(f func(dir string) bool) bool {
	tids, err := p.Threads()
	return err == nil && slices.ContainsFunc(tids, func(tid int) bool {
		return f(filepath.Join("task", strconv.Itoa(tid)))
	})
}

func (p *Process) file(name string) string { return filepath.Join(p.dir, name) }

// read returns a whole file.
func (p *Process) read(name string) ([]byte, error) {
	f, err := p.root.Open(name)
	if err != nil {
		return nil, p.fail(name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, p.fail(name, err)
	}
	return data, nil
}

// fail words the error of an operation on one of the process' files.
func (p *Process) fail(name string, err error) error {
	// The same ENOENT means a file this kernel does not have.
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrNotExist) && p.gone() {
		err = ErrGone
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("read %s: %w", p.file(name), err)
}

// gone reports whether the directory no longer stands for a process.
func (p *Process) gone() bool {
	d, err := p.root.Open(".")
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	defer d.Close()
	_, err = d.ReadDir(1)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// readFunc reads a file that shows an address space and returns how many rows it
// found. It may be called more than once; only what the last call read counts.
type readFunc func(r io.Reader, file string) (int, error)

// CheckMaps returns the error that Maps would have because the process may not be
// looked at, or is gone. It opens the file and reads nothing, so it does not wait for the
// mmap lock, as reading does.
func (p *Process) CheckMaps() error {
	_, err := p.memory("maps", nil)
	return err
}

// memory calls read with one of the files that show an address space: the
// leader's, or that of a thread which outlives it. It reports whether there was
// any; that there is none is no error if the process is there. Without read it is only
// opened.
func (p *Process) memory(name string, read readFunc) (found bool, err error) {
	err = p.memoryOf(".", name, read)
	if !errors.Is(err, ErrNoMemory) {
		return err == nil, err
	}
	if p.anyThread(func(dir string) bool {
		err = p.memoryOf(dir, name, read)
		return !errors.Is(err, ErrNoMemory) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrGone)
	}) {
		return err == nil, err
	}
	if p.gone() {
		return false, fmt.Errorf("read %s: %w", p.file(name), ErrGone)
	}
	// Threads that could not be listed may have some.
	if _, err := p.Threads(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return false, nil
}

// memoryOf is memory for the files of one thread. The kernel ends the text early
// and without an error when the address space goes away while it is read, which
// must not pass for a short list. A second descriptor, opened before, tells: it
// stands for the address space and not the process, so it shows nothing any more.
func (p *Process) memoryOf(dir, name string, read readFunc) error {
	// Every exec can end one reading; more of them in a row is no accident.
	const attempts = 4
	for range attempts {
		guard, err := p.openMemory(dir, "maps")
		if err != nil && (name == "maps" || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		if read == nil {
			return guard.Close()
		}
		n, err := p.readMemory(dir, name, guard, read)
		alive := guard == nil || !empty(guard)
		if guard != nil {
			guard.Close()
		}
		switch {
		case err == nil && n > 0 && alive:
			return nil
		case errors.Is(err, ErrNoMemory), errors.Is(err, syscall.ESRCH), err == nil && n == 0:
			return ErrNoMemory
		case err != nil && alive:
			return err
		}
	}
	return fmt.Errorf("read %s: the process replaced its address space %d times meanwhile",
		p.file(filepath.Join(dir, name)), attempts)
}

// openMemory opens a file that shows an address space.
func (p *Process) openMemory(dir, name string) (*os.File, error) {
	f, err := p.root.Open(filepath.Join(dir, name))
	// Since 6.16 opening says what older kernels show as an empty file.
	if errors.Is(err, syscall.ESRCH) {
		return nil, ErrNoMemory
	}
	if err != nil {
		return nil, p.fail(filepath.Join(dir, name), err)
	}
	return f, nil
}

// readMemory reads the file; for maps itself the guard is the file.
func (p *Process) readMemory(dir, name string, guard *os.File, read readFunc) (int, error) {
	f := guard
	if name != "maps" {
		var err error
		if f, err = p.openMemory(dir, name); err != nil {
			return 0, err
		}
		defer f.Close()
	}
	file := p.file(filepath.Join(dir, name))
	n, err := read(f, file)
	if err != nil && !errors.Is(err, ErrParse) && !errors.Is(err, syscall.ESRCH) {
		err = p.fail(filepath.Join(dir, name), err)
	}
	return n, err
}

// empty reports whether the file has no content (any more). It leaves the
// position alone.
func empty(f *os.File) bool {
	n, err := f.ReadAt(make([]byte, 1), 0)
	return n == 0 && err != nil
}
