package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/maptrace/maptrace/testdata/heaps"
)

// TestGrowNamesNoInnocentOfAHeap watches some of the programs of testdata/heaps: whoever
// is named as keeping a heap is who keeps it. "make heaps" watches all, and counts how
// often somebody is named.
func TestGrowNamesNoInnocentOfAHeap(t *testing.T) {
	t.Parallel()
	needBPF(t)
	dir, maptrace := t.TempDir(), binary(t)
	var programs []*heaps.Built
	for _, c := range heaps.Few() {
		if err := c.Missing(t.Context()); err != nil {
			t.Logf("%s is left out: it %v", c.Name, err)
			continue
		}
		b, err := c.Build(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, b)
	}
	if len(programs) == 0 {
		t.Skip("no program can be built")
	}
	results := make([]heaps.Result, len(programs))
	var group sync.WaitGroup
	for i, b := range programs {
		group.Go(func() {
			var err error
			if results[i], err = b.Watch(t.Context(), maptrace, dir, 20*time.Second); err != nil {
				t.Errorf("%s: %v", b.Name, err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	var table strings.Builder
	if err := heaps.Print(&table, results); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	if n := heaps.Count(results).Wrong(); n > 0 {
		t.Errorf("an innocent is named in %d programs", n)
	}
}
