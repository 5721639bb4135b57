package procmaps

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// pmScanArg is struct pm_scan_arg of linux/fs.h.
type pmScanArg struct {
	size              uint64
	flags             uint64
	start             uint64
	end               uint64
	walkEnd           uint64 // out: where it stopped
	vec               uint64
	vecLen            uint64
	maxPages          uint64
	categoryInverted  uint64
	categoryMask      uint64
	categoryAnyofMask uint64
	returnMask        uint64
}

const pagemapScanIoctl = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

// pageScan walks with PAGEMAP_SCAN.
type pageScan struct {
	file *os.File
	mask uint64 // the categories to tell apart, but for pageIsFile
	arg  pmScanArg
	vec  [vecLen]pageRegion
	pin  runtime.Pinner
}

// newPageScan reports false where the kernel, or a filter, has no such call.
func newPageScan(f *os.File, page uint64) (pageWalker, bool) {
	w := &pageScan{file: f}
	w.pin.Pin(w) // the kernel writes to vec through a number
	for _, mask := range []uint64{
		pageIsPresent | pageIsSwapped | pageIsPfnZero | pageIsHuge | pageIsGuard,
		pageIsPresent | pageIsSwapped | pageIsPfnZero | pageIsHuge, // before 6.15
	} {
		w.mask = mask
		if _, _, err := w.walk(Range{0, page}, 1, false); err == nil || errors.Is(err, ErrNoMemory) {
			return w, true
		}
	}
	w.close()
	return nil, false
}

func (w *pageScan) walk(r Range, pages uint64, files bool) ([]pageRegion, uint64, error) {
	w.arg = pmScanArg{
		size: uint64(unsafe.Sizeof(w.arg)), start: r.Start, end: r.End,
		vec: uint64(uintptr(unsafe.Pointer(&w.vec))), vecLen: vecLen, maxPages: pages,
		categoryAnyofMask: pageIsPresent | pageIsSwapped, returnMask: w.mask,
	}
	if files {
		w.arg.returnMask |= pageIsFile
	}
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, w.file.Fd(), pagemapScanIoctl, uintptr(unsafe.Pointer(&w.arg)))
	runtime.KeepAlive(w.file)
	switch errno {
	case 0:
	case syscall.ESRCH: // some kernels tell; see Residency.alive for the others
		return nil, 0, ErrNoMemory
	default:
		return nil, 0, errno
	}
	return w.vec[:n], w.arg.walkEnd, nil
}

func (w *pageScan) close() { w.pin.Unpin() }
