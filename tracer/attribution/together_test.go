package attribution

import (
	"cmp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// piled is a program with a child more each second, which sites make in turn.
func piled(sites ...uint32) *Growth {
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	process(g, 1, 1)
	pids := []int{1}
	for i := range 40 {
		at := uint64(time.Second) * uint64(i+1)
		pid := 2 + i
		g.Change(&model.Change{Kind: model.KindFork, Space: 1, TGID: 1, Time: at, Child: pid, Site: sites[i%len(sites)]})
		process(g, pid, at)
		pids = append(pids, pid)
		for _, pid := range pids {
			g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Body: event.Account{Anon: 1 << 20}})
		}
	}
	return g
}

func TestChildrenThatPileUpAreFoundTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		sites []uint32
		want  string
	}{
		{"one function makes them", []uint32{4, 5}, "f"},
		{"two do", []uint32{4, 8}, ""},
		{"it is not known who does", []uint32{0}, ""},
		{"their stacks are cut", []uint32{inVfork}, ""},
		{"it is not known of most", []uint32{4, 0, 0}, ""},
	} {
		groups := piled(c.sites...).Groups(nil)
		if len(groups) != 1 || len(groups[0].Findings) != 1 {
			t.Fatalf("%s: %+v", c.name, groups)
		}
		g, f := &groups[0], &groups[0].Findings[0]
		if g.Now != 41 || g.Before > 4 || !g.Grows() || !strings.HasPrefix(f.Subject, `41 processes "" (`) {
			t.Errorf("%s: %d processes, %d at first, %q", c.name, g.Now, g.Before, f.Subject)
		}
		if got := f.Blamed().Full; strings.HasPrefix(got, "f") != (c.want != "") {
			t.Errorf("%s: %q is blamed, want %q", c.name, got, c.want)
		}
	}
}

func TestFilesThatFillThePageCache(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	for i := range uint64(40) {
		body := event.Group{Name: "/a", GroupMemory: procmaps.GroupMemory{File: 100*mib + i*2*mib}}
		if i%10 == 0 {
			body.Files = []procmaps.CachedFile{
				{Path: "/old", FileID: procmaps.FileID{Inode: 1}, Bytes: 80 * mib}, {Path: "/log", FileID: procmaps.FileID{Inode: 2}, Bytes: 20*mib + i*mib}, {Path: "/few", FileID: procmaps.FileID{Inode: 3}, Bytes: i << 10},
			}
			if i > 0 {
				body.Files = append(body.Files, procmaps.CachedFile{Path: "/new", FileID: procmaps.FileID{Inode: 4}, Bytes: 5 * mib}, procmaps.CachedFile{Path: "/other", FileID: procmaps.FileID{Dev: procmaps.Device{Major: 7}, Inode: 1}, Bytes: 4 * mib})
			}
		}
		g.Record(&event.Record{At: (i + 1) * uint64(time.Second), Body: body})
	}
	groups := g.Groups(nil)
	if len(groups) != 1 || len(groups[0].Files) != 3 {
		t.Fatalf("%+v", groups)
	}
	for i, want := range []string{"/log", "/new", "/other"} {
		if f := &groups[0].Files[i]; f.Path != want || f.Grown == 0 {
			t.Errorf("file %d is %+v, want %s", i, f, want)
		}
	}
}

