package await

import (
	"errors"
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

func TestAnswersAreGivenAsTheyAre(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for name, c := range map[string]*Calls{"with bounds": New(), "without": nil} {
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
		c, release := New(), make(chan struct{})
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

func TestAtTheEndAllTogetherAreWaitedForNoLongerThanForTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := New(), make(chan struct{})
		time.AfterFunc(Patience/2, c.End)
		began := time.Now()
		for key := range 10 {
			if _, err := Do(c, key, stalled(release), nil); !errors.Is(err, ErrStalled) {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != Patience/2+Grace {
			t.Errorf("it took %v", took)
		}
		close(release)
	})
}

func TestAtTheEndOneIsWaitedForNoLongerThanBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := New(), make(chan struct{})
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

func TestWhatWasWaitedBeforeTheEndIsNotOfTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New()
		after := func(d time.Duration) func() (int, error) {
			return func() (int, error) { time.Sleep(d); return 23, nil }
		}
		time.AfterFunc(Grace/2, c.End)
		if v, err := Do(c, 1, after(Grace), nil); v != 23 || err != nil {
			t.Errorf("what was asked before: %d, %v", v, err)
		}
		if v, err := Do(c, 2, after(Grace/4), nil); v != 23 || err != nil {
			t.Errorf("what is asked then: %d, %v", v, err)
		}
		if _, err := Do(c, 3, after(Grace/2), nil); !errors.Is(err, ErrStalled) {
			t.Errorf("what the Grace is too short for: %v", err)
		}
		time.Sleep(Grace) // it answers
	})
}

func TestWhatIsDueAtTheEndIsDoneOnce(t *testing.T) {
	t.Parallel()
	c, done := New(), 0
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
		c := New()
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
		c := New()
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
		c := New()
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
		c, release := New(), make(chan struct{})
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

func TestThoseWhoOweAnAnswerAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, release := New(), make(chan struct{})
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
