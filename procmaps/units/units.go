// Package units writes sizes, times, shares and numbers of things for people, so that
// one amount looks the same in most of what they read. What has a form of its own, as
// the columns of pmap have, does not use it.
package units

import (
	"strconv"
	"strings"
	"time"
)

// Bytes is a size with one decimal, "12.0 MiB"; whole below 1 KiB: "512 B".
func Bytes(n float64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for n >= 1023.95 && i < len(units)-1 {
		n /= 1024
		i++
	}
	decimals := 1
	if i == 0 {
		decimals = 0
	}
	return sign + strconv.FormatFloat(n, 'f', decimals, 64) + " " + units[i]
}

// Change is Bytes with its sign.
func Change(n float64) string {
	if n > 0 {
		return "+" + Bytes(n)
	}
	return Bytes(n)
}

// AppendHuman appends a size given in KiB as short as in a narrow column, rounded to
// two digits or more: 96K, 1.2M, 340M, 12G.
func AppendHuman(dst []byte, kb uint64) []byte {
	const units = "KMGTPE"
	unit, v := 0, float64(kb)
	for v >= 1023.5 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	decimals := 0
	if unit > 0 && v < 9.95 {
		decimals = 1
	}
	return append(strconv.AppendFloat(dst, v, 'f', decimals, 64), units[unit])
}

// AppendHumanChange is AppendHuman for a change: with its sign, and "-" for none.
func AppendHumanChange(dst []byte, kb int64) []byte {
	switch {
	case kb == 0:
		return append(dst, '-')
	case kb < 0:
		return AppendHuman(append(dst, '-'), uint64(-kb))
	}
	return AppendHuman(append(dst, '+'), uint64(kb))
}

// Span is a length of time to its largest unit, "41 min": for what is not known any
// better, as when a limit is reached.
func Span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + " s"
	case d < 2*time.Hour:
		return strconv.FormatFloat(d.Minutes(), 'f', 0, 64) + " min"
	case d < 48*time.Hour:
		return strconv.FormatFloat(d.Hours(), 'f', 0, 64) + " h"
	}
	return strconv.FormatFloat(d.Hours()/24, 'f', 0, 64) + " days"
}

// Length is a length of time that was measured, to two digits or two units: "2.5 s",
// "2 min 30 s". What is below 1 ms is not measured that well.
func Length(d time.Duration) string {
	switch d = d.Round(time.Millisecond); {
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'g', 2, 64) + " s"
	case d < 2*time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min " + strconv.Itoa(int(d.Seconds())%60) + " s"
	}
	return strconv.Itoa(int(d.Hours())) + " h " + strconv.Itoa(int(d.Minutes())%60) + " min"
}

// Nanos is a length of time given in nanoseconds, in at most six characters: "850ns",
// "12.3us".
func Nanos(ns uint64) string {
	v := float64(ns)
	unit := "ns"
	for _, next := range [...]string{"us", "ms", "s"} {
		if v < 999.5 {
			break
		}
		v /= 1000
		unit = next
	}
	decimals := 2
	switch {
	case unit == "ns", v >= 99.95:
		decimals = 0
	case v >= 9.995:
		decimals = 1
	}
	return strconv.FormatFloat(v, 'f', decimals, 64) + unit
}

// Percent is a share from 0 to 1. Only what is whole is called 100 %.
func Percent(share float64) string {
	p := 100 * share
	if p > 99 && p < 100 {
		return strconv.FormatFloat(min(p, 99.9), 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " %"
}

// Count is a number of things, which are named in the singular: "1 process", "2
// processes".
func Count(n uint64, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		what += "e"
	}
	return strconv.FormatUint(n, 10) + " " + what + "s"
}
