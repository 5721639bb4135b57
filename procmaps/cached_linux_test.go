package procmaps

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatOfOpenFilesIsCached writes a file and wants it found, by two descriptors once.
func TestWhatOfOpenFilesIsCached(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err = f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	p, err := Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	files, err := p.CachedFiles(1 << 16)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(files, func(a, b CachedFile) int { return int(b.Bytes>>12) - int(a.Bytes>>12) }) {
		t.Errorf("not the largest first: %+v", files)
	}
	found := 0
	for _, c := range files {
		if c.Path == name {
			found++
			if c.Bytes < size || c.Dirty > c.Bytes || c.Inode == 0 {
				t.Errorf("%+v, want %d bytes", c, size)
			}
		}
	}
	var st unix.Statfs_t
	if err = unix.Statfs(name, &st); err != nil {
		t.Fatal(err)
	}
	const ext4, xfs, btrfs, overlay = 0xef53, 0x58465342, 0x9123683e, 0x794c7630
	if want := slices.Contains([]int64{ext4, xfs, btrfs, overlay}, st.Type); found > 1 || want != (found == 1) {
		t.Errorf("it is found %d times, on a file system of type %#x", found, st.Type)
	}
}

func TestFilesOfSeveralProcessesAreJoined(t *testing.T) {
	t.Parallel()
	a, b := CachedFile{FileID: FileID{Inode: 1}, Path: "a", Bytes: 5}, CachedFile{FileID: FileID{Inode: 2}, Path: "b", Bytes: 9}
	other := CachedFile{FileID: FileID{Device{Major: 1}, 1}, Path: "a", Bytes: 5}
	if got := MergeCached([]CachedFile{a, b}, nil, []CachedFile{a, other}); len(got) != 3 || got[0] != b {
		t.Errorf("%+v", got)
	}
}
