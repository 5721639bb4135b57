package malloc

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// fake is memory that is made up. before is told each reading
// before it is done.
type fake struct {
	segments []segment
	before   func(addr uint64)
	calls    int
}

type segment struct {
	procmaps.Range
	data []byte
	name string
}

func (f *fake) add(start, size uint64, name string) {
	f.segments = append(f.segments, segment{procmaps.Range{Start: start, End: start + size}, make([]byte, size), name})
}

func (f *fake) rows() (rows []procmaps.Mapping) {
	for _, s := range f.segments {
		rows = append(rows, procmaps.Mapping{Range: s.Range, Mode: procmaps.Read | procmaps.Write, Name: s.name})
	}
	return rows
}

var errUnmapped = errors.New("nothing is mapped there")

func (f *fake) ReadAt(p []byte, addr uint64) (int, error) {
	f.calls++
	if f.before != nil {
		f.before(addr)
	}
	for _, s := range f.segments {
		if s.Contains(addr) {
			n := copy(p, s.data[addr-s.Start:])
			if n < len(p) {
				return n, errUnmapped
			}
			return n, nil
		}
	}
	return 0, errUnmapped
}

func (f *fake) put(addr, word uint64) {
	for _, s := range f.segments {
		if s.Contains(addr) && addr+8 <= s.End {
			binary.LittleEndian.PutUint64(s.data[addr-s.Start:], word)
		}
	}
}

// version is what differs between versions of glibc.
type version struct {
	name   string
	front  uint64 // of malloc_state, before top
	info   uint64 // heap_info
	masked bool
	random bool // the key of caches is a random number
	lists  uint64
	layout int // of malloc_par
}

var versions = []version{
	{"2.31", frontFast, heapInfoOld, false, false, smallCaches, 0},
	{"2.32 and 2.33", frontFast, heapInfoOld, true, false, smallCaches, 0},
	{"2.34", frontFast, heapInfoOld, true, true, smallCaches, 0},
	{"2.35 to 2.41", frontFast, heapInfo, true, true, smallCaches, 1},
	{"2.42", frontFast, heapInfo, true, true, allCaches, 1},
	{"2.43", frontNoFast, heapInfo, true, true, allCaches, 2},
}

const (
	fakeData  = 0x7f00_0020_0000
	fakeMain  = fakeData + 0x800
	fakePar   = fakeData + 0x200
	fakeBrk   = 0x5555_0000_0000
	fakeArena = 0x7f10_0000_0000
	fakeKey   = 0xfeed_f00d_1234_5678
	fakePart  = 0x21000
)

// What becomes of a chunk.
const (
	inUse = iota
	inBin
	inFast
	inCache
	theCache
)

type chunk struct {
	size uint64
	is   int
}

// row has some of all kinds of chunks.
func (v version) row() []chunk {
	cache := (8 + 10*v.lists + 15) &^ 15
	if v.front == frontNoFast {
		cache += header
	}
	row := []chunk{
		{cache, theCache},
		{64, inUse},
		{0x5000, inBin},
		{48, inUse},
		{32, inCache},
		{1024, inCache},
		{32, inCache},
		{0x400, inUse},
		{0x200, inBin},
		{0x8000, inUse},
	}
	if v.front == frontFast {
		row = append(row, chunk{32, inFast}, chunk{96, inFast}, chunk{96, inFast}, chunk{96, inUse})
	}
	return row
}

func (v version) mask(at, to uint64) uint64 {
	if v.masked {
		return to ^ at>>12
	}
	return to
}

// state makes a malloc_state up.
func (f *fake) state(v version, at, top, next, system uint64) {
	b := at + v.front
	f.put(b, top)
	for i := range uint64(bins) {
		f.put(b+8*stateBins+16*i, b+16*i)
		f.put(b+8*stateBins+16*i+8, b+16*i)
	}
	f.put(b+8*stateNext, next)
	f.put(b+8*stateSystem, system)
}

