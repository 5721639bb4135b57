package model

import "testing"

func TestMixedBlamesKeepWhatTheyHaveInCommon(t *testing.T) {
	t.Parallel()
	a, b := MakeStratum(7, 1, 2), MakeStratum(7, 3, 4)
	for _, tc := range []struct {
		name       string
		one, other Blame
		want       Blame
	}{
		{"the same", MakeBlame(3, a), MakeBlame(3, a), MakeBlame(3, a)},
		{"sites of one stratum", MakeBlame(3, a), MakeBlame(4, a), MakeBlame(0, a)},
		{"strata of one path", MakeBlame(3, a), MakeBlame(4, b), MakeBlame(0, a.Path())},
		{"a path and a stratum of it", MakeBlame(0, a.Path()), MakeBlame(4, b), MakeBlame(0, a.Path())},
		{"paths", MakeBlame(3, a), MakeBlame(4, MakeStratum(8, 1, 2)), MakeBlame(0, Mixed)},
		{"what was there before", 0, MakeBlame(4, a), MakeBlame(0, Mixed)},
		{"sites whose stacks were not asked for", MakeBlame(3, 0), MakeBlame(4, 0), MakeBlame(0, Mixed)},
		{"all", MakeBlame(0, Mixed), MakeBlame(0, MakeStratum(0, 0, 0)), MakeBlame(0, Mixed)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got, again := tc.one.Mix(tc.other), tc.other.Mix(tc.one); got != tc.want || again != tc.want {
				t.Errorf("got %x, and %x the other way round; want %x", got, again, tc.want)
			}
			if !tc.want.Missing() && tc.one != tc.other {
				t.Error("it passes for nobody's")
			}
		})
	}
}
