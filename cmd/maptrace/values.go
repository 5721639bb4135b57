package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The values of flags, as people write them. What is wrong with one is said as what is
// wanted, with examples: the flag and the value are put before it by flagMistake.

// spanValue is a length of time: 10 (seconds), 500ms, 1m30s, 1d. Where auto is not nil the
// word "auto" is one too.
type spanValue struct {
	to   *time.Duration
	auto *bool
}

const autoSpan = "auto"

func (v spanValue) String() string {
	switch {
	case v.auto != nil && *v.auto:
		return autoSpan
	case v.to == nil || *v.to == 0:
		return ""
	}
	return spanText(*v.to)
}

func (v spanValue) Type() string { return "duration" }

func (v spanValue) Set(s string) error {
	if v.auto != nil {
		if *v.auto = s == autoSpan; *v.auto {
			return nil
		}
	}
	d, err := parseSpan(s)
	if err != nil {
		return err
	}
	*v.to = d
	return nil
}

// spanText is how a person would write a length of time: 1m, where Go writes 1m0s.
func spanText(d time.Duration) string {
	s := d.String()
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}

var (
	errSpan     = errors.New("want a time, as 10 (seconds), 500ms, 10s, 5m, 2h or 1d")
	errNegative = errors.New("a time cannot be negative: want one as 10s or 5m")
)

var spanUnits = map[string]time.Duration{
	"": time.Second, "ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "sec": time.Second, "m": time.Minute, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

// parseSpan reads a length of time: a number of seconds, or numbers with units.
func parseSpan(s string) (time.Duration, error) {
	if strings.HasPrefix(s, "-") {
		return 0, errNegative
	}
	total, rest := 0.0, s
	for rest != "" {
		word := rest
		digits := word[:len(word)-len(strings.TrimLeft(word, "0123456789."))]
		word = word[len(digits):]
		unit := word
		if i := strings.IndexAny(word, "0123456789."); i >= 0 {
			unit = word[:i]
		}
		rest = word[len(unit):]
		n, err := strconv.ParseFloat(digits, 64)
		each, known := spanUnits[unit]
		// Only a number that stands alone goes without a unit.
		if err != nil || !known || unit == "" && digits != s {
			return 0, errSpan
		}
		total += n * float64(each)
	}
	if s == "" || total >= math.MaxInt64 {
		return 0, errSpan
	}
	return time.Duration(math.Round(total)), nil
}

// pollValue is the time between two looks.
type pollValue time.Duration

func (v *pollValue) String() string { return spanValue{to: (*time.Duration)(v)}.String() }

func (v *pollValue) Type() string { return "interval" }

// minPoll is as often as looks are of use: a look takes about a millisecond where
// many mappings change.
const minPoll = time.Millisecond

func (v *pollValue) Set(s string) error {
	d, err := parseSpan(s)
	if err != nil || d < minPoll {
		return fmt.Errorf("want a time of at least %s, as --poll=50ms", minPoll)
	}
	*v = pollValue(d)
	return nil
}

// sizeValue is a number of bytes: 4096, 64K, 1M, 2G.
type sizeValue uint64

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return sizeText(uint64(*v))
}

// sizeText is a size as a person would write it: 16M. None is rounded.
func sizeText(n uint64) string {
	const units = "KMGT"
	unit := ""
	for i := 0; i < len(units) && n >= 1024 && n%1024 == 0; i++ {
		n, unit = n/1024, units[i:i+1]
	}
	return strconv.FormatUint(n, 10) + unit
}

func (v *sizeValue) Type() string { return "size" }

func (v *sizeValue) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	*v = sizeValue(n)
	return nil
}

// parseSize reads a number of bytes: 65536, 64K, 64KiB.
func parseSize(s string) (uint64, error) {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	shift := 0
	if n := len(t); n > 0 {
		if i := strings.IndexByte("KMGT", t[n-1]); i >= 0 {
			shift, t = 10*(i+1), t[:n-1]
		}
	}
	n, err := strconv.ParseUint(t, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return 0, errors.New("want a size, as 4096 (bytes), 64K, 10M or 2G")
	}
	return n << shift, nil
}

// percentValue is a percentage, with its sign or without.
type percentValue float64

func (v *percentValue) String() string { return strconv.FormatFloat(float64(*v), 'g', -1, 64) }

func (v *percentValue) Type() string { return "percentage" }

func (v *percentValue) Set(s string) error {
	const all = 100
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(n >= 0 && n <= all) { // which NaN is not
		return errors.New("want a percentage from 0 to 100, as 1 or 0.5")
	}
	*v = percentValue(n)
	return nil
}

// numbersValue are the numbers of processes or threads: 1234, or 1234,1235.
type numbersValue struct {
	to   *[]int
	what string
}

func (v numbersValue) String() string { return "" } // which help would show as a default

func (v numbersValue) Type() string { return v.what }

// GetSlice says to who completes words that the flag may be given again.
func (v numbersValue) GetSlice() (words []string) {
	if v.to == nil {
		return nil
	}
	for _, n := range *v.to {
		words = append(words, strconv.Itoa(n))
	}
	return words
}

// Set takes what pgrep(1) and pidof(1) print too.
func (v numbersValue) Set(s string) error {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	if len(words) == 0 {
		return fmt.Errorf("want a %s number, as 1234: is it running?", v.what)
	}
	for _, word := range words {
		n, ok := processNumber(word)
		switch {
		case ok:
			*v.to = append(*v.to, n)
		case v.what == processWord && isLetter(rune(word[0])):
			return fmt.Errorf("want a process number, as 1234; for processes by their name there is --comm %s", word)
		default:
			return fmt.Errorf("want a %s number, as 1234", v.what)
		}
	}
	return nil
}

const processWord = "process"

func isLetter(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }

// processNumber reads a process number, which may be the name of its directory.
func processNumber(word string) (int, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(word, "/proc/"), 10, 31)
	return int(n), err == nil && n > 0
}

// formatValue is a flag that chooses the form of the output, as --json does.
type formatValue struct {
	to   *string
	form string
}

func (v formatValue) String() string {
	if v.to == nil || *v.to != v.form {
		return "false"
	}
	return "true"
}

func (v formatValue) Type() string { return "bool" }

func (v formatValue) IsBoolFlag() bool { return true }

func (v formatValue) Set(s string) error {
	asked, err := strconv.ParseBool(s)
	if err != nil || !asked {
		return fmt.Errorf("it takes no value: --%s", v.form)
	}
	return chooseFormat(v.to, v.form)
}

// anyFormat is the older flag -o, which names the form.
type anyFormat struct{ to *string }

func (v anyFormat) String() string { return textForm }

func (v anyFormat) Type() string { return "format" }

func (v anyFormat) Set(s string) error {
	if !slices.Contains(formats, s) {
		return errors.New("want text, json or csv: --json, --csv, or neither")
	}
	if s == textForm {
		return nil
	}
	return chooseFormat(v.to, s)
}

// The forms of an output.
const (
	textForm = "text"
	jsonForm = "json"
	csvForm  = "csv"
)

var formats = []string{textForm, jsonForm, csvForm}

// chooseFormat takes one form, which may be asked for twice.
func chooseFormat(to *string, form string) error {
	if *to != textForm && *to != form {
		return errors.New("the output is in one form: --json or --csv")
	}
	*to = form
	return nil
}
