// Package quota bounds what is read from those who are traced, and the CPU time that it
// takes to make sense of it.
//
// What has the names of code and of containers was written by somebody else. Each reader
// has limits of its own on what one file may claim, but there may be any number of files,
// written anew at any time. So whoever is read from has an account, and every reader asks
// it before it reads: for bytes that are read, decompressed or added up, and on the way
// for the time since. An account that has nothing left pays for nothing more, and what was
// not read has no name: that is an error that says which budget is used up.
//
// All accounts of a run draw on one pool, too. The second half of it is only for those
// that have had no more of that half than an equal part, so many who take all they can get
// do not leave others without names.
//
// What was used comes back evenly, all of it in [Again]. A run may last for months, and
// programs are started and load libraries all the time: with that a hostile process costs
// no more than Time/Again of one CPU after its first Time, and all together no more than
// that of the pool.
//
// Time is that of the thread's CPU, and not the clock's: on a busy machine nobody loses
// names because others run. Time that a read waits for is not counted. It is at the end of
// the run: somebody waits for that, so from then on all accounts together pay for little
// more, also by the clock (see [Run.End]).
package quota

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/maptrace/maptrace/procmaps/units"
)

// ErrSpent is matched by the error about an account that pays for nothing more.
var ErrSpent = errors.New("the budget is used up")

// Again is how long it takes for all that was used to come back.
const Again = 10 * time.Minute

// Limits of an account, or of the pool.
type Limits struct {
	Bytes int64
	Time  time.Duration // of CPU
}

// Run is the pool of one run, with its accounts. It is safe for concurrent use.
type Run struct {
	each Limits
	wall func() time.Duration // since any moment
	cpu  func() time.Duration // used by this thread

	mu       sync.Mutex
	pool     balance
	accounts map[int]*Account
	rest     *Account // of those for whom there is no room

	ended *ending // nil until End is called
}

// ending is what is left once the end of the run has come.
type ending struct {
	at   time.Duration // on the wall's clock
	most time.Duration
	left spell
}

// over reports whether nothing is left. Nil is before the end.
func (e *ending) over() bool { return e != nil && (e.left.cpu == 0 || e.left.wall == 0) }

// maxAccounts is how many have an account of their own.
const maxAccounts = 1 << 14

// balance is what is left of some limits.
type balance struct {
	limit Limits
	left  Limits
	at    time.Duration // when something last came back
}

// New returns a run in which each account has up to each, and all together up to all.
func New(each, all Limits) *Run {
	start := time.Now()
	r := &Run{
		each: each, wall: func() time.Duration { return time.Since(start) }, cpu: threadTime,
		pool: balance{limit: all, left: all}, accounts: make(map[int]*Account),
	}
	r.rest = r.open("the others")
	return r
}

func (r *Run) open(name string) *Account {
	return &Account{run: r, name: name, balance: balance{limit: r.each, left: r.each, at: r.wall()}}
}

// endWaits is how many times longer work may take by the clock than its CPU time once the
// end has come: others run, too, and reads wait.
const endWaits = 4

// End says that the end of the run has come: from now on all accounts together pay for so
// much CPU time, and for [endWaits] times as much by the clock, also for what is under way.
// Only the first call counts.
func (r *Run) End(most time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.ended = &ending{at: r.wall(), most: most, left: spell{most, endWaits * most}}
	}
}

// Of returns the account of a process, or of a user: whoever has that number. What names
// its kind is for messages. Of a nil run it is nil.
func (r *Run) Of(kind string, id int) *Account {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.accounts[id]; a != nil {
		return a
	}
	if len(r.accounts) >= maxAccounts {
		now := r.wall()
		for id, a := range r.accounts {
			if a.refill(now); a.left == a.limit {
				delete(r.accounts, id) // a new one would have the same
			}
		}
		if len(r.accounts) >= maxAccounts {
			return r.rest
		}
	}
	a := r.open(fmt.Sprintf("%s %d", kind, id))
	r.accounts[id] = a
	return a
}

// refill gives back what is due. The lock is held.
func (b *balance) refill(now time.Duration) {
	const often = Again / 10_000 // less is lost in rounding
	since := now - b.at
	if since < often {
		return
	}
	b.at = now
	share := min(1, float64(since)/float64(Again))
	b.left.Bytes = min(b.limit.Bytes, b.left.Bytes+int64(share*float64(b.limit.Bytes)))
	b.left.Time = min(b.limit.Time, b.left.Time+time.Duration(share*float64(b.limit.Time)))
}

// Account is what may still be read from one process, or user. Nil is one that pays for
// everything. It is safe for concurrent use.
type Account struct {
	run  *Run
	name string
	balance
}

