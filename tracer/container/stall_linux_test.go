package container

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// unanswered is a connection on which nothing gets through that is about somebody.
type unanswered struct {
	net.Conn
	whom  []byte
	asked atomic.Int32 // how often
}

// Write is called for each request, and at first for what describes them.
func (u *unanswered) Write(b []byte) (int, error) {
	if bytes.Contains(b, u.whom) {
		u.asked.Add(1)
		return len(b), nil
	}
	return u.Conn.Write(b)
}

// TestAHomeThatDoesNotAnswerHoldsNothingUp has the files of one user be of a file system that
// does not answer: what other users' containers are called is still found.
func TestAHomeThatDoesNotAnswerHoldsNothingUp(t *testing.T) { //nolint:paralleltest // all files are read by way of the server
	f := machine(t, "podman-systemd-v2")
	id := strings.Repeat("0b", 32)
	const bob = "home/bob/.local/share/containers/storage"
	write(t, f.path("proc/95/cgroup"), "0::/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-"+id+".scope/container\n")
	write(t, f.path("etc/passwd"), "alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n")
	write(t, f.path(bob+"/overlay-containers/containers.json"), `[{"id": "`+id+`", "names": ["db"]}]`)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := connOf(t, fds[0]), connOf(t, fds[1])
	served := make(chan error, 1)
	go func() { served <- regular.Serve(theirs) }()
	u := &unanswered{Conn: ours, whom: []byte("/home/alice/")}
	client := regular.Start(u, await.New())
	defer func() {
		if failed := errors.Join(client.Close(), <-served); failed != nil {
			t.Error(failed)
		}
	}()
	_, err = f.Container("web")
	if !errors.Is(err, procmaps.ErrGone) || !strings.Contains(err.Error(), await.ErrStalled.Error()) {
		t.Errorf("%v, want %q in it", err, await.ErrStalled)
	}
	if n := u.asked.Load(); n != 1 {
		t.Errorf("who does not answer was asked %d times", n)
	}
	for _, other := range []string{"batch", "db"} { // root's and another user's
		if c, err := f.Container(other); err != nil {
			t.Errorf("%v, %v", c, err)
		}
	}
}

// Files that take long together, each of which is read in time, are not called stalled.
func TestFilesThatTakeLongAreGivenUpForThat(t *testing.T) {
	t.Parallel()
	slow := quota.New(perUser, allUsers).Of("user", 1000)
	n := namer{waited: map[*quota.Account]time.Duration{slow: mostWaited - time.Millisecond}}
	if err := n.wait(slow, func() error { time.Sleep(2 * time.Millisecond); return nil }); err != nil {
		t.Errorf("what was read is not used: %v", err)
	}
	if err := errors.Join(n.doubts...); errors.Is(err, await.ErrStalled) || err == nil || !strings.Contains(err.Error(), "took longer than 5s") {
		t.Errorf("it is said that %v", err)
	}
	if err := n.wait(slow, func() error { t.Error("there is another read"); return nil }); !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
}

func connOf(t *testing.T, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f) // a copy of it
	if err != nil {
		t.Fatal(err)
	}
	return c
}
