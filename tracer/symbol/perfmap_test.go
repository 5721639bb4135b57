package symbol

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestPerfMapNamesWhatWasCompiledLast(t *testing.T) {
	t.Parallel()
	const text = `1000 100 Builtin:ArrayPush
0x2000 0x80 LazyCompile:~grow /app/server.js:12
3000 40 py::leak:/app/leak.py
bad line
4000 0 empty
5000 zz bad size
2040 20 moved function
`
	p, err := readPerfMap(strings.NewReader(text), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		addr  uint64
		name  string
		start uint64
		size  uint64
	}{
		{0x0fff, "", 0, 0},
		{0x1000, "Builtin:ArrayPush", 0x1000, 0x100},
		{0x10ff, "Builtin:ArrayPush", 0x1000, 0x100},
		{0x1100, "", 0, 0},
		{0x203f, "LazyCompile:~grow /app/server.js:12", 0x2000, 0x80},
		{0x2040, "moved function", 0x2040, 0x20},
		{0x2060, "LazyCompile:~grow /app/server.js:12", 0x2000, 0x80},
		{0x3001, "py::leak:/app/leak.py", 0x3000, 0x40},
		{0x4000, "", 0, 0},
	} {
		name, start, size, ok := p.lookup(tt.addr)
		if name != tt.name || start != tt.start || size != tt.size || ok != (tt.name != "") {
			t.Errorf("Lookup(%#x) = %q, %#x, %#x, %v; want %q, %#x, %#x", tt.addr, name, start, size, ok, tt.name, tt.start, tt.size)
		}
	}
}

// The oracle writes each function's name over the bytes of an array, in the order
// of the lines, and the map must say the same of every byte, whatever the pieces
// in which it is given the text.
func TestPerfMapAgreesWithAnArrayOfBytes(t *testing.T) {
	t.Parallel()
	const span = 512
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		var names [span]string
		var starts [span]uint64
		p := roomy()
		var text strings.Builder
		for i := range 1 + r.IntN(60) {
			start, size := r.Uint64N(span-1), 1+r.Uint64N(60)
			name := fmt.Sprintf("f%d", i)
			fmt.Fprintf(&text, "%x %x %s\n", start, size, name)
			for a := start; a < min(start+size, span); a++ {
				names[a], starts[a] = name, start
			}
		}
		for rest := []byte(text.String()); len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(100))
			p.add(rest[:n])
			rest = rest[n:]
		}
		for a := range uint64(span) {
			name, start, _, _ := p.lookup(a)
			if name != names[a] || name != "" && start != starts[a] {
				t.Fatalf("seed %d: Lookup(%d) = %q, %d; want %q, %d\n%s", seed, a, name, start, names[a], starts[a], text.String())
			}
		}
	}
}

func TestPerfMapForgetsNamesThatNothingHasAnyMore(t *testing.T) {
	t.Parallel()
	p := roomy()
	name := strings.Repeat("x", 60_000)
	for i := range 5000 { // 300 MB of names, of which the last few are alive
		p.add(fmt.Appendf(nil, "%x 10 %d%s\n", i%8*16, i, name))
	}
	got, _, _, ok := p.lookup(4999 % 8 * 16)
	if !ok || got != "4999"+name {
		t.Errorf("Lookup = %.10q, %v", got, ok)
	}
	if p.full || p.bytes() > p.most {
		t.Errorf("full: %v, %d bytes", p.full, p.bytes())
	}
}

func TestPerfMapKeepsNamesOfAnyLengthWhenItForgetsOthers(t *testing.T) {
	t.Parallel()
	const few, many = 20, 400
	long := strings.Repeat("x", 60_000)
	for length := 100; length < 1000; length += 100 {
		p := &perfMap{most: 1 << 20}
		names := make([]string, many)
		add := func(i int, name string) {
			names[i] = fmt.Sprintf("%s%d", name, i)
			p.add(fmt.Appendf(nil, "%x 10 %s\n", i*16, names[i]))
		}
		for i := range many {
			add(i, strings.Repeat("s", length))
		}
		for i := range few { // which replaces some, and is soon more than is kept
			add(i, long)
		}
		if p.compact == 0 {
			t.Errorf("%d bytes each: nothing was forgotten", length)
		}
		for i, want := range names {
			if name, _, _, ok := p.lookup(uint64(i * 16)); ok && name != want || !ok && i >= few {
				t.Errorf("%d bytes each: function %d is %.20q of %d bytes, want %.20q of %d", length, i, name, len(name), want, len(want))
			}
		}
	}
}

func TestWhatIsNoPerfMapIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	const chunk = 256 << 10
	for _, tt := range []struct {
		name, line string
		whole      bool
	}{
		{"functions", "1000 10 name\n", true},
		{"zeros", "\x00", false},
		{"lines that are no functions", "some text\n", false},
		{"empty lines", "\n", false},
		{"lines that are too long", strings.Repeat("x", maxPerfLine) + "\n", false},
		{"a line that is no function among a thousand", strings.Repeat("1000 10 name\n", 1000) + "other\n", true},
	} {
		text := strings.Repeat(tt.line, size/len(tt.line))
		p := roomy()
		n, err := p.readFrom(strings.NewReader(text), int64(len(text)), free)
		if err != nil || tt.whole != (n == int64(len(text))) || !tt.whole && n > maxPerfJunk+2*chunk {
			t.Errorf("%s: %d of %d bytes are read, %v", tt.name, n, len(text), err)
		}
	}
}

