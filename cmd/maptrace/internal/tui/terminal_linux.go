package tui

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
)

// Options are those of a [Terminal].
type Options struct {
	// Size is that of the terminal now; zero if it is not known.
	Size func() Size
	// Foreground tells whether what we draw is wanted: a job in the background does not
	// draw over what is typed. If it is nil, it always is.
	Foreground func() bool
	Kind       string // TERM
	Color      bool
	ASCII      bool
}

// Terminal is one that views are drawn on. What is to be drawn is given to a goroutine of
// its own: whoever has it to give does not wait for a terminal that is stopped (^S). All
// its methods may be called by any goroutine.
//
// While something is drawn there is a program of bubbletea. It ends before anything else is
// written, and what it has drawn is taken away: so lines are written by who prints them, in
// order and none is lost, as those of its Println are at the end.
//
// A nil Terminal draws nothing.
type Terminal struct {
	w    io.Writer
	o    Options
	view atomic.Pointer[View]
	wake chan struct{} // there is something to draw
	end  chan struct{}
	over sync.WaitGroup
	once sync.Once

	mu      sync.Mutex // of all below
	program *tea.Program
	form    Form // of what that draws
	amid    bool // what was written last does not end a line

	broken atomic.Bool // a write failed: nothing is drawn any more
	ending atomic.Bool // the program ends: it draws nothing any more
}

// least is the smallest screen that is drawn on.
var least = Size{Width: 20, Height: 5}

// perSecond is how often is drawn at most.
const perSecond = 10

// New returns a terminal that draws on w, until Close.
func New(w io.Writer, o Options) *Terminal {
	t := still(w, o)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH, syscall.SIGCONT)
	stopped := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(stopped, syscall.SIGTSTP)
	}
	t.over.Go(func() {
		defer signal.Stop(resized)
		defer signal.Stop(stopped)
		for {
			select {
			case <-t.end:
				return
			case <-stopped:
				t.stop()
			case <-resized:
			case <-t.wake:
			}
			t.draw()
		}
	})
	return t
}

// still returns a terminal on which nobody draws yet.
func still(w io.Writer, o Options) *Terminal {
	return &Terminal{w: w, o: o, wake: make(chan struct{}, 1), end: make(chan struct{})}
}

// Show has a view drawn, instead of the one before: a [Status] where the cursor is, all others
// as a screen.
func (t *Terminal) Show(v View) {
	if t == nil {
		return
	}
	t.view.Store(&v)
	t.again()
}

// again has what is to be seen drawn.
func (t *Terminal) again() {
	select {
	case t.wake <- struct{}{}:
	default: // what draws next draws this
	}
}

// Hide has nothing drawn until the next Show.
func (t *Terminal) Hide() {
	if t == nil {
		return
	}
	t.view.Store(nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
}

// Close takes away what is drawn. What is written afterwards is written as it is.
func (t *Terminal) Close() {
	if t == nil {
		return
	}
	t.once.Do(func() {
		close(t.end)
		t.over.Wait()
		t.Hide()
	})
}

// Write implements io.Writer: what is written scrolls above what is drawn.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	n, err := t.w.Write(p)
	if n > 0 {
		t.amid = p[n-1] != '\n'
	}
	if t.view.Load() != nil {
		t.again()
	}
	return n, err
}

// draw draws what is to be seen now.
func (t *Terminal) draw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view.Load()
	if v == nil || t.broken.Load() || t.amid || t.o.Foreground != nil && !t.o.Foreground() {
		return
	}
	form := Form{t.o.Size(), t.o.ASCII}
	fits := form.Width >= least.Width && form.Height >= least.Height
	if _, line := (*v).(*Status); line {
		// The last column stays free, for a line there is wrapped by some when they are
		// resized.
		form.Size = Size{form.Width - 1, 1}
	}
	if form != t.form {
		t.erase()
	}
	if !fits {
		return
	}
	if t.program == nil {
		t.begin(model{form, *v})
		return
	}
	t.program.Send(*v)
}

// begin starts a program that draws a model. It is given no input, nor a file to write to: it would ask that
// for its size, and take over signals and the mode of the terminal.
func (t *Terminal) begin(m model) {
	profile := colorprofile.NoTTY
	if t.o.Color {
		profile = colorprofile.ANSI
	}
	t.form = m.form
	t.program = tea.NewProgram(m, tea.WithInput(nil), tea.WithOutput(drawing{t}), tea.WithEnvironment([]string{"TERM=" + t.o.Kind}),
		tea.WithWindowSize(m.form.Width, m.form.Height), tea.WithColorProfile(profile), tea.WithFPS(perSecond),
		tea.WithoutSignalHandler(), tea.WithoutCatchPanics())
	go t.program.Run() //nolint:errcheck // it ends when it is told to; see drawing
}

// erase ends the program and takes away what it has drawn, line by line from the first, where
// the cursor is. The program itself would clear the screen at once, and some terminals keep in
// the scrollback what is cleared so.
func (t *Terminal) erase() {
	if t.program == nil {
		return
	}
	t.ending.Store(true)
	t.program.Quit()
	t.program.Wait()
	t.program = nil
	t.ending.Store(false)
	lines := t.form.Height
	if lines > 1 {
		lines = max(lines, t.o.Size().Height) // it may be resized
	}
	blank := strings.Repeat(ansi.EraseLineRight+ansi.CUD1, lines)
	_, _ = io.WriteString(drawing{t}, ansi.SaveCursor+blank+ansi.RestoreCursor+ansi.EraseScreenBelow) // see there
}

// stop does what SIGTSTP asks for (^Z), on a terminal where nothing is drawn.
func (t *Terminal) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	stopProcess()
}

// drawing is what a program writes to. On a terminal that is gone is drawn no more; that is
// for whoever prints the answer to report.
type drawing struct{ *Terminal }

// Write implements io.Writer.
func (d drawing) Write(p []byte) (int, error) {
	if d.broken.Load() || d.ending.Load() {
		return len(p), nil
	}
	n, err := d.w.Write(p)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		d.broken.Store(true)
	}
	return n, err
}
