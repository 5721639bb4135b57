package tracer

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// movesMany asks the kernel whether it moves several mappings with one mremap, by having it
// move two pages of our own (mm/mremap.c:remap_move, since 6.17; others answer EFAULT).
func movesMany() bool {
	page := uintptr(os.Getpagesize())
	const private = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	from, err := unix.MmapPtr(-1, 0, nil, 2*page, unix.PROT_NONE, private)
	if err != nil {
		return false
	}
	to, err := unix.MmapPtr(-1, 0, nil, 2*page, unix.PROT_NONE, private)
	if err == nil {
		err = unix.Mprotect(unsafe.Slice((*byte)(from), page), unix.PROT_READ)
	}
	if err == nil {
		_, err = unix.MremapPtr(from, 2*page, to, 2*page, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED)
	}
	// What was left or freed by that is no longer ours: another thread may have mapped
	// something there. So in older kernels, which free the target before they refuse,
	// the target is not touched again.
	if err != nil {
		_ = unix.MunmapPtr(from, 2*page) // nothing depends on it
		return false
	}
	_ = unix.MunmapPtr(to, 2*page) // nothing depends on it
	return true
}
