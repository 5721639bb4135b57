package regular

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer/await"
)

// request is what the other process is asked to do.
type request struct {
	ID      uint64
	Op      operation
	File    uint64
	Root    string
	Name    string
	Resolve uint64
	Off     int64
	Len     int
	PID     int
	Addrs   []uint64
}

type operation uint8

const (
	opOpen operation = iota + 1
	opRead
	opStat
	opPath
	opKind
	opClose
	opMemory
	opList
)

// response is what came of it.
type response struct {
	ID   uint64
	File uint64
	Stat unix.Stat_t
	Data []byte
	Gone []int
	Path string
	Kind int64
	// Names are of what is in a directory.
	Names []string
	Took  time.Duration
	// Failed is the error, if there was one; Errno and Message are that of one that is no other.
	Failed  failure
	Errno   syscall.Errno
	Message string
}

type failure uint8

const (
	failedOther failure = iota + 1
	failedEOF
	failedNot
)

// mostRead is as much as is read at once: a file that gives some is not one that stalls.
const mostRead = 256 << 10

// mostNames is as many as are listed of a directory.
const mostNames = 1 << 14

// Client is the process that opens and reads files for this one.
type Client struct {
	calls *await.Calls
	conn  net.Conn

	mu      sync.Mutex // of what is written, and of the rest
	last    uint64
	waiting map[uint64]chan await.Answer[response]
	err     error           // why there will be no more answers
	stalled map[string]bool // files that have not answered in time, some of them
	blocks  []block         // those used last come first
}

// mostStalled is how many of those are remembered.
const mostStalled = 1 << 10

// Start has files opened and read by who serves at the other end of a connection, until
// the client is closed. Calls bounds the waiting.
func Start(conn net.Conn, calls *await.Calls) *Client {
	c := &Client{calls: calls, conn: conn, waiting: make(map[uint64]chan await.Answer[response]), stalled: make(map[string]bool)}
	go c.receive()
	server.Store(c)
	return c
}

// Close ends it. Files that are open there fail from now on.
func (c *Client) Close() error {
	server.CompareAndSwap(c, nil)
	return c.conn.Close()
}

// receive hands out answers to those who wait for them.
func (c *Client) receive() {
	in := bufio.NewReader(c.conn)
	for {
		var r response
		err := receive(in, &r)
		c.mu.Lock()
		if err != nil {
			c.err = fmt.Errorf("the process that reads files has ended: %w", err)
			for id, answer := range c.waiting {
				delete(c.waiting, id)
				answer <- await.Answer[response]{Err: c.err}
			}
			c.mu.Unlock()
			return
		}
		answer := c.waiting[r.ID]
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		if answer != nil {
			answer <- await.Answer[response]{Value: r, Err: r.error(), Took: r.Took}
		}
	}
}

// send asks.
func (c *Client) send(r *request) <-chan await.Answer[response] {
	answer := make(chan await.Answer[response], 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	r.ID = c.last
	err := c.err
	if err == nil {
		c.waiting[r.ID] = answer
		if err = send(c.conn, r); !errors.Is(err, errWire) {
			c.err = err
		}
	}
	if err != nil {
		delete(c.waiting, r.ID)
		answer <- await.Answer[response]{Err: err}
	}
	return answer
}

// Stalled is how many files have not answered in time, and the name of one.
func (c *Client) Stalled() (n int, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stalled), slices.Min(append(slices.Collect(maps.Keys(c.stalled)), "\xff"))
}

func (c *Client) note(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stalled) < mostStalled {
		c.stalled[name] = true
	}
}

// call asks about a file and waits for the answer. Key is who is asked.
func (c *Client) call(key any, name string, r *request) (response, error) {
	a, err := await.For(c.calls, key, func() <-chan await.Answer[response] { return c.send(r) }, func(late response) {
		if late.File != 0 {
			c.send(&request{Op: opClose, File: late.File})
		}
	})
	if errors.Is(err, await.ErrStalled) {
		c.note(name)
	}
	return a, err
}

// error is that of the call, nil if it has none.
func (r *response) error() error {
	switch {
	case r.Failed == 0:
		return nil
	case r.Failed == failedEOF:
		return io.EOF
	case r.Failed == failedNot:
		return ErrNot
	case r.Errno != 0:
		return r.Errno
	}
	return errors.New(r.Message)
}

func (c *Client) open(root, name string, resolve uint64) (*File, os.FileInfo, error) {
	a, err := c.call(openKey(root, name), full(root, name), &request{Op: opOpen, Root: root, Name: name, Resolve: resolve})
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: full(root, name), Err: err}
	}
	f := &remoteFile{client: c, number: a.File, name: full(root, name)}
	f.changes = strings.HasPrefix(f.name, "/proc/") && path.Base(f.name) == "mem"
	f.key = await.Of{Owner: openKey(root, name), What: f}
	return &File{there: f}, &fileInfo{f.name, a.Stat}, nil
}

func (c *Client) list(name string, most int) ([]string, error) {
	a, err := c.call(openKey("", name), name, &request{Op: opList, Name: name, Len: most})
	if err != nil {
		err = &os.PathError{Op: "open", Path: name, Err: err}
	}
	return a.Names, err
}

