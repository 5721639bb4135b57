package procmaps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// copied is a Residency over a copy of a pagemap file.
func copied(t *testing.T, entries ...uint64) *Residency {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "7")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, e := range entries {
		data = binary.NativeEndian.AppendUint64(data, e)
	}
	if err := os.WriteFile(filepath.Join(dir, "pagemap"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	p, err := files.Process(7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	r, err := p.OpenResidency()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	r.Pause, r.Files = 0, true
	return r
}

func TestPagemapEntriesAreCountedByKind(t *testing.T) {
	const (
		anon    = entryIsPresent | 0x1234
		file    = entryIsPresent | entryIsFile
		swapped = entryIsSwapped | 0x77
		moving  = entryIsSwapped | entryIsFile
		guard   = entryIsSwapped | entryIsGuard
	)
	r := copied(t, 0, anon, anon, file, 0, swapped, moving, guard, anon, 0)
	if r.Scans() {
		t.Error("a copy of the files can be scanned")
	}
	pages := func(from, to uint64) Range { return Range{from * r.page, to * r.page} }
	for _, tt := range []struct {
		name   string
		ranges []Range
		want   []Resident // in pages
	}{
		{"all of it", []Range{pages(0, 10)}, []Resident{{Bytes: 4, FileBytes: 1, SwapBytes: 2}}},
		{
			"borders between pages of a kind",
			[]Range{pages(0, 2), pages(2, 3), pages(3, 6), pages(6, 10)},
			[]Resident{{Bytes: 1}, {Bytes: 1}, {Bytes: 1, FileBytes: 1, SwapBytes: 1}, {Bytes: 1, SwapBytes: 1}},
		},
		{"a hole", []Range{pages(1, 2), pages(8, 9)}, []Resident{{Bytes: 1}, {Bytes: 1}}},
		{"an empty range", []Range{pages(1, 1), pages(1, 2)}, []Resident{{}, {Bytes: 1}}},
		{"beyond the end", []Range{pages(8, 1000), pages(2000, 1<<16)}, []Resident{{Bytes: 1}, {}}},
		{"addresses of the kernel", []Range{pages(1, 2), {kernelHalf + 16*r.page, kernelHalf + 17*r.page}}, []Resident{{Bytes: 1}, {}}},
		{"nothing", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []uint64{1, r.page, 3 * r.page, defaultPiece} {
				r.PieceBytes = piece
				out := slices.Repeat([]Resident{{Bytes: 99}}, len(tt.ranges))
				if err := r.Count(tt.ranges, out); err != nil {
					t.Fatal(err)
				}
				for i := range out {
					out[i].Bytes /= r.page
					out[i].FileBytes /= r.page
					out[i].SwapBytes /= r.page
				}
				if diff := cmp.Diff(out, tt.want, cmp.Transformer("nil", func(s []Resident) []Resident {
					return append([]Resident{}, s...)
				})); diff != "" {
					t.Errorf("in pieces of %d bytes (-got +want):\n%s", piece, diff)
				}
			}
		})
	}
}

func TestCountRefusesWhatAreNoRanges(t *testing.T) {
	r := copied(t, make([]uint64, 16)...)
	p := r.page
	for name, ranges := range map[string][]Range{
		"half a page":  {{p, p + p/2}},
		"backwards":    {{2 * p, p}},
		"out of order": {{3 * p, 4 * p}, {p, 2 * p}},
		"overlapping":  {{p, 3 * p}, {2 * p, 4 * p}},
	} {
		if err := r.Count(ranges, make([]Resident, len(ranges))); err == nil || errors.Is(err, ErrNoMemory) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := r.Count([]Range{{0, p}, {p, 2 * p}}, make([]Resident, 1)); err == nil {
		t.Error("two ranges fit into one result")
	}
}

func TestOpenResidencySaysWhyNot(t *testing.T) {
	root := t.TempDir()
	for pid, make := range map[string]func(dir string) error{
		"7": func(string) error { return nil },
		"8": func(dir string) error { return os.WriteFile(filepath.Join(dir, "pagemap"), nil, 0o600) },
	} {
		dir := filepath.Join(root, pid)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(filepath.Join(dir, "task"), 0o755), make(dir)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int]error{7: errors.ErrUnsupported, 8: ErrNoMemory} {
		p, err := files.Process(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.OpenResidency(); !errors.Is(err, want) || errors.Is(err, ErrGone) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("process %d: error %v, want %v", pid, err, want)
		}
	}
}

// FuzzCount compares with counting page by page.
func FuzzCount(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 1, 1, 1}, []byte{1, 2, 0, 3}, uint8(2))
	f.Add(bytes.Repeat([]byte{1, 0}, 700), []byte{0, 255, 0, 255, 90, 200}, uint8(0))
	f.Fuzz(func(t *testing.T, kinds, steps []byte, piece uint8) {
		const page = 4096
		if len(kinds) > 5000 {
			return
		}
		values := [...]uint64{
			0, pageIsPresent, pageIsPresent | pageIsFile, pageIsPresent | pageIsHuge, pageIsSwapped,
			pageIsPresent | pageIsPfnZero, pageIsSwapped | pageIsGuard,
		}
		// The steps are gap and length of a range in turn.
		var ranges []Range
		var at uint64
		for i := 0; i+1 < len(steps); i += 2 {
			start := at + uint64(steps[i])
			at = start + uint64(steps[i+1])
			ranges = append(ranges, Range{start * page, at * page})
		}
		walker := make(pages, len(kinds))
		for i, k := range kinds {
			walker[i] = values[int(k)%len(values)]
		}
		want := make([]Resident, len(ranges))
		for i, g := range ranges {
			for p := g.Start / page; p < min(g.End/page, uint64(len(walker))); p++ {
				switch walker[p] {
				case pageIsPresent:
					want[i].Bytes += page
				case pageIsPresent | pageIsFile:
					want[i].Add(Resident{Bytes: page, FileBytes: page})
				case pageIsPresent | pageIsHuge:
					want[i].Add(Resident{Bytes: page, HugeBytes: page})
				case pageIsSwapped:
					want[i].SwapBytes += page
				}
			}
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		r := Residency{PieceBytes: uint64(piece) * page, page: page, walker: walker, file: null}
		got := make([]Resident, len(ranges))
		// There is no process behind it, so that it ends with that error.
		if err := r.Count(ranges, got); !errors.Is(err, ErrNoMemory) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
	})
}

// pages is a walker over the categories of the first pages.
type pages []uint64

func (w pages) walk(r Range, most uint64, _ bool) (found []pageRegion, end uint64, err error) {
	const page = 4096
	for addr := r.Start; addr < r.End; addr += page {
		if addr/page >= uint64(len(w)) {
			break
		}
		c := w[addr/page]
		if c == 0 {
			continue
		}
		if most == 0 {
			return found, addr, nil
		}
		most--
		if last := len(found) - 1; last >= 0 && found[last].end == addr && found[last].categories == c {
			found[last].end += page
		} else {
			found = append(found, pageRegion{addr, addr + page, c})
		}
	}
	return found, r.End, nil
}

func (pages) close() {}
