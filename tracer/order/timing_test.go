package order

import (
	"testing"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// places is a Sites whose sites are the numbers of regions in the tree.
type places struct{}

func (places) Site(_ int, tree *space.Space, _ *stack.Sample) uint32 {
	return uint32(len(tree.Snapshot().Regions))
}

func timing(pid int, id, at uint64) Event {
	return Event{
		Kind: model.KindTiming, TGID: pid, TID: pid, Time: at, Space: id,
		Timing: &model.Timing{Duration: at, Name: "mmap"}, Sample: &stack.Sample{},
	}
}

// TestTimingsAreToldWithTheTreeOfTheirProcess sends one before the tree is known,
// one after, one after the process' end, and one of a space nobody knows.
func TestTimingsAreToldWithTheTreeOfTheirProcess(t *testing.T) {
	t.Parallel()
	first := image(7, 1, 100, 1)
	events := []Event{first[0], timing(7, 1, 150)}
	events = append(events, first[1:]...)
	events = append(events, timing(7, 1, 160), mmap(7, 1, 200, 1, 30, 40), timing(7, 1, 250), exit(7, 1, 300),
		timing(7, 1, 260), timing(8, 2, 400))
	got := make(map[uint64]uint32)
	replay(t, Options{Sites: places{}, OnChange: func(c *model.Change) {
		if c.Kind == model.KindTiming {
			got[c.Timing.Duration] = c.Site
		}
	}}, events...)
	want := map[uint64]uint32{150: 1, 160: 1, 250: 2, 260: 2, 400: 0}
	for at, site := range want {
		if s, ok := got[at]; !ok || s != site {
			t.Errorf("the call at %d: site %d, told %v; want %d", at, s, ok, site)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d were told, want %d", len(got), len(want))
	}
}