func (c *Client) ask(pid int, ask func() error) error {
	_, err := await.Do(c.calls, pid, func() (struct{}, error) { return struct{}{}, ask() }, nil)
	return err
}

func (c *Client) memory(pid int, addrs []uint64, size int) ([]byte, []int, error) {
	a, err := c.call(pid, fmt.Sprintf("the memory of process %d", pid), &request{Op: opMemory, PID: pid, Addrs: addrs, Len: size})
	return a.Data, a.Gone, err
}

// openKey is who is asked for a file: the process that it is found by, or else the file
// alone.
func openKey(root, name string) string {
	if rest, ok := strings.CutPrefix(cmp.Or(root, name), "/proc/"); ok {
		pid, _, _ := strings.Cut(rest, "/")
		return "process " + pid
	}
	return name
}

// remoteFile is a file that another process has open.
type remoteFile struct {
	client *Client
	number uint64
	name   string
	key    await.Of // of the process that it was found by

	changes bool // all the time: nothing is kept of it
}

// block is what was read of a file at a multiple of blockBytes, for those who read little
// at a time: the tables of one program are read by turns.
type block struct {
	file uint64
	at   int64
	data []byte
}

const (
	// blockBytes is what is read at least.
	blockBytes = 64 << 10
	// mostBlocks is how many are kept, of all files: there may be thousands that are open.
	mostBlocks = 32
)

// kept is a block if it is kept, or else nil.
func (c *Client) kept(file uint64, at int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.blocks, func(b block) bool { return b.file == file && b.at == at })
	if i < 0 {
		return nil
	}
	b := c.blocks[i]
	copy(c.blocks[1:], c.blocks[:i])
	c.blocks[0] = b
	return b.data
}

// keep keeps a block in place of the one that was not used for the longest time.
func (c *Client) keep(b block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = slices.Insert(c.blocks[:min(len(c.blocks), mostBlocks-1)], 0, b)
}

// drop keeps no block of a file any more.
func (c *Client) drop(file uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = slices.DeleteFunc(c.blocks, func(b block) bool { return b.file == file })
}

func (f *remoteFile) do(op string, r *request) (response, error) {
	r.File = f.number
	a, err := f.client.call(f.key, f.name, r)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &os.PathError{Op: op, Path: f.name, Err: err}
	}
	return a, err
}

func (f *remoteFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		var data []byte
		if data, err = f.piece(off+int64(n), len(p)-n); len(data) == 0 && err == nil {
			err = io.ErrUnexpectedEOF // it does not happen: a read gives something, or says why not
		}
		n += copy(p[n:], data)
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}

// piece is what the file holds at an offset, at most so much; with less there may be an
// error.
func (f *remoteFile) piece(off int64, most int) ([]byte, error) {
	if off < 0 {
		return nil, &os.PathError{Op: "read", Path: f.name, Err: unix.EINVAL}
	}
	if most >= blockBytes || f.changes {
		a, err := f.do("read", &request{Op: opRead, Off: off, Len: min(most, mostRead)})
		return a.Data, err
	}
	at := off - off%blockBytes
	data := f.client.kept(f.number, at)
	if data == nil {
		a, err := f.do("read", &request{Op: opRead, Off: at, Len: blockBytes})
		if data = a.Data; err != nil {
			return data[min(int(off-at), len(data)):], err // there may be more when it is asked again
		}
		f.client.keep(block{f.number, at, data})
	}
	return data[min(int(off-at), len(data)):], nil
}

func (f *remoteFile) stat() (os.FileInfo, error) {
	a, err := f.do("stat", &request{Op: opStat})
	if err != nil {
		return nil, err
	}
	return &fileInfo{f.name, a.Stat}, nil
}

func (f *remoteFile) path() (string, error) {
	a, err := f.do("readlink", &request{Op: opPath})
	return a.Path, err
}

func (f *remoteFile) kind() (int64, error) {
	a, err := f.do("statfs", &request{Op: opKind})
	return a.Kind, err
}

func (f *remoteFile) close() error {
	f.client.drop(f.number)
	f.client.send(&request{Op: opClose, File: f.number}) // it was only read: nobody need know what comes of it
	return nil
}

// fileInfo is what stat said.
type fileInfo struct {
	name string
	stat unix.Stat_t
}

func (i *fileInfo) Name() string       { return path.Base(i.name) }
func (i *fileInfo) Size() int64        { return i.stat.Size }
func (i *fileInfo) Mode() os.FileMode  { return os.FileMode(i.stat.Mode & 0o777) } // it is a regular file
func (i *fileInfo) ModTime() time.Time { return time.Unix(i.stat.Mtim.Unix()) }
func (i *fileInfo) IsDir() bool        { return false }
func (i *fileInfo) Sys() any {
	return &syscall.Stat_t{
		Dev: i.stat.Dev, Ino: i.stat.Ino, Mode: i.stat.Mode, Nlink: i.stat.Nlink, Uid: i.stat.Uid, Gid: i.stat.Gid, Rdev: i.stat.Rdev,
		Size: i.stat.Size, Blocks: i.stat.Blocks, Blksize: i.stat.Blksize,
		Mtim: syscall.Timespec(i.stat.Mtim), Ctim: syscall.Timespec(i.stat.Ctim), Atim: syscall.Timespec(i.stat.Atim),
	}
}
