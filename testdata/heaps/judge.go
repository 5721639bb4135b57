package heaps

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Finding is what is read of an object of "maptrace grow --json".
type Finding struct {
	Event    string `json:"event"`
	PID      int    `json:"pid"`
	Verdict  string `json:"verdict"`
	Sentence string `json:"sentence"`
	Blamed   string `json:"blamed"`
	Growth   int64  `json:"growth"`
}

// ReadFindings returns the findings about a process.
func ReadFindings(r io.Reader, pid int) ([]Finding, error) {
	var found []Finding
	watched := false
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var f Finding
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%s: %w", lines.Text(), err)
		}
		if f.PID != pid {
			continue
		}
		switch f.Event {
		case "watch":
			watched = true
		case "finding":
			found = append(found, f)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if !watched {
		return nil, fmt.Errorf("process %d was not watched", pid)
	}
	return found, nil
}

// Outcome is how what was said of a program compares with the truth.
type Outcome string

// The outcomes. Of a program in which nobody leaks it is right to name nobody.
const (
	Right     Outcome = "right"
	Undecided Outcome = "undecided"
	Innocent  Outcome = "INNOCENT" // somebody is named who must not be
)

// Result is an outcome and why. The rate of its case is that of the run.
type Result struct {
	Case
	Outcome Outcome
	// Accused says that an innocent, or memory of a program in which nobody leaks,
	// has the verdict "leaks".
	Accused bool
	// Named are the functions that were named, rightly or not.
	Named []string
	// Said is the sentence that decided, or that about the heap.
	Said string
}

// Judge compares findings with the truth. Only what grows most has the right name or
// none; whoever else is blamed for memory that grows must not be an innocent. Who is
// blamed for memory that does not grow is not looked at.
func (b *Built) Judge(found []Finding) (Result, error) {
	r := Result{Case: b.Case, Outcome: Undecided, Said: "nothing grows"}
	if !b.Leaks {
		r.Outcome = Right
	}
	most := int64(-1)
	for _, f := range found {
		if f.Verdict != "leaks" && f.Verdict != "grows" {
			continue
		}
		var keeps bool
		if f.Blamed != "" {
			name, err := b.function(f.Blamed)
			if err != nil {
				return Result{}, err
			}
			r.Named = append(r.Named, name)
			keeps = slices.Contains(b.Keepers, name)
		}
		switch {
		case f.Blamed != "" && (!keeps || !b.Leaks && f.Verdict == "leaks"):
			r.Outcome, r.Said = Innocent, f.Sentence
			r.Accused = r.Accused || f.Verdict == "leaks"
		case r.Outcome != Innocent && f.Growth > most:
			most, r.Said = f.Growth, f.Sentence
			if keeps || !b.Leaks {
				r.Outcome = Right
			} else {
				r.Outcome = Undecided
			}
		}
		r.Accused = r.Accused || !b.Leaks && f.Verdict == "leaks"
	}
	return r, nil
}

// unnamed is a function without a name, by where it begins in a module.
var unnamed = regexp.MustCompile(`^(.+)\+0x([0-9a-f]+)$`)

// function is the function that somebody who is blamed is: of "inner (file:1) in outer"
// the outer one, as the inner one was inlined, and of an address in a file without names
// that which the same file has with them.
func (b *Built) function(blamed string) (string, error) {
	outer := blamed
	if i := strings.LastIndex(blamed, " in "); i >= 0 {
		outer = blamed[i+len(" in "):]
	}
	name, _, _ := strings.Cut(outer, " (")
	m := unnamed.FindStringSubmatch(name)
	if m == nil || b.named[m[1]] == "" {
		return name, nil
	}
	at, err := strconv.ParseUint(m[2], 16, 64)
	if err != nil {
		return "", err
	}
	functions, err := Functions(b.named[m[1]])
	if err != nil {
		return "", err
	}
	for _, f := range functions {
		if at >= f.Start && at < f.Start+f.Size {
			return f.Name, nil
		}
	}
	return name, nil
}