func TestPerfMapIsBounded(t *testing.T) {
	t.Parallel()
	p := roomy()
	name := strings.Repeat("x", 60_000)
	for i := range 2000 {
		p.add(fmt.Appendf(nil, "%x 10 %d%s\n", i*16, i, name))
	}
	if !p.full || p.bytes() > p.most*9/8 {
		t.Errorf("full: %v, %d bytes; want full, about %d", p.full, p.bytes(), p.most)
	}
	if name, _, _, ok := p.lookup(0); !ok || !strings.HasPrefix(name, "0x") {
		t.Errorf("the first function is lost: %.10q", name)
	}
	long := append([]byte("100000 10 "), make([]byte, 3*maxPerfLine)...)
	p.add(long)
	p.add([]byte("\n"))
	if len(p.rest) > maxPerfLine {
		t.Errorf("holds %d bytes of a line", len(p.rest))
	}
}

// A function that there is no room for is not to have the name of what was there before.
func TestWhatThereIsNoRoomForInAPerfMapHasNoName(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 9))
		const span = 4096
		p := &perfMap{most: 4 << 10}
		var names [span]string
		for i := range 2000 {
			start, size := r.Uint64N(span), 1+r.Uint64N(100)
			name := fmt.Sprintf("f%d", i)
			for a := start; a < min(start+size, span); a++ {
				names[a] = name
			}
			if p.add(fmt.Appendf(nil, "%x %x %s\n", start, size, name)); p.bytes() > p.most*8 {
				t.Fatalf("seed %d: %d bytes are held", seed, p.bytes())
			}
		}
		if n := p.records + int64(p.pieces()*pieceBytes); !p.full || n > p.most*5/4 {
			t.Fatalf("seed %d: full: %v, with %d bytes", seed, p.full, n)
		}
		named := 0
		for a := range uint64(span) {
			name, _, _, ok := p.lookup(a)
			if ok && name != names[a] {
				t.Fatalf("seed %d: Lookup(%d) = %q, want %q or nothing", seed, a, name, names[a])
			}
			if ok {
				named++
			}
		}
		if named == 0 {
			t.Fatalf("seed %d: nothing has a name", seed)
		}
	}
}

func TestAMillionFunctionsOfAPerfMapAreKeptInLittleMemory(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	p := roomy()
	var text []byte
	for i := range n {
		text = fmt.Appendf(text, "%x 10 LongFunctionName_%07d\n", 0x7f0000000000+i*16, i)
		if len(text) > 256<<10 || i == n-1 {
			p.add(text)
			text = text[:0]
		}
	}
	for _, i := range []int{0, n / 2, n - 1} {
		if name, _, _, ok := p.lookup(0x7f0000000000 + uint64(i)*16 + 15); !ok || name != fmt.Sprintf("LongFunctionName_%07d", i) {
			t.Errorf("function %d: %q, %v", i, name, ok)
		}
	}
	if most := int64(n * 70); p.full || p.bytes() > most {
		t.Errorf("full: %v, %d bytes are held, want at most %d", p.full, p.bytes(), most)
	}
}

func FuzzPerfMap(f *testing.F) {
	f.Add([]byte("1000 100 name\n1080 10 other name\n"), 5)
	f.Add([]byte("0x0 ffffffffffffffff all\nfffffffffffffff0 f end\n\n 1 2\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		whole, err := readPerfMap(strings.NewReader(string(text)+"\n"), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		parts := roomy()
		cut = min(max(cut, 0), len(text))
		parts.add(text[:cut])
		parts.add(text[cut:])
		parts.add([]byte("\n"))
		for _, level := range slices.Concat(whole.levels, parts.levels) {
			last := uint64(0)
			for i, p := range level {
				if p.size == 0 || p.start < last {
					t.Fatalf("piece %d: %+v after %#x", i, p, last)
				}
				last = p.end()
			}
		}
		for _, p := range slices.Concat(whole.levels...) {
			for _, addr := range []uint64{p.start, p.end() - 1, p.end()} {
				n1, s1, z1, ok1 := whole.lookup(addr)
				n2, s2, z2, ok2 := parts.lookup(addr)
				if n1 != n2 || s1 != s2 || z1 != z2 || ok1 != ok2 {
					t.Fatalf("Lookup(%#x) = %q, %#x, %#x, %v whole and %q, %#x, %#x, %v in parts", addr, n1, s1, z1, ok1, n2, s2, z2, ok2)
				}
			}
		}
	})
}

// roomy is an empty map with room for much.
func roomy() *perfMap { return &perfMap{most: 64 << 20} }

// readPerfMap reads a map, up to limit bytes. Lines that do not have the form are
// skipped. The error is the reader's.
func readPerfMap(r io.Reader, limit int64) (*perfMap, error) {
	p := roomy()
	_, err := p.readFrom(r, limit, free)
	p.finish()
	return p, err
}

// finish takes the last line as complete.
func (p *perfMap) finish() {
	if f, ok := p.parse(p.rest, p.pieces()); ok && !p.skip {
		p.merge([]piece{f})
	}
	p.rest = nil
}
