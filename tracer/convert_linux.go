//go:build amd64 || arm64

package tracer

import (
	"strings"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/order"
	"github.com/maptrace/maptrace/tracer/space"
)

// calls says what each call is to the tree.
var calls = [...]struct {
	op  space.Op
	sub space.Sub
}{
	bpf.OpMmap:           {op: space.OpMmap},
	bpf.OpMunmap:         {op: space.OpMunmap},
	bpf.OpBrk:            {op: space.OpBrk},
	bpf.OpMremap:         {op: space.OpMremap},
	bpf.OpMprotect:       {op: space.OpMprotect},
	bpf.OpPkeyMprotect:   {op: space.OpMprotect, sub: space.SubPkeyMprotect},
	bpf.OpMadvise:        {op: space.OpMadvise},
	bpf.OpProcessMadvise: {op: space.OpMadvise, sub: space.SubProcessMadvise},
	bpf.OpMlock:          {op: space.OpMlock},
	bpf.OpMlock2:         {op: space.OpMlock, sub: space.SubMlock2},
	bpf.OpMunlock:        {op: space.OpMlock, sub: space.SubMunlock},
	bpf.OpMlockall:       {op: space.OpMlock, sub: space.SubMlockall},
	bpf.OpMunlockall:     {op: space.OpMlock, sub: space.SubMunlockall},
	bpf.OpShmat:          {op: space.OpShmat},
	bpf.OpShmdt:          {op: space.OpShmdt},
	bpf.OpRemapFilePages: {op: space.OpRemapFilePages},
	bpf.OpMbind:          {op: space.OpMbind},
	bpf.OpMseal:          {op: space.OpMlock, sub: space.SubMseal},
	bpf.OpSetVMA:         {op: space.OpSetVMA},
}

// kinds says what the other records are to the loop.
var kinds = map[bpf.Op]Kind{
	bpf.OpFork: KindFork, bpf.OpExec: KindExec, bpf.OpVMA: order.KindRow, bpf.OpSeeded: order.KindSeeded,
	bpf.OpExit: KindExit, bpf.OpGone: order.KindGone, bpf.OpOther: order.KindOther, bpf.OpStack: order.KindStack,
	bpf.OpAnnounce: order.KindAnnounce, bpf.OpLayout: order.KindLayout,
}

// convert gives a record the loop's form.
func (l *Live) convert(b *bpf.Event, ev *Event) {
	*ev = Event{
		Kind: KindCall, Time: b.Time, Space: b.Space, Section: b.Section,
		TGID: int(b.TGID), TID: int(b.TID), Flags: convertFlags(b.Flags),
	}
	if l.byTime {
		ev.Flags &^= order.HasSection
	}
	if int(b.Op) < len(calls) && calls[b.Op].op != 0 {
		l.convertCall(b, ev)
		return
	}
	ev.Kind = kinds[b.Op]
	switch ev.Kind {
	case KindFork:
		if b.Flags&bpf.SharesSpace != 0 {
			ev.Flags |= SharesSpace
		}
		ev.Child, ev.ChildSpace = int(b.Args[0]), b.Args[1]
		ev.First, ev.StartTime, ev.Inner, ev.Pages = uint32(b.Args[2]), b.Args[3], int(b.Args[4]), b.Pages
	case KindExec:
		ev.StartBrk, ev.Brk, ev.StartStack = b.Args[1], b.Args[2], b.Args[3]
		ev.First, ev.Comm = uint32(b.Args[4]), b.File.Name
	case order.KindLayout:
		ev.StartBrk, ev.Brk, ev.StartStack = b.Args[0], b.Args[1], b.Args[2]
	case order.KindSeeded:
		ev.Pages = b.Pages
	case order.KindRow:
		ev.Row = l.row(&b.File)
	case KindExit:
		ev.Status = uint32(b.Args[0])
	case order.KindOther, order.KindStack, order.KindAnnounce:
		ev.NR, ev.Pages = int16(b.NR), int64(b.Args[2])
	}
}

