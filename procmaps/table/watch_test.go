package table

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

// numbers are the values of a row by key.
type numbers []uint64

func (n numbers) Value(key int) (uint64, bool) {
	if key < 0 || key >= len(n) {
		return 0, false
	}
	return n[key], true
}

// watchProcess makes a process of lines "start-end mode name rss", in pages of 4 KiB.
func watchProcess(t *testing.T, text string) *Process {
	t.Helper()
	var rows []Row
	for line := range strings.Lines(text) {
		var start, end, rss uint64
		var mode, name string
		if _, err := fmt.Sscanf(line, "%x-%x %s %s %d", &start, &end, &mode, &name, &rss); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m := procmaps.Mapping{Range: procmaps.Range{Start: start << 12, End: end << 12}, Name: strings.Trim(name, "-")}
		for i, c := range "rwxs" {
			if mode[i] == byte(c) {
				m.Mode |= 1 << i
			}
		}
		rows = append(rows, Row{Mapping: &m, Values: numbers{4 * rss, rss, 2 * rss}})
	}
	return &Process{
		Keys: []procmaps.Key{{Name: "Rss", KB: true}, {Name: "Shared_Dirty", KB: true}, {Name: "Private_Dirty", KB: true}},
		Rows: func(yield func(Row) bool) {
			for _, r := range rows {
				if !yield(r) {
					return
				}
			}
		},
	}
}

func TestWatch(t *testing.T) {
	var w Watch
	print := func(p *Process, opt Options) string {
		rows := w.Next(p)
		a := NewAligned(WatchColumns(opt))
		b := a.AppendHeader([]byte("\n"))
		for _, r := range rows {
			b = a.AppendRow(b, r)
		}
		return string(a.AppendTotals(b, "total"))
	}
	steps := []struct {
		name, maps string
		opt        Options
		want       string
	}{
		{"at first nothing has changed", "10-20 r-xp /lib/x 4\n30-40 rw-p - 2\n50-60 rw-p [heap] 1\n", Options{}, `
Address            Kbytes   Delta    Last      RSS   Delta    Last    Dirty Mode  Mapping
0000000000010000       64       -       -       16       -       -       12 r-x-- x
0000000000030000       64       -       -        8       -       -        6 rw---   [ anon ]
0000000000050000       64       -       -        4       -       -        3 rw--- [heap]
total                 192       -       -       28       -       -       21
`},
		{"growth at an end, touched pages, a new mapping", "10-20 r-xp /lib/x 4\n30-48 rw-p - 3\n50-60 rw-p [heap] 5\n70-71 rw-p - 1\n", Options{ShowPath: true}, `
Address            Kbytes   Delta    Last      RSS   Delta    Last    Dirty Mode  Mapping
0000000000010000       64       -       -       16       -       -       12 r-x-- /lib/x
0000000000030000       96     +32     +32       12      +4      +4        9 rw---   [ anon ]
0000000000050000       64       -       -       20     +16     +16       15 rw--- [heap]
0000000000070000        4      +4      +4        4      +4      +4        3 rw---   [ anon ]
total                 228     +36     +36       52     +24     +24       39
`},
		{"what goes stays as a line: since the start, or only since last time", "2f-48 rw-p - 3\n50-58 rw-p [heap] 5\n", Options{}, `
Address            Kbytes   Delta    Last      RSS   Delta    Last    Dirty Mode  Mapping
0000000000010000        0     -64     -64        0     -16     -16        0 r-x-- x (gone)
000000000002f000      100     +36      +4       12      +4       -        9 rw---   [ anon ]
0000000000050000       32     -32     -32       20     +16       -       15 rw--- [heap]
0000000000070000        0       -      -4        0       -      -4        0 rw---   [ anon ] (gone)
total                 132     -60     -96       32      +4     -20       24
`},
		{"other memory at the same place is another mapping", "30-40 r-xp /lib/x 1\n50-58 rw-p [heap] 5\n", Options{Human: true}, `
Address              Size   Delta    Last      RSS   Delta    Last    Dirty Mode  Mapping
0000000000010000       0K    -64K       -       0K    -16K       -       0K r-x-- x (gone)
000000000002f000       0K       -   -100K       0K       -    -12K       0K rw---   [ anon ] (gone)
0000000000030000      64K    +64K    +64K       4K     +4K     +4K       3K r-x-- x
0000000000030000       0K    -64K       -       0K     -8K       -       0K rw---   [ anon ] (gone)
0000000000050000      32K    -32K       -      20K    +16K       -      15K rw--- [heap]
total                 96K    -96K    -36K      24K     -4K     -8K      18K
`},
	}
	for _, s := range steps {
		if diff := cmp.Diff(print(watchProcess(t, s.maps), s.opt), s.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", s.name, diff)
		}
	}
}

// Whatever happens, the changes of the rows are the change of the sums.
func TestChangesAddUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	random := func() string {
		var b strings.Builder
		for at := uint64(1); at < 60; {
			size := 1 + rnd.Uint64N(8)
			if rnd.IntN(3) > 0 {
				fmt.Fprintf(&b, "%x-%x %s %s %d\n", at, at+size, []string{"rw-p", "r--p"}[rnd.IntN(2)],
					[]string{"-", "/a", "/b"}[rnd.IntN(3)], rnd.Uint64N(size+1))
			}
			at += size
		}
		return b.String()
	}
	sums := func(p *Process) (size, rss int64) {
		for r := range p.Rows {
			size += int64(r.Mapping.Len() / 1024)
			rss += int64(number(r, 0))
		}
		return size, rss
	}
	for range 200 {
		var w Watch
		var text []string
		var size0, rss0, size1, rss1 int64
		for step := range 6 {
			text = append(text, random())
			p := watchProcess(t, text[step])
			size, rss := sums(p)
			if step == 0 {
				size0, rss0, size1, rss1 = size, rss, size, rss
			}
			var got [4]int64
			for _, r := range w.Next(p) {
				for i, n := range [4]int64{r.SizeSinceStart, r.SizeSinceLast, r.RSSSinceStart, r.RSSSinceLast} {
					got[i] += n
				}
				if changed := r.Gone || r.SizeSinceStart|r.SizeSinceLast|r.RSSSinceStart|r.RSSSinceLast != 0; changed != r.Changed() {
					t.Fatalf("Changed() of %+v", r)
				}
			}
			if want := [4]int64{size - size0, size - size1, rss - rss0, rss - rss1}; got != want {
				t.Fatalf("changes %v, want %v, of\n%s", got, want, strings.Join(text, "\n"))
			}
			size1, rss1 = size, rss
		}
	}
}
