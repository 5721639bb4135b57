package attribution

import (
	"testing"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/space"
)

func TestProgramsOf32BitsAreKnownByTheirAddresses(t *testing.T) {
	t.Parallel()
	region := func(end uint64, kind procmaps.Kind) space.Region {
		return space.Region{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: end - page, End: end}}, Kind: kind}
	}
	for name, tt := range map[string]struct {
		regions []space.Region
		want    bool
	}{
		"nothing":              {nil, false},
		"32 bits":              {[]space.Region{region(0x8049000, procmaps.KindFile), region(0x100000000, procmaps.KindStack)}, true},
		"64 bits":              {[]space.Region{region(0x401000, procmaps.KindFile), region(0x7fff00000000, procmaps.KindStack)}, false},
		"the kernel's is high": {[]space.Region{region(0x8049000, procmaps.KindFile), region(0xffffffffff601000, procmaps.KindSpecial)}, true},
		"the kernel's alone":   {[]space.Region{region(0x8049000, procmaps.KindSpecial)}, false},
	} {
		if got := narrow(tt.regions); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
