package stack

// cie is a common information entry: what FDEs share.
type cie struct {
	codeAlign uint64
	dataAlign int64
	encoding  uint8 // of the addresses in FDEs
	ra        uint8
	augmented bool // FDEs have augmentation data
	signal    bool // "S": a signal frame
	initial   state
}

// frames is one section of call frame information, .eh_frame or .debug_frame.
type frames struct {
	b     []byte
	debug bool // .debug_frame, which differs in the details
	at    bases
	// endsAtZero: a length of 0 ends the frames, because what is behind them
	// is not known to be any. Without it, it ends what one object file had.
	endsAtZero bool

	cies map[int]*cie // nil for damaged ones
	out  *builder
}

// parse hands every FDE to the builder. Damaged entries are passed over, as
// far as their lengths allow.
func (f *frames) parse() {
	f.cies = make(map[int]*cie)
	for off := 0; off < len(f.b) && f.out.step(); {
		body, id, idSize, next, ok := f.entry(off)
		if !ok {
			return
		}
		if next-off == 4 { // the length was 0
			if f.endsAtZero {
				return
			}
			off = next
			continue
		}
		if !f.isCIE(id, idSize) && !body.bad {
			// .eh_frame counts back from the field, .debug_frame from the
			// start of the section.
			at := id
			if !f.debug {
				at = uint64(body.off-idSize) - id
			}
			if at < uint64(len(f.b)) {
				if c := f.cie(int(at)); c != nil {
					f.fde(c, body)
				}
			}
		}
		if f.out.full() {
			return
		}
		off = next
	}
}

// entry takes the entry at off apart: its body begins behind the identifier.
// ok is false when no further entry can be found.
func (f *frames) entry(off int) (body reader, id uint64, idSize, next int, ok bool) {
	r := reader{b: f.b, off: off}
	n := uint64(r.u32())
	idSize = 4
	if n == 0xffffffff {
		n = r.u64()
		if f.debug {
			idSize = 8
		}
	}
	if r.bad || n > uint64(r.left()) {
		return reader{}, 0, 0, 0, false
	}
	next = r.off + int(n)
	r.b = f.b[:next]
	if idSize == 8 {
		id = r.u64()
	} else {
		id = uint64(r.u32())
	}
	return r, id, idSize, next, true
}

func (f *frames) isCIE(id uint64, idSize int) bool {
	switch {
	case !f.debug:
		return id == 0
	case idSize == 8:
		return id == ^uint64(0)
	}
	return id == 0xffffffff
}

// cie returns the CIE at off, nil where there is no valid one.
func (f *frames) cie(off int) *cie {
	c, ok := f.cies[off]
	if !ok {
		if r, id, idSize, _, ok := f.entry(off); ok && !r.bad && f.isCIE(id, idSize) {
			c = f.readCIE(r)
		}
		f.cies[off] = c
	}
	return c
}

func (f *frames) readCIE(r reader) *cie {
	c := &cie{encoding: encAbs}
	version := r.u8()
	if version != 1 && version != 3 && version != 4 {
		return nil
	}
	aug := r.str()
	if version == 4 {
		if size, segment := r.u8(), r.u8(); size != 8 || segment != 0 {
			return nil
		}
	}
	if aug == "eh" { // gcc 2
		r.u64()
		aug = ""
	}
	c.codeAlign = r.uleb()
	c.dataAlign = r.sleb()
	var ra uint64
	if version == 1 {
		ra = uint64(r.u8())
	} else {
		ra = r.uleb()
	}
	if ra >= uint64(f.out.im.arch.registers()) {
		return nil
	}
	c.ra = uint8(ra)
	if aug != "" {
		if aug[0] != 'z' {
			return nil
		}
		c.augmented = true
		n := r.uleb()
		if n > uint64(r.left()) {
			return nil
		}
		behind := r.off + int(n)
		if !c.augment(aug[1:], reader{b: r.b[:behind], off: r.off}, f.at) {
			return nil
		}
		r.off = behind
	}
	if r.bad {
		return nil
	}
	b := f.out
	b.state = state{}
	if _, ok := b.exec(r, c, false, 0, 0); !ok {
		return nil
	}
	c.initial = b.state
	return c
}

// augment reads augmentation data. Letters that are not known may follow the
// ones that are: their data can be passed over, as its size is given.
func (c *cie) augment(letters string, r reader, at bases) bool {
	for _, l := range letters {
		switch l {
		case 'R':
			c.encoding = r.u8()
		case 'P':
			enc := r.u8()
			r.pointer(enc, at) // the personality routine
		case 'L':
			r.u8() // the encoding of the LSDA pointer in FDEs
		case 'S':
			c.signal = true
		case 'B', 'G':
			// arm64: signed with key B; has a tagged stack.
		default:
			return !r.bad
		}
	}
	return !r.bad
}

func (f *frames) fde(c *cie, r reader) {
	start, ok := r.pointer(c.encoding, f.at)
	if !ok {
		return
	}
	size := r.value(c.encoding)
	if c.augmented {
		r.take(r.uleb())
	}
	if r.bad {
		return
	}
	f.out.function(c, start, size, r)
}
