//go:build linux

package sample

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
)

const mountinfo = `21 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
211 21 0:44 / /a\040-\040b rw,nosuid - fuse.sshfs host:/ rw,user_id=1000
212 21 0:45 / /c rw - overlay overlay rw,lowerdir=/a
213 21 0:46 / /d rw -
`

func TestTheFileSystemOfAMountIsInMountinfo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mount uint64
		want  string
	}{{21, "ext4"}, {211, "fuse.sshfs"}, {212, "overlay"}, {213, ""}, {2, ""}, {1, ""}} {
		if kind, ok := fileSystem([]byte(mountinfo), tt.mount); kind != tt.want || ok != (tt.want != "") {
			t.Errorf("mount %d: %q, %v; want %q", tt.mount, kind, ok, tt.want)
		}
	}
}

func FuzzFileSystem(f *testing.F) {
	f.Add([]byte(mountinfo), uint64(211))
	f.Fuzz(func(t *testing.T, text []byte, mount uint64) {
		kind, ok := fileSystem(text, mount)
		if ok != (kind != "") || strings.ContainsAny(kind, " ") || ok && !strings.Contains(string(text), " - "+kind+" ") {
			t.Errorf("%q, %v", kind, ok)
		}
	})
}

func TestTheFileOfAMappingIsOpenedAndNoOther(t *testing.T) {
	t.Parallel()
	proc, err := procmaps.Default().Process(unix.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	rows, err := proc.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rows {
		if m.Inode == 0 || m.Mode&procmaps.Exec == 0 {
			continue
		}
		f, err := openMapped(procmaps.Default(), unix.Getpid(), &m)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		m.Inode++
		if _, err := openMapped(procmaps.Default(), unix.Getpid(), &m); err == nil || !strings.Contains(err.Error(), "replaced") {
			t.Errorf("a file with another inode: %v", err)
		}
		return
	}
	t.Fatal("we have no code of a file")
}
