package attribution

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

// refusedCalls is a process some of whose calls fail.
func refusedCalls(limits growth.Limits, calls ...space.Call) []Refused {
	r := newRun()
	for _, c := range calls {
		r.call(c)
	}
	n := namer{Names: names{}, known: make(map[uint32]stack.Name)}
	var rs growth.Readings
	if limits != nil {
		rs.Add(growth.Reading{At: time.Second, Limits: limits})
	}
	return n.refused(&r.attr.rare, rs)
}

func TestCallsThatWereRefusedMemory(t *testing.T) {
	t.Parallel()
	const mib, full = 1 << 20, 100 << 20
	mmap := func(bytes uint64, ret int64, site uint64) space.Call {
		return space.Call{Op: space.OpMmap, Ret: ret, Site: site, Args: [6]uint64{0, bytes, 3, 0x22}}
	}
	as := growth.Limit{Name: growth.RlimitAS, Used: full - mib/2, Max: full}
	data := growth.Limit{Name: growth.RlimitData, Used: full - mib/4, Max: full}
	maps := growth.Limit{Name: growth.MaxMapCount, Used: 65530, Max: 65530}
	lock := growth.Limit{Name: growth.RlimitMemlock, Used: full, Max: full}
	group := growth.Limit{Name: "memory.max", Used: full, Max: full}
	roomy := growth.Limit{Name: growth.RlimitData, Used: mib, Max: full}
	for _, c := range []struct {
		name   string
		limits growth.Limits
		calls  []space.Call
		want   []Refused
	}{
		{"none was", growth.Limits{as}, []space.Call{mmap(mib, -22, blame(4, 0))}, nil},
		{
			"by one limit",
			growth.Limits{as, roomy, lock, group},
			[]space.Call{mmap(2*mib, -enomem, blame(4, 0)), mmap(mib, -enomem, blame(5, 0))},
			[]Refused{{Op: space.OpMmap, Calls: 2, Bytes: mib, Limits: []growth.Limit{as}, By: stack.Plain("fe")}},
		},
		{
			"by one of several",
			growth.Limits{as, data, maps},
			[]space.Call{mmap(mib, -enomem, 0)},
			[]Refused{{Op: space.OpMmap, Calls: 1, Bytes: mib, Limits: []growth.Limit{as, data, maps}}},
		},
		{
			"two functions", nil,
			[]space.Call{mmap(mib, -enomem, blame(4, 0)), mmap(mib, -enomem, blame(8, 0)), mmap(mib, -enomem, blame(8, 0))},
			[]Refused{{Op: space.OpMmap, Calls: 3, Bytes: mib}},
		},
		{
			"a break that does not move",
			growth.Limits{data},
			[]space.Call{
				{Op: space.OpBrk, OldBrk: heapAt * page, Ret: heapAt * page, Args: [6]uint64{heapAt*page + mib}, Site: blame(4, 0)},
				{Op: space.OpBrk, OldBrk: heapAt * page, Ret: heapAt * page}, // which only asks
			},
			[]Refused{{Op: space.OpBrk, Calls: 1, Bytes: mib, Limits: []growth.Limit{data}, By: stack.Plain("fe")}},
		},
		{
			"memory that may not be locked",
			growth.Limits{lock, data},
			[]space.Call{{Op: space.OpMlock, Ret: -enomem, Args: [6]uint64{oldAt * page, page}}},
			[]Refused{{Op: space.OpMlock, Calls: 1, Bytes: page, Limits: []growth.Limit{lock}}},
		},
		{
			"advice on a gap",
			growth.Limits{as},
			[]space.Call{{Op: space.OpMadvise, Ret: -enomem, Args: [6]uint64{oldAt * page, page}}},
			nil,
		},
		{
			"a split",
			growth.Limits{maps},
			[]space.Call{{Op: space.OpMprotect, Ret: -enomem, Args: [6]uint64{oldAt * page, page, 1}}},
			[]Refused{{Op: space.OpMprotect, Calls: 1, Limits: []growth.Limit{maps}}},
		},
	} {
		got := refusedCalls(c.limits, c.calls...)
		for i := range got {
			got[i].Asked = nil
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestWhoSplitsMappings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		sites []uint32
		every uint64 // so many calls have a site
		named bool
	}{
		{"one function", []uint32{4, 5}, 1, true},
		{"two", []uint32{4, 8}, 1, false},
		{"few of the calls", []uint32{4}, 10, false},
	} {
		r := newRun()
		at := uint64(bigAt)
		for i := range uint64(40) {
			for k := range uint64(8) {
				site := uint64(0)
				if k%c.every == 0 {
					site = blame(c.sites[int(k)%len(c.sites)], 0)
				}
				r.call(space.Call{Op: space.OpMprotect, Site: site, Args: [6]uint64{at * page, page, 1}})
				at += 2
			}
			r.charge(event.Account{}, i) // which looks
		}
		e := r.found(t, growth.Anon)
		f := Finding{Evidence: e}
		n := namer{Names: names{}, known: make(map[uint32]stack.Name)}
		n.split(&r.attr.rare, &f)
		if e.Measure != growth.Mappings || e.Label < growth.Grows {
			t.Fatalf("%s: %v of %v", c.name, e.Label, e.Measure)
		}
		if (f.SplitBy != nobody) != c.named {
			t.Errorf("%s: by %q", c.name, f.SplitBy.Full)
		}
	}
}
