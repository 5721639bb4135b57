package procmaps

import (
	"encoding/binary"
	"io"
	"iter"
)

// Packed holds the rows of maps or smaps in a few bytes each, where a slice takes
// some hundreds: enough to go over them again and again in order. It is safe for
// concurrent reading.
type Packed struct {
	// Keys are all keys seen, in the order in which the file first shows them;
	// none for maps.
	Keys []Key

	index  map[string]int
	n      int
	chunks [][]byte // whole rows
	end    uint64   // of the last row
	vals   int      // most numbers in a row

	// What rows have in common is kept once. A row holds the number of it.
	files   []packedFile
	fileAt  map[packedFile]int
	flags   []VmFlags
	flagsAt map[VmFlags]int
	shapes  []*shape
	shapeAt map[*shape]int
	texts   map[int][]TextValue // by row
}

// packedFile is what neighbouring rows of one file share.
type packedFile struct {
	dev   Device
	inode uint64
	name  string
}

// packedChunk is how much is allocated at a time.
const packedChunk = 32 << 10

func newPacked() *Packed {
	return &Packed{fileAt: map[packedFile]int{}, flagsAt: map[VmFlags]int{}, shapeAt: map[*shape]int{}}
}

// PackedMaps is [Process.Maps] with a packed result, which may have no rows.
func (p *Process) PackedMaps() (*Packed, error) { return p.packed("maps", readPackedMaps) }

// PackedSmaps is [Process.Smaps] with a packed result, which may have no rows.
func (p *Process) PackedSmaps() (*Packed, error) { return p.packed("smaps", readPackedSmaps) }

func readPackedMaps(r io.Reader, file string) (*Packed, error) {
	t := newPacked()
	parser := mapsParser{mend: true}
	err := parser.scan(newLines(r, file), func(m *Mapping) error {
		t.add(&SmapsRow{Mapping: *m}, nil)
		return nil
	})
	return t, err
}

func readPackedSmaps(r io.Reader, file string) (*Packed, error) {
	t := newPacked()
	parser := newSmapsParser()
	parser.maps.mend = true
	parser.emit = func(r *SmapsRow, vals []uint64) error {
		t.add(r, vals)
		return nil
	}
	s, err := parser.parse(newLines(r, file))
	if err != nil {
		return nil, err
	}
	t.Keys, t.index = s.Keys, s.index
	return t, nil
}

func (p *Process) packed(name string, read func(io.Reader, string) (*Packed, error)) (*Packed, error) {
	var t *Packed
	found, err := p.memory(name, func(r io.Reader, file string) (int, error) {
		var err error
		if t, err = read(r, file); err != nil {
			return 0, err
		}
		return t.n, nil
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return newPacked(), nil
	}
	return t, nil
}

// Len returns the number of rows.
func (t *Packed) Len() int { return t.n }

// All yields the rows in address order. A row is valid until the next one.
func (t *Packed) All() iter.Seq[*SmapsRow] {
	return func(yield func(*SmapsRow) bool) {
		s := &Smaps{Keys: t.Keys, index: t.index, vals: make([]uint64, t.vals)}
		row := SmapsRow{smaps: s}
		end, n := uint64(0), 0
		for _, b := range t.chunks {
			for len(b) > 0 {
				b = t.unpack(b, &row, end)
				end = row.End
				row.Text = t.texts[n]
				n++
				if !yield(&row) {
					return
				}
			}
		}
	}
}

// add packs a row and its numbers. Rows come in address order.
func (t *Packed) add(r *SmapsRow, vals []uint64) {
	// Nine numbers at most besides those of the row, and a bit for each of these.
	most := (9+len(vals))*binary.MaxVarintLen64 + (len(vals)+7)/8
	last := len(t.chunks) - 1
	if last < 0 || cap(t.chunks[last])-len(t.chunks[last]) < most {
		t.chunks = append(t.chunks, make([]byte, 0, max(packedChunk, most)))
		last++
	}
	b := t.chunks[last]
	b = binary.AppendUvarint(b, r.Start-t.end)
	b = binary.AppendUvarint(b, r.Len())
	b = append(b, byte(r.Mode))
	b = binary.AppendUvarint(b, r.Offset)
	b = binary.AppendUvarint(b, numberOf(packedFile{r.Dev, r.Inode, r.Name}, &t.files, t.fileAt))
	b = binary.AppendUvarint(b, numberOf(r.Flags, &t.flags, t.flagsAt))
	b = binary.AppendUvarint(b, numberOf(r.shape, &t.shapes, t.shapeAt))
	// Most numbers are 0: a bit for each says which are not.
	bits := len(b)
	for range (len(vals) + 7) / 8 {
		b = append(b, 0)
	}
	for i, v := range vals {
		if v != 0 {
			b[bits+i/8] |= 1 << (i % 8)
			b = binary.AppendUvarint(b, v)
		}
	}
	t.chunks[last] = b
	t.end = r.End
	t.vals = max(t.vals, len(vals))
	if r.Text != nil {
		if t.texts == nil {
			t.texts = make(map[int][]TextValue)
		}
		t.texts[t.n] = r.Text
	}
	t.n++
}

// unpack reads the row at the start of b, which follows one that ends at end,
// and returns the rest. It reads what add wrote.
func (t *Packed) unpack(b []byte, r *SmapsRow, end uint64) []byte {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[n:]
		return v
	}
	r.Start = end + next()
	r.End = r.Start + next()
	r.Mode = Mode(b[0])
	b = b[1:]
	r.Offset = next()
	f := &t.files[next()]
	r.Dev, r.Inode, r.Name = f.dev, f.inode, f.name
	r.Flags = t.flags[next()]
	r.shape = t.shapes[next()]
	if r.shape == nil {
		return b
	}
	vals := r.smaps.vals[:len(r.shape.keys)]
	bits := b[:(len(vals)+7)/8]
	b = b[len(bits):]
	for i := range vals {
		vals[i] = 0
		if bits[i/8]&(1<<(i%8)) != 0 {
			vals[i] = next()
		}
	}
	return b
}

// numberOf returns the place of v in all, where it puts it if it is new.
func numberOf[T comparable](v T, all *[]T, at map[T]int) uint64 {
	if n := len(*all); n > 0 && (*all)[n-1] == v {
		return uint64(n - 1)
	}
	i, ok := at[v]
	if !ok {
		i = len(*all)
		*all = append(*all, v)
		at[v] = i
	}
	return uint64(i)
}
