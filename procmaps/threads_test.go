package procmaps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSyscall(t *testing.T) {
	for _, tt := range []struct {
		text string
		sp   uint64
	}{
		{"running\n", 0},
		{"202 0x7f2b9131f990 0x109 0xeeb 0x0 0x0 0xffffffff 0x7ffdf62a1630 0x7f2b92868f16\n", 0x7ffdf62a1630},
		{"0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", 0},
		{"-1 0x7ffdf62a1630 0x7f2b92868f16\n", 0x7ffdf62a1630},
		{"1 0x0 0x0 0x0 0x0 0x0 0x0 0xffffffffffffffff 0x0\n", 1<<64 - 1},
	} {
		if sp, err := parseSyscall([]byte(tt.text), "syscall"); sp != tt.sp || err != nil {
			t.Errorf("%q: %#x, %v; want %#x", tt.text, sp, err, tt.sp)
		}
	}
	for name, bad := range map[string]string{
		"nothing":                     "",
		"text that was cut":           "202 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2",
		"another word":                "blocked\n",
		"two lines":                   "running\nrunning\n",
		"too few numbers":             "202 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n",
		"too many numbers":            "202 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2 0x3\n",
		"a call outside of any":       "-1 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n",
		"the form of outside, inside": "1 0x1 0x2\n",
		"no prefix":                   "-1 1 0x2\n",
		"no digits":                   "-1 0x 0x2\n",
		"upper case":                  "-1 0xA 0x2\n",
		"65 bits":                     "-1 0x10000000000000000 0x2\n",
		"two spaces":                  "-1  0x1 0x2\n",
		"a space at the end":          "-1 0x1 0x2 \n",
		"a large call number":         "2147483648 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n",
		"no call number":              " 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n",
	} {
		if sp, err := parseSyscall([]byte(bad), "syscall"); !errors.Is(err, ErrParse) || sp != 0 {
			t.Errorf("%s: %#x, %v; want %v", name, sp, err, ErrParse)
		}
	}
}

func FuzzParseSyscall(f *testing.F) {
	f.Add([]byte("running\n"))
	f.Add([]byte("202 0x7f2b9131f990 0x109 0xeeb 0x0 0x0 0xffffffff 0x7ffdf62a1630 0x7f2b92868f16\n"))
	f.Add([]byte("-1 0x7ffdf62a1630 0x7f2b92868f16\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sp, err := parseSyscall(data, "syscall")
		if err != nil {
			if sp != 0 || !errors.Is(err, ErrParse) {
				t.Fatalf("got %#x, %v", sp, err)
			}
			return
		}
		// What was accepted must read the same by other means.
		var nr int
		v := make([]uint64, 8)
		if _, err := fmt.Sscanf(string(data), "%d 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x\n",
			&nr, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err == nil {
			if v[6] != sp {
				t.Fatalf("got %#x out of %q", sp, data)
			}
			return
		}
		if _, err := fmt.Sscanf(string(data), "-%d 0x%x 0x%x\n", &nr, &v[0], &v[1]); err == nil {
			if v[0] != sp {
				t.Fatalf("got %#x out of %q", sp, data)
			}
			return
		}
		if string(data) != "running\n" {
			t.Fatalf("accepted %q", data)
		}
	})
}

func TestThreadInfoOfACopyOfTheFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"7/task/7/comm":    "main\n",
		"7/task/7/syscall": "running\n",
		"7/task/8/comm":    "two\nlines\n",
		"7/task/8/syscall": "-1 0x7f00 0x1\n",
		"7/task/9/comm":    "kept without the other\n",
		"7/task/10/stat":   "ended meanwhile\n",
		"8/task/8/comm":    "bad\n",
		"8/task/8/syscall": "nonsense\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	var procs []*Process
	for _, pid := range []int{7, 8} {
		p, openErr := root.Process(pid)
		if openErr != nil {
			t.Fatal(openErr)
		}
		t.Cleanup(func() { p.Close() })
		procs = append(procs, p)
	}
	got, err := procs[0].ThreadInfo()
	want := []Thread{{7, "main", 0}, {8, "two\nlines", 0x7f00}, {9, "kept without the other", 0}}
	if diff := cmp.Diff(got, want); diff != "" || err != nil {
		t.Errorf("error %v, (-got +want):\n%s", err, diff)
	}
	if got, err := procs[1].ThreadInfo(); !errors.Is(err, ErrParse) || got != nil {
		t.Errorf("a malformed file: %v, %v; want %v", got, err, ErrParse)
	}
}
