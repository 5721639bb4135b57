package symbol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
)

// What a line of a map of a JIT compiler may be, and how much that is none is read.
const (
	maxPerfLine = 64 << 10
	maxPerfJunk = 1 << 20 // bytes of lines that are no function
	maxPerfName = 1<<16 - 1
	pieceBytes  = 16
	blockBytes  = 1 << 18 // of records: more than the longest has
)

// perfMap is the map that a JIT compiler writes for perf: lines of a start
// address and a size in hex, and a name (tools/perf/Documentation/jit-interface.txt
// in the kernel's source). Code is moved and its place used again, so a later
// line wins over earlier ones. It is not safe for concurrent use.
//
// It holds about most bytes. When there is no more room, those that came first stay, and
// where a later function has taken the place of one of them there is no name.
type perfMap struct {
	most int64
	// Pieces of functions: those of a level are disjoint and by address, and newer than
	// those of the levels before, each of which has at least twice as many.
	levels  [][]piece
	blocks  [][]byte // of records of functions, see perfMap.record
	records int64    // bytes of records
	compact int64    // how many there are before those are dropped that nothing has
	rest    []byte   // a line without its end so far
	full    bool     // functions were left out
	skip    bool     // the rest of a line that is too long
	junk    int      // bytes of lines that are no function
}

// piece is what later functions have left of one.
type piece struct {
	start  uint64
	size   uint32
	record uint32 // offset of the function in records; 0 if there was no room for it
}

func (f *piece) end() uint64 { return f.start + uint64(f.size) }

// record appends what is known of a function: where it begins, its size, and its name. It
// returns the offset, that of the block included. Blocks are not moved when there are more.
func (p *perfMap) record(start, size uint64, name []byte) uint32 {
	need := 3*binary.MaxVarintLen64 + len(name)
	switch n := len(p.blocks); {
	case n == 0:
		p.blocks = append(p.blocks, []byte{0}) // offset 0 is that of none
	case len(p.blocks[n-1])+need > blockBytes:
		p.blocks = append(p.blocks, make([]byte, 0, blockBytes))
	}
	last := len(p.blocks) - 1
	b := p.blocks[last]
	before := len(b)
	for _, n := range []uint64{start, size, uint64(len(name))} {
		b = binary.AppendUvarint(b, n)
	}
	p.blocks[last] = append(b, name...)
	p.records += int64(len(p.blocks[last]) - before)
	return uint32(last*blockBytes + before)
}

// function decodes a record, and returns its bytes too.
func (p *perfMap) function(record uint32) (name []byte, start, size uint64, whole []byte) {
	var numbers [3]uint64
	whole = p.blocks[record/blockBytes][record%blockBytes:]
	b := whole
	for i := range numbers {
		n, used := binary.Uvarint(b)
		numbers[i], b = n, b[used:]
	}
	name = b[:numbers[2]]
	return name, numbers[0], numbers[1], whole[:len(whole)-len(b)+len(name)]
}

// lookup returns the function that was last compiled to addr, where it begins,
// and its size in bytes.
func (p *perfMap) lookup(addr uint64) (name string, start, size uint64, ok bool) {
	for _, level := range slices.Backward(p.levels) {
		i := sort.Search(len(level), func(i int) bool { return level[i].start > addr }) - 1
		if i < 0 || addr >= level[i].end() {
			continue
		}
		if level[i].record == 0 {
			break
		}
		text, start, size, _ := p.function(level[i].record)
		return string(text), start, size, true
	}
	return "", 0, 0, false
}

// bytes is the memory that is held.
func (p *perfMap) bytes() int64 {
	n := cap(p.rest)
	for _, b := range p.blocks {
		n += cap(b)
	}
	for _, level := range p.levels {
		n += cap(level) * pieceBytes
	}
	return int64(n)
}

// pieces is how many there are.
func (p *perfMap) pieces() (n int) {
	for _, level := range p.levels {
		n += len(level)
	}
	return n
}

