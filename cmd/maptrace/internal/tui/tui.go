// Package tui draws what a command finds while it watches: a screen that is refreshed in
// place, or a line of status below what scrolls. It is given views, which are values that
// nobody changes any more, and knows of nothing that they are made of.
//
// It only writes. The terminal is never put into raw mode, is asked nothing, and neither
// the alternate screen nor a hidden cursor is used: so ^C and ^Z are signals as ever, and
// whatever ends the process, kill -9 and a panic too, leaves nothing to be restored but
// text. A screen takes the place of what is visible, which scrolls away before it, and is
// erased line by line at the end: what is printed then stays in the scrollback, and what
// was drawn does not.
//
// A library for that (bubbletea 2.1 with lipgloss 2.1) was measured and left out: their
// packages allocate 46 KB before main begins, where all others together allocate 128 KB,
// which makes "maptrace pmap" start 4 % later (0.28 ms) though it draws nothing; and lines
// that are printed above its view are queued and dropped at the end, where trace may lose
// none. Colors are the terminal's own red and yellow, so that there is nothing to convert
// for terminals with few.
package tui

import "github.com/maptrace/maptrace/procmaps/table"

// Style is what a text means, which is all that colors are for.
type Style uint8

// The styles.
const (
	Plain Style = iota
	Dim         // what is the same all the time
	Warn        // what grows
	Bad         // what leaks
)

// sgr are the parameters that select a style, of those that all terminals with colors have.
var sgr = [...]string{Plain: "", Dim: "2", Warn: "33", Bad: "31"}

// Span is a text of one style.
type Span struct {
	Text  string
	Style Style
}

// Line is a line of a screen. What does not fit is cut off.
type Line []Span

// Text is a line without styles.
func Text(s string) Line { return Line{{Text: s}} }

// Size is that of a terminal, in characters.
type Size struct{ Width, Height int }

// Form is what a terminal can show.
type Form struct {
	Size
	ASCII bool // no other characters
}

// clean is a text as it is written. No byte of a name that a traced program has chosen steers
// the terminal.
func (f Form) clean(s string) string {
	s = table.Escape(s)
	if f.ASCII {
		return toASCII(s)
	}
	return s
}

// View is something to be seen. It draws the same for ever: nobody changes it.
type View interface {
	// Lines are the lines of a screen of that form, at most as many as it has.
	Lines(f Form) []Line
}

// append appends a line as it is written to a terminal.
func (l Line) append(b []byte, f Form, color bool) []byte {
	room := f.Width
	for _, s := range l {
		text := Cut(f.clean(s.Text), room, f.ASCII)
		room -= width(text)
		if params := sgr[s.Style]; color && params != "" && text != "" {
			b = append(append(append(append(b, "\x1b["...), params...), 'm'), text...)
			b = append(b, "\x1b[m"...)
			continue
		}
		b = append(b, text...)
	}
	return b
}
