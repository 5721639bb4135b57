//go:build linux && (amd64 || arm64)

package sample

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/maptrace/maptrace/tracer/await"
)

// As many processes as there are workers hold their locks for ever.
func TestAJobThatIsStuckKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, release, counted := startWorkers(), make(chan struct{}), 0
		stuck := func() func() { <-release; return func() {} }
		count := func() func() { return func() { counted++ } }
		for range workerCount {
			w.send(stuck)
		}
		look := func() {
			w.relieve()
			synctest.Wait()
			for done, ok := w.take(false, nil); ok; done, ok = w.take(false, nil) {
				done()
			}
		}
		w.send(count)
		time.Sleep(stalledJob)
		if look(); counted != 0 {
			t.Error("a job was done before it is clear that the others are stuck")
		}
		time.Sleep(time.Millisecond)
		if look(); counted != 1 {
			t.Errorf("%d jobs were done, want the one that is not stuck", counted)
		}
		for range 3 * mostWorkers {
			w.send(stuck)
			time.Sleep(stalledJob + time.Millisecond)
			look()
		}
		if len(w.at) != mostWorkers {
			t.Errorf("%d workers are stuck, want at most %d", len(w.at), mostWorkers)
		}
		if _, ok := w.take(true, await.New()); ok {
			t.Error("a stuck job is done")
		}
		w.stop()
		close(release)
		synctest.Wait()
		for _, ok := w.take(true, nil); ok; _, ok = w.take(true, nil) {
		}
		if len(w.at) != 0 || w.open != 0 {
			t.Errorf("%d jobs are open and %d workers at them after the end", w.open, len(w.at))
		}
	})
}
