package symbol

import (
	"debug/elf"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/maptrace/maptrace/tracer/internal/quota"
)

func TestATableOfAFileThatWouldTakeTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	prog := compile(t, "shapes.cc", "-O2", "-g")
	all := nm(t, prog)
	for _, tt := range []struct {
		name string
		most int64 // bytes of a table
		want string
	}{
		{"with room for all", 0, ""},
		{"with room for two symbols", 2 * symBytes, ".symtab: too large"},
		{"with room for two rows", 2 * rowBytes, ".debug_line: too large"},
		{"with room for two functions", 2 * (scopeBytes + functionBytes), ".debug_info: too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := open(t, prog)
			if tt.most > 0 {
				m.opts.MaxTable = tt.most
			}
			switch d := m.dwarf(); tt.want {
			case ".debug_line: too large":
				for i := range d.units {
					d.readLines(&d.units[i])
				}
			case ".debug_info: too large":
				for i := range d.units {
					unit := &decodedUnit{}
					if d.decode(&d.units[i], unit); int64(len(unit.scopes))*scopeBytes > tt.most {
						t.Errorf("%d scopes are held", len(unit.scopes))
					}
				}
			default:
				found := m.readSymbols(m.head, elf.SHT_SYMTAB, FromSymtab)
				if (found == nil) != (tt.want != "") {
					t.Errorf("the table of %d functions is %v", len(all), found)
				}
			}
			if err := m.Refused(); (err != nil) != (tt.want != "") || err != nil && (err.Error() != tt.want || !errors.Is(err, ErrTooLarge)) {
				t.Errorf("Refused: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAUnitOfDebugInformationThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	prog := compile(t, "calls.c", "-O2", "-g", "-no-pie")
	all := nm(t, prog)
	m := open(t, prog)
	m.opts.MaxDWARF = 64 // nothing in it is compressed
	for _, s := range all {
		for _, l := range m.Lines(s.start, nil) {
			if l.Line > 0 {
				t.Errorf("%s is at %s:%d", l.Function, l.File, l.Line)
			}
		}
	}
	if err := m.Refused(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Refused: %v", err)
	}
}

func TestSortingEndsWhenNobodyPaysForIt(t *testing.T) {
	t.Parallel()
	const n = 1 << 16
	for _, tt := range []struct {
		name string
		time time.Duration
		want bool
	}{
		{"with time for it", time.Hour, true},
		{"without", time.Nanosecond, false},
	} {
		all := quota.Limits{Bytes: 1 << 40, Time: 1000 * time.Hour}
		m := &Module{opts: Options{Account: quota.New(quota.Limits{Bytes: 1 << 40, Time: tt.time}, all).Of("process", 1)}}
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = i * 7919 % n
		}
		compared := 0
		m.begin()
		paid := sortPaid(m, slices.SortFunc, numbers, func(a, b int) int { compared++; return a - b })
		m.end()
		if paid != tt.want || paid != slices.IsSorted(numbers) || !paid && compared > n/8 {
			t.Errorf("%s: paid: %v, compared %d times", tt.name, paid, compared)
		}
	}
}