// readFrom adds up to size bytes that a reader has, and returns the bytes read. They are
// paid for before. It ends early when it is clear that this is no map.
func (p *perfMap) readFrom(r io.Reader, size int64, pay func(bytes int64) error) (int64, error) {
	var total int64
	const chunk = 256 << 10
	buf := make([]byte, max(0, min(chunk, size)))
	for total < size && p.junk <= maxPerfJunk {
		buf = buf[:min(int64(len(buf)), size-total)]
		if err := pay(int64(len(buf))); err != nil {
			return total, err
		}
		n, err := io.ReadFull(r, buf)
		total += int64(n)
		p.add(buf[:n])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return total, nil // it has become shorter
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// add parses text that follows what was added before.
func (p *perfMap) add(text []byte) {
	var fresh []piece
	held := p.pieces()
	for len(text) > 0 {
		line, after, ended := bytes.Cut(text, []byte{'\n'})
		text = after
		if len(p.rest)+len(line) > maxPerfLine {
			p.skip = true
		}
		if p.skip {
			p.junk += len(p.rest) + len(line)
			p.rest = p.rest[:0]
			p.skip = !ended
			continue
		}
		if !ended {
			p.rest = append(p.rest, line...)
			break
		}
		if len(p.rest) > 0 {
			line = append(p.rest, line...)
			p.rest = p.rest[:0]
		}
		if f, ok := p.parse(line, held+len(fresh)); ok {
			fresh = append(fresh, f)
		} else {
			p.junk += len(line) + 1
		}
	}
	p.merge(fresh)
}

// parse decodes a line. So many pieces are held already.
func (p *perfMap) parse(line []byte, pieces int) (piece, bool) {
	a, rest, ok1 := bytes.Cut(line, []byte{' '})
	b, name, ok2 := bytes.Cut(rest, []byte{' '})
	start, err1 := strconv.ParseUint(string(bytes.TrimPrefix(a, []byte("0x"))), 16, 64)
	size, err2 := strconv.ParseUint(string(bytes.TrimPrefix(b, []byte("0x"))), 16, 64)
	name = bytes.TrimSuffix(name, []byte{'\r'})
	if !ok1 || !ok2 || err1 != nil || err2 != nil || size == 0 || size > math.MaxUint32 || start+size < start || len(name) == 0 {
		return piece{}, false
	}
	name = name[:min(len(name), maxPerfName)]
	f := piece{start: start, size: uint32(size)}
	if len(p.blocks) >= math.MaxUint32/blockBytes || p.records+int64(len(name)+(pieces+2)*pieceBytes) > p.most {
		p.full = true
	} else {
		f.record = p.record(start, size, name)
	}
	return f, true
}

// merge adds functions in the order in which they were compiled.
func (p *perfMap) merge(fresh []piece) {
	if len(fresh) == 0 {
		return
	}
	p.levels = append(p.levels, resolve(fresh))
	compact := p.records > max(p.compact, p.most/4)
	// What there is no room for is not to take much either.
	all := compact || p.full && p.pieces()-len(p.levels[0]) > len(p.levels[0])/8
	for n := len(p.levels); n > 1 && (all || len(p.levels[n-1]) > len(p.levels[n-2])/2); n-- {
		p.levels[n-2] = overlay(p.levels[n-2], p.levels[n-1])
		p.levels[n-1] = nil
		p.levels = p.levels[:n-1]
	}
	if !all {
		return
	}
	p.levels[0] = slices.DeleteFunc(p.levels[0], func(f piece) bool { return f.record == 0 })
	if compact {
		p.drop()
	}
	if n := len(p.levels[0]); cap(p.levels[0]) > n+n/8 {
		p.levels[0] = slices.Clone(p.levels[0])
	}
	// Functions may be cut into any number of pieces.
	if room := max(0, (p.most-p.records)/pieceBytes); int64(len(p.levels[0])) > room {
		p.full = true
		p.levels[0] = slices.Clone(p.levels[0][:room])
	}
}

// drop forgets the functions that nothing is left of. There is one level, and a block.
func (p *perfMap) drop() {
	used := make([]uint32, 0, len(p.levels[0]))
	for i := range p.levels[0] {
		used = append(used, p.levels[0][i].record)
	}
	slices.Sort(used)
	used = slices.Compact(used)
	moved := make([]uint32, len(used))
	// Each record is moved to where it was or to where others were before, so nothing is
	// overwritten that is still to be moved. Only the first block may have to grow for that,
	// by a record of a later one.
	block, kept := 0, p.blocks[0][:1]
	p.records = 0
	for i, record := range used {
		_, _, _, whole := p.function(record)
		if len(kept)+len(whole) > blockBytes {
			p.blocks[block] = kept
			block, kept = block+1, p.blocks[block+1][:0]
		}
		moved[i] = uint32(block*blockBytes + len(kept))
		kept = append(kept, whole...)
		p.records += int64(len(whole))
	}
	p.blocks[block] = kept
	clear(p.blocks[block+1:])
	p.blocks = p.blocks[:block+1]
	for i := range p.levels[0] {
		f := &p.levels[0][i]
		at, _ := slices.BinarySearch(used, f.record)
		f.record = moved[at]
	}
	// Not before as much has come as would at least have to be dropped to be worth it.
	p.compact = min(2*p.records, p.records+max((p.most-p.records)/2, p.most/16))
}

// resolve makes pieces in order of age disjoint and orders them by address.
func resolve(pieces []piece) []piece {
	ordered := true
	for i := 1; i < len(pieces) && ordered; i++ {
		ordered = pieces[i-1].end() <= pieces[i].start
	}
	if ordered {
		return pieces
	}
	half := len(pieces) / 2
	return overlay(resolve(slices.Clip(pieces[:half])), resolve(pieces[half:]))
}

// overlay lays the newer pieces over the older; both are disjoint and ordered. It may use
// the memory of the older.
func overlay(older, newer []piece) []piece {
	if len(older) == 0 || len(newer) == 0 || older[len(older)-1].end() <= newer[0].start {
		if n := len(older); cap(older)-n < len(newer) { // a smaller step than append's
			older = append(make([]piece, 0, n+max(n/8, len(newer))), older...)
		}
		return append(older, newer...)
	}
	out := make([]piece, 0, len(older)+len(newer))
	next := 0
	var low uint64 // what is below is taken
	// left appends what is left of a piece between two addresses.
	left := func(o piece, from, to uint64) {
		if from, to = max(o.start, from), min(o.end(), to); from < to {
			out = append(out, piece{from, uint32(to - from), o.record})
		}
	}
	for _, n := range newer {
		for next < len(older) && older[next].start < n.start {
			left(older[next], low, n.start)
			if older[next].end() > n.end() { // what is behind n follows later
				break
			}
			next++
		}
		out = append(out, n)
		for low = n.end(); next < len(older) && older[next].end() <= low; next++ {
		}
	}
	for ; next < len(older); next++ {
		left(older[next], low, math.MaxUint64)
	}
	return out
}
