package table

import (
	"cmp"
	"slices"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/units"
)

// Watch compares the tables of one process, read again and again. The zero value
// is ready. It is not safe for concurrent use.
type Watch struct {
	first, last []Sample
}

// Sample is what Watch keeps of a row.
type Sample struct {
	procmaps.Mapping
	RSSKB, DirtyKB uint64
}

// WatchRow is a mapping and what became of it. Changes are in KiB.
type WatchRow struct {
	Sample
	SizeSinceStart, SizeSinceLast int64
	RSSSinceStart, RSSSinceLast   int64
	// Gone says that the mapping was there at the start, or last time, and is not
	// any more; its numbers but the changes are 0.
	Gone bool
}

// Changed reports whether the row differs from the start or from last time.
func (r *WatchRow) Changed() bool {
	return r.Gone || r.SizeSinceStart != 0 || r.SizeSinceLast != 0 || r.RSSSinceStart != 0 || r.RSSSinceLast != 0
}

// Next compares the rows of t with the first and with the last that it was given.
// A mapping is the one before that has the same mode and file and shares the most
// addresses with it, so that the changes of all rows add up to the change of the
// sums. The first time nothing has changed.
func (w *Watch) Next(t *Process) []WatchRow {
	rss := keyIndex(t.Keys, "Rss")
	shared, private := keyIndex(t.Keys, "Shared_Dirty"), keyIndex(t.Keys, "Private_Dirty")
	var now []Sample
	for r := range t.rows() {
		now = append(now, Sample{
			Mapping: *r.Mapping, RSSKB: number(r, rss), DirtyKB: number(r, shared) + number(r, private),
		})
	}
	if w.first == nil {
		w.first, w.last = now, now
	}
	rows := make([]WatchRow, len(now))
	for i := range now {
		rows[i].Sample = now[i]
	}
	start := pair(w.first, now, func(i int, size, rss int64) {
		rows[i].SizeSinceStart, rows[i].RSSSinceStart = size, rss
	})
	last := pair(w.last, now, func(i int, size, rss int64) {
		rows[i].SizeSinceLast, rows[i].RSSSinceLast = size, rss
	})
	rows = append(rows, w.goneRows(start, last)...)
	slices.SortStableFunc(rows, func(a, b WatchRow) int { return cmp.Compare(a.Start, b.Start) })
	w.last = now
	return rows
}

// goneRows makes rows of the mappings that are not there any more.
func (w *Watch) goneRows(start, last []int) []WatchRow {
	var rows []WatchRow
	at := map[procmaps.Mapping]int{}
	row := func(s *Sample) *WatchRow {
		i, ok := at[s.Mapping]
		if !ok {
			i = len(rows)
			at[s.Mapping] = i
			rows = append(rows, WatchRow{Sample: Sample{Mapping: s.Mapping}, Gone: true})
		}
		return &rows[i]
	}
	for _, i := range start {
		s := &w.first[i]
		r := row(s)
		r.SizeSinceStart, r.RSSSinceStart = -int64(s.Len()/1024), -int64(s.RSSKB)
	}
	for _, i := range last {
		s := &w.last[i]
		r := row(s)
		r.SizeSinceLast, r.RSSSinceLast = -int64(s.Len()/1024), -int64(s.RSSKB)
	}
	return rows
}

// pair finds for each of the rows now the one before, tells the changes, and
// returns the indexes of those before that have become nothing.
func pair(before, now []Sample, change func(i int, size, rss int64)) (gone []int) {
	taken := make([]bool, len(before))
	j := 0
	for i := range now {
		n := &now[i]
		for j < len(before) && before[j].End <= n.Start {
			j++
		}
		best, most := -1, uint64(0)
		for k := j; k < len(before) && before[k].Start < n.End; k++ {
			b := &before[k]
			if taken[k] || !sameMemory(&b.Mapping, &n.Mapping) {
				continue
			}
			if shares := b.Intersect(n.Range).Len(); shares > most {
				best, most = k, shares
			}
		}
		size, rss := int64(n.Len()/1024), int64(n.RSSKB)
		if best >= 0 {
			taken[best] = true
			size -= int64(before[best].Len() / 1024)
			rss -= int64(before[best].RSSKB)
		}
		change(i, size, rss)
	}
	for k := range before {
		if !taken[k] {
			gone = append(gone, k)
		}
	}
	return gone
}

// sameMemory reports whether b can be what became of a at the same addresses.
func sameMemory(a, b *procmaps.Mapping) bool {
	return a.Mode == b.Mode && a.Dev == b.Dev && a.Inode == b.Inode && a.Name == b.Name
}

// WatchColumns are the columns of a watch's table: Delta is since the start, Last
// since the table before.
func WatchColumns(opt Options) []Column[WatchRow] {
	kb := func(name, key string, value func(*WatchRow) uint64) Column[WatchRow] {
		return amountColumn(&opt, name, key, 8, value)
	}
	change := func(name, key string, value func(*WatchRow) int64) Column[WatchRow] {
		c := Column[WatchRow]{
			Name: name, Key: key, Align: Right, Width: 7, Sum: true, Format: FormatChange,
			Value: func(r WatchRow) Value { return Int(value(&r)) },
		}
		if opt.Human {
			c.Format = func(dst []byte, v Value) []byte { return units.AppendHumanChange(dst, v.Int64()) }
		}
		return c
	}
	return []Column[WatchRow]{
		{
			Name: "Address", Key: "address", Width: 16, Format: hexDigits(16),
			Value: func(r WatchRow) Value { return Uint(r.Start) },
		},
		kb(opt.sizeName(), "size_kb", func(r *WatchRow) uint64 {
			if r.Gone {
				return 0
			}
			return r.Len() / 1024
		}),
		change("Delta", "size_delta", func(r *WatchRow) int64 { return r.SizeSinceStart }),
		change("Last", "size_last", func(r *WatchRow) int64 { return r.SizeSinceLast }),
		kb("RSS", "rss_kb", func(r *WatchRow) uint64 { return r.RSSKB }),
		change("Delta", "rss_delta", func(r *WatchRow) int64 { return r.RSSSinceStart }),
		change("Last", "rss_last", func(r *WatchRow) int64 { return r.RSSSinceLast }),
		kb("Dirty", "dirty_kb", func(r *WatchRow) uint64 { return r.DirtyKB }),
		{Name: "Mode", Key: "mode", Width: 5, Value: func(r WatchRow) Value { return Text(pmapModes[r.Mode&15]) }},
		{Name: "Mapping", Key: "mapping", Value: func(r WatchRow) Value { return Text(opt.watchName(&r)) }},
	}
}

func (o *Options) watchName(r *WatchRow) string {
	name := r.Name
	switch {
	case name == "":
		name = "  " + procmaps.AnonName
	case !o.ShowPath:
		name = procmaps.ShortName(name)
	}
	if o.Escape {
		name = Escape(name)
	}
	if r.Gone {
		name += " (gone)"
	}
	return name
}