// TestWhatOfACgroupIsOfNoProcess has two processes in a cgroup, and memory that is of neither.
func TestWhatOfACgroupIsOfNoProcess(t *testing.T) {
	t.Parallel()
	const mib, second = 1 << 20, uint64(time.Second)
	for _, c := range []struct {
		name        string
		anon, shmem uint64 // of the cgroup
		want        Unowned
		grows       int64  // by so much a second, and so do the processes
		own         uint64 // what the processes have of it at first, the least of that and 100 if it is not said
		late        uint64 // how old their figures are, in seconds
		looks       uint64 // 10 if it is not said
		change      func(one *charges)
		another     bool // a cgroup is watched as well
	}{
		{name: "all is theirs", anon: 100, shmem: 36},
		{name: "they share", anon: 90, shmem: 8},
		{name: "a little is not", anon: 101, shmem: 36},
		{name: "a file on tmpfs", anon: 100, shmem: 336, want: Unowned{Shmem: 300 * mib}},
		{name: "who has it is elsewhere", anon: 150, shmem: 36, want: Unowned{Anon: 50 * mib}},
		{name: "it is not known whose they are", anon: 150, shmem: 336, another: true},
		{name: "they grow, and are read late", anon: 100, shmem: 36, grows: 40, late: 3},
		{name: "they grow beside a file", anon: 100, shmem: 336, grows: 40, late: 3, want: Unowned{Shmem: 300 * mib}},
		{name: "they shrink", anon: 1000, shmem: 36, own: 1000, grows: -40, late: 3},
		{name: "they were read before the cgroup", anon: 150, shmem: 36, late: 20},
		{name: "it was seen too seldom", anon: 150, shmem: 36, looks: 4},
		{name: "one was not read yet", anon: 150, shmem: 36, change: func(one *charges) { one.known = false }},
		{name: "not all descriptors were looked at", anon: 150, shmem: 336, want: Unowned{Anon: 50 * mib}, change: func(one *charges) { one.last.Partial = true }},
		{name: "their figures may be wrong by as much", anon: 150, shmem: 36, change: func(one *charges) { one.last.Slack = 60 * mib }},
	} {
		g := NewGrowth(Options{Names: names{}, Interval: time.Second})
		var both []*charges
		for pid := 1; pid <= 2; pid++ {
			w := &watched{pid: pid, Attribution: &Attribution{charges: charges{known: true}}}
			g.spaces[uint64(pid)] = w
			both = append(both, &w.charges)
		}
		if c.another {
			g.Record(&event.Record{At: 1, Body: event.Group{Name: "/b"}})
		}
		of := func(first, looks uint64) uint64 { return uint64(int64(first)+int64(looks)*c.grows) * mib }
		for i := range cmp.Or(c.looks, 10) {
			at := 30*second + i*second
			for _, ch := range both {
				ch.at = at - c.late*second
				ch.last = event.Account{
					Anon:  of(cmp.Or(c.own, min(c.anon, 100)), i-min(i, c.late)) / 2,
					Shmem: 8 * mib, Held: []event.Held{{Files: []event.HeldFile{{Bytes: 10 * mib}}}},
				}
			}
			if c.change != nil {
				c.change(both[0])
			}
			g.Record(&event.Record{At: at, Body: event.Group{Name: "/a", GroupMemory: procmaps.GroupMemory{
				Anon: of(c.anon, i), Shmem: c.shmem * mib,
			}}})
		}
		if got := g.Groups(nil)[0].Elsewhere; got != c.want {
			t.Errorf("%s: %d and %d MiB, want %d and %d", c.name, got.Anon/mib, got.Shmem/mib, c.want.Anon/mib, c.want.Shmem/mib)
		}
	}
}

func TestProcessesThatGrowByThemselvesAreNotToldTogether(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	for pid := 1; pid <= 3; pid++ {
		process(g, pid, 1)
	}
	for i := range 40 {
		for pid := 1; pid <= 3; pid++ {
			at := uint64(time.Second) * uint64(i+1)
			g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Body: event.Account{Anon: uint64(i) << 20}})
		}
	}
	if got := g.Groups(nil); len(got) != 1 || !got[0].Grows() {
		t.Errorf("of processes none of which is known to grow: %+v", got)
	}
	grows := []Process{{Findings: []Finding{{Evidence: Evidence{Finding: growth.Finding{Label: growth.Grows}}}}}}
	if got := g.Groups(grows); got != nil {
		t.Errorf("of processes that are known to grow: %+v", got)
	}
}