// chunks lays chunks out, and says what they are.
func (f *fake) chunks(v version, state, at, end uint64, row []chunk) (a Arena) {
	start := at
	fast := map[uint64]uint64{}
	cached := map[uint64]uint64{}
	var cache uint64
	free := uint64(0) // size of the chunk before, if that is free
	for _, c := range row {
		head := c.size | prevInUse
		if free != 0 {
			head &^= prevInUse
			f.put(at, free)
		}
		f.put(at+8, head)
		free = 0
		switch c.is {
		case theCache:
			cache = at + header
			a.InUse.add(c.size)
			a.Sizes[ClassOf(c.size)]++
		case inUse:
			a.InUse.add(c.size)
			a.Sizes[ClassOf(c.size)]++
		case inBin:
			a.Bins.add(c.size)
			free = c.size
		case inFast:
			a.Fast.add(c.size)
			f.put(at+header, v.mask(at+header, fast[c.size]))
			fast[c.size] = at
		case inCache:
			a.Tcache.add(c.size)
			f.put(at+header, v.mask(at+header, cached[c.size]))
			key := cache
			if v.random {
				key = fakeKey
			}
			f.put(at+header+8, key)
			cached[c.size] = at + header
		}
		at += c.size
	}
	f.put(at+8, end-at|prevInUse)
	a.Top = end - at
	for size, head := range fast {
		f.put(state+fastListsAt+8*((size-leastChunk)/chunkAlign), head)
	}
	for size, head := range cached {
		f.put(cache+2*v.lists+8*((size-leastChunk)/chunkAlign), head)
	}
	a.Walked = end - start
	return a
}

// process makes a process up: a main arena, one of a thread, and blocks that have
// mappings of their own.
func process(v version) (*fake, []Arena) { return processAt(v, fakeArena) }

// processAt is the same with the thread's arena somewhere else.
func processAt(v version, arena uint64) (*fake, []Arena) {
	f := &fake{}
	f.add(fakeBrk, fakePart, "[heap]")
	f.add(fakeData, 0x3000, "/usr/lib/libc.so.6")
	f.add(arena, fakePart, "")
	thread := arena + v.info
	row := v.row()
	var length uint64
	for _, c := range row {
		length += c.size
	}
	first := (thread + v.front + 8*stateWords + 15) &^ 15
	f.state(v, fakeMain, fakeBrk+length, thread, fakePart)
	f.state(v, thread, first+length, fakeMain, fakePart)
	f.put(arena, thread)
	f.put(arena+16, fakePart)
	f.put(arena+24, fakePart)
	f.put(fakeMain, 0)
	main := f.chunks(v, fakeMain, fakeBrk, fakeBrk+fakePart, row)
	main.State, main.Main, main.Heaps, main.System = fakeMain, true, 1, fakePart
	of := f.chunks(v, thread, first, arena+fakePart, row)
	of.State, of.Heaps, of.System = thread, 1, fakePart
	of.Overhead = first - arena
	of.Walked += of.Overhead
	// malloc_par
	l := layouts[v.layout]
	at := uint64(fakePar)
	f.put(at-l.topPad, 128<<10)
	f.put(at-l.arenaTest, 8)
	half := func(at, is uint64) {
		s := &f.segments[1]
		binary.LittleEndian.PutUint32(s.data[at-s.Start:], uint32(is))
	}
	half(at-l.counts, 3)
	half(at-l.counts+4, 65536)
	half(at-l.counts+8, 4)
	for i, word := range []uint64{0x300000, 0x500000, fakeBrk, 64, 1032, 7} {
		f.put(at+8*uint64(i), word)
	}
	return f, []Arena{main, of}
}

