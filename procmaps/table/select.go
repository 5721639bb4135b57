package table

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// Selection chooses and orders the rows of a process. The zero value changes
// nothing.
type Selection struct {
	Limit *Limit          // only rows that share a byte with it; nil for all
	Kinds []procmaps.Kind // only rows of these kinds; nil for all
	// By orders the rows by a number, the largest first: "size", "dirty" (shared
	// and private) or a key of smaps in small letters ("rss", "pss", "swap",
	// "private_dirty"); "" and "address" leave them in the order of addresses.
	By  string
	Top int // only so many, after ordering; 0 for all
}

// NeedsSmaps reports whether the selection asks for numbers that only smaps has.
func (s *Selection) NeedsSmaps() bool { return s.By != "" && s.By != "address" && s.By != "size" }

// Apply replaces the rows of p by those selected. The error says that p has no
// number of the name By; p is then as it was.
func (s *Selection) Apply(p *Process) error {
	if p.Rows == nil || s.Limit == nil && len(s.Kinds) == 0 && s.By == "" && s.Top == 0 {
		return nil
	}
	number, err := s.number(p.Keys)
	if err != nil {
		return err
	}
	var rows []Row
	for r := range p.Rows {
		if s.Limit != nil && !s.Limit.holds(r.Mapping) {
			continue
		}
		if len(s.Kinds) == 0 || slices.Contains(s.Kinds, r.Mapping.Kind()) {
			rows = append(rows, r)
		}
	}
	if number != nil {
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(number(b), number(a)) })
	}
	if s.Top > 0 && len(rows) > s.Top {
		rows = rows[:s.Top]
	}
	p.Rows = slices.Values(rows)
	return nil
}

// number returns what the rows are ordered by, nil for their addresses.
func (s *Selection) number(keys []procmaps.Key) (func(Row) uint64, error) {
	switch s.By {
	case "", "address":
		return nil, nil
	case "size":
		return func(r Row) uint64 { return r.Mapping.Len() }, nil
	case "dirty":
		shared, private := keyIndex(keys, "Shared_Dirty"), keyIndex(keys, "Private_Dirty")
		return func(r Row) uint64 { return number(r, shared) + number(r, private) }, nil
	}
	at := slices.IndexFunc(keys, func(k procmaps.Key) bool { return strings.EqualFold(k.Name, s.By) })
	// A process without memory has no keys to know the word by.
	if at < 0 && len(keys) > 0 {
		names := []string{"address", "size", "dirty"}
		for _, k := range keys {
			names = append(names, strings.ToLower(k.Name))
		}
		slices.Sort(names)
		return nil, fmt.Errorf("sort key %q: want one of %s", s.By, strings.Join(slices.Compact(names), ", "))
	}
	return func(r Row) uint64 { return number(r, at) }, nil
}

// holds reports whether the mapping shares a byte with the limit.
func (l *Limit) holds(m *procmaps.Mapping) bool { return m.Start <= l.High && m.End-1 >= l.Low }

// keyIndex finds a key by its name, -1 if it is not there.
func keyIndex(keys []procmaps.Key, name string) int {
	return slices.IndexFunc(keys, func(k procmaps.Key) bool { return k.Name == name })
}
