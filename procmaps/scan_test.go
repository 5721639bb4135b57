package procmaps

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsThatAreScannedAreThoseOfTheFiles(t *testing.T) {
	for _, pid := range []int{101, 102, 103, 104, 105, 106} {
		p := fixture(t, pid)
		maps, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		var rows []Mapping
		found, err := p.ScanMaps(func(n int, m *Mapping) error {
			rows = append(rows[:n], *m)
			return nil
		})
		if diff := cmp.Diff(rows, maps); diff != "" || err != nil || found != (len(maps) > 0) {
			t.Errorf("process %d: maps: found %t, error %v, (-scanned +read):\n%s", pid, found, err, diff)
		}
		smaps, err := p.Smaps()
		if err != nil {
			t.Fatal(err)
		}
		var scanned []flat
		found, err = p.ScanSmaps(func(n int, r *SmapsRow) error {
			f := flat{Mapping: r.Mapping, Flags: r.Flags.String(), Numbers: map[string]uint64{}, Text: r.Text}
			for _, key := range smaps.Keys {
				if v, ok := r.Number(key.Name); ok {
					f.Numbers[key.Name] = v
				}
			}
			scanned = append(scanned[:n], f)
			return nil
		})
		if diff := cmp.Diff(scanned, flatten(smaps)); diff != "" || err != nil || found != (len(smaps.Rows) > 0) {
			t.Errorf("process %d: smaps: found %t, error %v, (-scanned +read):\n%s", pid, found, err, diff)
		}
	}
}

func TestAScanEndsWithTheErrorOfWhoTakesTheRows(t *testing.T) {
	p, enough := fixture(t, 101), errors.New("enough")
	for name, scan := range map[string]func(at int) (calls int, err error){
		"maps": func(at int) (calls int, err error) {
			_, err = p.ScanMaps(func(n int, _ *Mapping) error {
				if calls++; n == at {
					return enough
				}
				return nil
			})
			return calls, err
		},
		"smaps": func(at int) (calls int, err error) {
			_, err = p.ScanSmaps(func(n int, _ *SmapsRow) error {
				if calls++; n == at {
					return enough
				}
				return nil
			})
			return calls, err
		},
	} {
		rows, err := scan(-1)
		if err != nil || rows < 3 {
			t.Fatalf("%s: %d rows, %v", name, rows, err)
		}
		for _, at := range []int{0, 1, rows - 1} {
			if calls, err := scan(at); !errors.Is(err, enough) || calls != at+1 {
				t.Errorf("%s: an error for row %d came as %v after %d rows", name, at, err, calls)
			}
		}
	}
}
