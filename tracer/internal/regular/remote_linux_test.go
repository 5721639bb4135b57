package regular

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer/await"
)

// serveHere has a client served by this process. It is not what Open uses.
func serveHere(t *testing.T) (c *Client, theirs net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan error)
	go func() { done <- Serve(theirs) }()
	c = Start(ours, await.New())
	server.Store(nil)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), <-done); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
	return c, theirs
}

func TestAnotherProcessReadsWhatThisOneWould(t *testing.T) {
	t.Parallel()
	c, _ := serveHere(t)
	name := filepath.Join(t.TempDir(), "file")
	want := make([]byte, 3*mostRead+123)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range want {
		want[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(name, want, 0o640); err != nil {
		t.Fatal(err)
	}
	f, info, err := c.open("/", name, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(here.Sys(), info.Sys(), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "X__unused" }, cmp.Ignore())); diff != "" {
		t.Errorf("stat (-here +there):\n%s", diff)
	}
	if info.Name() != here.Name() || info.Size() != here.Size() || !info.ModTime().Equal(here.ModTime()) || info.Mode() != here.Mode() {
		t.Errorf("got %v %v %v %v", info.Name(), info.Size(), info.ModTime(), info.Mode())
	}
	if path, failed := f.Path(); path != name || failed != nil {
		t.Errorf("path %q, %v", path, failed)
	}
	local, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if kind, err := f.Kind(); err != nil {
		t.Error(err)
	} else if want, err := kindOf(local); kind != want || err != nil {
		t.Errorf("kind %#x, want %#x, %v", kind, want, err)
	}
	for range 300 {
		n, off := r.IntN(1<<r.IntN(20)), int64(r.IntN(len(want)+1000))
		got, also := make([]byte, n), make([]byte, n)
		gotN, gotErr := f.ReadAt(got, off)
		wantN, wantErr := local.ReadAt(also, off)
		if gotN != wantN || !errors.Is(gotErr, wantErr) || !bytes.Equal(got, also) {
			t.Fatalf("%d bytes at %d: got %d, %v; want %d, %v", n, off, gotN, gotErr, wantN, wantErr)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfAnotherProcessAreThoseOfThisOne(t *testing.T) {
	t.Parallel()
	c, theirs := serveHere(t)
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.open(dir, "/missing", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if _, _, err := c.open(dir, "/fifo", 0); !errors.Is(err, ErrNot) {
		t.Errorf("a FIFO: %v", err)
	}
	if _, _, err := c.open("", "/proc/4194305/exe", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
	if _, _, err := c.open(filepath.Join(dir, "fifo"), "/x", 0); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a root that is none: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := c.open(dir, "/file", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 5), 0); !errors.Is(err, io.EOF) {
		t.Errorf("beyond its end: %v", err)
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("before its beginning: %v", err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 1<<20), 0); err == nil {
		t.Error("it is read by a process that has ended")
	}
}

func TestWhatWasReadLastIsKept(t *testing.T) {
	t.Parallel()
	c, _ := serveHere(t)
	dir := t.TempDir()
	open := func(name string, content []byte) *File {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, _, err := c.open("/", name, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	asked := func() uint64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.blocks) > mostBlocks {
			t.Errorf("%d blocks are kept, at most %d", len(c.blocks), mostBlocks)
		}
		return c.last
	}
	read := func(f *File, off int64, want byte) {
		t.Helper()
		var b [2]byte
		if _, err := f.ReadAt(b[:], off); err != nil || b != [2]byte{want, want} {
			t.Errorf("at %d: %d, %v, want %d", off, b, err, want)
		}
	}

	// As the tables of a program are read: by turns, in no order.
	f := open("tables", bytes.Repeat([]byte{7}, mostBlocks*blockBytes+1))
	before := asked()
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		read(f, r.Int64N(mostBlocks*blockBytes-2), 7)
	}
	if n := asked() - before; n > mostBlocks {
		t.Errorf("%d blocks were asked for %d times", mostBlocks, n)
	}
	// One that is used stays, others come and go.
	for i := range 3 * mostBlocks {
		other := open(strconv.Itoa(i), bytes.Repeat([]byte{byte(i)}, 2*blockBytes))
		defer other.Close()
		read(other, 1, byte(i))
		before = asked()
		if read(f, 0, 7); i > 0 && asked() != before {
			t.Error("what is used all the time is asked for again")
		}
	}
	before = asked()
	if read(f, 1, 7); asked() != before {
		t.Error("what was used last is asked for again")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if slices.ContainsFunc(c.blocks, func(b block) bool { return b.file == f.there.number }) {
		t.Error("what was read of a file is kept when it is closed")
	}
}

func TestDirectoriesAreListedAsHere(t *testing.T) {
	t.Parallel()
	c, _ := serveHere(t)
	dir := t.TempDir()
	want := []string{"a", "fifo", "größe"}
	for _, name := range []string{"a", "größe"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string]func(string, int) ([]string, error){"here": listHere, "there": c.list} {
		got, err := list(dir, 10)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if got, err := list(dir, 2); len(got) != 2 || err != nil {
			t.Errorf("%s: %q of at most 2, %v", name, got, err)
		}
		// Who opens a FIFO waits for somebody to write to it.
		if got, err := list(fifo, 10); !errors.Is(err, unix.ENOTDIR) || got != nil {
			t.Errorf("%s: a FIFO: %q, %v", name, got, err)
		}
		if _, err := list(filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: nothing: %v", name, err)
		}
	}
}
