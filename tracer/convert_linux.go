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
	bpf.OpAnnounce: order.KindAnnounce,
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
		ev.First, ev.StartTime, ev.Inner = uint32(b.Args[2]), b.Args[3], int(b.Args[4])
	case KindExec:
		ev.StartBrk, ev.Brk, ev.StartStack = b.Args[1], b.Args[2], b.Args[3]
		ev.First, ev.Comm = uint32(b.Args[4]), b.File.Name
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
	c.Args, c.Ret, c.Pages = b.Args, b.Ret, b.Pages
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
		c.Name = b.File.Name
		return
	}
	if b.Flags&bpf.HasFile == 0 {
		return
	}
	f := &b.File
	c.ReadOnly = f.Flags&bpf.FileReadOnly != 0
	c.File = space.File{Dev: device(f.Dev), Inode: f.Inode, Name: fileName(f), Class: fileClass(b, f)}
	if f.Flags&bpf.FileFromVMA == 0 {
		if c.Op == space.OpShmat {
			l.segment(c)
		}
		return
	}
	// Devices merge with their neighbours; the others have a file of their own.
	if c.Op == space.OpShmat || f.Flags&bpf.FileCharDevice == 0 {
		c.VMA = procmaps.Range{Start: uint64(b.Ret), End: f.End}
	}
	if c.Op == space.OpShmat {
		const many = 4096 // numbers grow; old segments are not attached again for ever
		if len(l.sizes) >= many {
			clear(l.sizes)
		}
		l.sizes[f.Inode] = c.VMA.Len()
	}
}

// segment identifies a System V segment whose VMA could not be looked at: the
// mmap lock was taken. Its inode is its number, and its size may be known.
func (l *Live) segment(c *space.Call) {
	c.File.Dev, c.File.Inode = l.shm, c.Args[0]
	if size := l.sizes[c.Args[0]]; size != 0 {
		c.VMA = procmaps.Range{Start: uint64(c.Ret), End: uint64(c.Ret) + size}
	}
}

func device(dev uint32) procmaps.Device {
	// include/linux/kdev_t.h
	return procmaps.Device{Major: dev >> 20, Minor: dev & (1<<20 - 1)}
}

func fileClass(b *bpf.Event, f *bpf.File) space.Class {
	const mapAnonymous, mapHugeTLB = 0x20, 0x40000
	switch {
	case b.Op == bpf.OpShmat:
		return space.ClassSysV
	case b.Args[3]&mapHugeTLB != 0:
		return space.ClassHugeTLB
	case b.Args[3]&mapAnonymous != 0:
		return space.ClassAnonShared
	case strings.HasPrefix(f.Name, "memfd:"):
		return space.ClassMemfd
	case f.Flags&bpf.FileCharDevice != 0:
		return space.ClassDevice
	case strings.HasPrefix(f.Name, "["):
		return space.ClassAnonInode
	case f.Flags&bpf.FileRegular == 0:
		// Neither: a hugetlbfs file, whose VMA was asked for its size.
		return space.ClassHugeTLB
	}
	return space.ClassRegular
}

// fileName is the kernel's name for files that have no path, as maps prints it,
// and the basename of the others. fs/d_path.c; mm/shmem.c; ipc/shm.c.
func fileName(f *bpf.File) string {
	switch {
	case f.Name == "dev/zero":
		return "/dev/zero (deleted)"
	case f.Name == "anon_hugepage", strings.HasPrefix(f.Name, "memfd:"), strings.HasPrefix(f.Name, "SYSV"):
		return "/" + f.Name + " (deleted)"
	case strings.HasPrefix(f.Name, "["):
		return "anon_inode:" + f.Name
	}
	// fs/seq_file.c:seq_file_path escapes the one character that would end the row.
	return strings.ReplaceAll(f.Name, "\n", `\012`)
}

// vm_flags of include/linux/mm.h.
const (
	vmRead       = 0x1
	vmWrite      = 0x2
	vmExec       = 0x4
	vmMayShare   = 0x80
	vmGrowsDown  = 0x100
	vmDontCopy   = 0x20000
	vmWipeOnFork = 0x2000000
)

// row is one VMA of a fresh image, as maps would print it; of files only the
// basename is known yet.
func (l *Live) row(f *bpf.File) space.Row {
	m := procmaps.Mapping{Range: procmaps.Range{Start: f.Start, End: f.End}}
	for _, b := range [...]struct {
		flag uint64
		mode procmaps.Mode
	}{{vmRead, procmaps.Read}, {vmWrite, procmaps.Write}, {vmExec, procmaps.Exec}, {vmMayShare, procmaps.Shared}} {
		if f.VMFlags&b.flag != 0 {
			m.Mode |= b.mode
		}
	}
	if f.Flags&bpf.FileNone == 0 {
		m.Offset = f.Offset * l.page
		m.Dev, m.Inode, m.Name = device(f.Dev), f.Inode, fileName(f)
	} else if f.Flags&bpf.FileSpecial != 0 {
		m.Name = f.Name
	}
	row := space.Row{Mapping: m, Known: rowKnown} // a new image has no userfaultfd
	for _, b := range [...]struct {
		vm   uint64
		flag space.Flags
	}{{vmGrowsDown, space.GrowsDown}, {vmDontCopy, space.DontFork}, {vmWipeOnFork, space.WipeOnFork}} {
		if f.VMFlags&b.vm != 0 {
			row.Flags |= b.flag
		}
	}
	return row
}
