package symbol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// packed compresses with blocks of a size, 0 for one.
func packed(tb testing.TB, b []byte, c xz.WriterConfig) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := c.NewWriter(&out)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// mixed is some text that repeats, and some noise.
func mixed(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for len(b) < n {
		b = append(b, strings.Repeat("g_malloc_consolidate", r.IntN(50))...)
		for range r.IntN(5000) {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b[:n]
}

// free has nobody pay for what is decompressed.
func free(int64) error { return nil }

func TestXZIsDecompressed(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	for _, tt := range []struct {
		name string
		n    int
		c    xz.WriterConfig
	}{
		{"nothing", 0, xz.WriterConfig{}},
		{"a byte", 1, xz.WriterConfig{}},
		{"one block", 1 << 19, xz.WriterConfig{}},
		{"all that is allowed", most, xz.WriterConfig{}},
		{"many blocks", 1 << 18, xz.WriterConfig{BlockSize: 10000}},
		{"a small dictionary", 1 << 18, xz.WriterConfig{DictCap: 4096}},
		{"CRC32", 1 << 16, xz.WriterConfig{CheckSum: xz.CRC32}},
		{"SHA-256", 1 << 16, xz.WriterConfig{CheckSum: xz.SHA256}},
		{"no checksum", 1 << 16, xz.WriterConfig{NoCheckSum: true}},
	} {
		want := mixed(tt.n)
		got, err := unxz(packed(t, want, tt.c), most, free)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", tt.name, len(got), err, tt.n)
		}
	}
}

// Not parallel: it measures what the process allocates.
func TestBombsAreNotDecompressed(t *testing.T) {
	zeros := packed(t, make([]byte, 20<<20), xz.WriterConfig{})
	bounded(t, func() {
		if got, err := unxz(zeros, 10<<20, free); !errors.Is(err, ErrTooLarge) || got != nil {
			t.Errorf("20 MiB of %d bytes: %d bytes, %v", len(zeros), len(got), err)
		}
	})
	small := packed(t, mixed(1000), xz.WriterConfig{})
	header := 12 + (int(small[12])+1)*4
	large := bytes.Clone(small)
	large[header-4-1-3] = 40 // what the dictionary is said to take: 4 GiB
	binary.LittleEndian.PutUint32(large[header-4:], crc32.ChecksumIEEE(large[12:header-4]))
	bounded(t, func() {
		if _, err := unxz(large, 61<<20, free); err != nil {
			t.Errorf("with a dictionary of 4 GiB: %v", err)
		}
	})
	// Each chunk has tables of its own, and one byte.
	chunk := []byte{0xe0, 0, 0, 0, 4, 0x5d, 0, 0, 0, 0, 0}
	many := append(bytes.Clone(small[:header]), bytes.Repeat(chunk, 1<<20)...)
	bounded(t, func() {
		if _, err := unxz(append(many, 0, 0, 0, 0), 64<<20, free); !errors.Is(err, errNotXZ) {
			t.Errorf("a million chunks: %v", err)
		}
	})
}

func TestDamagedXZIsRefused(t *testing.T) {
	t.Parallel()
	want := mixed(5000)
	b := packed(t, want, xz.WriterConfig{})
	_, index, err := cutBlock(b[12:], b[7]) // what follows the blocks is not looked at
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		spoiled := bytes.Clone(b)
		spoiled[i] ^= 0x10
		if got, err := unxz(spoiled, 1<<20, free); err == nil && !bytes.Equal(got, want) || err == nil && i < len(b)-len(index) {
			t.Errorf("with byte %d of %d spoiled: %d bytes, %v", i, len(b), len(got), err)
		}
		if got, err := unxz(b[:i], 1<<20, free); err == nil && !bytes.Equal(got, want) {
			t.Errorf("cut after %d of %d bytes: %d bytes", i, len(b), len(got))
		}
	}
}

func FuzzXZ(f *testing.F) {
	f.Add(packed(f, mixed(300), xz.WriterConfig{}))
	for _, b := range [][]byte{mixed(300), bytes.Repeat([]byte("abc"), 1000), mixed(3000)} {
		b = packed(f, b, xz.WriterConfig{})
		f.Add(b[12+(int(b[12])+1)*4:]) // chunks
	}
	f.Add(packed(f, mixed(300), xz.WriterConfig{BlockSize: 100, CheckSum: xz.CRC32}))
	f.Add(packed(f, bytes.Repeat([]byte("abc"), 1000), xz.WriterConfig{NoCheckSum: true, DictCap: 4096}))
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 1 << 20
		var got []byte
		guard(func() { got, _ = unxz(b, most, free) })
		if len(got) > most {
			t.Errorf("%d bytes", len(got))
		}
		// What a mutation changes seldom has the right checksum, but chunks need none.
		n, size, ok := chunks(b)
		if !ok || size > most {
			return
		}
		block := xzBlock{data: b[:n], size: size, dict: size}
		guard(func() { got, _ = block.inflate(nil, free) })
		if uint64(len(got)) > size {
			t.Errorf("%d bytes of %d", len(got), size)
		}
	})
}
