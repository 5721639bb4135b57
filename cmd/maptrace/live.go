package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps/units"
)

// liveView is what is seen of a command while it watches: a screen where its output and its
// errors go to the same terminal, a line of status where only the errors do, nothing
// elsewhere. Of a run that starts a command nothing is seen: the command may use the terminal
// for itself, and no line of it is to be drawn over.
//
// A nil liveView shows nothing.
type liveView struct {
	*tui.Terminal
	file   *os.File
	screen bool // a whole one
	due    uint64
}

// liveEvery is how often what is seen is made anew: verdicts cost more than looks, and
// nobody reads faster.
const liveEvery = uint64(time.Second)

// openLive opens what is seen, and gives the streams that are to be written to meanwhile:
// what goes to the terminal scrolls above what is drawn. It is closed by its user. Whole
// asks for a screen.
func openLive(s streams, whole bool) (*liveView, streams) {
	f, ok := s.err.(*os.File)
	if !ok || !isTerminal(f) || !draws(os.Getenv("TERM")) {
		return nil, s
	}
	same := sameTerminal(s.out, f)
	l := &liveView{file: f, screen: whole && same}
	l.Terminal = tui.New(f, tui.Options{
		Size:       func() tui.Size { return terminalSize(f) },
		Foreground: func() bool { return inForeground(f) },
		Kind:       os.Getenv("TERM"),
		Color:      colors(os.Getenv("TERM"), os.Getenv("NO_COLOR")),
		ASCII:      !utf8Locale(os.Getenv),
	})
	if s.err = l; same {
		s.out = l
	}
	return l, s
}

// openLive is openLive of a run that attaches to processes first, or starts a command.
func (o *attachOptions) openLive(s streams, whole bool) (*liveView, streams) {
	if len(o.argv) > 0 {
		return nil, s
	}
	l, s := openLive(s, whole)
	if l != nil {
		l.Show(&tui.Status{Text: "attaching"})
	}
	return l, s
}

// width is that of the terminal.
func (l *liveView) width() int { return terminalSize(l.file).Width }

// close takes away what is seen.
func (l *liveView) close() {
	if l != nil {
		l.Close()
	}
}

// isDue tells whether what is seen is to be made anew now, CLOCK_MONOTONIC in ns.
func (l *liveView) isDue(now uint64) bool {
	if l == nil || now < l.due {
		return false
	}
	l.due = now + liveEvery
	return true
}

// draws tells whether a kind of terminal can be drawn on.
func draws(kind string) bool { return kind != "" && kind != "dumb" && kind != "unknown" }

// colors tells whether a kind of terminal has colors, and they are wanted: no-color.org.
func colors(kind, unwanted string) bool {
	return unwanted == "" && !strings.HasPrefix(kind, "vt1") && !strings.HasPrefix(kind, "vt2") && !strings.HasSuffix(kind, "-m") && !strings.HasSuffix(kind, "-mono")
}

// control calls do with the descriptor of a file, which stays as it is: Fd would make it
// blocking.
func control(f *os.File, do func(fd int)) {
	conn, err := f.SyscallConn()
	if err == nil {
		_ = conn.Control(func(fd uintptr) { do(int(fd)) }) // of a file that is closed nothing is known
	}
}

// isPipe tells whether w is a pipe.
func isPipe(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// sameTerminal tells whether w is the terminal that f is.
func sameTerminal(w io.Writer, f *os.File) bool {
	out, ok := w.(*os.File)
	if !ok || !isTerminal(out) {
		return false
	}
	var a, b unix.Stat_t
	errs := [2]error{unix.EBADF, unix.EBADF}
	control(out, func(fd int) { errs[0] = unix.Fstat(fd, &a) })
	control(f, func(fd int) { errs[1] = unix.Fstat(fd, &b) })
	return errs == [2]error{} && a.Rdev == b.Rdev
}

// terminalSize is the size of a terminal now, zero if it is not known.
func terminalSize(f *os.File) (size tui.Size) {
	control(f, func(fd int) {
		if w, h, err := term.GetSize(fd); err == nil {
			size = tui.Size{Width: w, Height: h}
		}
	})
	return size
}

// columns is how wide a terminal is; 0 for what is none, or does not say.
func columns(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	f, _ := w.(*os.File)
	return terminalSize(f).Width
}

// inForeground tells whether we are who uses a terminal. One that is not the one that
// controls us has nobody else.
func inForeground(f *os.File) bool {
	is := true
	control(f, func(fd int) {
		if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil {
			is = group == unix.Getpgrp()
		}
	})
	return is
}

// about says which processes are traced: the one, or how many.
func (a *attached) about() string {
	pids := a.PIDs()
	if len(pids) != 1 {
		return units.Count(uint64(len(pids)), "process")
	}
	r := a.Report()
	for i := range r.Spaces {
		if p := &r.Spaces[i].Process; p.PID == pids[0] && !p.Exited {
			return render.Who(p.PID, p.Comm)
		}
	}
	return render.Who(pids[0], "") // its mappings are not read yet
}

// elapsed says how far a watch is, of which the whole length is known if it is not 0.
func elapsed(d, of time.Duration) string {
	said := length(d)
	if of > 0 {
		said += " of " + length(of)
	}
	return said
}

// length is a length of time in whole seconds, as short as it can be said.
func length(d time.Duration) string {
	if d = d.Truncate(time.Second); d >= time.Minute && d%time.Minute == 0 {
		return units.Span(d)
	}
	if d < time.Minute {
		return strconv.Itoa(int(d.Seconds())) + " s"
	}
	return units.Length(d)
}
