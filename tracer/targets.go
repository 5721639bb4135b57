package tracer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// ErrNoMemory says that a process has no address space: a kernel thread or a
// zombie.
var ErrNoMemory = errors.New("it has no memory of its own")

// FindComm lists the processes whose name is comm, as /proc/PID/comm has it
// (15 bytes at most). None is an error that matches procmaps.ErrGone.
func FindComm(fs procmaps.FS, comm string) ([]int, error) {
	if len(comm) > 15 {
		comm = comm[:15] // what the kernel keeps: TASK_COMM_LEN
	}
	var found []int
	err := eachProcess(fs, func(pid int, st *procmaps.Stat) {
		if st.Comm == comm && !st.KernelThread() {
			found = append(found, pid)
		}
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no process is called %q: %w", comm, procmaps.ErrGone)
	}
	return found, err
}

// Descendants lists the processes below roots, roots included, as they are now.
func Descendants(fs procmaps.FS, roots []int) ([]int, error) {
	children := make(map[int][]int)
	err := eachProcess(fs, func(pid int, st *procmaps.Stat) {
		children[st.PPID] = append(children[st.PPID], pid)
	})
	if err != nil {
		return nil, err
	}
	all := slices.Clone(roots)
	for i := 0; i < len(all); i++ {
		for _, c := range children[all[i]] {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// eachProcess calls fn for every process; those that go meanwhile are skipped.
func eachProcess(fs procmaps.FS, fn func(pid int, st *procmaps.Stat)) error {
	pids, err := fs.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		st, err := statOf(fs, pid)
		if errors.Is(err, procmaps.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		fn(pid, st)
	}
	return nil
}

func statOf(fs procmaps.FS, pid int) (*procmaps.Stat, error) {
	p, err := fs.Process(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Stat()
}

// CheckTarget tells why a process cannot be traced, nil if it can: it does not
// exist (procmaps.ErrGone), it is a kernel thread or a zombie (ErrNoMemory), or
// its mappings may not be read (fs.ErrPermission).
func CheckTarget(fs procmaps.FS, pid int) error {
	p, err := fs.Process(pid)
	if errors.Is(err, procmaps.ErrGone) {
		return fmt.Errorf("process %d: %w", pid, procmaps.ErrGone)
	}
	if err != nil {
		return err
	}
	defer p.Close()
	st, err := p.Stat()
	switch {
	case errors.Is(err, procmaps.ErrGone):
		return fmt.Errorf("process %d: %w", pid, procmaps.ErrGone)
	case err != nil:
		return err
	case st.KernelThread():
		return fmt.Errorf("process %d (%s) is a kernel thread: %w", pid, st.Comm, ErrNoMemory)
	case st.Ended():
		return fmt.Errorf("process %d (%s) is a zombie: %w", pid, st.Comm, ErrNoMemory)
	}
	if status, err := p.Status(); err == nil && status.Tgid != status.Pid {
		return fmt.Errorf("%d is a thread of process %d: name that", pid, status.Tgid)
	}
	if err := p.CheckMaps(); err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	return nil
}
