package tui

// Tables are lines that are printed as they are, below a first line.
type Tables struct {
	Head
	Rows []string
	// Keep are how many of the last are seen even if not all fit: the totals.
	Keep int
}

// Lines implements [View].
func (t *Tables) Lines(f Form) []Line {
	body := make([]Line, 0, len(t.Rows)+1)
	body = append(body, nil)
	for _, row := range t.Rows {
		body = append(body, Text(row))
	}
	return t.screen(f, body, t.Keep)
}

// Status is a line below what scrolls.
type Status struct {
	Text  string
	Style Style
	Foot  string // what ^C does, if that is to be said, and seen whole where there is room
}

// Lines implements [View].
func (s *Status) Lines(f Form) []Line {
	foot := ""
	if s.Foot != "" && f.Width >= narrow {
		foot = "; " + f.clean(s.Foot)
	}
	return []Line{{{Text: Cut(f.clean(s.Text), f.Width-width(foot), f.ASCII), Style: s.Style}, {Text: foot, Style: Dim}}}
}
