package tracer

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Mainline moves several mappings with one mremap since 6.17.
func TestWhetherTheKernelMovesManyIsKnown(t *testing.T) {
	t.Parallel()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n != 2 {
		t.Fatalf("release %q", u.Release)
	}
	want := major > 6 || major == 6 && minor >= 17
	for range 100 {
		if got := movesMany(); got != want {
			t.Fatalf("moves many: %t, on %d.%d", got, major, minor)
		}
	}
}
