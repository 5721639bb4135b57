package space

import (
	"encoding/binary"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
)

// Packed is a Snapshot in a few bytes a region, where its slice takes dozens. The zero value
// is one of nothing. It is immutable and may be read by any goroutine.
type Packed struct {
	Totals Totals
	n      int
	data   []byte
	kinds  []regionKind
}

// regionKind is what many regions have in common.
type regionKind struct {
	mode  procmaps.Mode
	dev   procmaps.Device
	inode uint64
	name  string
	kind  procmaps.Kind
	flags Flags
	file  FileID
}

// Packed copies the regions.
func (s *Space) Packed() Packed {
	p := Packed{Totals: s.Totals()}
	numbers := make(map[regionKind]int)
	end := uint64(0)
	s.eachRegion(func(r *Region) {
		k := regionKind{r.Mode, r.Dev, r.Inode, r.Name, r.Kind, r.Flags, r.File}
		i, ok := numbers[k]
		if !ok {
			i = len(p.kinds)
			numbers[k] = i
			p.kinds = append(p.kinds, k)
		}
		for _, v := range [...]uint64{r.Start - end, r.Len(), uint64(i), r.Offset, uint64(r.Extents), r.Ops} {
			p.data = binary.AppendUvarint(p.data, v)
		}
		end = r.End
		p.n++
	})
	p.data, p.kinds = slices.Clip(p.data), slices.Clip(p.kinds)
	return p
}

// Snapshot returns what was packed.
func (p *Packed) Snapshot() Snapshot {
	out := Snapshot{Totals: p.Totals, Regions: make([]Region, p.n)}
	b, end := p.data, uint64(0)
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[n:]
		return v
	}
	for i := range out.Regions {
		r := &out.Regions[i]
		r.Start = end + next()
		r.End = r.Start + next()
		k := &p.kinds[next()]
		r.Mode, r.Dev, r.Inode, r.Name, r.Kind, r.Flags, r.File = k.mode, k.dev, k.inode, k.name, k.kind, k.flags, k.file
		r.Offset, r.Extents, r.Ops = next(), int(next()), next()
		end = r.End
	}
	return out
}
