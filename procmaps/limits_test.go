package procmaps

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestTheLimitOfTheAddressSpaceIsRead(t *testing.T) {
	t.Parallel()
	const head = "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max cpu time              unlimited            unlimited            seconds   \n"
	for _, c := range []struct {
		row  string
		want uint64
		bad  bool
	}{
		{"Max address space         unlimited            unlimited            bytes     \n", Unlimited, false},
		{"Max address space         1073741824           unlimited            bytes     \n", 1 << 30, false},
		{"Max address space         lots                 unlimited            bytes     \n", 0, true},
		{"Max file size             1                    unlimited            bytes     \n", 0, true},
	} {
		got, err := parseAddressSpaceLimit([]byte(head+c.row), "limits")
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: got %d, %v", c.row, got, err)
		}
	}
}

func FuzzParseLimits(f *testing.F) {
	f.Add([]byte("Max address space         unlimited            unlimited            bytes     \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := parseAddressSpaceLimit(data, "limits"); err != nil && n != 0 {
			t.Errorf("%d and %v", n, err)
		}
	})
}

func TestTheTightestGroupAroundAProcessLimitsIt(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/memory.max", "1000\n")
	write("a/memory.current", "900\n")
	write("a/b/memory.max", "500\n")
	write("a/b/memory.current", "100\n")
	write("a/b/c/memory.max", "max\n")
	write("a/b/c/memory.current", "50\n")
	write("memory/v1/memory.limit_in_bytes", "9223372036854771712\n")
	write("memory/v1/memory.usage_in_bytes", "50\n")
	write("memory/v1/w/memory.limit_in_bytes", "60\n")
	write("memory/v1/w/memory.usage_in_bytes", "50\n")
	write("odd/memory.max", "many\n")
	for _, c := range []struct {
		name string
		in   []Cgroup
		want CgroupMemory
		bad  bool
	}{
		{"the outer group has less left", []Cgroup{{Path: "/a/b/c"}}, CgroupMemory{"memory.max", 900, 1000}, false},
		{"the root", []Cgroup{{Path: "/"}}, CgroupMemory{Max: math.MaxUint64}, false},
		{"outside of what is seen", []Cgroup{{Path: "/../a/b"}}, CgroupMemory{Max: math.MaxUint64}, false},
		{
			"version 1",
			[]Cgroup{{Hierarchy: 4, Controllers: []string{"cpu"}, Path: "/a"}, {Hierarchy: 5, Controllers: []string{"memory"}, Path: "/v1/w"}},
			CgroupMemory{"memory.limit_in_bytes", 50, 60},
			false,
		},
		{"version 1, no limit", []Cgroup{{Hierarchy: 5, Controllers: []string{"memory"}, Path: "/v1"}}, CgroupMemory{Max: math.MaxUint64}, false},
		{"no number", []Cgroup{{Path: "/odd"}}, CgroupMemory{Max: math.MaxUint64}, true},
	} {
		got, err := MemoryOf(c.in, root)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}
