package symbol

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// What a map of a JIT compiler may hold. 64 MiB of names are some hundred
// thousand functions.
const (
	maxPerfNames  = 64 << 20
	maxPerfPieces = 1 << 20
	maxPerfLine   = 64 << 10
	maxPerfJunk   = 1 << 20 // bytes of lines that are no function
)

// perfMap is the map that a JIT compiler writes for perf: lines of a start
// address and a size in hex, and a name (tools/perf/Documentation/jit-interface.txt
// in the kernel's source). Code is moved and its place used again, so a later
// line wins over earlier ones. It is not safe for concurrent use.
type perfMap struct {
	pieces []piece // disjoint, by address
	names  []byte
	rest   []byte // a line without its end so far
	full   bool   // functions were left out
	skip   bool   // the rest of a line that is too long
	junk   int    // bytes of lines that are no function
}

// piece is what later functions have left of one.
type piece struct {
	start, end uint64
	function   uint64 // where the function begins
	size       uint64 // of the function
	name       uint32 // offset in names
	length     uint16
}

// lookup returns the function that was last compiled to addr, where it begins,
// and its size in bytes.
func (p *perfMap) lookup(addr uint64) (name string, start, size uint64, ok bool) {
	i := sort.Search(len(p.pieces), func(i int) bool { return p.pieces[i].start > addr }) - 1
	if i < 0 || addr >= p.pieces[i].end {
		return "", 0, 0, false
	}
	f := p.pieces[i]
	return string(p.names[f.name:][:f.length]), f.function, f.size, true
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
		if f, ok := p.parse(line); ok {
			fresh = append(fresh, f)
		} else {
			p.junk += len(line) + 1
		}
	}
	p.merge(fresh)
}

func (p *perfMap) parse(line []byte) (piece, bool) {
	a, rest, ok1 := strings.Cut(string(line), " ")
	b, name, ok2 := strings.Cut(rest, " ")
	start, err1 := strconv.ParseUint(strings.TrimPrefix(a, "0x"), 16, 64)
	size, err2 := strconv.ParseUint(strings.TrimPrefix(b, "0x"), 16, 64)
	name = strings.TrimSuffix(name, "\r")
	if !ok1 || !ok2 || err1 != nil || err2 != nil || size == 0 || start+size < start || name == "" {
		return piece{}, false
	}
	name = name[:min(len(name), 1<<16-1)]
	if len(p.names)+len(name) > maxPerfNames {
		p.full = true
		return piece{}, false
	}
	f := piece{start, start + size, start, size, uint32(len(p.names)), uint16(len(name))}
	p.names = append(p.names, name...)
	return f, true
}

// merge adds functions in the order in which they were compiled.
func (p *perfMap) merge(fresh []piece) {
	if len(fresh) == 0 {
		return
	}
	merged := overlay(p.pieces, resolve(fresh))
	if len(merged) > maxPerfPieces {
		p.full = true
		return
	}
	p.pieces = merged
	if len(p.names) > maxPerfNames/2 {
		p.compact()
	}
}

// compact drops the names that nothing has any more.
func (p *perfMap) compact() {
	live := 0
	for _, f := range p.pieces {
		live += int(f.length)
	}
	if live > len(p.names)/2 {
		return
	}
	names := make([]byte, 0, live)
	for i := range p.pieces {
		f := &p.pieces[i]
		at := uint32(len(names))
		names = append(names, p.names[f.name:][:f.length]...)
		f.name = at
	}
	p.names = names
}

// resolve makes pieces in order of age disjoint and orders them by address.
func resolve(pieces []piece) []piece {
	if len(pieces) <= 1 {
		return pieces
	}
	half := len(pieces) / 2
	return overlay(resolve(pieces[:half]), resolve(pieces[half:]))
}

// overlay lays the newer pieces over the older; both are disjoint and ordered.
func overlay(older, newer []piece) []piece {
	if len(older) == 0 {
		return slices.Clone(newer)
	}
	out := make([]piece, 0, len(older)+len(newer))
	next := 0
	var low uint64 // what is below is taken
	for _, n := range newer {
		for next < len(older) && older[next].start < n.start {
			o := older[next]
			o.start = max(o.start, low)
			if o.end > n.end { // what is behind n follows later
				if o.start < n.start {
					o.end = n.start
					out = append(out, o)
				}
				break
			}
			if o.end = min(o.end, n.start); o.start < o.end {
				out = append(out, o)
			}
			next++
		}
		out = append(out, n)
		for low = n.end; next < len(older) && older[next].end <= low; next++ {
		}
	}
	for ; next < len(older); next++ {
		o := older[next]
		if o.start = max(o.start, low); o.start < o.end {
			out = append(out, o)
		}
	}
	return out
}
