// Package await bounds the waiting for what a traced process can delay.
//
// Much of what is read of a process may take as long as that process, or who owns it,
// likes: /proc/PID/maps and its kin wait for the mmap lock, and files that it maps may be
// of a file system that it serves itself (FUSE). So nobody who has something else to do
// reads such things himself: he asks a goroutine, and waits for at most [Patience]. An
// answer that comes later is dropped. Who has not answered is not asked again until he
// has, so an abandoned goroutine, and its thread, is one for each who is asked.
//
// The end of the run sets one deadline, which every wait ends at, whenever it began and
// however many there are at once:
//
//	End ──────── Grace ────────▶ deadline ─ Rest of all that is asked later ─▶
//	 │ waits of before and after ▲         │ what answers at once is free
//	 └─────── all end here ──────┘         └ names of code, mostly
//
// Where the CPUs are busy, time in which threads had to wait for one is not charged to who
// is asked: as much as that is waited for longer, up to Busy in all.
package await

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// Patience is how long is waited for one answer.
	Patience = time.Second
	// Grace is from the end to the deadline.
	Grace = 750 * time.Millisecond
	// Rest is how long is waited for all answers together that are asked for after the
	// deadline.
	Rest = 50 * time.Millisecond
	// Busy is how much longer is waited where the CPUs are.
	Busy = 1250 * time.Millisecond
	// mostSpent is how long is waited for all answers of one who is asked, but for those
	// that come at once: who takes a little less than Patience each time is not to
	// stop everything either. It comes back evenly, all of it in again: what takes long
	// because it is large is asked more rarely, and not for ever given up.
	mostSpent = 5 * time.Second
	again     = 10 * mostSpent
	// mostKept is of how many is known that they were waited for, before those of whom all
	// has come back are forgotten.
	mostKept = 1 << 10
	// mostUnanswered is how many may owe an answer: each keeps a thread. mostOfOne is how
	// many of them may belong to one who owns them (see Of): nobody is to take the places
	// of all.
	mostUnanswered = 64
	mostOfOne      = 8
	// atOnce is what no answer need be faster than.
	atOnce = time.Millisecond
)

// ErrStalled says that there was no answer in time, or that it was not waited for.
var ErrStalled = errors.New("no answer in time: its lock is held, or its file system does not answer")

// Of is who is asked where many belong to one: a file of a process.
type Of struct {
	Owner any
	What  any
}

// owner is who somebody belongs to: himself, mostly.
func owner(key any) any {
	if of, ok := key.(Of); ok {
		return of.Owner
	}
	return key
}

// Calls are the questions of one run. Nil sets no bounds. It is safe for concurrent use.
type Calls struct {
	// Pressure is for how long threads have waited for a CPU since some moment; [New] takes
	// what the kernel tells. It is not to be changed once there are questions.
	Pressure func() time.Duration

	mu    sync.Mutex
	owing map[any]int // answers that are owed, and not waited for any more
	owned map[any]int // how many of those belong to whom
	spent map[any]spending
	over  chan struct{} // closed at the end
	// deadline is that of all waits; zero before the end.
	deadline time.Time
	rest     time.Duration // what is left of Rest
	pressed  time.Duration // pressure at the end
	busy     time.Duration // what is left of Busy
	atEnd    []func()
	asked    int // questions that are being answered, waited for or not
}

// spending is what was waited for somebody.
type spending struct {
	sum time.Duration
	at  time.Time // when that was all
}

// now is what of it has not come back.
func (s spending) now() time.Duration {
	return max(0, s.sum-time.Since(s.at)/(again/mostSpent))
}

// New returns a Calls that nothing was asked of.
func New() *Calls {
	return &Calls{Pressure: pressure, owing: make(map[any]int), owned: make(map[any]int), spent: make(map[any]spending), over: make(chan struct{}), rest: Rest, busy: Busy}
}

// End says that the end has come: it sets the deadline, also for those who wait already.
// Only the first call counts.
func (c *Calls) End() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.IsZero() {
		return
	}
	c.deadline = time.Now().Add(Grace)
	c.pressed = c.Pressure()
	close(c.over)
	for _, f := range c.atEnd {
		f()
	}
}

// Left is how long may still be waited: the whole Grace before the end, and of a nil Calls.
func (c *Calls) Left() time.Duration {
	if c == nil {
		return Grace
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() {
		return Grace
	}
	return max(0, time.Until(c.deadline))
}

// AtEnd has f called once the end has come: by [Calls.End], or at once. It must not wait
// for anything. Of a nil Calls the end does not come.
func (c *Calls) AtEnd(f func()) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.IsZero() {
		f()
		return
	}
	c.atEnd = append(c.atEnd, f)
}

// Answer is what was asked for.
type Answer[T any] struct {
	Value T
	Err   error
	// Took is how long the one who was asked took. What is waited beside that is for a CPU,
	// and not his doing.
	Took time.Duration
}

