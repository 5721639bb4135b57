package render

import (
	"testing"
	"time"

	"github.com/maptrace/maptrace/tracer/growth"
)

func TestNotesReadAsSentences(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	tests := []struct {
		measure growth.Measure
		note    growth.Note
		want    string
	}{
		{note: growth.Note{Kind: growth.Unobserved}, want: "not observed yet"},
		{note: growth.Note{Kind: growth.Grew, Size: 53 * mib, Time: 53 * time.Second}, want: "grew 53.0 MiB in 53 s"},
		{growth.Mappings, growth.Note{Kind: growth.Grew, Size: 529.7, Time: 150 * time.Second}, "grew 530 mappings in 2 min 30 s"},
		{growth.Mappings, growth.Note{Kind: growth.Grew, Size: 1, Time: time.Second}, "grew 1 mapping in 1 s"},
		{note: growth.Note{Kind: growth.Shrank, Size: mib, Time: 3 * time.Hour}, want: "shrank by 1.0 MiB in 3 h 0 min"},
		{note: growth.Note{Kind: growth.Churned}, want: "mapped 61.0 MiB in 61 pieces and unmapped 57.0 MiB, without lasting growth"},
		{note: growth.Note{Kind: growth.Wavered, Size: 96 << 10}, want: "moved within 96.0 KiB, without a trend"},
		{note: growth.Note{Kind: growth.DidNotGrow}, want: "did not grow"},
		{note: growth.Note{Kind: growth.StillAlive}, want: "77 % still alive"},
		{note: growth.Note{Kind: growth.NeverShrank}, want: "never shrank"},
		{note: growth.Note{Kind: growth.InSteps, Count: 6}, want: "in 6 steps"},
		{note: growth.Note{Kind: growth.Replaces}, want: "with mappings that take the place of smaller ones"},
		{note: growth.Note{Kind: growth.Settled}, want: "what outlives the first moments stays"},
		{note: growth.Note{Kind: growth.LessEachTime}, want: "but less each time"},
		{note: growth.Note{Kind: growth.Once, Time: 30 * time.Second}, want: "but only once, 30 s before the end"},
		{note: growth.Note{Kind: growth.OneStep}, want: "in one step"},
		{note: growth.Note{Kind: growth.FewSteps, Count: 1}, want: "but in 1 step only"},
		{note: growth.Note{Kind: growth.Stopped, Time: 2500 * time.Millisecond}, want: "but not in the last 2.5 s"},
		{note: growth.Note{Kind: growth.Late, Time: time.Minute}, want: "nearly all of it in the last 60 s"},
		{note: growth.Note{Kind: growth.Bursts}, want: "but in bursts with long pauses"},
		{note: growth.Note{Kind: growth.Slowing}, want: "but is slowing down"},
		{note: growth.Note{Kind: growth.Unsteady}, want: "but unsteadily"},
		{note: growth.Note{Kind: growth.GaveBack, Size: 2 * mib}, want: "but gave back up to 2.0 MiB"},
		{note: growth.Note{Kind: growth.Restless}, want: "but moves up and down at every turn"},
		{note: growth.Note{Kind: growth.FellBack, Count: 1, Size: 9 * mib}, want: "fell back once by up to 9.0 MiB"},
		{note: growth.Note{Kind: growth.FellBack, Count: 2, Size: 9 * mib}, want: "fell back twice by up to 9.0 MiB"},
		{note: growth.Note{Kind: growth.FellBack, Count: 5, Size: 9 * mib}, want: "fell back 5 times by up to 9.0 MiB"},
		{note: growth.Note{Kind: growth.FallsBack, Size: 2 * mib}, want: "falls back by up to 2.0 MiB all the time"},
		{note: growth.Note{Kind: growth.LowsRise}, want: "to lows that rise"},
		{note: growth.Note{Kind: growth.LowsStay}, want: "to lows that do not rise"},
		{note: growth.Note{Kind: growth.Young, Time: 15 * time.Second}, want: "but it has been there for 15 s only"},
		{note: growth.Note{Kind: growth.Bounded, Size: 3 << 20}, want: "but can by no more than 3.0 MiB further"},
		{note: growth.Note{Kind: growth.LazilyFreed, Size: 4 * mib}, want: "but up to 4.0 MiB of it were given back with MADV_FREE: the kernel takes them where memory is needed"},
		{note: growth.Note{Kind: growth.UntilCollected}, want: "but such a heap fills up to its limit before garbage is collected"},
		{note: growth.Note{Kind: growth.KernelHuge, Size: 4 * mib}, want: "4.0 MiB of it huge pages that the kernel made without a page fault (khugepaged or MADV_COLLAPSE)"},
		{note: growth.Note{Kind: growth.AsNeeded}, want: "as what was touched needs them"},
		{note: growth.Note{Kind: growth.WithMappings}, want: "but they go with the mappings that they are for"},
		{note: growth.Note{Kind: growth.AfterFork}, want: "but no more than what was shared since a fork"},
		{note: growth.Note{Kind: growth.CanBeDropped}, want: "but the kernel can drop what of it is written back"},
		{note: growth.Note{Kind: growth.CanShrink}, want: "but most of it are dentries, inodes and the like, which the kernel can drop"},
		{note: growth.Note{Kind: growth.MayShrink}, want: "and the kernel can drop it if it is dentries and inodes, which is not known"},
		{note: growth.Note{Kind: growth.Unevictable, Size: 4 * mib}, want: "of which the kernel cannot drop 4.0 MiB (locked, or on ramfs)"},
		{note: growth.Note{Kind: growth.OfFiles}, want: "but no more than what is mapped of them"},
		{note: growth.Note{Kind: growth.HasName}, want: "but it is a file with a name, and goes when that is removed"},
		{note: growth.Note{Kind: growth.Droppable}, want: "but they are pages of the file, which the kernel can drop"},
		{note: growth.Note{Kind: growth.MostUnmapped}, want: "though most of what is mapped goes again"},
		{note: growth.Note{Kind: growth.SomeUnmapped}, want: "though some of what is mapped goes again"},
		{note: growth.Note{Kind: growth.PerhapsChance}, want: "which may be chance"},
		{note: growth.Note{Kind: growth.TooShort, Count: 1}, want: "too short to tell: 1 observation after the warm-up"},
		{note: growth.Note{Kind: growth.TooShort, Count: 4}, want: "too short to tell: 4 observations after the warm-up"},
		{note: growth.Note{Kind: growth.TooShortThis}, want: "too short to tell"},
		{note: growth.Note{Kind: growth.TooShortMore}, want: "too short to tell more"},
		{note: growth.Note{Kind: growth.SwappedOut, Size: 300 * mib}, want: "300.0 MiB of it swapped out"},
		{note: growth.Note{Kind: growth.InUseLess, Size: 1.5 * mib}, want: "but 1.5 MiB more are in use: the rest is free inside malloc"},
		{note: growth.Note{Kind: growth.InUseLess, Size: -2 * mib}, want: "but no more is in use: the rest is free inside malloc"},
		{note: growth.Note{Kind: growth.Trimmable, Size: 31 * mib}, want: " (malloc_trim would give back 31.0 MiB)"},
		{note: growth.Note{Kind: growth.Trimmable, Size: mib - 1}, want: " (malloc_trim would give hardly any of it back)"},
		{note: growth.Note{Kind: growth.InsideMappings}, want: "inside mappings that stay as large"},
		{growth.Writable, growth.Note{Kind: growth.ResidentLess, Size: 96 << 10}, " (writable; resident grew only 96.0 KiB)"},
		{
			note: growth.Note{Kind: growth.Together, Count: 7, Other: 3},
			want: " (all that had no place of its own: 7 groups lost theirs, for they held nothing or memory was short; at most 3 at once held something without one)",
		},
	}
	seen := make(map[growth.NoteKind]bool)
	for _, tt := range tests {
		seen[tt.note.Kind] = true
		f := growth.Finding{
			Measure: tt.measure, Reason: []growth.Note{tt.note}, AliveShare: 0.77,
			Flow: growth.Flow{Born: 61 * mib, BornCount: 61, Died: 57 * mib},
		}
		if got := reason(&f); got != tt.want {
			t.Errorf("kind %d: got %q, want %q", tt.note.Kind, got, tt.want)
		}
	}
	for k := growth.Unobserved; k <= growth.Together; k++ {
		if !seen[k] {
			t.Errorf("kind %d is not in the table", k)
		}
	}
}

func TestNotesAreJoined(t *testing.T) {
	t.Parallel()
	f := growth.Finding{Measure: growth.Writable, AliveShare: 1, Reason: []growth.Note{
		{Kind: growth.Grew, Size: 48 << 20, Time: 47 * time.Second},
		{Kind: growth.StillAlive},
		{Kind: growth.NeverShrank},
		{Kind: growth.InSteps, Count: 6},
		{Kind: growth.ResidentLess, Size: 98304},
	}}
	const want = "grew 48.0 MiB in 47 s, 100 % still alive, never shrank, in 6 steps (writable; resident grew only 96.0 KiB)"
	if got := reason(&f); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
