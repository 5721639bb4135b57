package procmaps

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpacked is everything in a Packed, as flatten gives it.
func unpacked(t *Packed) []flat {
	var rows []flat
	for r := range t.All() {
		f := flat{Mapping: r.Mapping, Flags: r.Flags.String(), Numbers: map[string]uint64{}, Text: r.Text}
		for k, key := range t.Keys {
			if v, ok := r.Value(k); ok {
				f.Numbers[key.Name] = v
			}
		}
		rows = append(rows, f)
	}
	return rows
}

func TestPackedRowsAreThoseOfTheFiles(t *testing.T) {
	for _, pid := range []int{101, 102, 103, 104, 105, 106} {
		p := fixture(t, pid)
		smaps, err := p.Smaps()
		if err != nil {
			t.Fatal(err)
		}
		packed, err := p.PackedSmaps()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(unpacked(packed), flatten(smaps)); diff != "" {
			t.Errorf("process %d: smaps (-packed +rows):\n%s", pid, diff)
		}
		if diff := cmp.Diff(packed.Keys, smaps.Keys); diff != "" || packed.Len() != len(smaps.Rows) {
			t.Errorf("process %d: %d rows, want %d; keys (-packed +rows):\n%s", pid, packed.Len(), len(smaps.Rows), diff)
		}
		maps, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		if packed, err = p.PackedMaps(); err != nil {
			t.Fatal(err)
		}
		var rows []Mapping
		for r := range packed.All() {
			rows = append(rows, r.Mapping)
		}
		if diff := cmp.Diff(rows, maps); diff != "" {
			t.Errorf("process %d: maps (-packed +rows):\n%s", pid, diff)
		}
	}
}

func TestPackedRowsCanBeReadTwiceAndInPart(t *testing.T) {
	s, err := readPackedSmaps(strings.NewReader(threeRows), "smaps")
	if err != nil {
		t.Fatal(err)
	}
	for r := range s.All() {
		if v, ok := r.KB("Size"); !ok || v != 4 || r.Name != "/bin/a b: c" {
			t.Errorf("the first row is %+v of %d kB", r.Mapping, v)
		}
		break
	}
	if first, again := unpacked(s), unpacked(s); len(first) != 3 || !reflect.DeepEqual(first, again) {
		t.Errorf("read again (-first +again):\n%s", cmp.Diff(first, again))
	}
}

func TestPackedRowsAreSmall(t *testing.T) {
	const rows = 20_000
	s, err := readPackedSmaps(strings.NewReader(smapsText(rows)), "smaps")
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, c := range s.chunks {
		held += cap(c)
	}
	if per := held / rows; s.Len() != rows || per > 48 {
		t.Errorf("%d rows of %d bytes", s.Len(), per)
	}
}

func FuzzPackedSmaps(f *testing.F) {
	addFixtures(f, "smaps")
	f.Add([]byte(threeRows))
	f.Add([]byte("fffffffffffffffe-ffffffffffffffff r-xp ffffffffffffffff ffffffff:ffffffff 18446744073709551615 \nA:18446744073709551615\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := newSmapsParser()
		p.maps.mend = true
		rows, err := p.parse(&lines{buf: data, file: "smaps"})
		packed, packedErr := readPackedSmaps(strings.NewReader(string(data)), "smaps")
		if (err == nil) != (packedErr == nil) {
			t.Fatalf("rows: %v; packed: %v", err, packedErr)
		}
		if err != nil {
			return
		}
		if got, want := unpacked(packed), flatten(rows); !reflect.DeepEqual(got, want) {
			t.Fatalf("(-packed +rows):\n%s", cmp.Diff(got, want))
		}
	})
}

func BenchmarkPackedSmaps(b *testing.B) {
	text := smapsText(10_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := readPackedSmaps(strings.NewReader(text), "smaps")
		if err != nil {
			b.Fatal(err)
		}
		for r := range s.All() {
			if r.Empty() {
				b.Fatal("a row is empty")
			}
		}
	}
}
