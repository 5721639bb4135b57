package order

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// outcome is what became of an event that a tracer was given.
type outcome struct {
	Regions    string
	Doubts     string // in pages; what would be read again
	Told       []string
	Calls      uint64
	Failed     uint64
	Suppressed uint64
}

func outcomeOf(t *testing.T, events ...Event) (o outcome) {
	t.Helper()
	names := map[model.Kind]string{model.KindCall: "call", model.KindSuppressed: "suppressed"}
	tr, rep := replay(t, Options{OnChange: func(c *model.Change) {
		if name := names[c.Kind]; name != "" {
			o.Told = append(o.Told, name+" "+model.CallName(c.Call.Op, c.Call.Sub))
		}
	}}, slices.Concat(image(5, 1, 100, 3), events)...)
	o.Regions = pages(tr, 5)
	for _, r := range tr.Tree(rep.Spaces[0].Process.Space).Doubts() {
		o.Doubts += fmt.Sprintf("%d-%d", r.Start>>12, r.End>>12)
	}
	o.Calls, o.Failed, o.Suppressed = rep.Stats.Calls, rep.Stats.Failed, rep.Stats.Suppressed
	return o
}

// noLock is a call that was seen from its entry, and no release of the lock in it.
func noLock(op space.Op, sub space.Sub, ret int64, args ...uint64) Event {
	ev := call(5, 1, 300, 0, op, ret, args...)
	ev.Call.Sub, ev.Flags = sub, NoLock
	return ev
}

func TestACallWithoutTheLockChangesNothing(t *testing.T) {
	t.Parallel()
	const at, size = 12 << 12, 2 << 12
	const inval = -22
	suppressed := func(name string) outcome {
		return outcome{Regions: "10-20", Told: []string{"suppressed " + name}, Suppressed: 1}
	}
	nothing := outcome{Regions: "10-20", Calls: 1}
	for _, tt := range []struct {
		name string
		ev   Event
		want outcome
	}{
		{"munmap", noLock(space.OpMunmap, 0, 0, at, size), suppressed("munmap")},
		{"munmap whose result is its number", noLock(space.OpMunmap, 0, 11, at, size), suppressed("munmap")},
		{"mmap", noLock(space.OpMmap, 0, 30<<12, 30<<12, size, 3, 0x32), suppressed("mmap")},
		{"mmap of a file", noLock(space.OpMmap, 0, 30<<12, 30<<12, size, 3, 0x12, 4), suppressed("mmap")},
		{"brk", noLock(space.OpBrk, 0, 0, 0), suppressed("brk")},
		{"mremap", noLock(space.OpMremap, 0, 30<<12, at, size, size, 3, 30<<12), suppressed("mremap")},
		{"mprotect", noLock(space.OpMprotect, 0, 0, at, size, 0), suppressed("mprotect")},
		{"mprotect of nothing", noLock(space.OpMprotect, 0, 0, at, 0, 0), nothing},
		{"pkey_mprotect", noLock(space.OpMprotect, space.SubPkeyMprotect, 0, at, 1, 0), suppressed("pkey_mprotect")},
		{"a fork advice", noLock(space.OpMadvise, 0, 0, at, size, 10), suppressed("madvise")},
		{
			"an advice about pages", noLock(space.OpMadvise, 0, 0, at, size, 4),
			outcome{Regions: "10-20", Told: []string{"call madvise"}, Calls: 1},
		},
		{
			"a fork advice about nothing", noLock(space.OpMadvise, 0, 0, at, 0, 10),
			outcome{Regions: "10-20", Told: []string{"call madvise"}, Calls: 1},
		},
		{"mlock of nothing", noLock(space.OpMlock, 0, 0, at, 0), suppressed("mlock")},
		{"munlockall", noLock(space.OpMlock, space.SubMunlockall, 0), suppressed("munlockall")},
		{
			"mseal of nothing", noLock(space.OpMlock, space.SubMseal, 0, at, 0),
			outcome{Regions: "10-20", Told: []string{"call mseal"}, Calls: 1},
		},
		{"a name", noLock(space.OpSetVMA, 0, 0, 0x53564d41, 0, at, size), suppressed("name")},
		{"a name of nothing", noLock(space.OpSetVMA, 0, 0, 0x53564d41, 0, at, 0), nothing},
		{"shmat", noLock(space.OpShmat, 0, 30<<12, 1, 30<<12), suppressed("shmat")},
		{"shmdt", noLock(space.OpShmdt, 0, 0, at), suppressed("shmdt")},
		{"remap_file_pages", noLock(space.OpRemapFilePages, 0, 0, at, size), suppressed("remap_file_pages")},
		{"mbind", noLock(space.OpMbind, 0, 0, at, size), suppressed("mbind")},
		{
			"munmap that is refused", noLock(space.OpMunmap, 0, inval, at, size),
			outcome{Regions: "10-20", Told: []string{"call munmap"}, Calls: 1, Failed: 1},
		},
	} {
		if diff := cmp.Diff(tt.want, outcomeOf(t, tt.ev)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Of a call that was under way when its thread was first seen nobody knows whether it
// held the lock, nor where the kernel skips the programs that would.
func TestACallThatMayHaveHeldTheLockIsReadAgain(t *testing.T) {
	t.Parallel()
	underWay := noLock(space.OpMunmap, 0, 0, 12<<12, 2<<12)
	underWay.Flags = 0
	want := outcome{Regions: "10-20", Doubts: "12-14", Calls: 1}
	if diff := cmp.Diff(want, outcomeOf(t, underWay)); diff != "" {
		t.Errorf("under way (-want +got):\n%s", diff)
	}
	skipped := []Event{{Kind: KindSkipped, Lost: 1, Time: 200}, noLock(space.OpMunmap, 0, 0, 12<<12, 2<<12)}
	if diff := cmp.Diff(want, outcomeOf(t, skipped...)); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if got := outcomeOf(t, slices.Concat(skipped[:1], []Event{call(5, 1, 300, 3, space.OpMunmap, 0, 12<<12, 2<<12)})...); got.Regions != "10-12 14-20" {
		t.Errorf("with a stamp: %+v", got)
	}
}