// Heaps are aligned to less than usual where they are made of huge pages of 2 MiB.
func TestAnArenaOfHugePages(t *testing.T) {
	t.Parallel()
	f, want := processAt(versions[3], fakeArena+3*8<<20)
	h, err := Read(f, f.rows(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !h.Complete || len(h.Arenas) != 2 || h.Arenas[1].InUse != want[1].InUse || h.Arenas[1].Walked != want[1].Walked {
		t.Errorf("%+v", h)
	}
}

// The heap begins with the cache, and with 64 and 0x5000 bytes that are broken here.
func TestChunksThatDoNotFollowEachOther(t *testing.T) {
	t.Parallel()
	v := versions[3]
	const broken = fakeBrk + 0x290 + 64 + 8
	t.Run("at first", func(t *testing.T) {
		t.Parallel()
		f, want := process(v)
		const right = 0x5000 | prevInUse
		reads := 0
		f.put(broken, 0x123450)
		f.before = func(addr uint64) {
			// What looks for the lists reads the page once too.
			if addr == fakeBrk {
				reads++
			}
			if reads > 3 {
				f.put(broken, right)
			}
		}
		h, err := Read(f, f.rows(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Arenas[0]; !h.Complete || got.Skipped != 0 || got.InUse != want[0].InUse || got.Bins != want[0].Bins {
			t.Errorf("%+v", h)
		}
		if reads <= 3 {
			t.Errorf("it was read %d times", reads)
		}
	})
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		f, want := process(v)
		f.put(broken, 0x123450)
		h, err := Read(f, f.rows(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := h.Arenas[0]
		// The one before is left out too: it is not known where it ends.
		if got.Skipped != 64+0x5000 || got.InUse != (Amount{want[0].InUse.Bytes - 64, want[0].InUse.Blocks - 1}) || got.Walked != want[0].Walked {
			t.Errorf("%+v", got)
		}
		if want := "20.1 KiB of 132.0 KiB could not be read as chunks"; h.Complete || h.Why != want {
			t.Errorf("%q", h.Why)
		}
	})
}

func TestLayoutsOfAllVersions(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			f, want := process(v)
			h, err := Read(f, f.rows(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range h.Arenas {
				h.Arenas[i].Trimmable = 0
			}
			if diff := cmp.Diff(want, h.Arenas); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !h.Complete || h.Caches != 2 || h.Mapped != (Amount{0x300000, 3}) {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestAMainArenaThatWasNeverUsed(t *testing.T) {
	t.Parallel()
	v := versions[3]
	f, want := process(v)
	for i := range f.segments[1].data[0x800:] {
		f.segments[1].data[0x800+i] = 0
	}
	f.put(fakeMain+v.front+8*stateNext, fakeArena+v.info)
	h, err := Read(f, f.rows(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Arenas) != 1 || h.Arenas[0].Tcache != want[1].Tcache || !h.Complete {
		t.Errorf("%+v", h)
	}
}

func TestNoMallocOfGlibc(t *testing.T) {
	t.Parallel()
	f, _ := process(versions[3])
	for i := range f.segments {
		clear(f.segments[i].data)
	}
	if h, err := Read(f, f.rows(), Options{}); !errors.Is(err, ErrNone) {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestWhatIsNotRead(t *testing.T) {
	t.Parallel()
	v := versions[3]
	for _, tt := range []struct {
		name   string
		change func(*fake, *Options)
		why    string
	}{
		{"no more than is allowed", func(_ *fake, o *Options) { o.Bytes = 64 << 10 }, "2 arenas: as much was read as may be, and others"},
		{"stopped", func(f *fake, o *Options) { o.Stop = func() bool { return f.calls > 10 } }, "as much was read as may be"},
		{"a chunk of no size", func(f *fake, _ *Options) {
			for at := uint64(0x300); at < 0x8000; at += 8 {
				f.put(fakeBrk+at, 0)
			}
		}, ""},
		{"a ring of heaps", func(f *fake, _ *Options) {
			f.put(fakeArena+v.info+v.front, fakeArena+usualHeap+0x1000)
			f.add(fakeArena+usualHeap, fakePart, "")
			f.put(fakeArena+usualHeap, fakeArena+v.info)
			f.put(fakeArena+usualHeap+8, fakeArena+usualHeap)
			f.put(fakeArena+usualHeap+16, fakePart)
		}, "the chain of its heaps is broken"},
		{"swapped out", func(_ *fake, o *Options) {
			o.Count = func(g []procmaps.Range, out []procmaps.Resident) error {
				for i := range g {
					if g[i].Start == fakeBrk {
						out[i].SwapBytes = 8192
					}
				}
				return nil
			}
		}, "8.0 KiB of it is swapped out, and reading would bring that back"},
		{"no parameters", func(f *fake, _ *Options) { f.put(fakePar, 1) }, "malloc's count of blocks with mappings of their own was not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, _ := process(v)
			var o Options
			tt.change(f, &o)
			h, err := Read(f, f.rows(), o)
			if err != nil {
				t.Fatal(err)
			}
			if h.Complete || tt.why != "" && h.Why != tt.why {
				t.Errorf("complete %v, %q", h.Complete, h.Why)
			}
			if o.Bytes != 0 && h.ReadBytes > o.Bytes {
				t.Errorf("%d bytes were read", h.ReadBytes)
			}
		})
	}
	t.Run("pages cannot be counted", func(t *testing.T) {
		t.Parallel()
		f, _ := process(v)
		fails := errors.New("it fails")
		if _, err := Read(f, f.rows(), Options{Count: func([]procmaps.Range, []procmaps.Resident) error { return fails }}); !errors.Is(err, fails) {
			t.Error(err)
		}
	})
}

// What is read is never trusted, and may change between any two readings: the figures
// belong together still, and what is read, and how often, is bounded.
func FuzzRead(f *testing.F) {
	f.Add(uint8(0), []byte{})
	for v := range versions {
		f.Add(uint8(v), []byte{0, 8, 0, 0x21, 2, 0x18, 1, 0, 3, 0, 9, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, changes []byte) {
		v := versions[int(which)%len(versions)]
		mem, _ := process(v)
		seed := uint64(which) + 1
		// Each change is a segment, where in it, and a byte or a word.
		change := func() {
			if len(changes) < 4 {
				return
			}
			s := mem.segments[changes[0]%3]
			at := (uint64(changes[1])<<8 | uint64(changes[2])) * 8 % uint64(len(s.data))
			switch word, old := uint64(changes[3]), binary.LittleEndian.Uint64(s.data[at:]); changes[0] >> 5 {
			case 0:
				mem.put(s.Start+at, word)
			case 1:
				mem.put(s.Start+at, old^word)
			case 2:
				mem.put(s.Start+at, old+word*16)
			case 3:
				mem.put(s.Start+at, s.Start+word*16)
			case 4:
				mem.put(s.Start+at, math.MaxUint64-word)
			case 5:
				mem.put(s.Start+at, fakeArena+word*8)
			default:
				seed = seed*6364136223846793005 + 1442695040888963407
				mem.put(s.Start+at, seed)
			}
			changes = changes[4:]
		}
		for range len(changes) / 8 {
			change()
		}
		mem.before = func(uint64) { change() }
		const most = 32 << 20
		h, err := Read(mem, mem.rows(), Options{Bytes: most, Count: func(g []procmaps.Range, out []procmaps.Resident) error {
			for i := range g {
				if g[i].End <= g[i].Start || i > 0 && g[i].Start < g[i-1].End || (g[i].Start|g[i].End)%4096 != 0 {
					t.Fatalf("ranges %v", g)
				}
				out[i] = procmaps.Resident{Bytes: g[i].Len()}
			}
			return nil
		}})
		if mem.calls > 1<<20 {
			t.Errorf("%d readings", mem.calls)
		}
		if err != nil {
			if !errors.Is(err, ErrNone) {
				t.Fatal(err)
			}
			return
		}
		if h.ReadBytes > most || h.Complete != (h.Why == "") {
			t.Errorf("%+v", h)
		}
		for _, a := range h.Arenas {
			if a.sum() != a.Walked || a.Walked > 1<<40 || a.ResidentTrim+a.ResidentTop > a.Walked {
				t.Errorf("%+v", a)
			}
		}
	})
}
