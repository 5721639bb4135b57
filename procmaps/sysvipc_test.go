package procmaps

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someSegments = `       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0   26705920   600                 65536 16992 16992      0 65534 65534 65534 65534 1795988021 1795988021 1795988021                  8192                  4096
 -17234234          7   666                    50     0 20522      3     0     0     0     0 1795970802 1795970803 1795970802                     0                     0
`

func TestSegmentsOfSystemV(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fs, err := NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	if got, e := fs.Segments(); e != nil || got != nil {
		t.Errorf("%v, %v without the file", got, e)
	}
	if err = os.Mkdir(filepath.Join(root, "sysvipc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(filepath.Join(root, "sysvipc", "shm"), []byte(someSegments), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := fs.Segments()
	if err != nil {
		t.Fatal(err)
	}
	want := []Segment{{ID: 26705920, Creator: 16992, Resident: 8192, Swapped: 4096}, {ID: 7, Attached: 3}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"header\n1 2 3\n", "header\n0 x 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", "header"} {
		if _, err = parseSegments([]byte(bad), "shm"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseSegments(f *testing.F) {
	f.Add([]byte(someSegments))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseSegments(data, "shm")
		if err != nil && got != nil {
			t.Errorf("%v and %v", got, err)
		}
		for _, s := range got {
			if s.ID < 0 || s.Creator < 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}
