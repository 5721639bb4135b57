package tui

import (
	"slices"
	"strings"
	"unicode"
)

// wide are the blocks of characters that take two columns: the Hangul, CJK and full-width
// forms, and pictures.
var wide = [...][2]rune{
	{0x1100, 0x115f},
	{0x2e80, 0x303e},
	{0x3041, 0xa4cf},
	{0xac00, 0xd7a3},
	{0xf900, 0xfaff},
	{0xfe30, 0xfe6f},
	{0xff00, 0xff60},
	{0xffe0, 0xffe6},
	{0x1f300, 0x1faff},
	{0x20000, 0x3fffd},
}

// runeWidth is how many columns a printable character takes.
func runeWidth(r rune) int {
	if r < wide[0][0] {
		if r >= 0x300 && unicode.In(r, unicode.Mn, unicode.Me) {
			return 0
		}
		return 1
	}
	for _, w := range wide {
		if w[0] <= r && r <= w[1] {
			return 2
		}
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	return 1
}

// width is how many columns a text takes.
func width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// Dots stand for what is left out.
func Dots(ascii bool) string {
	if ascii {
		return "..."
	}
	return "…"
}

// Cut is as much of a text as fits into so many columns. That something is missing shows.
func Cut(s string, room int, ascii bool) string {
	if width(s) <= room {
		return s
	}
	dots := Dots(ascii)
	room -= width(dots)
	if room < 0 {
		return ""
	}
	for i, r := range s {
		if room -= runeWidth(r); room < 0 {
			return s[:i] + dots
		}
	}
	return s
}

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
		n := width(strings.TrimRight(word, " "))
		if begun && n > left {
			end()
			begun = false
		}
		for broken && n > left {
			at := fitting(word, left)
			if at == 0 {
				break // not even one character fits
			}
			line += word[:at]
			end()
			word = word[at:]
			n = width(strings.TrimRight(word, " "))
		}
		line += word
		left -= width(word)
		begun = begun || n > 0
	}
	if begun {
		end()
	}
	return lines
}

// fitting is how many bytes of a text fit into so many columns.
func fitting(s string, room int) int {
	for i, r := range s {
		if room -= runeWidth(r); room < 0 {
			return i
		}
	}
	return len(s)
}

// unitNames stand behind numbers.
var unitNames = [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "KiB/min", "MiB/min", "GiB/min", "%", "s", "min", "h", "days"}

// words are the words of a text with the spaces behind them, numbers with their units.
func words(s string) (out []string) {
	for word := range strings.SplitAfterSeq(s, " ") {
		unit := slices.Contains(unitNames[:], strings.TrimRight(word, "),;:. "))
		if n := len(out); n > 0 && unit && strings.ContainsAny(out[n-1], "0123456789") {
			out[n-1] += word
			continue
		}
		out = append(out, word)
	}
	return out
}
