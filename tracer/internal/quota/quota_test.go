package quota

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clocks are those of a run that a test moves on.
type clocks struct{ wall, cpu atomic.Int64 }

// run is a run with such clocks.
func run(each, all Limits) (*Run, *clocks) {
	c := &clocks{}
	r := New(each, all)
	r.wall = func() time.Duration { return time.Duration(c.wall.Load()) }
	r.cpu = func() time.Duration { return time.Duration(c.cpu.Load()) }
	r.pool.at, r.rest.at = 0, 0
	return r, c
}

const ample = 1 << 40

func TestAnAccountPaysForWhatIsLeftAndNoMore(t *testing.T) {
	t.Parallel()
	// Each step: so much time passes on the wall's clock and the CPU's, and so many bytes are asked for.
	type step struct {
		who       int
		wall, cpu time.Duration
		bytes     int64
		want      string // an error; "" for none
	}
	const used = "the budget is used up: "
	for _, tt := range []struct {
		name      string
		each, all Limits
		steps     []step
	}{
		{"bytes", Limits{1000, ample}, Limits{ample, ample}, []step{
			{who: 1, bytes: 600},
			{who: 1, bytes: 401, want: used + "1000 B for process 1"},
			{who: 1, bytes: 400}, // what was refused was not paid
			{who: 1, bytes: 1, want: used + "1000 B for process 1"},
			{who: 2, bytes: 1000}, // another has its own
		}},
		{"time", Limits{ample, time.Second}, Limits{ample, ample}, []step{
			{who: 1, cpu: 600 * time.Millisecond},
			{who: 1, cpu: 399 * time.Millisecond, bytes: 10},
			{who: 1, cpu: time.Millisecond, want: used + "1s of CPU time for process 1"},
			{who: 1, want: used + "1s of CPU time for process 1"},
			{who: 2, cpu: 500 * time.Millisecond, bytes: 10},
		}},
		{"a long step", Limits{ample, time.Second}, Limits{ample, ample}, []step{
			{who: 1, cpu: time.Hour, want: used + "1s of CPU time for process 1"},
			{who: 1, wall: Again / 2}, // there are no debts
			{who: 1, cpu: time.Second / 4},
			{who: 1, cpu: time.Second / 4, want: used + "1s of CPU time for process 1"},
		}},
		{"what was used comes back evenly", Limits{1000, ample}, Limits{ample, ample}, []step{
			{who: 1, bytes: 1000},
			{who: 1, wall: Again / 10, bytes: 101, want: used + "1000 B for process 1"},
			{who: 1, bytes: 100},
			{who: 1, wall: 2 * Again, bytes: 1001, want: used + "1000 B for process 1"},
			{who: 1, bytes: 1000},
		}},
		{"the pool", Limits{1000, ample}, Limits{2000, ample}, []step{
			{who: 1, bytes: 1000},
			{who: 2, bytes: 200},
			{who: 3, bytes: 200},
			{who: 2, bytes: 200, want: used + "2.0 KiB for all"}, // an equal part of the half is 250
			{who: 2, bytes: 50},
			{who: 1, bytes: 1, want: used + "1000 B for process 1"},
			{who: 3, bytes: 50},
			{who: 4, bytes: 200}, // who comes later has a part, too
			{who: 4, bytes: 1, want: used + "2.0 KiB for all"},
		}},
		{"the pool's time", Limits{ample, 10 * time.Second}, Limits{ample, 8 * time.Second}, []step{
			{who: 1, cpu: 4 * time.Second},
			{who: 1, cpu: time.Millisecond, want: used + "8s of CPU time for all"},
			{who: 2, cpu: time.Second},
			{who: 2, cpu: time.Second, want: used + "8s of CPU time for all"},
			{who: 3, cpu: time.Second},
			{who: 4, cpu: time.Second, want: used + "8s of CPU time for all"}, // nothing is left
			{who: 4, wall: Again, cpu: 2 * time.Second},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, c := run(tt.each, tt.all)
			for i, s := range tt.steps {
				c.wall.Add(int64(s.wall))
				got := ""
				if err := r.Of("process", s.who).charge(s.bytes, spell{cpu: s.cpu}); err != nil {
					if got = err.Error(); !errors.Is(err, ErrSpent) {
						t.Errorf("step %d: %v is not ErrSpent", i, err)
					}
				}
				if got != s.want {
					t.Errorf("step %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

func TestAPieceOfWorkPaysForItsTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		work func(o *Op) error // one step
		most int               // steps of 1 ms, of 100 ms that there are
	}{
		{"large reads", func(o *Op) error { return o.Take(smallRead) }, 102},
		{"small reads", func(o *Op) error { return o.Take(1) }, 100 + 2*smallReads},
		{"a loop", func(o *Op) error { return o.Steps(1) }, 100 + 2*smallSteps},
		{"a loop with much in a step", func(o *Op) error { return o.Steps(smallSteps) }, 102},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, c := run(Limits{ample, 100 * time.Millisecond}, Limits{ample, ample})
			a := r.Of("process", 1)
			o := a.Start()
			n := 0
			for ; n <= tt.most && tt.work(&o) == nil; n++ {
				c.cpu.Add(int64(time.Millisecond))
			}
			o.End()
			if n < 100 || n > tt.most {
				t.Errorf("it ends after %d steps, want 100 to %d", n, tt.most)
			}
			if a.Ample() {
				t.Error("half is left")
			}
		})
	}
}

func TestAfterTheEndOfTheRunAllTogetherPayForLittleMore(t *testing.T) {
	t.Parallel()
	r, c := run(Limits{ample, time.Hour}, Limits{ample, time.Hour})
	pass := func(d time.Duration) { c.wall.Add(int64(d)) } // with no CPU time: a read waits
	work := func(d time.Duration) { c.wall.Add(int64(d)); c.cpu.Add(int64(d)) }
	long := r.Of("process", 1).Start()
	for range 3 {
		if err := long.Take(smallRead); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
	}
	r.End(500 * time.Millisecond)
	work(300 * time.Millisecond)
	r.End(time.Hour) // it has come already
	if err := long.Take(smallRead); err != nil {
		t.Errorf("what began before the end: %v", err)
	}
	long.End()
	work(time.Hour) // for something else
	other := r.Of("process", 2).Start()
	defer other.End()
	if err := other.Take(1); err != nil || !r.Of("process", 2).Ample() {
		t.Errorf("of another process: %v", err)
	}
	work(199 * time.Millisecond)
	if err := other.Steps(smallSteps); err != nil {
		t.Errorf("within the time: %v", err)
	}
	work(time.Millisecond)
	const want = "the budget is used up: 500ms of CPU time after the end of the run"
	third := r.Of("process", 3).Start()
	for name, err := range map[string]error{"a loop": other.Steps(smallSteps), "a read": other.Take(smallRead), "a new piece of work": third.Take(1)} {
		if !errors.Is(err, ErrSpent) || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if r.Of("process", 4).Ample() {
		t.Error("there is ample after the end")
	}
}

func TestAfterTheEndOfTheRunWaitsAreBoundedToo(t *testing.T) {
	t.Parallel()
	r, c := run(Limits{ample, time.Hour}, Limits{ample, time.Hour})
	r.End(time.Second)
	o := r.Of("process", 1).Start()
	defer o.End()
	reads := 0
	for ; reads < 100 && o.Take(smallRead) == nil; reads++ {
		c.wall.Add(int64(time.Second))
	}
	if reads != endWaits {
		t.Errorf("%d reads of a second are paid for, want %d", reads, endWaits)
	}
	if err, want := o.Take(smallRead), "the budget is used up: 4s after the end of the run"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestTheTimeUntilTheEndIsPaid(t *testing.T) {
	t.Parallel()
	r, c := run(Limits{ample, time.Second}, Limits{ample, ample})
	a := r.Of("process", 1)
	for range 2 {
		o := a.Start()
		if err := o.Take(0); err != nil {
			t.Fatal(err)
		}
		c.cpu.Add(int64(400 * time.Millisecond))
		o.End()
		c.cpu.Add(int64(time.Millisecond)) // for something else
		if used, want := o.Used(), 400*time.Millisecond; used != want {
			t.Errorf("%v were used, want %v", used, want)
		}
	}
	if want := 200 * time.Millisecond; a.left.Time != want || a.Ample() {
		t.Errorf("%v are left, want %v", a.left.Time, want)
	}
	c.wall.Add(int64(Again / 2))
	if !a.Ample() {
		t.Errorf("%v are not ample", a.left.Time)
	}
}

func TestWithoutAnAccountEverythingIsPaid(t *testing.T) {
	t.Parallel()
	var r *Run
	a := r.Of("process", 1)
	o := a.Start()
	defer o.End()
	if err := errors.Join(o.Take(1<<60), o.Take(1<<60), o.Steps(1<<40)); err != nil || !a.Ample() {
		t.Error(err)
	}
}

func TestThereAreOnlySoManyAccounts(t *testing.T) {
	t.Parallel()
	r, c := run(Limits{1000, ample}, Limits{ample, ample})
	for id := range maxAccounts + 2 {
		if err := r.Of("process", id).charge(1000, spell{}); (err == nil) != (id <= maxAccounts) {
			t.Fatalf("account %d: %v", id, err)
		}
	}
	if n := len(r.accounts); n != maxAccounts {
		t.Errorf("%d accounts, want %d", n, maxAccounts)
	}
	c.wall.Add(int64(Again))
	if a := r.Of("process", -1); a == r.rest || len(r.accounts) != 1 {
		t.Errorf("%d accounts after those that have all again were closed", len(r.accounts))
	}
}

func TestThreadTimeIsThatOfThisThread(t *testing.T) {
	t.Parallel()
	o := New(Limits{ample, time.Hour}, Limits{ample, time.Hour}).Of("process", 1).Start()
	if err := o.Take(0); err != nil {
		t.Fatal(err)
	}
	defer o.End()
	before := threadTime()
	for sum := 0; threadTime()-before < 10*time.Millisecond; sum++ {
	}
}

func TestAccountsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	const workers, reads = 8, 1000
	r, _ := run(Limits{workers * reads, ample}, Limits{ample, ample})
	var paid atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range reads * 2 {
				o := r.Of("process", 1).Start()
				if o.Take(1) == nil {
					paid.Add(1)
				}
				o.End()
			}
		})
	}
	group.Wait()
	if n := paid.Load(); n != workers*reads {
		t.Errorf("%d bytes were paid of %d", n, workers*reads)
	}
}
