package procmaps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryOfAGroup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
		want  GroupMemory
	}{
		{"v2", map[string]string{
			"memory.current": "1000\n", "memory.max": "max\n", "memory.swap.current": "7\n",
			"memory.stat": "anon 100\nfile 500\nkernel 200\nkernel_stack 16\nsock 30\nshmem 120\nfile_dirty 40\nunevictable 11\nslab_reclaimable 150\n",
		}, GroupMemory{Used: 1000, Max: Unlimited, Anon: 100, File: 380, Dirty: 40, Unevictable: 11, Shmem: 120, Kernel: 200, Reclaimable: 150, Sock: 30, Swap: 7}},
		{"v2, before 5.18", map[string]string{
			"memory.current": "1000\n", "memory.max": "2000\n",
			"memory.stat": "anon 100\nfile 500\nkernel_stack 16\nslab 20\npagetables 4\n",
		}, GroupMemory{Used: 1000, Max: 2000, Anon: 100, File: 500, Kernel: 40}},
		{"v1", map[string]string{
			"memory.usage_in_bytes": "900\n", "memory.limit_in_bytes": "9223372036854771712\n",
			"memory.kmem.usage_in_bytes": "33\n", "memory.kmem.tcp.usage_in_bytes": "5\n",
			"memory.stat": "cache 1\nrss 2\ntotal_cache 300\ntotal_rss 200\ntotal_shmem 50\ntotal_dirty 8\ntotal_swap 9\ntotal_unevictable 3\n",
		}, GroupMemory{Used: 900, Max: Unlimited, Anon: 200, File: 250, Dirty: 8, Unevictable: 3, Shmem: 50, Kernel: 33, Sock: 5, Swap: 9}},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := ReadGroupMemory(dir); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.stat"), []byte("anon\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadGroupMemory(dir); !errors.Is(err, ErrParse) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := ReadGroupMemory(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no group: %v", err)
	}
}

func FuzzParseFlat(f *testing.F) {
	f.Add([]byte("anon 1\nfile 18446744073709551615\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if all, err := parseFlat(data, "memory.stat"); err != nil && all != nil {
			t.Errorf("%v and %v", all, err)
		}
	})
}

func BenchmarkReadGroupMemory(b *testing.B) {
	dir := ""
	for _, d := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/init.scope"} {
		if _, err := ReadGroupMemory(d); err == nil {
			dir = d
		}
	}
	if dir == "" {
		b.Skip("no cgroup has the memory controller")
	}
	for b.Loop() {
		if _, err := ReadGroupMemory(dir); err != nil {
			b.Fatal(err)
		}
	}
}
