package space

import (
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// Class says what sort of file backs an extent.
type Class uint8

// The classes. Zero means unknown: it is guessed from the name.
const (
	ClassRegular    Class = 1 + iota
	ClassDevice           // a device; its driver may refuse to be inherited by fork
	ClassAnonInode        // perf buffers, io_uring rings, KVM and the like; as devices
	ClassAnonShared       // shared anonymous memory, "/dev/zero (deleted)"
	ClassMemfd            // memfd_create and POSIX shared memory
	ClassSysV             // a shmat segment
	ClassHugeTLB          // hugetlbfs and MAP_HUGETLB
)

// File is the identity of what an extent maps: its device and inode number.
// Name is the path or basename as far as known; a path replaces a basename.
type File struct {
	Dev   procmaps.Device
	Inode uint64
	Class Class
	Name  string
	// HugePageSize is, for ClassHugeTLB, the size of its pages in bytes; 0
	// stands for the default of Options.
	HugePageSize uint64
}

// Held is what it is called among what holds memory without a mapping.
func (f *File) Held() procmaps.HeldID {
	id := procmaps.HeldID{Kind: procmaps.HeldFile, Dev: f.Dev, Inode: f.Inode}
	switch {
	case f.Class == ClassSysV:
		id.Kind = procmaps.HeldSegment
	case strings.HasPrefix(f.Name, procmaps.MemfdPrefix):
		id.Kind = procmaps.HeldMemfd
	case f.Name == procmaps.RingPath:
		id.Kind = procmaps.HeldRing
	}
	if id.Kind != procmaps.HeldFile {
		id.Dev = procmaps.Device{} // it is the same for all of them
	}
	return id
}

// known reports whether the identity is known.
func (f *File) known() bool { return f.Inode != 0 || f.Dev != procmaps.Device{} }

// FileID names a file within one Space and its clones; 0 is no file. An
// identifier is valid until a Prune after its last extent has gone.
type FileID uint32

// fileKey is what makes two files the same. A SysV segment's inode number is
// its shmid, which may equal the number of another inode on the same device. Files of
// anon_inode_getfile have one inode, whatever they are for, and names that never change.
type fileKey struct {
	dev   procmaps.Device
	inode uint64
	sysv  bool
	name  string // of an anonymous inode
}

func (f *File) key() fileKey {
	k := fileKey{dev: f.Dev, inode: f.Inode, sysv: f.Class == ClassSysV}
	if (f.Class == 0 || f.Class == ClassAnonInode) && strings.HasPrefix(f.Name, anonInodePrefix) {
		k.name = f.Name
	}
	return k
}

// anonInodePrefix begins the names of anonymous inodes in maps (fs/anon_inodes.c).
const anonInodePrefix = "anon_inode:"

// nameID names an interned name; 0 is none.
type nameID uint32

// name is a name given by prctl, or that of a special mapping, with the forms
// maps prints it in (fs/proc/task_mmu.c:show_map_vma).
type name struct{ raw, anon, shmem string }

// tables intern files and names, so that cells hold no pointers.
type tables struct {
	files     []File
	fileIDs   map[fileKey]FileID
	freeFiles []FileID
	names     []name
	nameIDs   map[string]nameID
	freeNames []nameID
	renamed   []FileID // files that a call or a read has by another name than was known
	sweepAt   int      // used entries at which the next Prune looks for dead ones
	shm       procmaps.Device

	liveFiles, liveNames []bool // marks of a sweep
}

const minSweep = 256

func newTables(shm procmaps.Device) tables {
	return tables{
		shm:   shm,
		files: make([]File, 1), fileIDs: make(map[fileKey]FileID),
		names: make([]name, 1), nameIDs: map[string]nameID{"": 0},
		sweepAt: minSweep,
	}
}

// internFile returns the identifier of f. A file of unknown identity is
// another one each time.
func (t *tables) internFile(f *File) FileID {
	if f.known() {
		if id, ok := t.fileIDs[f.key()]; ok {
			if t.files[id].otherwise(f.Name) {
				t.renamed = append(t.renamed, id)
			}
			t.learn(&t.files[id], f)
			return id
		}
	}
	id := FileID(len(t.files))
	if n := len(t.freeFiles); n > 0 {
		id, t.freeFiles = t.freeFiles[n-1], t.freeFiles[:n-1]
		t.files[id] = *f
	} else {
		t.files = append(t.files, *f)
	}
	if f.Class == 0 {
		t.files[id].Class = t.classOf(f.Dev, f.Name)
	}
	if f.known() {
		t.fileIDs[f.key()] = id
	}
	return id
}

// learn takes over what is better known in f.
func (t *tables) learn(known, f *File) {
	if f.Name != "" && f.Name != known.Name &&
		(known.Name == "" || strings.HasPrefix(f.Name, "/") || !strings.HasPrefix(known.Name, "/")) {
		known.Name = f.Name
	}
	if f.Class > ClassRegular && known.Class == ClassRegular {
		known.Class = f.Class
	}
	if known.HugePageSize == 0 {
		known.HugePageSize = f.HugePageSize
	}
}

// MostName is the length from which on the last element of a path that came with a call may
// be cut.
const MostName = 79

// otherwise tells whether a file is called otherwise than by a name, either of which may be
// the last element of a path only. What has no place in a file system is not asked for that, but
// for System V segments: two IPC namespaces may have one of the same number each.
func (f *File) otherwise(name string) bool {
	if f.Class != ClassRegular && f.Class != ClassSysV && !strings.HasPrefix(f.Name, "/dev/shm/") {
		return false
	}
	a, b := strings.TrimSuffix(f.Name, procmaps.DeletedSuffix), strings.TrimSuffix(name, procmaps.DeletedSuffix)
	if a == b || a == "" || b == "" {
		return false
	}
	if whole := strings.HasPrefix(a, "/") && strings.HasPrefix(b, "/"); !whole {
		a, b = procmaps.ShortName(a), procmaps.ShortName(b)
		if short := min(len(a), len(b)); short >= MostName {
			a, b = a[:short], b[:short]
		}
	}
	return a != b
}

func (t *tables) internName(raw string) nameID {
	if id, ok := t.nameIDs[raw]; ok {
		return id
	}
	raw = strings.Clone(raw) // the caller's string may be a piece of a large buffer
	n := name{raw: raw, anon: "[anon:" + raw + "]", shmem: "[anon_shmem:" + raw + "]"}
	id := nameID(len(t.names))
	if k := len(t.freeNames); k > 0 {
		id, t.freeNames = t.freeNames[k-1], t.freeNames[:k-1]
		t.names[id] = n
	} else {
		t.names = append(t.names, n)
	}
	t.nameIDs[raw] = id
	return id
}

// sweeping starts a sweep, if there may be much to free: the caller marks the
// live entries.
func (t *tables) sweeping() bool {
	if len(t.files)-len(t.freeFiles)+len(t.names)-len(t.freeNames) < t.sweepAt {
		return false
	}
	t.liveFiles = append(t.liveFiles[:0], make([]bool, len(t.files))...)
	t.liveNames = append(t.liveNames[:0], make([]bool, len(t.names))...)
	return true
}

// sweep frees the entries that were not marked since sweeping.
func (t *tables) sweep() {
	t.freeFiles, t.freeNames = t.freeFiles[:0], t.freeNames[:0]
	for i := len(t.files) - 1; i > 0; i-- {
		id := FileID(i)
		if t.liveFiles[id] {
			continue
		}
		if f := &t.files[i]; f.known() && t.fileIDs[f.key()] == id {
			delete(t.fileIDs, f.key())
		}
		t.files[i] = File{}
		t.freeFiles = append(t.freeFiles, id)
	}
	for i := len(t.names) - 1; i > 0; i-- {
		id := nameID(i)
		if t.liveNames[id] {
			continue
		}
		if n := &t.names[i]; n.raw != "" {
			delete(t.nameIDs, n.raw)
			*n = name{}
		}
		t.freeNames = append(t.freeNames, id)
	}
	live := len(t.files) - len(t.freeFiles) + len(t.names) - len(t.freeNames)
	t.sweepAt = max(minSweep, 2*live)
}

// classOf guesses the class of a file from its device and the name maps prints for it.
func (t *tables) classOf(dev procmaps.Device, name string) Class {
	none := procmaps.Device{}
	kernels := t.shm == none || dev == none || dev == t.shm
	switch {
	case kernels && (strings.HasPrefix(name, "/dev/zero (deleted)") || strings.HasPrefix(name, anonShmemPrefix)):
		return ClassAnonShared
	case kernels && strings.HasPrefix(name, "/SYSV"):
		return ClassSysV
	case strings.HasPrefix(name, procmaps.MemfdPrefix), strings.HasPrefix(name, "/dev/shm/"):
		return ClassMemfd
	case strings.HasPrefix(name, "/anon_hugepage"), strings.HasPrefix(name, "/dev/hugepages/"):
		return ClassHugeTLB
	case strings.HasPrefix(name, anonInodePrefix):
		return ClassAnonInode
	case strings.HasPrefix(name, "/dev/"):
		return ClassDevice
	}
	return ClassRegular
}

// agrees reports whether two classes can be of one file: a guess from a name
// cannot tell a device or a hugetlbfs file from a regular one.
func (c Class) agrees(o Class) bool {
	return c == o || c == ClassRegular || o == ClassRegular
}
