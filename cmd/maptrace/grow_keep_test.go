package main

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWordsLeaveDescriptorsForOthers has all used for words that may be: what else
// is to be opened matters more.
func TestWordsLeaveDescriptorsForOthers(t *testing.T) {
	t.Parallel()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	most := mostPoints()
	if n := uint64(most); n == 0 || 2*n > limit.Cur/2 {
		t.Errorf("%d points of two descriptors each, of %d", n, limit.Cur)
	}
	k := &wordWatch{run: &growthWatch{points: most}}
	if _, err := k.Watch(1, 0x1000, 1); !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("one too many: %v", err)
	}
}
