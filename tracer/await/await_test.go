package await

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stalled is a question that is answered when the channel is closed.
func stalled(release <-chan struct{}) func() (int, error) {
	return func() (int, error) {
		<-release
		return 7, nil
	}
}

func prompt() (int, error) { return 23, nil }

// idle is a Calls where no thread waits for a CPU.
func idle() *Calls {
	c := New()
	c.Pressure = func() time.Duration { return 0 }
	return c
}

func TestAnswersAreGivenAsTheyAre(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for name, c := range map[string]*Calls{"with bounds": idle(), "without": nil} {
		if v, err := Do(c, 1, prompt, nil); v != 23 || err != nil {
			t.Errorf("%s: got %d, %v", name, v, err)
		}
		if _, err := Do(c, 1, func() (int, error) { return 0, why }, nil); !errors.Is(err, why) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestWhoHasNotAnsweredIsNotAskedAgainUntilThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := idle(), make(chan struct{})
		late := 0
		began := time.Now()
		if _, err := Do(c, 1, stalled(release), func(v int) { late = v }); !errors.Is(err, ErrStalled) {
			t.Errorf("a question without an answer: %v", err)
		}
		if _, err := Do(c, 1, prompt, nil); !errors.Is(err, ErrStalled) {
			t.Errorf("a second one: %v", err)
		}
		if took := time.Since(began); took != Patience {
			t.Errorf("it took %v", took)
		}
		if v, err := Do(c, 2, prompt, nil); v != 23 || err != nil {
			t.Errorf("another is asked: %d, %v", v, err)
		}
		close(release)
		synctest.Wait()
		if v, err := Do(c, 1, prompt, nil); v != 23 || err != nil || late != 7 || len(c.owing) != 0 {
			t.Errorf("after the answer: %d, %v; late %d", v, err, late)
		}
	})
}

// Whoever waits, and however many do at once: all waits are over by the deadline, but for
// what is asked for later, which has the rest, all together.
func TestAllWaitsAreOverByTheDeadline(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			c, release := idle(), make(chan struct{})
			end := time.Now().Add(Patience)
			time.AfterFunc(Patience, c.End)
			var all sync.WaitGroup
			for who := range 20 { // some ask before the end, others after it
				first := time.Duration(rnd.Int64N(int64(Patience + Grace)))
				all.Go(func() {
					time.Sleep(first)
					for n := 0; c.Left() > 0; n++ {
						if who%2 == 0 {
							Receive(c, release)
						} else if _, err := Do(c, [2]int{who, n}, stalled(release), nil); !errors.Is(err, ErrStalled) {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				})
			}
			all.Wait()
			if late := time.Since(end.Add(Grace)); late != 0 {
				t.Errorf("seed %d: the last waits until %v after the deadline", seed, late)
			}
			for n := range 10 {
				if _, err := Do(c, n, stalled(release), nil); !errors.Is(err, ErrStalled) {
					t.Errorf("seed %d: after the deadline: %v", seed, err)
				}
			}
			if late := time.Since(end.Add(Grace)); late != Rest {
				t.Errorf("seed %d: what is asked for after the deadline is waited for until %v after it", seed, late)
			}
			close(release)
		})
	}
}

func TestAtTheEndOneIsWaitedForNoLongerThanBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := idle(), make(chan struct{})
		time.AfterFunc(Patience-Grace/4, c.End)
		began := time.Now()
		if _, err := Do(c, 1, stalled(release), nil); !errors.Is(err, ErrStalled) {
			t.Error(err)
		}
		if took := time.Since(began); took != Patience {
			t.Errorf("it took %v", took)
		}
		close(release)
	})
}

// What answers at once is asked for as long as there is something to ask: it keeps nobody.
func TestWhatAnswersAtOnceIsAskedAfterTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := idle()
		after := func(d time.Duration) func() (int, error) {
			return func() (int, error) { time.Sleep(d); return 23, nil }
		}
		if c.Left() != Grace {
			t.Errorf("before the end %v are left", c.Left())
		}
		c.End()
		time.Sleep(Grace - Rest)
		if c.End(); c.Left() != Rest {
			t.Errorf("%v are left", c.Left())
		}
		if _, err := Do(c, 0, after(2*Rest), nil); !errors.Is(err, ErrStalled) || c.Left() != 0 {
			t.Errorf("what was asked before the deadline: %v; %v are left", err, c.Left())
		}
		time.Sleep(Grace)
		for key := range 1000 {
			if v, err := Do(c, key+1, after(atOnce/2), nil); v != 23 || err != nil {
				t.Fatalf("what answers at once: %d, %v", v, err)
			}
		}
		if v, err := Do(c, 1, after(Rest/2), nil); v != 23 || err != nil {
			t.Errorf("what the rest is long enough for: %d, %v", v, err)
		}
		if _, err := Do(c, 2, after(Rest), nil); !errors.Is(err, ErrStalled) {
			t.Errorf("what it is too short for: %v", err)
		}
		time.Sleep(Rest) // it answers
		if _, err := Do(c, 3, after(0), nil); !errors.Is(err, ErrStalled) {
			t.Errorf("when nothing is left: %v", err)
		}
	})
}

