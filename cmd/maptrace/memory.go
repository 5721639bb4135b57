package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
)

// memoryLimit is how much memory this process may have, and what says so.
type memoryLimit struct {
	bytes uint64 // procmaps.Unlimited for none
	name  string
}

// ownMemoryLimit is the tightest of the limits we can know: GOMEMLIMIT, for which
// the runtime only collects more often, and that of our group, beyond which the
// kernel ends us.
func ownMemoryLimit(fs procmaps.FS) memoryLimit {
	limit := memoryLimit{bytes: procmaps.Unlimited}
	if soft := debug.SetMemoryLimit(-1); soft != math.MaxInt64 {
		limit = memoryLimit{uint64(soft), "GOMEMLIMIT"}
	}
	self, err := fs.Process(os.Getpid())
	if err != nil {
		return limit
	}
	defer self.Close()
	groups, err := self.Cgroup()
	if err != nil {
		return limit
	}
	if m, err := procmaps.MemoryOf(groups, ""); err == nil && m.Max < limit.bytes {
		limit = memoryLimit{m.Max, m.Name}
	}
	return limit
}

const (
	memoryEvery = 100 * time.Millisecond
	// toEnd is what is kept for the end: for what the ring still holds and for
	// the report; half of the limit where that is less.
	toEnd = 128 << 20
)

// watch has garbage collected the more often the nearer the limit is, and calls
// stop with the reason when all that is alive leaves too little for the end: an
// orderly end with what is known is better than being killed. It returns when ctx is
// done. Kernel is what the kernel's rings take beside resident, both bytes.
func (l memoryLimit) watch(ctx context.Context, kernel uint64, resident func() (uint64, error), stop func(error)) {
	if l.bytes == procmaps.Unlimited {
		return
	}
	left := l.bytes - min(kernel, l.bytes) // the rings are not in our resident memory
	most := left - min(toEnd, left/2)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(min(most, math.MaxInt64))))
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	freed := false
	for {
		used, err := resident()
		switch {
		case err != nil:
			return // no /proc of our own: nothing can be known
		case used < most:
			freed = false
		case freed:
			stop(fmt.Errorf("stopped, memory limit reached: %s are in use, and %s allows %s",
				units.Bytes(float64(used+kernel)), l.name, units.Bytes(float64(l.bytes))))
			return
		default:
			debug.FreeOSMemory()
			freed = true
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// guardMemory calls stop when our memory comes near what we may have. What it
// returns ends the watch and tells the reason, nil if there was none.
func guardMemory(ctx context.Context, kernel uint64, stop func()) (end func() error) {
	var reason error
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		limit := ownMemoryLimit(procmaps.Default())
		limit.watch(ctx, kernel, ownAnonymous, func(err error) {
			reason = err
			stop()
		})
	}()
	return func() error {
		cancel()
		<-done
		return reason
	}
}

// ownAnonymous is our own memory that the kernel cannot take back, in bytes.
func ownAnonymous() (uint64, error) {
	self, err := procmaps.Default().Process(os.Getpid())
	if err != nil {
		return 0, err
	}
	defer self.Close()
	st, err := self.Status()
	if err != nil {
		return 0, err
	}
	return st.RssAnonKB << 10, nil
}
