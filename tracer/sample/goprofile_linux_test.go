package sample

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/goheap"
	"github.com/maptrace/maptrace/tracer/site"
	"github.com/maptrace/maptrace/tracer/space"
)

// heapless is a kernel that does not sample malloc heaps.
type heapless struct{ quietKernel }

func (*heapless) HeapErr() error { return errors.New("there is no heap") }

// profiled is a sampler of one process, with what it tells of its profile.
type profiled struct {
	*Sampler
	t         *testing.T
	target    *target
	readings  []event.GoHeap
	unsampled string
}

func newProfiled(t *testing.T, pid int) *profiled {
	t.Helper()
	tree, sites := treeOf(t, pid), site.New(site.Options{})
	p := &profiled{t: t, target: &target{space: 1, pid: pid}}
	p.Sampler = New(new(heapless), Options{
		FS: procmaps.Default(), Interval: time.Millisecond, HeapBudget: 0.5, Log: slog.New(slog.DiscardHandler),
		Trees: func(uint64) *space.Space { return tree }, Allocators: sites.Allocators, GoProgram: sites.GoProgram, Walked: sites.Walked,
		Emit: func(r *event.Record) {
			switch b := r.Body.(type) {
			case event.GoHeap:
				p.readings = append(p.readings, b)
			case event.HeapUnsampled:
				p.unsampled = string(b)
			}
		},
	})
	p.spaces[1] = p.target
	t.Cleanup(func() { p.Close(); _ = sites.Close() })
	p.heapTouched(p.target)
	p.collect(true)
	return p
}

// again reads the profile once more.
func (p *profiled) again() {
	p.t.Helper()
	if p.target.profile == nil {
		p.t.Fatal("it is no Go program")
	}
	p.lookAtProfiles(p.target.profile.due)
	p.collect(true)
}

func TestWhatChangesInTheProfileOfAGoProgramIsTold(t *testing.T) {
	t.Parallel()
	program := startGoHeap(t, buildGoHeap(t, nil), nil, "busy", "4096", "20")
	p := newProfiled(t, program.pid)
	if len(p.readings) == 0 {
		t.Fatalf("nothing was read: %q", p.unsampled)
	}
	known := make(map[uint64]counts)
	for _, r := range p.readings[0].Records {
		known[r.ID] = counts{r.Allocs, r.Frees}
		if r.Site != 0 || r.Allocs == 0 || r.Size == 0 {
			t.Errorf("the first reading has %+v", r)
		}
	}
	if len(known) < 20 || p.readings[0].Rate != 4096 || p.readings[0].Collections == 0 {
		t.Errorf("the first reading has %d records, %+v", len(known), p.readings[0])
	}
	// It works, and collects its garbage, until it is told to write.
	for deadline := time.Now().Add(time.Minute); len(p.readings) < 2 || len(p.readings[len(p.readings)-1].Records) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing has changed in a minute")
		}
		p.again()
	}
	last := p.readings[len(p.readings)-1]
	if last.Collections <= p.readings[0].Collections {
		t.Errorf("it has changed in %d collections", last.Collections-p.readings[0].Collections)
	}
	for _, reading := range p.readings[1:] {
		for _, r := range reading.Records {
			now := counts{r.Allocs, r.Frees}
			if r.Site == 0 || r.Allocs < known[r.ID].allocs || now == known[r.ID] {
				t.Errorf("of %+v now: %+v", known[r.ID], r)
			}
			known[r.ID] = now
		}
	}
	if p.unsampled != "" || p.effort.Heaps.Profiles < 2 || p.effort.Heaps.ProfileNs == 0 {
		t.Errorf("%q; %+v", p.unsampled, p.effort.Heaps)
	}
	p.drop(p.target)
	if p.target.profile != nil {
		t.Error("it is read when it is dropped")
	}
}

func TestAProfileBeforeTheFirstCollectionIsNotTold(t *testing.T) {
	t.Parallel()
	program := startGoHeap(t, buildGoHeap(t, nil), nil, "none", "4096", "20")
	p := newProfiled(t, program.pid)
	if p.again(); len(p.readings) != 0 || p.unsampled != "" {
		t.Errorf("%d readings, %q", len(p.readings), p.unsampled)
	}
	if due := p.target.profile.due - p.kernel.Now(); due > uint64(profileEvery) {
		t.Errorf("it is read again in %s", time.Duration(due))
	}
}

// A profile that is of two collections is read again soon; one of a program that collects all
// the time is told all the same. So is that its rate is not known.
func TestAProfileOfTwoCollectionsIsReadAgain(t *testing.T) {
	t.Parallel()
	program := startGoHeap(t, buildGoHeap(t, nil), nil, "once", "4096", "20")
	p := newProfiled(t, program.pid)
	p.readings = nil
	read := func(n int64, mixed bool) {
		p.target.profile.tell(&goheap.Profile{
			Records: []goheap.Record{{Bucket: 1, Size: 16, AllocObjects: n}}, Rate: 4096, Assumed: true, Collections: int(n), Mixed: mixed,
		}, nil, 0)
	}
	for n := range int64(mostMixed) {
		read(n+1, true)
	}
	if due := p.target.profile.due - p.kernel.Now(); len(p.readings) != 0 || due > uint64(profileSoon) {
		t.Errorf("%d readings, the next in %s", len(p.readings), time.Duration(due))
	}
	read(10, true)
	read(11, false)
	read(12, true) // is the first in a row
	if len(p.readings) != 2 || p.readings[0].Records[0].Allocs != 10 || p.readings[1].Records[0].Allocs != 11 || !p.readings[1].Assumed {
		t.Errorf("%+v", p.readings)
	}
}

func TestItIsToldWhyThereIsNoProfile(t *testing.T) {
	t.Parallel()
	off := startGoHeap(t, buildGoHeap(t, nil), nil, "once", "0", "20")
	for name, tt := range map[string]struct {
		pid  int
		want string
		heap bool // it has one of malloc's, which is not sampled here
	}{
		"sampling is off":          {off.pid, "MemProfileRate is 0", false},
		"a program that is not Go": {idler(t), "there is no heap", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProfiled(t, tt.pid)
			if len(p.readings) != 0 || !strings.Contains(p.unsampled, tt.want) || strings.Contains(p.unsampled, "there is no heap") != tt.heap ||
				tt.heap && (p.unsampled != tt.want || p.target.profile != nil) {
				t.Errorf("%d readings, %q", len(p.readings), p.unsampled)
			}
		})
	}
}
