package procmaps

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestLimitsOfAProcessAreRead(t *testing.T) {
	t.Parallel()
	const head = "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max cpu time              unlimited            unlimited            seconds   \n" +
		"Max data size             4096                 unlimited            bytes     \n" +
		"Max stack size            8388608              unlimited            bytes     \n" +
		"Max locked memory         8388608              8388608              bytes     \n"
	for _, c := range []struct {
		row  string
		want Rlimits
		bad  bool
	}{
		{"Max address space         unlimited            unlimited            bytes     \n", Rlimits{Unlimited, 4096, 8 << 20, 8 << 20}, false},
		{"Max address space         1073741824           unlimited            bytes     \n", Rlimits{1 << 30, 4096, 8 << 20, 8 << 20}, false},
		{"Max address space         lots                 unlimited            bytes     \n", Rlimits{}, true},
		{"Max file size             1                    unlimited            bytes     \n", Rlimits{}, true},
	} {
		got, err := parseRlimits([]byte(head+c.row), "limits")
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: got %+v, %v", c.row, got, err)
		}
	}
}

func TestCommitmentOfTheMachine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode, text string
		used, most uint64
		bad        bool
	}{
		{mode: "0\n", most: Unlimited},
		{mode: "2\n", text: "MemTotal:  9 kB\nCommitLimit:    12342044 kB\nCommitted_AS:    2048 kB\n", used: 2 << 20, most: 12342044 << 10},
		{mode: "2\n", text: "CommitLimit:    12342044 kB\n", most: Unlimited, bad: true},
		{mode: "2\n", text: "CommitLimit:    many kB\n", most: Unlimited, bad: true},
		{mode: "2\n", most: Unlimited, bad: true},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "sys", "vm"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"sys/vm/overcommit_memory": c.mode, "meminfo": c.text} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		f, err := NewFS(root)
		if err != nil {
			t.Fatal(err)
		}
		if used, most, err := f.Commitment(); used != c.used || most != c.most || (err != nil) != c.bad {
			t.Errorf("%q, %q: %d of %d, %v", c.mode, c.text, used, most, err)
		}
	}
}

func FuzzParseLimits(f *testing.F) {
	f.Add([]byte("Max address space         unlimited            unlimited            bytes     \n"))
	f.Add([]byte("CommitLimit:    12342044 kB\nCommitted_AS:    2048 kB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRlimits(data, "limits"); err != nil && r != (Rlimits{}) {
			t.Errorf("%+v and %v", r, err)
		}
		if used, _, err := parseCommitment(data, "meminfo"); err != nil && used != 0 {
			t.Errorf("%d and %v", used, err)
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
