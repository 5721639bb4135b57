package procmaps

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAnEntryOfPagemapSays(t *testing.T) {
	t.Parallel()
	for entry, want := range map[uint64]Page{
		0:                                 {},
		entryIsSoftDirty:                  {SoftDirty: true},
		entryIsPresent | 7:                {Present: true},
		entryIsPresent | entryIsExclusive: {Present: true, Exclusive: true},
		entryIsPresent | entryIsFile:      {Present: true, File: true},
		entryIsSwapped | entryIsFile:      {Swapped: true, File: true},
		entryIsSwapped | entryIsExclusive: {Swapped: true},
		entryIsFile:                       {},
		entryIsGuard | entryIsSoftDirty:   {Guard: true},
		entryIsPresent | entryIsSoftDirty | entryIsExclusive: {Present: true, Exclusive: true, SoftDirty: true},
	} {
		if diff := cmp.Diff(want, pageOf(entry)); diff != "" {
			t.Errorf("%#x: -want +got:\n%s", entry, diff)
		}
	}
}

func TestPagesOfOurOwn(t *testing.T) {
	t.Parallel()
	const pages, guardInstall = 4, 102
	page := os.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, pages*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failed := syscall.Munmap(mem); failed != nil {
			t.Error(failed)
		}
	})
	// Or the whole may be one huge page.
	if err = syscall.Madvise(mem, syscall.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, syscall.EINVAL) {
		t.Fatal(err)
	}
	mem[0] = 1
	touched := mem[page] // the page of zeros
	guarded := syscall.Madvise(mem[2*page:3*page], guardInstall) == nil
	p, err := Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	for _, scan := range []bool{true, false} {
		r := residency(t, p, scan)
		scanned := r.Scans()
		start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
		at := func(n int) Page {
			t.Helper()
			got, err := r.Page(start + uint64(n*page) + 8)
			if err != nil {
				t.Fatal(err)
			}
			got.SoftDirty = false // of kernels that have it
			return got
		}
		want := []Page{
			{Present: true, Exclusive: true, Scanned: scanned},
			{Present: true, File: false, Scanned: scanned, Zero: scanned},
			{Guard: guarded, Scanned: scanned},
			{Scanned: scanned},
		}
		for i, w := range want {
			got := at(i)
			if i == 1 { // how it is shown beside differs by kernel
				w.File, w.Exclusive = got.File, got.Exclusive
			}
			if diff := cmp.Diff(w, got); diff != "" {
				t.Errorf("page %d, touched %d, scanned %v: -want +got:\n%s", i, touched, scanned, diff)
			}
		}
		for _, addr := range []uint64{0, 1 << 46, 1 << 63, ^uint64(0)} {
			if got, err := r.Page(addr); err != nil || got.Present || got.Swapped {
				t.Errorf("%#x: %+v, %v", addr, got, err)
			}
		}
	}
}