// convertFlags leaves out the bit that means one thing of a fork and another of a call.
func convertFlags(f bpf.Flags) Flags {
	var out Flags
	for _, p := range [...]struct {
		from bpf.Flags
		to   Flags
	}{
		{bpf.Stamped, order.Stamped},
		{bpf.HasSection, order.HasSection},
		{bpf.Remote, order.Remote},
		{bpf.Unseeded, order.Incomplete},
		{bpf.Unsampled, Unsampled},
	} {
		if f&p.from != 0 {
			out |= p.to
		}
	}
	return out
}

func (l *Live) convertCall(b *bpf.Event, ev *Event) {
	c := &ev.Call
	c.Op, c.Sub = calls[b.Op].op, calls[b.Op].sub
	c.Exec = b.Flags&bpf.ReadExec != 0
	c.TID, c.Time = b.TID, b.Time
	c.Args, c.Ret, c.Pages, c.Counted = b.Args, b.Ret, b.Pages, ev.Flags&order.HasSection != 0
	if b.Stack != 0 || b.Flags&bpf.Unsampled != 0 {
		ev.Stratum = model.MakeStratum(b.Caller.Path, b.Caller.Depth, b.Caller.Chance)
	}
	if b.Flags&bpf.NoLock != 0 {
		ev.Flags |= order.NoLock
	}
	switch b.Op {
	case bpf.OpBrk:
		c.OldBrk = b.Args[1]
	case bpf.OpProcessMadvise:
		// The loop and the tree know ranges by their first two arguments.
		c.Args[0], c.Args[1], c.Args[2] = b.Args[4], b.Args[5], b.Args[3]
	case bpf.OpSetVMA:
		c.Found, c.Name, c.VMA = true, b.File.Name, procmaps.Range{Start: b.File.Start, End: b.File.End}
		ev.Found = b.File.Section
	case bpf.OpMmap, bpf.OpShmat:
		if b.Flags&bpf.HasFile != 0 {
			l.found(b, c)
			ev.Found = b.File.Section
		}
	}
}

// found completes a call that maps what its arguments do not tell, by what was found at its
// address when it returned. Others may have changed that since the call took effect, but
// then by sections of their own, which tell what they did. So what is there in the end is
// right if each address gets what was found there, or, if that is another's, anything.
func (l *Live) found(b *bpf.Event, c *space.Call) {
	f := &b.File
	switch {
	case c.Op == space.OpShmat:
		l.segment(b, c)
		return
	case f.Flags&(bpf.FileFromVMA|bpf.FileNone) != bpf.FileFromVMA:
		c.Unsure = f.Flags&bpf.FilePieces == 0 // else nothing of it is left
		return
	}
	file, unit := fileOf(f), l.page
	if file.Class == space.ClassHugeTLB {
		unit = max(f.Block, l.page)
		const mapHugeTLB = 0x40000
		c.Unsure = c.Args[1]&(unit-1) != 0 && c.Args[3]&mapHugeTLB == 0 // it may not have been huge pages
	}
	c.VMA = procmaps.Range{Start: uint64(b.Ret), End: uint64(b.Ret) + (c.Args[1]+unit-1)&^(unit-1)}
	c.Offset = f.Offset*l.page + c.VMA.Start - f.Start
	whole := f.Covers(c.VMA.Start, c.VMA.End)
	c.Unsure = c.Unsure || !whole && f.Flags&bpf.FilePieces == 0 || file.Name == ""
	c.File, c.ReadOnly = file, f.VMFlags&vmMayWrite == 0
	if whole || f.Flags&bpf.FileAlike != 0 {
		become(c, f)
	}
}

// become says what a mapping has become.
func become(c *space.Call, f *bpf.File) {
	c.Found, c.Mode, c.Flags = true, modeOf(f.VMFlags), flagsOf(f.VMFlags)
}

// segment identifies a System V segment, if it was found, and if not, by what is the same
// for all time: the device, the number, and, if it was attached before, the size.
func (l *Live) segment(b *bpf.Event, c *space.Call) {
	f := &b.File
	c.File = space.File{Dev: l.info.Shm, Inode: c.Args[0], Class: space.ClassSysV}
	// ipc/shm.c:newseg gives the inode the segment's number.
	if file := fileOf(f); file.Class == space.ClassSysV && file.Inode == c.Args[0] {
		c.File = file
		const many = 4096 // numbers grow; old segments are not attached again for ever
		if len(l.sizes) >= many {
			clear(l.sizes)
		}
		l.sizes[file.Inode] = f.Size
		if f.Covers(uint64(b.Ret), uint64(b.Ret)+f.Size) {
			become(c, f)
		}
	}
	if size := l.sizes[c.Args[0]]; size != 0 {
		c.VMA = procmaps.Range{Start: uint64(c.Ret), End: uint64(c.Ret) + (size+l.page-1)&^(l.page-1)}
	}
}

