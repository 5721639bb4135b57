package procmaps

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Segment is a segment of System V shared memory.
type Segment struct {
	ID       int    // shmid
	Creator  int    // the process that made it; 0 if it is not to be seen from here
	Attached uint64 // how often it is mapped
	Resident uint64 // bytes in memory
	Swapped  uint64 // bytes
}

// Segments lists the System V segments of the reader's IPC namespace (/proc/sysvipc/shm);
// none where the kernel has no such memory.
func (f FS) Segments() ([]Segment, error) {
	name := filepath.Join(f.Root(), "sysvipc", "shm")
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseSegments(data, name)
}

// parseSegments reads what ipc/shm.c:sysvipc_shm_proc_show() prints.
func parseSegments(data []byte, file string) ([]Segment, error) {
	const shmid, cpid, nattch, rss, swap = 1, 4, 6, 14, 15
	var all []Segment
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return nil, err
		}
		fields := bytes.Fields(line)
		if l.n == 1 { // the header
			continue
		}
		if len(fields) <= swap {
			return nil, parseError(file, l.n, line, "too few columns")
		}
		ok := true
		number := func(i int) uint64 {
			n, rest, is := cutDec(fields[i])
			ok = ok && is && len(rest) == 0
			return n
		}
		s := Segment{
			ID: int(number(shmid) & (1<<31 - 1)), Creator: int(number(cpid) & (1<<31 - 1)),
			Attached: number(nattch), Resident: number(rss), Swapped: number(swap),
		}
		if !ok {
			return nil, parseError(file, l.n, line, "bad number")
		}
		all = append(all, s)
	}
	return all, nil
}

// SharesIPC reports whether the process is in the reader's IPC namespace: whether its
// System V segments are those of [FS.Segments].
func (p *Process) SharesIPC(f FS) bool {
	theirs, err := p.root.Readlink("ns/ipc")
	if err != nil {
		return false
	}
	ours, err := os.Readlink(filepath.Join(f.Root(), "self", "ns", "ipc"))
	return err == nil && theirs == ours
}
