package regular

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Serve opens and reads files for a [Client] at the other end of a connection, until that
// ends. Each request has a goroutine: one that waits for ever keeps none of the others.
func Serve(conn net.Conn) error {
	s := &serving{files: make(map[uint64]*os.File), conn: conn}
	in := bufio.NewReader(conn)
	for {
		var r request
		if err := receive(in, &r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		go s.answer(&r)
	}
}

type serving struct {
	mu    sync.Mutex
	files map[uint64]*os.File
	last  uint64

	out  sync.Mutex // of writing
	conn net.Conn
}

func (s *serving) answer(r *request) {
	began := time.Now()
	a, err := s.do(r)
	a.ID, a.Took = r.ID, time.Since(began)
	a.fail(err)
	s.out.Lock()
	defer s.out.Unlock()
	// It fails if the client is gone, as its requests do.
	if err = send(s.conn, &a); errors.Is(err, errWire) {
		a = response{ID: a.ID, Took: a.Took}
		a.fail(err)
		_ = send(s.conn, &a)
	}
}

// fail says that there was an error, if there was.
func (r *response) fail(err error) {
	if err == nil {
		return
	}
	switch r.Failed = failedOther; {
	case errors.Is(err, io.EOF):
		r.Failed = failedEOF
	case errors.Is(err, ErrNot):
		r.Failed = failedNot
	}
	_ = errors.As(err, &r.Errno) // 0 if it has none
	r.Message = err.Error()
	r.Message = r.Message[:min(len(r.Message), mostText)]
}

func (s *serving) do(r *request) (a response, err error) {
	if r.Op == opOpen {
		f, info, failed := openHere(r.Root, r.Name, r.Resolve)
		if failed != nil {
			return a, failed
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last++
		s.files[s.last] = f
		a.File, a.Stat = s.last, statOf(info)
		return a, nil
	}
	switch r.Op {
	case opMemory:
		a.Data, a.Gone, err = memoryHere(r.PID, r.Addrs, r.Len)
		return a, err
	case opList:
		a.Names, err = listHere(r.Name, min(max(r.Len, 1), mostNames))
		return a, err
	}
	s.mu.Lock()
	f := s.files[r.File]
	if r.Op == opClose {
		delete(s.files, r.File)
	}
	s.mu.Unlock()
	if f == nil {
		return a, os.ErrClosed
	}
	switch r.Op {
	case opRead:
		a.Data = make([]byte, min(max(r.Len, 0), mostRead))
		var n int
		n, err = f.ReadAt(a.Data, r.Off)
		a.Data = a.Data[:n]
	case opStat:
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			a.Stat = statOf(info)
		}
	case opPath:
		a.Path, err = pathOf(f)
	case opKind:
		a.Kind, err = kindOf(f)
	case opClose:
		err = f.Close()
	default:
		err = unix.ENOSYS
	}
	return a, err
}

func statOf(info os.FileInfo) (st unix.Stat_t) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		st = unix.Stat_t{
			Dev: s.Dev, Ino: s.Ino, Mode: s.Mode, Nlink: s.Nlink, Uid: s.Uid, Gid: s.Gid, Rdev: s.Rdev,
			Size: s.Size, Blocks: s.Blocks, Blksize: s.Blksize,
			Mtim: unix.Timespec(s.Mtim), Ctim: unix.Timespec(s.Ctim), Atim: unix.Timespec(s.Atim),
		}
	}
	return st
}

func kindOf(f *os.File) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return fs.Type, nil
}