func device(dev uint32) procmaps.Device {
	// include/linux/kdev_t.h
	return procmaps.Device{Major: dev >> 20, Minor: dev & (1<<20 - 1)}
}

// fileOf says what a mapping is of. What a name begins with means something only where
// nobody but the kernel gives names. The name is the kernel's for files that have no path,
// as maps prints it, and the basename of the others; empty if it cannot be known from here.
// fs/d_path.c; mm/shmem.c; mm/memfd.c; ipc/shm.c; fs/anon_inodes.c.
func fileOf(f *bpf.File) space.File {
	// fs/seq_file.c:seq_file_path escapes the one character that would end the row.
	name := strings.ReplaceAll(f.Name, "\n", `\012`)
	file := space.File{Dev: device(f.Dev), Inode: f.Inode, Class: space.ClassRegular, Name: name}
	if f.Flags&bpf.FileKernel == 0 {
		if f.Flags&bpf.FileRegular == 0 {
			file.Class = space.ClassDevice
		}
	} else {
		file.Class, file.Name = space.ClassAnonInode, ""
		switch {
		case f.Flags&bpf.FileAnonInode != 0:
			file.Name = "anon_inode:" + name
		case f.Flags&bpf.FileShmem != 0:
			file.Class, file.Name = shmemClass(name), "/"+name+" (deleted)"
		case f.VMFlags&vmHugeTLB != 0:
			file.Name = "/" + name + " (deleted)"
		}
	}
	if f.VMFlags&vmHugeTLB != 0 {
		file.Class, file.HugePageSize = space.ClassHugeTLB, f.Block
	}
	return file
}

// The kernel side cuts names where space takes them to be cut.
var _ = [1]struct{}{}[space.MostName-bpf.MaxFileName]

func shmemClass(name string) space.Class {
	switch {
	case name == "dev/zero":
		return space.ClassAnonShared
	case strings.HasPrefix(name, "SYSV"):
		return space.ClassSysV
	case strings.HasPrefix(name, "memfd:"):
		return space.ClassMemfd
	}
	return space.ClassAnonInode // a driver's
}

// vm_flags of include/linux/mm.h.
const (
	vmMayWrite   = 0x20
	vmMayShare   = 0x80
	vmGrowsDown  = 0x100
	vmDontCopy   = 0x20000
	vmHugeTLB    = 0x400000
	vmWipeOnFork = 0x2000000
)

// modeOf is the mode that maps shows.
func modeOf(vmFlags uint64) procmaps.Mode {
	mode := procmaps.Mode(vmFlags) & procmaps.Perm // the same bits
	if vmFlags&vmMayShare != 0 {
		mode |= procmaps.Shared
	}
	return mode
}

func flagsOf(vmFlags uint64) (out space.Flags) {
	for _, b := range [...]struct {
		vm   uint64
		flag space.Flags
	}{{vmGrowsDown, space.GrowsDown}, {vmDontCopy, space.DontFork}, {vmWipeOnFork, space.WipeOnFork}} {
		if vmFlags&b.vm != 0 {
			out |= b.flag
		}
	}
	return out
}

// row is one VMA of a fresh image, as maps would print it; of files only the
// basename is known yet.
func (l *Live) row(f *bpf.File) space.Row {
	m := procmaps.Mapping{Range: procmaps.Range{Start: f.Start, End: f.End}, Mode: modeOf(f.VMFlags)}
	if f.Flags&bpf.FileNone == 0 {
		file := fileOf(f)
		m.Offset = f.Offset * l.page
		m.Dev, m.Inode, m.Name = file.Dev, file.Inode, file.Name
	} else if f.Flags&bpf.FileSpecial != 0 {
		m.Name = f.Name
	}
	return space.Row{Mapping: m, Flags: flagsOf(f.VMFlags), Known: rowKnown} // a new image has no userfaultfd
}
