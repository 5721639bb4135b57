package tracer

import (
	"errors"
	"testing"

	"github.com/maptrace/maptrace/tracer/space"
)

// A process that executes programs while it is read takes no more room than one of them has.
func TestARowListTakesRoomForTheLongestOfItsReads(t *testing.T) {
	t.Parallel()
	taken, room := 0, 1000
	full := errors.New("full")
	l := rowList{take: func(rows int) error {
		if taken+rows > room {
			return full
		}
		taken += rows
		return nil
	}}
	for _, rows := range []int{300, 10, 300, 700} {
		for n := range rows {
			if err := l.add(n, space.Row{}); err != nil {
				t.Fatalf("row %d of %d: %v", n, rows, err)
			}
		}
		if len(l.rows) != rows || taken < rows {
			t.Errorf("%d rows, and room for %d; want %d", len(l.rows), taken, rows)
		}
	}
	if err := l.add(700, space.Row{}); err != nil || taken != 768 {
		t.Errorf("room for %d rows: %v", taken, err)
	}
	room = taken
	for n := 701; n < 768; n++ {
		if err := l.add(n, space.Row{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.add(768, space.Row{}); !errors.Is(err, full) {
		t.Errorf("row 768 where there is room for as many: %v", err)
	}
}
