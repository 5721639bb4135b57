package tui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// width is how many columns a text takes.
func width(s string) int { return ansi.StringWidth(s) }

// Dots stand for what is left out.
func Dots(ascii bool) string {
	if ascii {
		return "..."
	}
	return "…"
}

// Cut is as much of a text as fits into so many columns. That something is missing shows.
func Cut(s string, room int, ascii bool) string { return ansi.Truncate(s, room, Dots(ascii)) }

// toASCII replaces all characters that are not ASCII.
func toASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "…", "..."))
}

// Wrap breaks a text at spaces into lines of so many columns. Lines after the first have an
// indent. A number and its unit are one word. Words that are longer have a line of their own,
// or are broken as well.
func Wrap(s string, columns, indent int, broken bool) (lines []string) {
	room := columns - indent
	if columns < 1 || room < 1 {
		return nil
	}
	line, left := "", columns
	end := func() {
		lines = append(lines, strings.TrimRight(line, " "))
		line, left = strings.Repeat(" ", indent), room
	}
	begun := false // there is a word in the line
	for _, word := range words(s) {
		text := strings.TrimRight(word, " ")
		n := width(text)
		if begun && n > left {
			end()
			begun = false
		}
		if at := len(ansi.Truncate(text, left, "")); broken && n > left && at > 0 {
			pieces := append([]string{text[:at]}, strings.Split(ansi.Hardwrap(text[at:], room, true), "\n")...)
			for _, piece := range pieces[:len(pieces)-1] {
				line += piece
				end()
			}
			word = pieces[len(pieces)-1] + word[len(text):]
		}
		line += word
		left -= width(word)
		begun = begun || text != ""
	}
	if begun {
		end()
	}
	return lines
}

// unitNames stand behind numbers.
var unitNames = [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "KiB/min", "MiB/min", "GiB/min", "%", "s", "min", "h", "days"}

// words are the words of a text with the spaces behind them, and before the first, numbers
// with their units.
func words(s string) (out []string) {
	for word := range strings.SplitAfterSeq(s, " ") {
		unit := slices.Contains(unitNames[:], strings.TrimRight(word, "),;:. "))
		if n := len(out); n > 0 && (word == " " || strings.Trim(out[n-1], " ") == "" || unit && strings.ContainsAny(out[n-1], "0123456789")) {
			out[n-1] += word
			continue
		}
		out = append(out, word)
	}
	return out
}
