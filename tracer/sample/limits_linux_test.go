//go:build amd64 || arm64

package sample

import (
	"os"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/growth"
)

func TestWhatAProcessCanAddress(t *testing.T) {
	t.Parallel()
	for end, want := range map[uint64]uint64{0x7ffffffff000: 1 << 47, 1 << 47: 1 << 47, 0xffffe0000000: 1 << 48, 0xffffe000: 1 << 32, 0: 1} {
		if got := addressSpace(end); got != want {
			t.Errorf("up to %#x: %#x, want %#x", end, got, want)
		}
	}
	p, err := procmaps.Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, l := range limitsOf(procmaps.Default(), p) {
		if l.Name == growth.AddressSpace {
			if l.Used == 0 || l.Used >= l.Max || l.Max < 1<<38 || l.Max > 1<<57 {
				t.Errorf("%#x of %#x used", l.Used, l.Max)
			}
			return
		}
	}
	t.Error("no end of what it can address")
}

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