// Do calls ask on another goroutine and returns what it does. The error is ErrStalled if
// that takes too long; ask then must not touch anything that others use. Key is who is
// asked: a process, a file, or [Of]. What comes too late is given to late, unless that is nil.
func Do[T any](c *Calls, key any, ask func() (T, error), late func(T)) (T, error) {
	if c == nil {
		return ask()
	}
	return For(c, key, func() <-chan Answer[T] {
		answers := make(chan Answer[T], 1)
		c.Begin()
		go func() {
			began := time.Now()
			v, err := ask()
			c.Finish()
			answers <- Answer[T]{v, err, time.Since(began)}
		}()
		return answers
	}, late)
}

// For is Do for those who need no thread of this process: ask returns a channel that the
// answer will come from.
func For[T any](c *Calls, key any, ask func() <-chan Answer[T], late func(T)) (v T, err error) {
	if c == nil {
		a := <-ask()
		return a.Value, a.Err
	}
	if !c.may(key) {
		return v, ErrStalled
	}
	answers := ask()
	began := time.Now()
	a, ok := receive(c, answers)
	if ok {
		c.charge(key, a.Took)
		return a.Value, a.Err
	}
	c.charge(key, time.Since(began))
	c.owes(key, 1)
	go func() {
		a := <-answers
		c.owes(key, -1)
		if late != nil && a.Err == nil {
			late(a.Value)
		}
	}()
	return v, ErrStalled
}

// Begin notes that something is asked in another way than by Do: by a goroutine that may
// be left to itself. Finish notes that it was answered.
func (c *Calls) Begin() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
}

// Finish is explained at [Calls.Begin].
func (c *Calls) Finish() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked--
}

// Quietly calls f while nobody is asked anything, and keeps others from asking meanwhile;
// if somebody is it returns false. It is for what takes every thread of this process, as
// [syscall.AllThreadsSyscall] does: one that waits for an answer would stop all of them.
func (c *Calls) Quietly(f func()) bool {
	if c == nil {
		f()
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked > 0 {
		return false
	}
	f()
	return true
}

// may tells whether a key may be asked.
func (c *Calls) may(key any) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owing[key] == 0 && len(c.owing) < mostUnanswered && c.owned[owner(key)] < mostOfOne && c.spent[key].now() < mostSpent && (!c.past() || c.rest > 0 || c.more() > 0)
}

// past tells whether the deadline is past. The lock is held.
func (c *Calls) past() bool { return !c.deadline.IsZero() && !time.Now().Before(c.deadline) }

func (c *Calls) owes(key any, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(c.owing, key, n)
	count(c.owned, owner(key), n)
}

// count keeps in a map how many there are of a key.
func count(of map[any]int, key any, n int) {
	if of[key] += n; of[key] == 0 {
		delete(of, key)
	}
}

// charge counts what was waited for somebody.
func (c *Calls) charge(key any, took time.Duration) {
	if took < atOnce {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spent) >= mostKept {
		maps.DeleteFunc(c.spent, func(_ any, s spending) bool { return s.now() == 0 })
	}
	c.spent[key] = spending{c.spent[key].now() + took, time.Now()}
	if c.past() {
		c.rest -= min(took, time.Since(c.deadline)) // what was waited before is not of the Rest
	}
}

// Receive waits for a value as Do does for an answer, and tells whether it came.
func Receive[T any](c *Calls, from <-chan T) (T, bool) {
	if c == nil {
		return <-from, true
	}
	began := time.Now()
	v, ok := receive(c, from)
	c.charge(nil, time.Since(began))
	return v, ok
}

func receive[T any](c *Calls, from <-chan T) (v T, ok bool) {
	select {
	case v = <-from:
		return v, true
	default:
	}
	began := time.Now()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case v = <-from:
		return v, true
	case <-timer.C:
		return v, false
	case <-c.over:
	}
	c.mu.Lock()
	left := time.Until(c.deadline)
	if c.past() {
		left = c.rest
	}
	c.mu.Unlock()
	left = min(left, Patience-time.Since(began))
	for {
		timer.Reset(left)
		select {
		case v = <-from:
			return v, true
		case <-timer.C:
		}
		if left = c.longer(); left == 0 {
			return v, false
		}
	}
}

// more is how much longer may be waited, as the CPUs are busy. The lock is held.
func (c *Calls) more() time.Duration {
	return max(0, min(c.busy, c.Pressure()-c.pressed-(Busy-c.busy)))
}

// longer takes a part of that; 0 if there is none.
func (c *Calls) longer() time.Duration {
	const step = 50 * time.Millisecond
	c.mu.Lock()
	defer c.mu.Unlock()
	more := min(step, c.more())
	c.busy -= more
	return more
}

// pressure is for how long threads have waited for a CPU since the kernel's start: some, of
// all (Documentation/accounting/psi.rst). It is 0 where that is not known.
func pressure() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	_, text, _ = bytes.Cut(text, []byte("total="))
	text, _, _ = bytes.Cut(text, []byte{'\n'})
	us, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}
