// Package regular opens files whose names come from those who are traced, or from
// other users: what is not a regular file is not opened.
//
// Such a file may be of a file system that another user serves (FUSE). Once such a server
// has taken a request, a thread waits for the answer whatever happens, a SIGKILL included,
// and the process of that thread is not gone before. So files are opened and read by
// another process ([Serve]) that may be left to itself, if one was started ([Start]).
package regular

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// ErrNot says that something else than a regular file has the name.
var ErrNot = errors.New("not a regular file")

// File is a file open for reading. It is safe for concurrent use.
type File struct {
	here  *os.File
	there *remoteFile // in another process, if here is nil
}

// server is the process that opens and reads; nil if this one does.
var server atomic.Pointer[Client]

// Open opens a regular file for reading under a root, which nothing in the path leads
// out of; resolve is what else openat2(2) is to refuse. Without a root it opens what
// the name means to us. What the path leads to is looked at before it is opened:
// opening a FIFO or a device has effects. Errors are an [*os.PathError], with [ErrNot]
// for what is no regular file, or match await.ErrStalled. Minimum kernel: 5.6.
func Open(root, name string, resolve uint64) (*File, os.FileInfo, error) {
	if c := server.Load(); c != nil {
		return c.open(root, name, resolve)
	}
	f, info, err := openHere(root, name, resolve)
	if err != nil {
		return nil, nil, err
	}
	return &File{here: f}, info, nil
}

// List is the names of what is in a directory, no more than most, in no order. Errors are
// an [*os.PathError].
func List(name string, most int) ([]string, error) {
	if c := server.Load(); c != nil {
		return c.list(name, most)
	}
	return listHere(name, most)
}

// Ask calls what asks a process something in another way than by a file, and waits for it
// as for the files that another process reads. Ask must not touch anything that others
// use. Without such a process it waits for as long as it takes.
func Ask(pid int, ask func() error) error {
	if c := server.Load(); c != nil {
		return c.ask(pid, ask)
	}
	return ask()
}

// Name is what it was opened by, root and name.
func (f *File) Name() string {
	if f.here == nil {
		return f.there.name
	}
	return f.here.Name()
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.here == nil {
		return f.there.ReadAt(p, off)
	}
	return f.here.ReadAt(p, off)
}

// Stat is what the file is now.
func (f *File) Stat() (os.FileInfo, error) {
	if f.here == nil {
		return f.there.stat()
	}
	return f.here.Stat()
}

// Path is the path of the file as it is now, with " (deleted)" after it if it has none
// any more.
func (f *File) Path() (string, error) {
	if f.here == nil {
		return f.there.path()
	}
	return pathOf(f.here)
}

func pathOf(f *os.File) (string, error) { return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())) }

// Kind is the number of the kind of its file system, as statfs(2) has it.
func (f *File) Kind() (int64, error) {
	if f.here == nil {
		return f.there.kind()
	}
	return kindOf(f.here)
}

// Close closes it. Where another process has it that is not waited for.
func (f *File) Close() error {
	if f.here == nil {
		return f.there.close()
	}
	return f.here.Close()
}
