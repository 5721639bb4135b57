package tui

import (
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

// cut is as much of a text as fits into so many columns. That something is missing shows.
func cut(s string, room int, ascii bool) string {
	if width(s) <= room {
		return s
	}
	dots := "…"
	if ascii {
		dots = "..."
	}
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

// wrap breaks a text at spaces into lines of so many columns, and words where they are
// longer.
func wrap(s string, room int) (lines []string) {
	if room < 1 {
		return nil
	}
	line, used := "", 0
	end := func() {
		lines = append(lines, strings.TrimRight(line, " "))
		line, used = "", 0
	}
	for _, word := range strings.SplitAfter(s, " ") {
		if n := width(strings.TrimRight(word, " ")); used > 0 && used+n > room {
			end()
		}
		for width(strings.TrimRight(word, " ")) > room {
			at, n := 0, 0
			for i, r := range word {
				if n += runeWidth(r); n > room {
					at = i
					break
				}
			}
			if at == 0 {
				break // not even one character fits
			}
			lines = append(lines, word[:at])
			word = word[at:]
		}
		line += word
		used += width(word)
	}
	if strings.Trim(line, " ") != "" {
		end()
	}
	return lines
}
