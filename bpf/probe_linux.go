//go:build amd64 || arm64

package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Probe loads and attaches every program for real, each by itself, and
// detaches it again: many refusals show only at the attachment.
func Probe() []Check {
	kernel, err := btf.LoadKernelSpec()
	checks := []Check{{Name: "BTF", What: "the kernel's types, in /sys/kernel/btf/vmlinux", Err: notSupported(err)}}
	if err != nil {
		return checks
	}
	ring := Check{Name: "ring buffer", What: "carrying records"}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		ring.Err = err
	} else {
		ring.Err = m.Close()
	}
	checks = append(checks, ring)
	for _, p := range programs {
		c := Check{Name: p.hook, What: p.what, Err: probeProgram(kernel, p, Options{})}
		checks = append(checks, c)
	}
	// Without the permission for a map, what maps the kernel knows cannot be told
	// either: that looks like an old kernel.
	tried := func(c Check) Check {
		if c.Err != nil && errors.Is(ring.Err, os.ErrPermission) {
			c.Err = fmt.Errorf("not tried: %w", os.ErrPermission)
		}
		return c
	}
	return append(checks, tried(latencyCheck(kernel)), sectionCheck(kernel), vmaIterCheck(kernel),
		tried(stacksCheck(kernel)), tried(faultsCheck(kernel)), tried(watchpointCheck(kernel)), tried(heapCheck(kernel)))
}

// notSupported marks a missing thing as such.
func notSupported(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w (CONFIG_DEBUG_INFO_BTF)", ebpf.ErrNotSupported, err)
	}
	return err
}

// probeProgram attaches one program for an instant.
func probeProgram(kernel *btf.Spec, p program, opts Options) (err error) {
	coll, err := loadOne(kernel, p.name, opts)
	if err != nil {
		return err
	}
	defer coll.Close()
	var l link.Link
	if p.name == mmProgMmTasks {
		l, err = link.AttachIter(link.IterOptions{Program: coll.Programs[p.name]})
	} else {
		l, err = link.AttachTracing(link.TracingOptions{Program: coll.Programs[p.name]})
	}
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return l.Close()
}

// loadOne loads one program with the maps that it uses.
func loadOne(kernel *btf.Spec, program string, opts Options) (*ebpf.Collection, error) {
	opts.RingBytes = os.Getpagesize()
	s, err := spec(kernel, opts)
	if err != nil {
		return nil, err
	}
	for name := range s.Programs {
		if name != program {
			delete(s.Programs, name)
		}
	}
	coll, err := ebpf.NewCollection(s)
	if err != nil {
		return nil, fmt.Errorf("load: %w", refusal(err))
	}
	return coll, nil
}

// stacksCheck tells whether stacks can be copied: the program that does so is
// loaded with what it needs for that.
func stacksCheck(kernel *btf.Spec) Check {
	c := Check{Name: "user stacks", What: "naming the code that makes memory grow", Optional: true}
	coll, err := loadOne(kernel, mmProgMmSysExit, Options{Stacks: &StackOptions{RingBytes: os.Getpagesize()}})
	if err != nil {
		c.Err = err
		return c
	}
	coll.Close()
	return c
}

// faultsCheck tells whether page faults can be sampled, on every CPU.
func faultsCheck(kernel *btf.Spec) Check {
	c := Check{Name: "page fault events", What: "telling which code touches memory (5.15)", Optional: true}
	coll, err := loadOne(kernel, mmProgMmFault, Options{Stacks: &StackOptions{RingBytes: os.Getpagesize(), FaultRate: 1}})
	if err != nil {
		c.Err = err
		return c
	}
	defer coll.Close()
	links, err := attachAllFaults(coll.Programs[mmProgMmFault])
	for _, l := range links {
		err = errors.Join(err, l.Close())
	}
	c.Err = err
	return c
}

