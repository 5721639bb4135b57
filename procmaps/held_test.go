package procmaps

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someMounts = `22 27 0:21 / /proc rw,relatime - proc proc rw
25 24 0:23 / /dev/shm rw,relatime shared:7 - tmpfs tmpfs rw,size=24684092k
26 24 0:24 / /mnt/a\040-\040b rw,noexec master:1 propagate_from:2 - tmpfs none rw
27 1 254:0 / / rw - ext4 /dev/root rw
`

var tmpfsOnly = map[string]bool{"tmpfs": true}

func TestMountsOfTmpfsAreFound(t *testing.T) {
	t.Parallel()
	got, err := parseMounts([]byte(someMounts), "mountinfo", tmpfsOnly)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"25", "26"}, slices.Sorted(maps.Keys(got))); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"\n", "x 1 0:1 / / rw - ext4 a rw\n", "1 2 0:1 / / rw\n", "25 24 0:23 / /dev/shm rw - tmpfs"} {
		if _, err = parseMounts([]byte(bad), "mountinfo", tmpfsOnly); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestMountOfADescriptor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"pos:\t0\nflags:\t0100002\nmnt_id:\t25\nino:\t4\n": "25",
		"pos:\t0\nmnt_id:\t": "",
		"":                   "",
	} {
		if got := mountOf([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRingsTakeWhatTheirQueuesDo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{
		"pos:\t0\nSqMask:\t0x7\nSqHead:\t0\nCqMask:\t0xf\nCachedCqTail:\t0\n": 2 * 4096,
		"SqMask:\t0xfff\nCqMask:\t0x1fff\n":                                   4096*64 + 320 + 8192*16 + 4096*4 + 4096 - 320,
		"SqMask:\t0x7\n":                                                      0,
		"SqMask:\t0xffffffffffffffff\nCqMask:\t0xf\n":                         0,
		"SqMask:\t\nCqMask: x\n":                                              0,
		"":                                                                    0,
	} {
		if got := ringBytes([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte(someMounts))
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := parseMounts(data, "mountinfo", tmpfsOnly)
		if err != nil && ids != nil {
			t.Errorf("%v and %v", ids, err)
		}
		mountOf(data)
		if n := ringBytes(data); n > 1<<30 {
			t.Errorf("a ring of %d bytes", n)
		}
	})
}
