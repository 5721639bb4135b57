package procmaps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSysctls(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f, err := NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.PerfEventParanoid(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	for path, text := range map[string]string{"sys/kernel/perf_event_paranoid": "-1\n", "sys/vm/max_map_count": "lots\n"} {
		path = filepath.Join(root, path)
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err = os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.PerfEventParanoid(); n != -1 || err != nil {
		t.Errorf("kernel.perf_event_paranoid is %d, %v", n, err)
	}
	if n, err := f.MaxMapCount(); err == nil {
		t.Errorf("no number is %d", n)
	}
}
