package table

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// Groupings are what GroupRows can group by: "kind" is the purpose of the memory
// (heap, thread stack, malloc arena, file, …), "path" the mapping's name, "mode"
// the permissions.
var Groupings = []string{"kind", "path", "mode"}

// Group is the sum of the rows that have one thing in common.
type Group struct {
	Name string
	// Inferred says that rows were put here by their shape or a thread's stack
	// pointer, not by what the kernel says.
	Inferred bool
	Rows     uint64
	SizeKB   uint64
	RSSKB    uint64
	PSSKB    uint64
	DirtyKB  uint64
	SwapKB   uint64
	// HugeKB is what of RSSKB is transparent huge pages, HugetlbKB what is of hugetlbfs, which
	// RSSKB does not have.
	HugeKB, HugetlbKB uint64
	Commit            procmaps.Commit
}

// GroupRows adds up the rows of t, which must have been explained, by one of
// Groupings. The groups come with the most resident memory first.
func (t *Process) GroupRows(by string) []Group {
	rss, pss, swap := keyIndex(t.Keys, "Rss"), keyIndex(t.Keys, "Pss"), keyIndex(t.Keys, "Swap")
	shared, private := keyIndex(t.Keys, "Shared_Dirty"), keyIndex(t.Keys, "Private_Dirty")
	huge := []int{keyIndex(t.Keys, "AnonHugePages"), keyIndex(t.Keys, "ShmemPmdMapped"), keyIndex(t.Keys, "FilePmdMapped")}
	hugetlb := []int{keyIndex(t.Keys, "Shared_Hugetlb"), keyIndex(t.Keys, "Private_Hugetlb")}
	at := map[string]int{}
	var groups []Group
	for r := range t.rows() {
		name := groupName(r, by)
		i, ok := at[name]
		if !ok {
			i = len(groups)
			at[name] = i
			groups = append(groups, Group{Name: name})
		}
		g := &groups[i]
		g.Rows++
		g.SizeKB += r.Mapping.Len() / 1024
		g.RSSKB += number(r, rss)
		g.PSSKB += number(r, pss)
		g.SwapKB += number(r, swap)
		g.DirtyKB += number(r, shared) + number(r, private)
		for _, k := range huge {
			g.HugeKB += number(r, k)
		}
		for _, k := range hugetlb {
			g.HugetlbKB += number(r, k)
		}
		if r.About != nil {
			g.Commit.Add(r.About.Commit)
			g.Inferred = g.Inferred || by == "kind" && r.About.Purpose.Inferred
		}
	}
	slices.SortStableFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.RSSKB, a.RSSKB), cmp.Compare(b.SizeKB, a.SizeKB))
	})
	return groups
}

// rows yields the rows; there need not be any.
func (t *Process) rows() iter.Seq[Row] {
	if t.Rows == nil {
		return func(func(Row) bool) {}
	}
	return t.Rows
}

func groupName(r Row, by string) string {
	switch {
	case by == "mode":
		return r.Mapping.Mode.String()
	case by == "path" && r.Mapping.Name == "":
		return procmaps.AnonName
	case by == "path":
		return r.Mapping.Name
	case r.About != nil:
		return r.About.Purpose.Role.String()
	}
	return r.Mapping.Kind().String()
}

// GroupColumns are the columns of a table of groups. Percentages are of the sums
// over groups; they are computed now.
func GroupColumns(by string, groups []Group, opt Options) []Column[Group] {
	var size, rss uint64
	for _, g := range groups {
		size += g.SizeKB
		rss += g.RSSKB
	}
	kb := func(name, key string, value func(*Group) uint64) Column[Group] {
		return amountColumn(&opt, name, key, 8, value)
	}
	share := func(key string, total uint64, value func(*Group) uint64) Column[Group] {
		return Column[Group]{
			Name: "%", Key: key, Align: Right, Width: 5,
			Value: func(g Group) Value {
				if total == 0 {
					return Float(0)
				}
				return Float(100 * float64(value(&g)) / float64(total))
			},
		}
	}
	sizeKB, rssKB := func(g *Group) uint64 { return g.SizeKB }, func(g *Group) uint64 { return g.RSSKB }
	return []Column[Group]{
		{Name: "Rows", Key: "rows", Align: Right, Width: 8, Sum: true, Value: func(g Group) Value { return Uint(g.Rows) }},
		kb(opt.sizeName(), "size_kb", sizeKB), share("size_percent", size, sizeKB),
		kb("Reserved", "reserved_kb", func(g *Group) uint64 { return g.Commit.ReservedKB }),
		kb("Noresrv", "noreserve_kb", func(g *Group) uint64 { return g.Commit.NoReserveKB }),
		kb("Commit", "committed_kb", func(g *Group) uint64 { return g.Commit.CommittedKB }),
		kb("RSS", "rss_kb", rssKB), share("rss_percent", rss, rssKB),
		kb("PSS", "pss_kb", func(g *Group) uint64 { return g.PSSKB }),
		kb("Dirty", "dirty_kb", func(g *Group) uint64 { return g.DirtyKB }),
		kb("Swap", "swap_kb", func(g *Group) uint64 { return g.SwapKB }),
		kb("Huge", "huge_kb", func(g *Group) uint64 { return g.HugeKB }),
		kb("Hugetlb", "hugetlb_kb", func(g *Group) uint64 { return g.HugetlbKB }),
		{Name: title(by), Key: by, Value: func(g Group) Value { return Text(opt.groupText(&g)) }},
	}
}

// groupText is a group's name as a table shows it.
func (o *Options) groupText(g *Group) string {
	name := g.Name
	if !o.ShowPath {
		name = procmaps.ShortName(name)
	}
	if o.Escape {
		name = Escape(name)
	}
	if g.Inferred {
		name += " (inferred)"
	}
	return name
}

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// MachineGroupColumns are the columns of groups for programs.
func MachineGroupColumns(by string, groups []Group) []Column[Group] {
	columns := GroupColumns(by, groups, Options{})
	columns[len(columns)-1].Value = func(g Group) Value { return Text(g.Name) }
	return append(columns, Column[Group]{Key: "inferred", Value: func(g Group) Value { return yes(g.Inferred) }})
}

// Order sorts rows by the column with this key, with or without its "_kb", the
// largest first, and returns the first top of them (0 for all). With no key they
// stay as they are. The error names the keys that there are.
func Order[R any](columns []Column[R], rows []R, key string, top int) ([]R, error) {
	if key != "" {
		i := slices.IndexFunc(columns, func(c Column[R]) bool { return c.Key == key || c.Key == key+"_kb" })
		if i < 0 {
			var keys []string
			for i := range columns {
				keys = append(keys, strings.TrimSuffix(columns[i].Key, "_kb"))
			}
			return nil, fmt.Errorf("sort key %q: want one of %s", key, strings.Join(keys, ", "))
		}
		value := columns[i].Value
		slices.SortStableFunc(rows, func(a, b R) int { return value(b).Compare(value(a)) })
	}
	if top > 0 && len(rows) > top {
		rows = rows[:top]
	}
	return rows, nil
}
