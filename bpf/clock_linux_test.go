package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// In a time namespace the file of offsets has one line a clock
// (kernel/time/namespace.c: proc_timens_show_offsets).
const offsets = "monotonic      100000         5\nboottime            0         0\n"

func TestTheClockIsThatOfTheKernelOrRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		file          string // "" for none
		own, children string
		want          time.Duration
		err           string // a part of it, "" for none
	}{
		{name: "a kernel without time namespaces"},
		{name: "ahead", file: offsets, own: "time:[2]", children: "time:[2]", want: 100000*time.Second + 5},
		{
			name: "behind", file: "monotonic          -600 500000000\nboottime -600 0\n",
			own: "time:[2]", children: "time:[2]", want: -600*time.Second + 500*time.Millisecond,
		},
		{
			name: "offsets of another namespace than ours", file: offsets,
			own: "time:[1]", children: "time:[2]", err: ErrForeignClock.Error(),
		},
		{name: "no line of the clock", file: "boottime 0 0\n", own: "time:[2]", children: "time:[2]", err: "no offset of the monotonic clock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.file != "" {
				err := errors.Join(
					os.WriteFile(filepath.Join(dir, "timens_offsets"), []byte(c.file), 0o644),
					os.Mkdir(filepath.Join(dir, "ns"), 0o755),
					os.Symlink(c.own, filepath.Join(dir, "ns/time")),
					os.Symlink(c.children, filepath.Join(dir, "ns/time_for_children")),
				)
				if err != nil {
					t.Fatal(err)
				}
			}
			got, err := readAhead(dir)
			said := ""
			if err != nil {
				said = err.Error()
			}
			if got != c.want || !strings.Contains(said, c.err) || (said == "") != (c.err == "") {
				t.Errorf("got %v and %q, want %v and %q", got, said, c.want, c.err)
			}
		})
	}
}

func FuzzParseAhead(f *testing.F) {
	for _, s := range []string{
		offsets, "monotonic -1 999999999\n", "monotonic 4611686018 1000000000\n", "monotonic x 0", "monotonic 1 2 3\n", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := parseAhead(raw)
		// What is read is taken from a clock of a few years: nothing may overflow.
		if err != nil && d != 0 || d.Abs() > 1<<62 {
			t.Errorf("%q: %v and %v", raw, d, err)
		}
	})
}
