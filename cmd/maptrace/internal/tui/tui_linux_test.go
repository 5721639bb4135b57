package tui

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/vt"
	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the goldens anew")

// screen is a terminal that is emulated, with what was written to it.
type screen struct {
	*vt.Emulator
	raw bytes.Buffer
}

// Write implements io.Writer, as a terminal in its usual mode does: a newline goes to the
// first column as well.
func (s *screen) Write(p []byte) (int, error) {
	s.raw.Write(p)
	_, err := s.Emulator.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")))
	return len(p), err
}

func newScreen(t *testing.T, size Size) *screen {
	t.Helper()
	s := &screen{Emulator: vt.NewEmulator(size.Width, size.Height)}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// on returns a terminal that draws on a screen, where a test says so.
func on(t *testing.T, s *screen, o Options) *Terminal {
	t.Helper()
	o.Size = func() Size { return Size{s.Width(), s.Height()} }
	o.Kind = cmp.Or(o.Kind, "xterm-256color")
	term := still(s, o)
	t.Cleanup(term.Close)
	return term
}

// show is Show that waits, in a bubble.
func (t *Terminal) show(v View) {
	t.view.Store(&v)
	t.draw()
	time.Sleep(time.Second)
	synctest.Wait()
}

// visible is what is seen.
func (s *screen) visible() string {
	var b strings.Builder
	for y := range s.Height() {
		b.WriteString(row(s.Width(), func(x int) (string, int) {
			c := s.CellAt(x, y)
			return c.Content, c.Width
		}))
	}
	return b.String()
}

// scrolled is what has scrolled away.
func (s *screen) scrolled() string {
	var b strings.Builder
	for y := range s.ScrollbackLen() {
		b.WriteString(row(s.Width(), func(x int) (string, int) {
			c := s.ScrollbackCellAt(x, y)
			if c == nil { // the line is shorter
				return " ", 1
			}
			return c.Content, c.Width
		}))
	}
	return b.String()
}

// row is a line of so many cells, each with its text and its width; that of the second of a
// wide character is 0.
func row(columns int, at func(x int) (string, int)) string {
	var b strings.Builder
	for x := range columns {
		if text, width := at(x); width > 0 {
			b.WriteString(text)
		}
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}

// ramp are sizes that grow from one look to the next.
func ramp(from, to float64, n int) (out []float64) {
	for i := range n {
		out = append(out, from+(to-from)*float64(i)/float64(n-1))
	}
	return out
}

const mib = 1 << 20

// growing is grow of one process whose heap grows.
func growing() *Grow {
	return &Grow{
		Head:     Head{Command: "maptrace grow", About: "4711 server", Time: "12 s of 1 min at most", Foot: "^C for the answer so far"},
		Sentence: "GROWS [heap] +15.0 MiB/min; who keeps it is not known yet", Style: Warn,
		Account: []Class{
			{"anonymous", 12 * mib, 4 * mib, ramp(8*mib, 12*mib, 16)},
			{"files", 3250586, 0, ramp(3250586, 3250586, 16)},
			{"page tables", 200 << 10, 0, ramp(200<<10, 200<<10, 16)},
		},
		Findings: []Finding{
			{"grows", Warn, "+4.0 MiB", "+15.0 MiB", "9.0 MiB", "0 B", "12.0 MiB", "-", ramp(8*mib, 12*mib, 16), LeastMove, "[heap]"},
			{"plateau", Plain, "+512.0 KiB", "0 B", "1.5 MiB", "0 B", "2.0 MiB", "-", append(ramp(mib, 1.5*mib, 8), ramp(1.5*mib, 1.5*mib, 8)...), LeastMove, "cache.db"},
		},
	}
}

// leaking is grow of many processes, with names that nobody would choose.
func leaking() *Grow {
	g := growing()
	g.About, g.Style = "42 processes", Bad
	g.Sentence = `4711 server: LEAK [heap] +45.0 MiB/min, kept by store::unordered_map<…>::operator[] (/srv/build/src/store/session_table.cc:1182), 97 % of it; memory.max in 3 h`
	g.Findings[0].Verdict, g.Findings[0].Style = "leaks", Bad
	g.Findings[0].What = "[heap] kept by store::unordered_map<…>::operator[] (session_table.cc:1182)"
	for i := range 41 {
		p := Process{Name: fmt.Sprintf("%d worker", 4712+i), Finding: Finding{Verdict: "steady", PerMinute: "-"}}
		if i == 0 {
			p = Process{Name: "4712 名前\x1b[2J", Finding: Finding{Verdict: "grows", Style: Warn, PerMinute: "+1.2 MiB", What: "[ anon ]\r\n at \x9b2J"}}
		}
		g.Others = append(g.Others, p)
	}
	return g
}

// tabular are tables with totals.
func tabular() *Tables {
	t := &Tables{Head: Head{Command: "maptrace pmap", About: "4711", Time: "every 2s", Foot: "^C to end"}, Keep: 2}
	t.Rows = []string{"4711:   ./server --port 80", "14:00:02, 2.0 s since the start", "Address              Kbytes     +Kb     Rss    +Rss Mode  Mapping"}
	for i := range 60 {
		t.Rows = append(t.Rows, fmt.Sprintf("%016x %8d %7s %7d %7s rw--- [ anon ]", 0x7f0000000000+i<<20, 132+i, "-", 100+i, "-"))
	}
	t.Rows = append(t.Rows, "---------------- ------- ------- ------- -------", "total               9690       -    7770       -")
	return t
}

// The drawings of the whole, which stand beside those of the answer, are two of these.
func TestScreens(t *testing.T) {
	t.Parallel()
	drawn := filepath.Join("..", "render", "testdata", "screens")
	for _, v := range []struct {
		name string
		view View
	}{
		{"live-grow", growing()},
		{"live-grow-many", leaking()},
		{"live-tables", tabular()},
	} {
		for _, size := range []Size{{80, 24}, {120, 40}, {40, 24}} {
			for _, ascii := range []bool{false, true} {
				name := fmt.Sprintf("%s.%dx%d.txt", v.name, size.Width, size.Height)
				if ascii {
					name = "ascii-" + name
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						s := newScreen(t, size)
						on(t, s, Options{Color: true, ASCII: ascii}).show(v.view)
						got := s.visible()
						if n := strings.Count(got, "\n"); n != size.Height {
							t.Errorf("%d lines", n)
						}
						if ascii && strings.ContainsFunc(s.raw.String(), func(r rune) bool { return r >= 0x80 }) {
							t.Error("not all of it is ASCII")
						}
						path := filepath.Join("testdata", name)
						if v.name == "live-grow" && !ascii && size.Width >= 80 {
							path = filepath.Join(drawn, name)
						}
						if *update {
							if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
								t.Fatal(err)
							}
						}
						want, err := os.ReadFile(path)
						if err != nil {
							t.Fatal(err)
						}
						if d := gocmp.Diff(string(want), got); d != "" {
							t.Errorf("-want +got:\n%s", d)
						}
					})
				})
			}
		}
	}
}

func TestWhatWasDrawnLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, Size{80, 24})
		for i := range 30 {
			fmt.Fprintf(s, "before %d\n", i)
		}
		term := on(t, s, Options{})
		for range 3 {
			term.show(growing())
		}
		fmt.Fprintln(term, "a message")
		term.show(growing())
		if strings.Contains(s.visible(), "message") {
			t.Errorf("a message is in the screen:\n%s", s.visible())
		}
		term.Close()
		fmt.Fprintln(term, "the answer")
		term.Show(growing()) // which it does not any more
		all := strings.Join(strings.Fields(s.scrolled()+s.visible()), " ")
		want := ""
		for i := range 30 {
			want += fmt.Sprintf("before %d ", i)
		}
		if want += "a message the answer"; all != want {
			t.Errorf("there is\n%s\nwant\n%s", all, want)
		}
	})
}

func TestAScreenHasTheSizeOfTheTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, Size{80, 24})
		term := on(t, s, Options{})
		for _, size := range []Size{{80, 24}, {120, 40}, {40, 24}, {100, 10}, {80, 24}} {
			s.Resize(size.Width, size.Height)
			term.show(growing())
			fresh := newScreen(t, size)
			on(t, fresh, Options{}).show(growing())
			if d := gocmp.Diff(fresh.visible(), s.visible()); d != "" {
				t.Errorf("%v (-want +got):\n%s", size, d)
			}
		}
		s.Resize(10, 4)
		term.show(growing())
		if got := s.visible(); strings.TrimSpace(got) != "" {
			t.Errorf("there is no room, and it drew\n%s", got)
		}
	})
}

