//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/space"
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
	k := &wordWatch{run: &Sampler{points: most}}
	if _, err := k.Watch(1, 0x1000, 1); !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("one too many: %v", err)
	}
}

func TestCPUsAreCounted(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]int{"0\n": 1, "0-3\n": 4, "0-3,8,10-11\n": 7, "": 0} {
		if got := cpusOf(list); got != want {
			t.Errorf("%q: %d CPUs, want %d", list, got, want)
		}
	}
}

func FuzzCPUsOf(f *testing.F) {
	for _, list := range []string{"0", "0-3,8", "", "3-1", "0-9223372036854775807,0-9223372036854775807", "-1-5", "a,1"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		n := cpusOf(list)
		if more := cpusOf(strings.TrimSpace(list) + ",7"); n < 0 || more != n+1 {
			t.Errorf("%d CPUs, and %d with another", n, more)
		}
	})
}

// A refusal may pass: who has the debug registers may give them back.
func TestThatWordsAreWatchedAgainIsTold(t *testing.T) {
	t.Parallel()
	var told []string
	s := New(new(quietKernel), Options{
		Trees: func(uint64) *space.Space { return nil },
		Emit:  func(r *event.Record) { told = append(told, string(r.Body.(event.Unwatched))) },
	})
	defer s.Close()
	one := new(target)
	for _, err := range []error{nil, unix.ENOSPC, unix.ENOSPC, nil, nil} {
		s.tellUnwatched(one, err)
	}
	if d := cmp.Diff([]string{unix.ENOSPC.Error(), ""}, told); d != "" || one.unwatched {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

// What is not kept any more cannot be counted: that is said, and nothing is held for it.
func TestWhatIsNotKeptIsNotCounted(t *testing.T) {
	t.Parallel()
	var told []event.Body
	s := New(new(quietKernel), Options{
		Trees: func(uint64) *space.Space { return space.New(space.Options{}) },
		Emit:  func(r *event.Record) { told = append(told, r.Body) },
	})
	defer s.Close()
	one := &target{space: 1, pid: 5}
	s.spaces[1], s.living[5] = one, one
	s.Change(&tracer.Change{Kind: tracer.KindUnkept, Space: 2})
	s.Change(&tracer.Change{Kind: tracer.KindUnkept, Space: 1, TGID: 5})
	want := []event.Body{event.Uncounted("its mappings are not kept: memory budget reached")}
	if d := cmp.Diff(want, told); d != "" || !one.gone || len(s.spaces)+len(s.living) > 0 {
		t.Errorf("gone %t, told (-want +got):\n%s", one.gone, d)
	}
}
