package procmaps

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// procmapQuery is struct procmap_query of linux/fs.h.
type procmapQuery struct {
	size         uint64
	flags        uint64
	addr         uint64
	start        uint64
	end          uint64
	vmaFlags     uint64
	pageSize     uint64
	offset       uint64
	inode        uint64
	major, minor uint32
	nameSize     uint32 // in: of the buffer; out: with the NUL, 0 without a name
	buildIDSize  uint32
	nameAddr     uint64
	buildIDAddr  uint64
}

const (
	procmapQueryIoctl = 0xc0686611 // _IOWR('f', 17, struct procmap_query)
	coveringOrNextVMA = 0x10
)

// nameBufSize is PATH_MAX, the most that the kernel uses of a larger buffer.
const nameBufSize = 4096

// querier asks about one address space, through a descriptor of maps.
type querier struct {
	f     *os.File
	names interner
	arg   procmapQuery
	name  [nameBufSize]byte
	pin   runtime.Pinner
}

func newQuerier(f *os.File) *querier {
	q := &querier{f: f}
	q.pin.Pin(q) // the kernel writes to name through a number
	return q
}

func (q *querier) close() { q.pin.Unpin() }

// next finds the mapping that covers addr, or the next above it. It returns
// errNoQuery where the kernel cannot tell, and ErrNoMemory when the address
// space is gone.
func (q *querier) next(addr uint64, m *Mapping) (found bool, err error) {
	q.arg = procmapQuery{
		size: uint64(unsafe.Sizeof(q.arg)), flags: coveringOrNextVMA, addr: addr,
		nameSize: nameBufSize, nameAddr: uint64(uintptr(unsafe.Pointer(&q.name))),
	}
	conn, err := q.f.SyscallConn()
	if err != nil {
		return false, err
	}
	var errno syscall.Errno
	err = conn.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, procmapQueryIoctl, uintptr(unsafe.Pointer(&q.arg)))
	})
	if err != nil {
		return false, err
	}
	switch errno {
	case 0:
	case syscall.ENOENT:
		return false, nil
	case syscall.ESRCH:
		return false, ErrNoMemory
	default:
		// ENOTTY: older than 6.11, or not a proc file. ENAMETOOLONG: maps shows
		// paths of any length. Others (EPERM of a seccomp filter): maps will tell.
		return false, errNoQuery
	}
	*m = Mapping{
		Range:  Range{q.arg.start, q.arg.end},
		Mode:   Mode(q.arg.vmaFlags) & (Read | Write | Exec | Shared), // the same bits
		Offset: q.arg.offset,
		Dev:    Device{q.arg.major, q.arg.minor},
		Inode:  q.arg.inode,
	}
	if q.arg.nameSize > 0 {
		m.Name = q.names.intern(escapeNewlines(q.name[:q.arg.nameSize-1]))
	}
	return true, nil
}

// escapeNewlines gives a name the form it has in maps: fs/seq_file.c:seq_path()
// escapes the newlines of paths, the query does not.
func escapeNewlines(name []byte) []byte {
	if bytes.IndexByte(name, '\n') < 0 {
		return name
	}
	return bytes.ReplaceAll(name, []byte("\n"), []byte(`\012`))
}

// ShmDevice returns the device that maps shows for memory shared without a named
// file: System V segments, memfds and shared anonymous memory all live on one
// mount inside the kernel. It maps and unmaps a page of its own to find out.
func ShmDevice() (Device, error) {
	dev, err := shmDevice()
	if err != nil {
		return Device{}, fmt.Errorf("find the shared memory device: %w", err)
	}
	return dev, nil
}

func shmDevice() (dev Device, err error) {
	mem, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		return dev, err
	}
	defer func() { err = errors.Join(err, syscall.Munmap(mem)) }()
	p, err := Default().Process(os.Getpid())
	if err != nil {
		return dev, err
	}
	defer p.Close()
	start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
	rows, err := p.Query(Range{start, start + uint64(len(mem))})
	if err != nil {
		return dev, err
	}
	if len(rows) != 1 {
		return dev, fmt.Errorf("found %d mappings at %#x", len(rows), start)
	}
	return rows[0].Dev, nil
}
