// Package tui draws what a command finds while it watches: a screen that is refreshed in
// place, or a line of status below what scrolls. It is given views, which are values that
// nobody changes any more, and knows of nothing that they are made of.
//
// They are drawn by bubbletea, of which no more is used than draws: the terminal is never
// put into raw mode, is asked nothing, and neither the alternate screen nor a hidden cursor
// is used. So ^C and ^Z are signals as ever, and whatever ends the process, kill -9 and a
// panic too, leaves nothing to be restored but text. A screen takes the place of what is
// visible, which scrolls away before it, and is taken away at the end: what is printed then
// stays in the scrollback, and what was drawn does not.
package tui

import (
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/maptrace/maptrace/procmaps/table"
)

// Style is what a text means, which is all that colors are for.
type Style uint8

// The styles.
const (
	Plain Style = iota
	Dim         // what is the same all the time
	Warn        // what grows
	Bad         // what leaks
)

// paint is how a style looks. Colors are the terminal's own, so that there is nothing to
// convert for terminals with few.
//
// lipgloss would do that too, but it cannot be linked: before main begins it looks for what
// standard output can show, and where that is a terminal of tmux it runs "tmux info", from
// the PATH and with whatever privileges there are.
func (s Style) paint(text string) string {
	var style ansi.Style
	switch s {
	case Dim:
		style = style.Faint()
	case Warn:
		style = style.ForegroundColor(ansi.Yellow)
	case Bad:
		style = style.ForegroundColor(ansi.Red)
	}
	return style.Styled(text)
}

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

// draw is a view as it is drawn.
func (f Form) draw(v View) string {
	var b strings.Builder
	for i, line := range v.Lines(f) {
		if i > 0 {
			b.WriteByte('\n')
		}
		var l strings.Builder
		for _, s := range line {
			l.WriteString(s.Style.paint(f.clean(s.Text)))
		}
		b.WriteString(Cut(l.String(), f.Width, f.ASCII))
	}
	return b.String()
}

// model is what bubbletea draws: a view until it is sent another, in one form.
type model struct {
	form Form
	view View
}

// Init implements tea.Model.
func (m model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if view, ok := msg.(View); ok {
		m.view = view
	}
	return m, nil
}

// View implements tea.Model. The cursor stays where it was, in the first line: terminals that
// are resized move what is drawn together with that.
func (m model) View() tea.View {
	const unchanged = -1
	return tea.View{Content: m.form.draw(m.view), Cursor: &tea.Cursor{Shape: unchanged}, DisableBracketedPasteMode: true}
}