// sequences are all that steer the terminal: moves of the cursor, and it hidden for as long;
// what is erased from there on; styles.
var sequences = regexp.MustCompile(`\x1b[78]|\x1b\[(\d*[ABCX]|[JK]|\?25[hl]|(2|31|33)?m)|\r|\n`)

func TestNoByteOfATargetSteersTheTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hostile := "x\x1b[2J\x9b2J\r\n\t\x07\x00\xff\u202e\u200f\x7f"
		views := map[string]View{
			"grow": &Grow{
				Head: Head{Command: hostile, About: hostile, Time: hostile, Foot: hostile}, Sentence: strings.Repeat(hostile+" ", 9),
				Account:  []Class{{Name: hostile}},
				Findings: []Finding{{hostile, Bad, hostile, hostile, hostile, hostile, hostile, hostile, nil, 0, hostile}},
				Others:   []Process{{hostile, Finding{Verdict: hostile, What: hostile}}},
			},
			"tables": &Tables{Rows: []string{hostile, hostile}},
			"status": &Status{Text: hostile, Foot: hostile},
		}
		for name, v := range views {
			for _, o := range []Options{{}, {Color: true}, {ASCII: true}, {Kind: "vt100"}, {Kind: "linux", Color: true}} {
				s := newScreen(t, Size{300, 60})
				on(t, s, o).show(v)
				rest := sequences.ReplaceAllString(s.raw.String(), "")
				for _, r := range rest {
					if r < ' ' || r == 0x7f || r >= 0x80 && !strings.ContainsRune("…·"+sparkBlocks, r) {
						t.Errorf("%s writes %q: %q", name, r, rest)
						break
					}
				}
				if name != "status" && !strings.Contains(rest, `x\x1b[2J\x9b2J`) {
					t.Errorf("%s does not say what was there: %q", name, rest)
				}
			}
		}
	})
}

func TestColorsAreForWhatTheyMean(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			view      View
			red, warn bool
		}{{growing(), false, true}, {leaking(), true, true}, {tabular(), false, false}} {
			s := newScreen(t, Size{80, 24})
			on(t, s, Options{Color: true}).show(tt.view)
			if red, warn := strings.Contains(s.raw.String(), "\x1b[31m"), strings.Contains(s.raw.String(), "\x1b[33m"); red != tt.red || warn != tt.warn {
				t.Errorf("red %v, want %v; yellow %v, want %v", red, tt.red, warn, tt.warn)
			}
			s = newScreen(t, Size{80, 24})
			on(t, s, Options{}).show(tt.view)
			if strings.Contains(s.raw.String(), "m") && regexp.MustCompile(`\x1b\[[\d;]*m`).MatchString(s.raw.String()) {
				t.Error("there are colors where none are wanted")
			}
		}
	})
}

func TestLinesScrollAboveAStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, Size{80, 5})
		term := on(t, s, Options{})
		status := &Status{Text: "4711 server, 12 s: 0 lines", Foot: "^C for the tables"}
		var want strings.Builder
		for i := range 50 {
			term.show(status)
			if got := s.visible(); !strings.Contains(got, "0 lines; ^C for the tables\n") {
				t.Fatalf("there is no status:\n%s", got)
			}
			fmt.Fprintf(term, "line %d\n", i)
			fmt.Fprintf(&want, "line %d\n", i)
		}
		fmt.Fprint(term, "half of")
		term.show(status) // which would be amid a line
		fmt.Fprint(term, " a line\n")
		want.WriteString("half of a line\n")
		term.show(status)
		term.Hide()
		term.Close()
		if got := strings.TrimRight(s.scrolled()+s.visible(), "\n") + "\n"; got != want.String() {
			t.Errorf("-want +got:\n%s", gocmp.Diff(want.String(), got))
		}
	})
}

func TestAStatusAndAScreenTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, Size{80, 24})
		fmt.Fprintln(s, "before")
		term := on(t, s, Options{})
		for range 3 {
			term.show(&Status{Text: "attaching"})
			if got := strings.TrimSpace(s.visible()); !strings.HasSuffix(got, "attaching") || strings.Contains(got, "grow") {
				t.Errorf("a status, and nothing of a screen, is not seen:\n%s", got)
			}
			term.show(growing())
			if got := s.visible(); !strings.HasPrefix(got, "maptrace grow") || strings.Contains(got, "attaching") {
				t.Errorf("a screen, and nothing of a status, is not seen:\n%s", got)
			}
		}
		term.Close()
		if got := strings.TrimRight(s.scrolled()+s.visible(), "\n"); got != "before" {
			t.Errorf("there is left: %q", got)
		}
	})
}

func TestAStatusFitsItsLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		status := &Status{Text: strings.Repeat("much to say ", 20), Foot: "^C for the answer so far"}
		for size, want := range map[Size]string{
			{80, 24}: "much to say much to say much to say much to say much…; ^C for the answer so far\n",
			{40, 24}: "much to say much to say much to say mu…\n",
		} {
			s := newScreen(t, size)
			on(t, s, Options{}).show(status)
			if got, _, _ := strings.Cut(s.visible(), "\n"); got+"\n" != want {
				t.Errorf("%v: %q, want %q", size, got, want)
			}
		}
	})
}

func TestAJobInTheBackgroundDoesNotDraw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, Size{80, 24})
		front := false
		term := on(t, s, Options{Foreground: func() bool { return front }})
		term.show(growing())
		if s.raw.Len() > 0 {
			t.Errorf("it drew %q", s.raw.String())
		}
		front = true
		if term.show(growing()); s.raw.Len() == 0 {
			t.Error("it drew nothing when it came to the foreground")
		}
	})
}

// gone is a terminal that is not there any more.
type gone struct{ writes int }

func (g *gone) Write([]byte) (int, error) {
	g.writes++
	return 0, errors.New("input/output error")
}

func TestATerminalThatIsGoneIsDrawnOnNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := new(gone)
		term := still(w, Options{Size: func() Size { return Size{80, 24} }})
		for range 3 {
			term.show(growing())
		}
		term.Close()
		if w.writes != 1 {
			t.Errorf("it was written to %d times", w.writes)
		}
		if _, err := fmt.Fprintln(term, "the answer"); err == nil {
			t.Error("whoever prints the answer is not told")
		}
	})
}

// stuck is a terminal that takes nothing until it is told to (^S, ^Q).
type stuck struct {
	*screen
	asked, goOn chan struct{}
	once        sync.Once
}

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.asked) })
	<-s.goOn
	return s.screen.Write(p)
}

func TestWhoHasSomethingToShowDoesNotWaitForTheTerminal(t *testing.T) {
	t.Parallel()
	s := &stuck{screen: newScreen(t, Size{80, 24}), asked: make(chan struct{}), goOn: make(chan struct{})}
	term := New(s, Options{Kind: "xterm", Size: func() Size { return Size{80, 24} }})
	term.Show(growing())
	<-s.asked
	for range 100 {
		term.Show(leaking())
	}
	close(s.goOn)
	fmt.Fprintln(term, "a line")
	term.Close()
	fmt.Fprintln(term, "the answer")
	if got := strings.TrimRight(s.scrolled()+s.visible(), "\n"); got != "a line\nthe answer" {
		t.Errorf("there is\n%s", got)
	}
}