// watchpointCheck tells whether a word can be watched, and whether a write to it is
// told, once: some virtual machines have debug registers that do nothing, and older
// kernels on arm64 do not step over a write that a BPF program was told of, so that it
// comes again and again (arch/arm64/kernel/hw_breakpoint.c: is_default_overflow_handler).
func watchpointCheck(kernel *btf.Spec) Check {
	c := Check{Name: WatchpointCheck, What: "telling who keeps the memory of shared heaps (5.15)", Optional: true}
	coll, err := loadOne(kernel, mmProgMmWritten, Options{Stacks: &StackOptions{RingBytes: os.Getpagesize(), Writes: true}})
	if err != nil {
		c.Err = err
		return c
	}
	defer coll.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	word := new(uint64)
	var pin runtime.Pinner
	pin.Pin(word)
	defer pin.Unpin()
	const most = 16
	w, err := (&Hooks{coll: coll}).Watch(unix.Gettid(), uint64(uintptr(unsafe.Pointer(word))), most)
	if err != nil {
		c.Err = err
		return c
	}
	atomic.StoreUint64(word, 1)
	n, err := w.Writes()
	// On arm64, where the write comes after it is told, an interrupt may have it told
	// twice; kernels that do not step over it tell it until they may no more.
	if c.Err = errors.Join(err, w.Close()); c.Err == nil && (n == 0 || n == most) {
		c.Err = fmt.Errorf("%w: one write is noticed %d times", ebpf.ErrNotSupported, n)
	}
	return c
}

// heapCheck tells whether the functions of allocators can be probed.
func heapCheck(kernel *btf.Spec) Check {
	c := Check{Name: HeapCheck, What: "telling who keeps a malloc heap (6.10)", Optional: true, Err: heapSupport()}
	for _, name := range heapPrograms {
		if c.Err != nil {
			break
		}
		var coll *ebpf.Collection
		if coll, c.Err = loadOne(kernel, name, Options{Stacks: &StackOptions{RingBytes: os.Getpagesize(), BlockRate: 1}}); c.Err == nil {
			coll.Close()
		}
	}
	return c
}

// latencyCheck tells whether calls and the mmap lock can be timed.
func latencyCheck(kernel *btf.Spec) Check {
	c := Check{Name: "mmap_lock tracepoints", What: "'lat': how long calls take, and wait for the lock", Optional: true}
	for _, p := range latencyPrograms {
		if err := probeProgram(kernel, p, Options{Latency: &LatencyOptions{}}); err != nil {
			c.Err = fmt.Errorf("%s, %s: %w", p.hook, p.what, err)
			break
		}
	}
	return c
}

// sectionCheck tells whether the mmap lock's write sections are numbered.
func sectionCheck(kernel *btf.Spec) Check {
	c := Check{
		Name: SectionCheck, What: "proving that no change was missed (6.4)", Optional: true,
	}
	var mm *btf.Struct
	if err := kernel.TypeByName("mm_struct", &mm); err != nil {
		c.Err = fmt.Errorf("struct mm_struct: %w", err)
		return c
	}
	if !hasMember(mm, "mm_lock_seq") {
		c.Err = fmt.Errorf("%w: needs CONFIG_PER_VMA_LOCK; changes are ordered by time", ebpf.ErrNotSupported)
	}
	return c
}

func hasMember(s *btf.Struct, name string) bool {
	for _, m := range s.Members {
		if m.Name == name {
			return true
		}
		if inner, ok := btf.As[*btf.Struct](m.Type); ok && m.Name == "" && hasMember(inner, name) {
			return true
		}
	}
	return false
}

// vmaIterCheck tells whether a new image's mappings are read in the kernel.
func vmaIterCheck(kernel *btf.Spec) Check {
	c := Check{
		Name: "bpf_iter_task_vma", What: "seeing a new image from its first instruction (6.7)", Optional: true,
	}
	var f *btf.Func
	if err := kernel.TypeByName("bpf_iter_task_vma_new", &f); err != nil {
		c.Err = fmt.Errorf("%w: images of children are read from /proc", ebpf.ErrNotSupported)
	}
	return c
}
