package stack

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheChainGoesOnWhereTheCopyEnds(t *testing.T) {
	t.Parallel()
	walked := []Frame{{PC: 10}, {PC: 20, Call: true}}
	for _, c := range []struct {
		name  string
		chain []uint64
		want  []Frame
		more  bool
	}{
		{"beyond the last frame", []uint64{10, 20, 30, 40}, []Frame{{PC: 10}, {PC: 20, Call: true}, {PC: 30, Call: true}, {PC: 40, Call: true}}, true},
		{"no further", []uint64{10, 20}, walked, false},
		{"along other frames", []uint64{10, 21, 30}, walked, false},
		{"no chain", nil, walked, false},
	} {
		s := &Sample{Chain: c.chain}
		got, more := s.Follow(append([]Frame(nil), walked...))
		if diff := cmp.Diff(c.want, got); diff != "" || more != c.more {
			t.Errorf("%s: more %v (-want +got)\n%s", c.name, more, diff)
		}
	}
	if got, more := (&Sample{Chain: []uint64{10}}).Follow(nil); got != nil || more {
		t.Errorf("of no frames: %v, %v", got, more)
	}
}