func TestManyMayUseATerminal(t *testing.T) {
	t.Parallel()
	var w lines
	term := New(&w, Options{Size: func() Size { return Size{80, 24} }})
	var all sync.WaitGroup
	const writers, each = 4, 200
	for range writers {
		all.Go(func() {
			for i := range each {
				term.Show(&Status{Text: "status"})
				fmt.Fprintln(term, "line")
				if i%50 == 0 {
					term.Hide()
				}
			}
		})
	}
	all.Wait()
	all.Go(term.Close)
	all.Go(term.Close)
	all.Wait()
	if n := strings.Count(w.String(), "line\n"); n != writers*each {
		t.Errorf("%d lines of %d", n, writers*each)
	}
	var none *Terminal
	none.Show(growing())
	none.Hide()
	none.Close()
}

// lines is a buffer; the terminal is who writes to it, one at a time.
type lines struct{ bytes.Buffer }

func TestTrends(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		values      []float64
		columns     int
		want, ascii string
	}{
		{"none", nil, 8, "", ""},
		{"what grows", ramp(0, 80*mib, 8), 8, "▁▂▃▄▅▆▇█", "_.-=+*#@"},
		{"what does not move", ramp(5*mib, 5*mib, 4), 8, "····", "...."},
		{"what hardly moves", ramp(100*mib, 100.3*mib, 4), 8, "····", "...."},
		{"what moves little", ramp(16*mib, 14.7*mib, 4), 8, "▃▂▁▁", "-.__"},
		{"a peak among many", append(ramp(0, 0, 100), append([]float64{mib}, ramp(0, 0, 99)...)...), 4, "▁▁█▁", "__@_"},
	} {
		if got := trend(tt.values, tt.columns, LeastMove, false); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if got := trend(tt.values, tt.columns, LeastMove, true); got != tt.ascii {
			t.Errorf("%s in ASCII: %q, want %q", tt.name, got, tt.ascii)
		}
	}
}

func TestTextIsBrokenWhereItMayBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text         string
		room, indent int
		want         []string
	}{
		{"", 10, 0, nil},
		{"one two three", 0, 0, nil},
		{"one two three", 7, 0, []string{"one two", "three"}},
		{"one two three", 80, 0, []string{"one two three"}},
		{"one two three", 7, 3, []string{"one two", "   thre", "   e"}},
		{"one two three", 8, 8, nil},
		{"why   one two", 9, 6, []string{"why   one", "      two"}},
		{"a verylongword", 6, 0, []string{"a", "verylo", "ngword"}},
		{"a verylongword", 6, 2, []string{"a", "  very", "  long", "  word"}},
		{"名前名前 x", 4, 0, []string{"名前", "名前", "x"}},
		{"名", 1, 0, []string{"名"}},
		{"grew 260.0 KiB (+60.0 KiB); 90 % of it", 16, 2, []string{"grew 260.0 KiB", "  (+60.0 KiB);", "  90 % of it"}},
		{"a B or a s", 4, 0, []string{"a B", "or a", "s"}},
	} {
		if d := gocmp.Diff(tt.want, Wrap(tt.text, tt.room, tt.indent, true)); d != "" {
			t.Errorf("%q in %d columns (-want +got):\n%s", tt.text, tt.room, d)
		}
	}
}

func TestNamesAreNotBrokenWhereTheyMayBeLonger(t *testing.T) {
	t.Parallel()
	want := []string{"a", "  verylongword", "  b"}
	if d := gocmp.Diff(want, Wrap("a verylongword b", 6, 2, false)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("one two 名前 e\u0301", 3)
	f.Add("\u0301", 4)
	f.Add("0000    00", 4)
	f.Fuzz(func(t *testing.T, text string, room int) {
		text, room = new(Form).clean(text), min(max(room, 4), 200) // a wide character fits beside an indent
		joined := strings.Join(Wrap(text, room, 0, true), "")
		if strings.ReplaceAll(joined, " ", "") != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q became %q", text, joined)
		}
		for _, line := range append(Wrap(text, room, 0, true), Wrap(text, room, room/2, true)...) {
			if width(line) > room {
				t.Errorf("%q is wider than %d", line, room)
			}
		}
		if w := width(Cut(text, room, false)); w > room {
			t.Errorf("%q is cut to %d columns of %d", text, w, room)
		}
	})
}
