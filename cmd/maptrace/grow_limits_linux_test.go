package main

import (
	"os"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
)

func TestTheMappingsThereAreCountAgainstTheirLimit(t *testing.T) {
	t.Parallel()
	fs := procmaps.Default()
	p, err := fs.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, l := range limitsOf(fs, p, 1234) {
		if l.Measure == growth.Mappings {
			if l.Used != 1234 || l.Max <= 1234 {
				t.Errorf("%s: %d of %d used, want 1234", l.Name, l.Used, l.Max)
			}
			return
		}
	}
	t.Error("no limit of mappings")
}
