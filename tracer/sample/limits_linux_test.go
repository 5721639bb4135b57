//go:build amd64 || arm64

package sample

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
	rows, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range limitsOf(fs, p) {
		if l.Measure == growth.Mappings {
			// Other tests of this process may map something meanwhile.
			if used, want := int(l.Used), len(rows); used < want-20 || used > want+20 || l.Max <= l.Used {
				t.Errorf("%s: %d of %d used, the kernel shows %d", l.Name, l.Used, l.Max, want)
			}
			return
		}
	}
	t.Error("no limit of mappings")
}
