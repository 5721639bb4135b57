//go:build linux

package sample

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
	wait sync.WaitGroup
}

// workerCount is how many processes are looked at at once: more would take the CPUs of
// those who are watched.
const workerCount = 2

func startWorkers() *workers {
	w := &workers{done: make(chan struct{}, 1)}
	w.ready = sync.NewCond(&w.mu)
	for range workerCount {
		w.wait.Go(w.run)
	}
	return w
}

func (w *workers) run() {
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
		w.mu.Unlock()
		done := job()
		w.mu.Lock()
		w.out = append(w.out, done)
		w.mu.Unlock()
		select {
		case w.done <- struct{}{}:
		default:
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
// none is open any more.
func (w *workers) take(wait bool) (func(), bool) {
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
		<-w.done
	}
}

// stop ends the workers once all that was sent is done.
func (w *workers) stop() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.ready.Broadcast()
	w.wait.Wait()
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0 // it cannot fail: the clock has been there since 2.6.12
	}
	return time.Duration(ts.Nano())
}