// TestProcessesThatAreRenamedAreCountedAsWhatTheyAre replaces workers, which have another name
// when they are made than later: there are as many all the time.
func TestProcessesThatAreRenamedAreCountedAsWhatTheyAre(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	account := func(pid int, at uint64, comm string) {
		g.Record(&event.Record{At: at, Space: uint64(pid), PID: pid, Body: event.Account{Comm: comm, Anon: 4 << 20}})
	}
	begin := func(pid int, at uint64) {
		g.Change(&model.Change{
			Kind: model.KindBegin, Space: uint64(pid), Time: at, Process: &model.Process{PID: pid, Comm: "server"}, Start: &space.Packed{},
		})
	}
	const workers = 20
	for pid := 1; pid <= workers; pid++ {
		begin(pid, 1)
	}
	for i := range 40 {
		at := uint64(time.Second) * uint64(i+1)
		for pid := i + 1; pid <= i+workers; pid++ {
			account(pid, at, "worker-"+strconv.Itoa(pid))
		}
		exits(g, i+1, at+1)
		begin(i+1+workers, at+1)
		account(i+1+workers, at+1, "server")
	}
	if got := g.Groups(nil); got != nil {
		t.Errorf("%+v", got)
	}
	if n := g.count(); n["worker-*"] < workers-1 || n["server"] > 1 {
		t.Errorf("there are %v", n)
	}
}

// TestWhatAProcessHasToItself wants no page counted in parent and child.
func TestWhatAProcessHasToItself(t *testing.T) {
	t.Parallel()
	var c charges
	c.account(0, event.Account{Anon: 100, Swapped: 7, PageTables: 4})
	if got := c.own(); got != 111 {
		t.Errorf("%d without a sum, want all that is anonymous", got)
	}
	c.account(0, event.Account{Anon: 100, Swapped: 7, PageTables: 4, Summed: true, Private: 30})
	if got := c.own(); got != 41 {
		t.Errorf("%d with a sum", got)
	}
	c.account(0, event.Account{Anon: 150, Swapped: 9, PageTables: 4, Hugetlb: 1000})
	if got := c.own(); got != 1093 {
		t.Errorf("%d, with some that came later", got)
	}
	c.account(0, event.Account{Anon: 20})
	if got := c.own(); got != 37 {
		t.Errorf("%d after much was given back", got)
	}
}

func TestACgroupGrowsByItsCharges(t *testing.T) {
	t.Parallel()
	g := NewGrowth(Options{Names: names{}, Interval: time.Second})
	for i := range uint64(40) {
		g.Record(&event.Record{At: (i + 1) * uint64(time.Second), Body: event.Group{Name: "/a", GroupMemory: procmaps.GroupMemory{
			Used: i << 20, Anon: i << 20, File: 5<<20 + i<<20, Kernel: i << 18, Sock: i << 19,
		}}})
	}
	groups := g.Groups(nil)
	if len(groups) != 1 || groups[0].Name != "/a" || groups[0].Ticks != 40 || groups[0].First.File != 5<<20 || groups[0].Last.File != 44<<20 {
		t.Fatalf("%+v", groups)
	}
	want := map[growth.What]growth.Label{
		growth.GroupAnon: growth.Leaks, growth.PageCache: growth.Grows, growth.KernelMemory: growth.Grows, growth.Sockets: growth.Leaks,
	}
	for _, f := range groups[0].Findings {
		if f.Label != want[f.What] {
			t.Errorf("%s: %v, want %v", f.Subject, f.Label, want[f.What])
		}
		delete(want, f.What)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	// What is locked may be of processes.
	for locked, want := range map[uint64]growth.NoteKind{0: growth.CanBeDropped, 5: growth.CanBeDropped, 20: growth.Unevictable} {
		c := cgroup{now: procmaps.GroupMemory{Anon: 10, Unevictable: locked}}
		f := growth.Finding{Key: growth.Key{What: growth.PageCache}, Label: growth.Leaks, Growth: 10}
		if c.judge(&f); f.Reason[0].Kind != want {
			t.Errorf("with %d bytes locked: %+v", locked, f.Reason)
		}
	}
	r, err := ParseRule("page cache growth > 1/s", func(string) (uint64, error) { return 1000, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, broken := r.CheckGroup(&groups[0]); !broken {
		t.Error("a rule on page cache is not broken")
	}
	r, err = ParseRule("total growth > 1/s", func(string) (uint64, error) { return 1000, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, broken := r.CheckGroup(&groups[0]); broken {
		t.Error("one on the total is about processes")
	}
}
