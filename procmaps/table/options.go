package table

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Layout is one of pmap's tables.
type Layout uint8

// The layouts, by pmap's option.
const (
	LayoutDefault  Layout = iota // none: address, size, mode, name
	LayoutExtended               // -x: resident and dirty sizes
	LayoutDevice                 // -d: offset and device
	LayoutDetails                // -X: what smaps has, less eight keys
	LayoutAll                    // -XX: all that smaps has
	LayoutFields                 // -c, -C: the columns of Options.Fields, in the order of -XX
)

// NeedsSmaps reports whether the layout shows numbers that only smaps has.
func (l Layout) NeedsSmaps() bool { return l == LayoutExtended || l.details() }

// details reports whether the layout is one of those whose columns are what
// smaps happens to have.
func (l Layout) details() bool { return l == LayoutDetails || l == LayoutAll || l == LayoutFields }

// Compat is a version of procps-ng whose output is imitated.
type Compat uint8

// The versions that differ in what they print. Earlier ones than these are not
// imitated: before 3.3.12 each row of -x came twice.
const (
	// Compat407 is the newest, 4.0.7: bytes of names that are no characters of
	// the locale become '?', control characters pass, and -A holds for -X.
	Compat407 Compat = iota
	// Compat402 is 4.0.2: every byte of a name outside printable ASCII becomes
	// '?', -X shows all rows whatever -A says, and its totals go on from one
	// process to the next.
	Compat402
)

// Limit selects rows by address, both ends included, as pmap -A does: a row
// shows when it shares a byte with it.
type Limit struct{ Low, High uint64 }

// ParseLimit parses the argument of pmap -A: LOW,HIGH in hex with or without 0x.
// LOW alone means that address; a missing end means no limit on that side. As
// with strtoul(3), which pmap uses, spaces and a sign may come first, and what is
// too large is the largest number.
func ParseLimit(s string) (Limit, error) {
	low, high, two := strings.Cut(s, ",")
	l := Limit{0, math.MaxUint64}
	for _, part := range [2]struct {
		text string
		dst  *uint64
	}{{low, &l.Low}, {high, &l.High}} {
		if part.text == "" {
			continue
		}
		v, rest := parseHex(part.text)
		if rest != "" {
			return Limit{}, fmt.Errorf("address range %q: want LOW[,HIGH] in hex", s)
		}
		*part.dst = v
	}
	if !two && low != "" {
		l.High = l.Low
	}
	return l, nil
}

// parseHex is strtoul(3) in base 16: it returns the number and what follows it,
// which is all of s when there is none.
func parseHex(s string) (v uint64, rest string) {
	digits := strings.TrimLeft(s, " \t\n\v\f\r")
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	isHex := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
	if len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' && isHex(digits[2]) {
		digits = digits[2:]
	}
	n := 0
	for n < len(digits) && isHex(digits[n]) {
		n++
	}
	if n == 0 {
		return 0, s
	}
	v, err := strconv.ParseUint(digits[:n], 16, 64) // the largest number if out of range
	if negative && err == nil {
		v = -v
	}
	return v, digits[n:]
}

// Options say how a Printer prints. The zero value is pmap without options.
type Options struct {
	Layout Layout
	// Quiet leaves out the heading and the totals (-q).
	Quiet bool
	// ShowPath prints paths whole instead of their last element (-p).
	ShowPath bool
	// KernelNames prints [heap] and the like as the kernel does (-k). It has no
	// effect on LayoutDetails and its kin, which always do.
	KernelNames bool
	// Limit selects rows (-A); nil prints all.
	Limit *Limit
	// Fields are the columns of LayoutFields, by the names of -XX's headings.
	// Names that no column has are passed over.
	Fields map[string]bool
	// Compat is the version to imitate where versions differ.
	Compat Compat
	// CLocale replaces what is not ASCII in names and command lines, as pmap does
	// in the C locale; otherwise text is UTF-8.
	CLocale bool
	// Escape makes names and command lines safe for a terminal, see [Escape],
	// instead of what pmap does to some bytes and not to others.
	Escape bool
	// Human prints sizes with a unit, rounded, instead of in KiB.
	Human bool
}