func TestWhatIsDueAtTheEndIsDoneOnce(t *testing.T) {
	t.Parallel()
	c, done := idle(), 0
	c.AtEnd(func() { done++ })
	if done != 0 {
		t.Error("it is done before the end")
	}
	c.End()
	c.End()
	if done != 1 {
		t.Errorf("it is done %d times, want once", done)
	}
	if c.AtEnd(func() { done++ }); done != 2 {
		t.Error("it is not done after the end")
	}
	(*Calls)(nil).AtEnd(func() { t.Error("without a Calls there is an end") })
}

func TestWhoIsSlowEachTimeIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := idle()
		began, err := time.Now(), error(nil)
		for n := 0; err == nil && n < 100; n++ {
			_, err = Do(c, 1, func() (int, error) { time.Sleep(Patience - time.Millisecond); return 0, nil }, nil)
		}
		if took := time.Since(began); !errors.Is(err, ErrStalled) || took > mostSpent+Patience {
			t.Errorf("given up after %v: %v", took, err)
		}
	})
}

// Such as /proc/PID/maps of a process with many mappings, which is read by polling.
func TestWhoTakesLongBecauseThereIsMuchIsAskedMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const took, every, minutes = 50 * time.Millisecond, 100 * time.Millisecond, 60
		c := idle()
		for minute := range minutes {
			answers := 0
			for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(every) {
				if _, err := Do(c, 1, func() (int, error) { time.Sleep(took); return 0, nil }, nil); err == nil {
					answers++
				}
			}
			if often := int(time.Minute / (again / mostSpent) / took); answers < often-1 || minute > 1 && answers > often+1 {
				t.Errorf("minute %d: %d answers, want about %d", minute, answers, often)
			}
		}
	})
}

func TestOfThoseWhoAreNotAskedAnyMoreNothingIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := idle()
		for key := range 4 * mostKept {
			if _, err := Do(c, key, func() (int, error) { time.Sleep(10 * atOnce); return 0, nil }, nil); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(c.spent); n > mostKept {
			t.Errorf("of %d is kept what was waited for them", n)
		}
	})
}

func TestWhatTakesEveryThreadIsDoneWhileNobodyIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := idle(), make(chan struct{})
		done := func() bool {
			called := false
			if ok := c.Quietly(func() { called = true }); ok != called {
				t.Errorf("it says %v, called: %v", ok, called)
			}
			return called
		}
		if !done() {
			t.Error("not done though nothing was asked")
		}
		if _, err := Do(c, 1, stalled(release), nil); !errors.Is(err, ErrStalled) {
			t.Error(err)
		}
		if done() {
			t.Error("done though an answer is owed")
		}
		c.Begin()
		close(release)
		synctest.Wait()
		if done() {
			t.Error("done though one is asked in another way")
		}
		if c.Finish(); !done() {
			t.Error("not done though all have answered")
		}
	})
}

func TestOneWhoOwnsManyTakesNotAllPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := idle(), make(chan struct{})
		for file := range 2 * mostOfOne {
			if _, err := Do(c, Of{"one", file}, stalled(release), nil); !errors.Is(err, ErrStalled) {
				t.Error(err)
			}
		}
		if n := len(c.owing); n != mostOfOne {
			t.Errorf("of one, %d owe an answer", n)
		}
		if v, err := Do(c, Of{"another", 0}, prompt, nil); v != 23 || err != nil {
			t.Errorf("another's is asked: %d, %v", v, err)
		}
		close(release)
		synctest.Wait()
		if v, err := Do(c, Of{"one", 0}, prompt, nil); v != 23 || err != nil || len(c.owned) != 0 {
			t.Errorf("when all have answered: %d, %v, %v", v, err, c.owned)
		}
	})
}

func TestThoseWhoOweAnAnswerAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := idle(), make(chan struct{})
		for key := range 2 * mostUnanswered {
			if _, err := Do(c, key, stalled(release), nil); !errors.Is(err, ErrStalled) {
				t.Error(err)
			}
		}
		if n := len(c.owing); n != mostUnanswered {
			t.Errorf("%d owe an answer", n)
		}
		close(release)
	})
}

// TestWhereTheCPUsAreBusyIsWaitedForLonger has somebody answer after the deadline, as all
// threads have had to wait for a CPU for so long.
func TestWhereTheCPUsAreBusyIsWaitedForLonger(t *testing.T) {
	t.Parallel()
	for waited, want := range map[time.Duration]bool{0: false, 200 * time.Millisecond: false, 400 * time.Millisecond: true, time.Hour: true} {
		synctest.Test(t, func(t *testing.T) {
			c := New()
			c.Pressure = func() time.Duration { return 0 }
			c.End()
			c.Pressure = func() time.Duration { return waited }
			began := time.Now()
			_, err := Do(c, "slow", func() (int, error) { time.Sleep(Grace + 300*time.Millisecond); return 1, nil }, nil)
			if (err == nil) != want || time.Since(began) > Grace+Busy {
				t.Errorf("after %v of waiting for CPUs: %v in %v", waited, err, time.Since(began))
			}
			time.Sleep(time.Minute) // for who is not waited for
		})
	}
}
