// Goheaps is a Go program as heaps.h says.
//
//	goheaps registry|calm SECONDS BYTES_PER_SECOND
//
// Eight goroutines serve. "registry": registerUser keeps one of ten small records that it
// makes. "calm": nobody keeps anything. The innocents: encodePage makes garbage, cachePut
// replaces the oldest of 2,000 records, fillBatch fills a slice that is dropped when it is
// long, and newRecord makes the records of all.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	workers = 8
	times   = 50
	most    = 1 << 30 / workers
)

type record struct {
	next *record
	id   int
	body [96]byte
}

// worker is what one goroutine has.
type worker struct {
	users *record
	cache [2000]*record
	batch []*record
}

//go:noinline
func newRecord(id int) *record {
	r := &record{id: id}
	for i := range r.body {
		r.body[i] = byte(id)
	}
	return r
}

//go:noinline
func (w *worker) registerUser(n int) int {
	r := newRecord(n)
	if n%10 != 0 {
		return 0
	}
	r.next = w.users
	w.users = r
	return 112
}

//go:noinline
func (w *worker) cachePut(n int) int {
	w.cache[n%len(w.cache)] = newRecord(n)
	return 112
}

//go:noinline
func (w *worker) fillBatch(n int) int {
	if len(w.batch) == 500 {
		w.batch = nil
	}
	w.batch = append(w.batch, newRecord(n))
	return 112 + 16
}

//go:noinline
func (w *worker) encodePage(n int) (int, error) {
	items := make(map[string]int)
	for i := range 10 {
		items["item "+strconv.Itoa(n+i)] = n * i
	}
	text, err := json.Marshal(items)
	return 1500 + 2*len(text), err
}

// request is what an innocent allocates.
func (w *worker) request(n int) (int, error) {
	done, err := w.encodePage(n)
	for i := range 4 {
		done += w.cachePut(4*n+i) + w.fillBatch(n)
	}
	return done, err
}

func (w *worker) serve(leak bool, seconds, rate float64) error {
	began := time.Now()
	last := began
	var keepDue, churnDue float64
	for kept, requests, made := 0, 0, 0; time.Since(began).Seconds() < seconds; time.Sleep(10 * time.Millisecond) {
		t := time.Now()
		// What was not done in time is made up for at most 100 ms.
		passed := min(t.Sub(last).Seconds(), 0.1)
		last = t
		if leak && kept < most {
			keepDue += passed * rate
		}
		churnDue += passed * rate * times
		for keepDue > 0 || churnDue > 0 {
			if churnDue > 0 {
				n, err := w.request(requests)
				if err != nil {
					return err
				}
				churnDue -= float64(n)
				requests++
			}
			if keepDue > 0 && keepDue*times >= churnDue {
				n := w.registerUser(made)
				keepDue -= float64(n)
				kept += n
				made++
			}
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "goheaps:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string) error {
	if len(args) != 3 || args[0] != "registry" && args[0] != "calm" {
		return errors.New("usage: goheaps registry|calm SECONDS BYTES_PER_SECOND")
	}
	seconds, err1 := strconv.ParseFloat(args[1], 64)
	rate, err2 := strconv.ParseFloat(args[2], 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	all := make([]worker, workers)
	for i := range all {
		for n := range all[i].cache {
			all[i].cachePut(n)
		}
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	errs := make([]error, workers)
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() { errs[i] = all[i].serve(args[0] == "registry", seconds, rate/workers) })
	}
	group.Wait()
	return errors.Join(errs...)
}
