package attribution

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// used are names that note which sites are in use.
type used struct {
	names
	sites map[uint32]bool
}

func (u used) Use(site uint32) {
	if site != 0 {
		u.sites[site] = true
	}
}

func TestSitesOfWhatIsThereAndOfWhoKeepsItAreInUse(t *testing.T) {
	t.Parallel()
	r := newRun()
	u := used{sites: make(map[uint32]bool)}
	r.attr = New(u, r.now, r.tree.Regions(nil), budget.Node{})
	r.mmap(pages(windowAt, windowAt+4), rw, 10)
	r.mmap(pages(windowAt+8, windowAt+12), rw, 20)
	r.mmap(pages(windowAt+16, windowAt+20), rw, 30)
	r.munmap(pages(windowAt+8, windowAt+12))
	e, ok := r.tree.At(windowAt * page)
	if !ok {
		t.Fatal("nothing is there")
	}
	r.attr.Outcome(&e, 10, 40)
	r.attr.Outcome(&e, 10, 0) // it did not stay
	r.look()
	if d := cmp.Diff(map[uint32]bool{10: true, 30: true, 40: true}, u.sites); d != "" {
		t.Error(d)
	}
}

func TestSitesOfTheLongestCallsAreInUse(t *testing.T) {
	t.Parallel()
	u := used{sites: make(map[uint32]bool)}
	m := NewTimings(u, 1)
	timing := func(site uint32, d time.Duration, slow bool) {
		m.Change(&model.Change{
			Site: site, Kind: model.KindTiming, Call: &space.Call{Op: space.OpMmap},
			Timing: &model.Timing{Name: "mmap", Duration: uint64(d), Weight: 1, Slow: slow},
		})
	}
	timing(2, time.Second, true)
	timing(3, time.Minute, true) // of the same function as 2: it is longer
	timing(4, time.Millisecond, false)
	for range useEvery {
		timing(0, time.Microsecond, false)
	}
	if d := cmp.Diff(map[uint32]bool{3: true, 4: true}, u.sites); d != "" {
		t.Error(d)
	}
}
