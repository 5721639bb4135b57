package tui

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Options are those of a [Terminal].
type Options struct {
	// Size is that of the terminal now; zero if it is not known.
	Size func() Size
	// Foreground tells whether what we draw is wanted: a job in the background does not
	// draw over what is typed. If it is nil, it always is.
	Foreground func() bool
	Color      bool
	ASCII      bool
}

// Terminal is one that views are drawn on. What is to be drawn is given to a goroutine of
// its own: whoever has it to give does not wait for a terminal that is stopped (^S). All
// its methods may be called by any goroutine.
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

	mu     sync.Mutex // of all below, and of writing
	size   Size       // of the terminal when it was drawn on; zero if nothing is drawn
	inline bool       // what is drawn is a line, not a screen
	broken bool       // a write failed: nothing is drawn any more
	closed bool
	amid   bool // what was written last does not end a line
}

// least is the smallest screen that is drawn on.
var least = Size{Width: 20, Height: 5}

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
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
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
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return n, err
}

// send writes all at once. A terminal that is gone is drawn on no more; that is for whoever
// prints the answer to report.
func (t *Terminal) send(b []byte) {
	if _, err := t.w.Write(b); err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.broken = true
	}
}

// draw draws what is to be seen now.
func (t *Terminal) draw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view.Load()
	if v == nil || t.closed || t.broken || t.amid || t.o.Foreground != nil && !t.o.Foreground() {
		return
	}
	size := t.o.Size()
	if size.Width < least.Width || size.Height < least.Height {
		return
	}
	_, inline := (*v).(*Status)
	if inline != t.inline {
		t.erase()
		t.inline = inline
	}
	if inline {
		// The last column stays free, for a line there is wrapped by some when they are
		// resized, and the cursor is left where what is typed does no harm.
		f := Form{Size{size.Width - 1, 1}, t.o.ASCII}
		b := []byte("\r\x1b[K")
		for _, line := range (*v).Lines(f) {
			b = line.append(b, f, t.o.Color)
		}
		t.size = size
		t.send(append(b, '\r'))
		return
	}
	b := t.place(nil, size)
	f := Form{size, t.o.ASCII}
	lines := (*v).Lines(f)
	for i := range size.Height {
		b = append(b, "\x1b["+strconv.Itoa(i+1)+"H\x1b[K"...)
		if i < len(lines) {
			b = lines[i].append(b, f, t.o.Color)
		}
	}
	t.send(append(b, "\x1b[H"...))
}

// place has all that is visible scroll away, unless that was done for a screen of this size.
// While something is drawn, the cursor is in its first line, and so it is when a terminal
// that is resized has moved that: then this brings it back to the top, and what is above
// where it came from. What a terminal has scrolled away by itself when it became smaller, it
// keeps.
func (t *Terminal) place(b []byte, size Size) []byte {
	if t.size != size {
		b = append(b, strings.Repeat("\n", max(size.Height-1, 0))...)
	}
	t.size = size
	return b
}

// erase takes away what is drawn. To clear the screen at once would have some terminals keep
// what is drawn in the scrollback.
func (t *Terminal) erase() {
	if t.size == (Size{}) || t.broken {
		return
	}
	b := []byte("\r\x1b[K")
	if !t.inline {
		size := t.o.Size()
		b = t.place(nil, size)
		for i := range size.Height {
			b = append(b, "\x1b["+strconv.Itoa(i+1)+"H\x1b[K"...)
		}
		b = append(b, "\x1b[H"...)
	}
	t.size = Size{}
	t.send(b)
}

// stop does what SIGTSTP asks for (^Z), on a terminal where nothing is drawn.
func (t *Terminal) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	stopProcess()
}
