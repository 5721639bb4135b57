//go:build linux

package sample

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/goheap"
	"github.com/maptrace/maptrace/tracer/internal/regular"
	"github.com/maptrace/maptrace/tracer/symbol"
)

var (
	// errNotGo says that a module has no code of Go's.
	errNotGo = errors.New("it is not a Go program")
	// errNoGoHeap says that a program keeps no profile of its heap: the linker leaves
	// that out of programs that could not ask for it.
	errNoGoHeap = errors.New("the program keeps no heap profile: runtime.MemProfile is not linked in (importing net/http/pprof does that)")
)

// goHeap is the profile that the runtime of a Go program keeps of its heap. It is not safe
// for concurrent use.
type goHeap struct {
	mem    *regular.File
	at     goheap.Variables
	data   []procmaps.Range // where the variables are that have no names
	image  procmaps.Range
	limits goheap.Limits
}

// The runtime's variables, as the linker calls them.
const (
	varBuckets    = "runtime.mbuckets"
	varCycle      = "runtime.mProfCycle" // since Go 1.19
	varPlainCycle = "runtime.mProf"      // before
	varRate       = "runtime.MemProfileRate"
	varDisabled   = "runtime.disableMemoryProfiling"
)

// mostRates is in how many places the rate is looked for.
const mostRates = 64

// openGoHeap opens the heap profile of a process, of which the module is a file with Go's
// runtime: the program, or a library of it. Bias is what was added to the file's own
// addresses. What is read is the address space that the process has now: once it has ended
// or called exec, errors match [procmaps.ErrGone].
//
// Where the symbols were removed, the profile is looked for with the first read that there
// is something in it.
//
// The error may match errNotGo and errNoGoHeap. It takes CAP_SYS_PTRACE, or what ptrace(2)
// would. Reads may wait for the process' mmap lock (see package await).
func openGoHeap(pid int, m *symbol.Module, bias uint64) (*goHeap, error) {
	if !m.IsGo() {
		return nil, fmt.Errorf("open heap profile of process %d: %w", pid, errNotGo)
	}
	mem, _, err := regular.Open("", fmt.Sprintf("/proc/%d/mem", pid), 0)
	if err != nil {
		return nil, fmt.Errorf("open heap profile: %w", err)
	}
	h := &goHeap{mem: mem}
	if err := h.locate(m, bias); err != nil {
		return nil, fmt.Errorf("open heap profile of process %d: %w", pid, errors.Join(err, h.Close()))
	}
	return h, nil
}

// locate finds the runtime's variables.
func (h *goHeap) locate(m *symbol.Module, bias uint64) error {
	vars := m.Variables(varBuckets, varCycle, varPlainCycle, varRate, varDisabled)
	if at, ok := vars[varDisabled]; ok {
		var disabled [1]byte
		if _, err := h.mem.ReadAt(disabled[:], int64(at+bias)); err != nil {
			return err
		}
		if disabled[0] != 0 {
			return errNoGoHeap
		}
	}
	if at, ok := vars[varBuckets]; ok {
		h.at.Buckets = at + bias
	}
	if at, ok := vars[varCycle]; ok {
		h.at.Cycle = at + bias
	} else if at, ok := vars[varPlainCycle]; ok {
		h.at.Cycle, h.at.PlainCycle = at+bias, true
	}
	if at, ok := vars[varRate]; ok {
		h.at.Rates = []uint64{at + bias}
	}
	if h.at.Buckets != 0 {
		return nil
	}
	if !m.HasGoFunction("runtime.MemProfile") && !m.HasGoFunction("runtime.memProfileInternal") {
		return errNoGoHeap
	}
	data, image := m.Data()
	for _, r := range data {
		h.data = append(h.data, procmaps.Range{Start: r.Start + bias, End: r.End + bias})
	}
	h.image = procmaps.Range{Start: image.Start + bias, End: image.End + bias}
	// The rate is one of the variables that begin with its default, but for Go 1.17 to
	// 1.19, which compute it.
	if !m.HasGoFunction("runtime.defaultMemProfileRate") {
		for _, at := range m.Initialized(goheap.DefaultRate, mostRates) {
			h.at.Rates = append(h.at.Rates, at+bias)
		}
	}
	return nil
}

// Read reads the profile, as runtime.MemProfile returns it at that moment: as of the
// beginning of the last garbage collection but one. The error is as of [goheap.Read], and
// of [goheap.Find] as long as the profile has not been found.
func (h *goHeap) Read(ctx context.Context) (*goheap.Profile, error) {
	mem := memory{ctx, h.mem}
	if h.at.Buckets == 0 {
		at, err := goheap.Find(mem, h.data, h.image, h.limits)
		if err != nil && !errors.Is(err, goheap.ErrAbsent) {
			return nil, err
		}
		h.at.Buckets = at
	}
	return goheap.Read(mem, h.at, h.limits)
}

// Close closes it.
func (h *goHeap) Close() error { return h.mem.Close() }

// memory is that of a process, as long as a context is not done.
type memory struct {
	ctx  context.Context
	file *regular.File
}

func (m memory) ReadAt(p []byte, addr uint64) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", goheap.ErrStopped, err)
	}
	n, err := m.file.ReadAt(p, int64(addr))
	if n == 0 && errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%w: %w", goheap.ErrStopped, procmaps.ErrGone)
	}
	return n, err
}
