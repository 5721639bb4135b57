//go:build linux

package sample

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/tracer/await"
)

// workers do what takes long, beside the goroutine that runs the tracer. It never waits
// for them but when it asks to.
type workers struct {
	mu    sync.Mutex
	ready *sync.Cond
	jobs  []func() func()
	over  bool

	done chan struct{} // something was done
	out  []func()
	open int // jobs that were sent and not taken back
	at   map[int]*busyWorker
	made int // how many workers were, to number them
}

// busyWorker is one at a job.
type busyWorker struct {
	since    time.Time
	relieved bool // another has taken its place, so it ends after it
}

// workerCount is how many processes are looked at at once: more would take the CPUs of
// those who are watched.
const workerCount = 2

// A job that takes longer than stalledJob may wait for a lock that its process holds:
// another worker takes the place of the one that is at it, up to mostWorkers.
const (
	stalledJob  = time.Second
	mostWorkers = 64
)

func startWorkers() *workers {
	w := &workers{done: make(chan struct{}, 1), at: make(map[int]*busyWorker)}
	w.ready = sync.NewCond(&w.mu)
	for range workerCount {
		w.start()
	}
	return w
}

// start starts a worker. The lock is held, or nobody else is there yet.
func (w *workers) start() {
	w.made++
	go w.run(w.made)
}

// relieve puts others in the place of workers that have been at one job for long.
func (w *workers) relieve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	relieved := 0 // beside them there are workerCount
	for _, b := range w.at {
		if b.relieved {
			relieved++
		}
	}
	for _, b := range w.at {
		if !b.relieved && time.Since(b.since) > stalledJob && relieved < mostWorkers-workerCount {
			b.relieved = true
			relieved++
			w.start()
		}
	}
}

func (w *workers) run(number int) {
	// The time of this thread is what counts: on a busy machine it waits for others
	// most of the time.
	runtime.LockOSThread()
	for {
		w.mu.Lock()
		for len(w.jobs) == 0 && !w.over {
			w.ready.Wait()
		}
		if len(w.jobs) == 0 {
			w.mu.Unlock()
			return
		}
		job := w.jobs[0]
		w.jobs = w.jobs[1:]
		b := &busyWorker{since: time.Now()}
		w.at[number] = b
		w.mu.Unlock()
		done := job()
		w.mu.Lock()
		delete(w.at, number)
		w.out = append(w.out, done)
		relieved := b.relieved
		w.mu.Unlock()
		select {
		case w.done <- struct{}{}:
		default:
		}
		if relieved {
			return
		}
	}
}

// send has a job done. What it returns is for the one who takes it.
func (w *workers) send(job func() func()) {
	w.mu.Lock()
	w.jobs = append(w.jobs, job)
	w.open++
	w.mu.Unlock()
	w.ready.Signal()
}

// take returns what one job has left to do, false if none is done, or, with wait, if
// none is open any more or they take too long.
func (w *workers) take(wait bool, calls *await.Calls) (func(), bool) {
	for {
		w.mu.Lock()
		if len(w.out) > 0 {
			done := w.out[0]
			w.out = w.out[1:]
			w.open--
			w.mu.Unlock()
			return done, true
		}
		open := w.open
		w.mu.Unlock()
		if !wait || open == 0 {
			return nil, false
		}
		if _, ok := await.Receive(calls, w.done); !ok {
			return nil, false
		}
	}
}

// stop ends the workers once all that was sent is done, which it does not wait for: see
// take.
func (w *workers) stop() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.ready.Broadcast()
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0 // it cannot fail: the clock has been there since 2.6.12
	}
	return time.Duration(ts.Nano())
}