// Ample reports whether half of everything is left, and the run is not over.
func (a *Account) Ample() bool {
	if a == nil {
		return true
	}
	a.run.mu.Lock()
	defer a.run.mu.Unlock()
	a.refill(a.run.wall())
	if a.run.ended.over() {
		return false
	}
	return a.left.Bytes >= a.limit.Bytes/2 && a.left.Time >= a.limit.Time/2
}

// spell is how long a piece of work took.
type spell struct {
	cpu  time.Duration
	wall time.Duration // by the clock
}

// charge takes so many bytes and so much time, or nothing of the bytes and an error. The
// time has passed already.
func (a *Account) charge(bytes int64, used spell) error {
	r := a.run
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.wall()
	a.refill(now)
	r.pool.refill(now)
	a.left.Time = max(0, a.left.Time-used.cpu)
	r.pool.left.Time = max(0, r.pool.left.Time-used.cpu)
	if e := r.ended; e != nil {
		wall := min(used.wall, now-e.at) // since then
		e.left.cpu = max(0, e.left.cpu-min(used.cpu, wall))
		e.left.wall = max(0, e.left.wall-wall)
	}
	half := Limits{r.pool.limit.Bytes / 2, r.pool.limit.Time / 2}
	n := int64(len(r.accounts) + 1)
	switch {
	case r.ended.over() && r.ended.left.cpu == 0:
		return fmt.Errorf("%w: %v of CPU time after the end of the run", ErrSpent, r.ended.most)
	case r.ended.over():
		return fmt.Errorf("%w: %v after the end of the run", ErrSpent, endWaits*r.ended.most)
	case a.left.Time == 0:
		return fmt.Errorf("%w: %v of CPU time for %s", ErrSpent, a.limit.Time, a.name)
	case bytes > a.left.Bytes:
		return fmt.Errorf("%w: %s for %s", ErrSpent, units.Bytes(float64(a.limit.Bytes)), a.name)
	case r.pool.left.Time < half.Time && (r.pool.left.Time == 0 || a.limit.Time-a.left.Time > half.Time/time.Duration(n)):
		return fmt.Errorf("%w: %v of CPU time for all", ErrSpent, r.pool.limit.Time)
	case r.pool.left.Bytes-bytes < half.Bytes && (bytes > r.pool.left.Bytes || a.limit.Bytes-a.left.Bytes+bytes > half.Bytes/n):
		return fmt.Errorf("%w: %s for all", ErrSpent, units.Bytes(float64(r.pool.limit.Bytes)))
	}
	a.left.Bytes -= bytes
	r.pool.left.Bytes -= bytes
	return nil
}

// Op is a piece of work at the expense of an account, on one goroutine, which stays on its
// thread from the first payment to the end.
type Op struct {
	account *Account
	running bool
	seen    spell         // on both clocks, when it was last paid
	total   time.Duration // of CPU time, for this
	steps   uint
}

// Start begins a piece of work. Until something is paid it costs nothing.
func (a *Account) Start() Op { return Op{account: a} }

// What is read in pieces smaller than this is not worth a look at the clock each time.
const (
	smallRead  = 4 << 10
	smallReads = 16
	smallSteps = 1 << 10
)

// Take pays for so many bytes before they are read, and for the time so far.
func (o *Op) Take(bytes int64) error {
	if o.account == nil {
		return nil
	}
	o.steps += smallSteps / smallReads
	if o.running && bytes < smallRead && o.steps < smallSteps {
		return o.account.charge(bytes, spell{})
	}
	return o.account.charge(bytes, o.used())
}

// Steps pays for the time so far, after every so many steps of a loop in which nothing is
// read.
func (o *Op) Steps(n int) error {
	if o.steps += uint(n); o.steps < smallSteps || o.account == nil {
		return nil
	}
	return o.account.charge(0, o.used())
}

// used is the time since it was last asked for.
func (o *Op) used() spell {
	o.steps = 0
	r := o.account.run
	if !o.running {
		o.running = true
		runtime.LockOSThread()
		o.seen = spell{r.cpu(), r.wall()}
		return spell{}
	}
	now := spell{r.cpu(), r.wall()}
	used := spell{now.cpu - o.seen.cpu, now.wall - o.seen.wall}
	o.seen = now
	o.total += used.cpu
	return used
}

// Used is how much CPU time was paid so far.
func (o *Op) Used() time.Duration { return o.total }

// End pays for the rest of the time.
func (o *Op) End() {
	if !o.running {
		return
	}
	_ = o.account.charge(0, o.used()) // there is nothing left to refuse
	o.running = false
	runtime.UnlockOSThread()
}
