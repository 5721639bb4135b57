package symbol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"slices"

	"github.com/ulikunitz/xz/lzma"
)

// This reader of the xz format knows how much comes out before anything is
// decompressed: LZMA2 has the size of each chunk in front of it. Libraries take the
// size of the dictionary, up to 4 GiB, from the file. It reads what xz makes by
// default, one filter, LZMA2, and one stream; what follows the blocks is not
// looked at. The format: https://tukaani.org/xz/xz-file-format.txt

var errNotXZ = errors.New("malformed xz")

// unxz decompresses up to most bytes; [ErrTooLarge] says that it would be more. What is
// decompressed is paid for before, and then again and again with nothing, for the time
// that it takes.
func unxz(b []byte, most uint64, pay func(bytes int64) error) ([]byte, error) {
	const magic, header = "\xfd7zXZ\x00", 12
	if len(b) < header || string(b[:len(magic)]) != magic || b[6] != 0 || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, errNotXZ
	}
	check := b[7]
	b = b[header:]
	var out []byte
	const blocks = 1 << 10 // xz makes one for each 24 MiB, or one in all
	for range blocks {
		block, rest, err := cutBlock(b, check)
		switch {
		case err != nil:
			return nil, err
		case block == nil:
			return out, nil
		case block.size > most:
			return nil, ErrTooLarge
		}
		most -= block.size
		if err = pay(int64(block.size)); err != nil {
			return nil, err
		}
		if out, err = block.inflate(out, pay); err != nil {
			return nil, err
		}
		b = rest
	}
	return nil, errNotXZ
}

// xzBlock is one block of a stream.
type xzBlock struct {
	data []byte // chunks of LZMA2
	size uint64 // when decompressed
	dict uint64 // how far back it refers
	hash hash.Hash
	sum  []byte
}

// cutBlock takes the first block off a stream; nil when there are no more.
func cutBlock(b []byte, check uint8) (block *xzBlock, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errNotXZ
	}
	if b[0] == 0 { // the index
		return nil, nil, nil
	}
	n := (int(b[0]) + 1) * 4
	if len(b) < n || crc32.ChecksumIEEE(b[:n-4]) != binary.LittleEndian.Uint32(b[n-4:]) {
		return nil, nil, errNotXZ
	}
	c := cursor{b: b[1 : n-4], order: binary.LittleEndian}
	flags := c.u8()
	const filters, packedSize, size, lzma2 = 0x3f, 0x40, 0x80, 0x21
	if flags&packedSize != 0 {
		c.uleb()
	}
	if flags&size != 0 {
		c.uleb()
	}
	if flags&filters != 0 || c.uleb() != lzma2 || c.uleb() != 1 {
		return nil, nil, errNotXZ
	}
	block = &xzBlock{}
	if dict := c.u8(); dict < 40 {
		block.dict = uint64(2|dict&1) << (dict/2 + 11)
	} else {
		block.dict = 1<<32 - 1
	}
	if c.bad {
		return nil, nil, errNotXZ
	}
	b = b[n:]
	length, total, ok := chunks(b)
	if !ok {
		return nil, nil, errNotXZ
	}
	block.data, block.size, b = b[:length], total, b[length:]
	sum := 0
	switch check {
	case 0:
	case 1:
		block.hash, sum = crc32.NewIEEE(), 4
	case 4:
		block.hash, sum = crc64.New(crc64.MakeTable(crc64.ECMA)), 8
	case 10:
		block.hash, sum = sha256.New(), sha256.Size
	default:
		return nil, nil, errNotXZ
	}
	padding := -length & 3
	if len(b) < padding+sum {
		return nil, nil, errNotXZ
	}
	block.sum = b[padding:][:sum]
	return block, b[padding+sum:], nil
}

// chunks walks over the chunks of LZMA2 up to their end, and adds up the sizes when
// decompressed. Encoders fill chunks, but for the last: many small ones would cost
// time that their sizes do not tell.
func chunks(b []byte) (length int, size uint64, ok bool) {
	const fewest, least = 64, 4096
	c := cursor{b: b, order: binary.BigEndian}
	for n := uint64(0); n <= fewest+(c.at+size)/least; n++ {
		control := c.u8()
		switch {
		case c.bad:
			return 0, 0, false
		case control == 0:
			return int(c.at), size, true
		case control < 0x80: // stored
			n := uint64(c.u16()) + 1
			c.skip(n)
			size += n
		default:
			size += uint64(control&0x1f)<<16 + uint64(c.u16()) + 1
			packed := uint64(c.u16()) + 1
			if control >= 0xc0 {
				c.u8() // properties
			}
			c.skip(packed)
		}
	}
	return 0, 0, false
}

// inflate appends what a block holds to out.
func (block *xzBlock) inflate(out []byte, pay func(bytes int64) error) ([]byte, error) {
	r, err := lzma.Reader2Config{DictCap: int(max(lzma.MinDictCap, min(block.dict, block.size)))}.NewReader2(bytes.NewReader(block.data))
	if err != nil {
		return nil, err
	}
	start := uint64(len(out))
	out = append(out, make([]byte, block.size)...)
	for rest := out[start:]; len(rest) > 0; {
		const chunk = 64 << 10
		n := min(len(rest), chunk)
		if _, err := io.ReadFull(r, rest[:n]); err != nil {
			return nil, err
		}
		if err := pay(0); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	if h := block.hash; h != nil {
		h.Write(out[start:])
		sum := h.Sum(nil)
		if len(sum) < sha256.Size {
			slices.Reverse(sum) // numbers are little-endian in the file
		}
		if !bytes.Equal(sum, block.sum) {
			return nil, errNotXZ
		}
	}
	return out, nil
}
