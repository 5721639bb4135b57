//go:build linux

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/procmaps"
)

// row is a mapping as far as a table shows it.
type row struct {
	start, end   uint64
	mode, device string
	inode        uint64
	offset       uint64 // of files
	name         string
}

func (r *row) String() string {
	if r == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s %s %s:%d+%#x", r.mode, cmp.Or(r.name, "[ anon ]"), r.device, r.inode, r.offset)
}

// follows reports whether r goes on where before ends, as if they were one. The kernel
// does not always make one of two that are next to each other and alike, and the tree
// does not know which it did not.
func (r *row) follows(before *row) bool {
	return before.end == r.start && before.mode == r.mode && before.device == r.device && before.inode == r.inode && before.name == r.name &&
		(r.inode == 0 || before.offset+before.end-before.start == r.offset)
}

func joined(rows []row) []row {
	out := rows[:0:0]
	for _, r := range rows {
		if n := len(out); n > 0 && r.follows(&out[n-1]) {
			out[n-1].end = r.end
		} else {
			out = append(out, r)
		}
	}
	return out
}

// table is what of a table is compared.
type table struct {
	Event   string
	PID     int
	Picture string
	Regions []struct {
		Address, Mode, Mapping, Device string
		Size, Offset, Inode            uint64
	}
}

func (t *table) rows() ([]row, error) {
	var rows []row
	for i := range t.Regions {
		r := &t.Regions[i]
		start, err := strconv.ParseUint(r.Address, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("table of %d: %w", t.PID, err)
		}
		rows = append(rows, row{start, start + r.Size, r.Mode, cmp.Or(r.Device, "00:00"), r.Inode, r.Offset, r.Mapping})
	}
	return joined(rows), nil
}

func rowsOf(text []byte) ([]row, error) {
	mappings, err := procmaps.ParseMaps(text, "maps")
	if err != nil {
		return nil, err
	}
	var rows []row
	for i := range mappings {
		m := &mappings[i]
		rows = append(rows, row{m.Start, m.End, m.Mode.String(), m.Dev.String(), m.Inode, m.Offset, m.Name})
	}
	return joined(rows), nil
}

// fault is something that maptrace says and is not so. Those of a kind are taken for
// one.
type fault struct{ kind, text string }

// compare says what of a range is not the same in the kernel and in the table, "" for
// nothing. No call tells which file the kernel makes for memory that is shared and
// anonymous. Of a file whose path could not be read, the table has the name of its
// directory entry, which is the last element of a path, and of a socket its protocol.
func compare(kernel, table *row) string {
	switch {
	case kernel == nil && table == nil:
		return ""
	case kernel == nil:
		return "not there"
	case table == nil:
		return "missing"
	case kernel.mode != table.mode:
		return "mode"
	case kernel.device != table.device || kernel.inode != table.inode:
		if table.inode == 0 && table.name == kernel.name && (kernel.name == "/dev/zero (deleted)" || kernel.name == "/anon_hugepage (deleted)") {
			return ""
		}
		return "file"
	case kernel.inode != 0 && kernel.offset-kernel.start != table.offset-table.start:
		return "offset"
	case kernel.name != table.name && (kernel.inode == 0 || path.Base(strings.TrimSuffix(kernel.name, " (deleted)")) != table.name) &&
		!strings.HasPrefix(kernel.name, "socket:"):
		return "name"
	}
	return ""
}

// differences names the ranges that are not the same.
func differences(want, got []row) []fault {
	var edges []uint64
	for _, r := range slices.Concat(want, got) {
		edges = append(edges, r.start, r.end)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	at := func(rows []row, addr uint64) *row {
		i, _ := slices.BinarySearchFunc(rows, addr, func(r row, addr uint64) int {
			if r.end <= addr {
				return -1
			}
			return 1
		})
		if i < len(rows) && rows[i].start <= addr {
			return &rows[i]
		}
		return nil
	}
	var out []fault
	for i := range max(len(edges), 1) - 1 {
		w, g := at(want, edges[i]), at(got, edges[i])
		if kind := compare(w, g); kind != "" {
			out = append(out, fault{kind, fmt.Sprintf("%x-%x: kernel %v, table %v", edges[i], edges[i+1], w, g)})
		}
	}
	return out
}

// summary is what of the figures is judged.
type summary struct {
	Violations, Drift uint64
}

// verdict is what came of a run.
type verdict struct {
	wrong    []fault
	compared int // tables with maps
	exact    int // of these, those that claim to be right
	drift    uint64
	died     bool // the program has not come to its end
}

func (v *verdict) add(kind, format string, args ...any) {
	v.wrong = append(v.wrong, fault{kind, fmt.Sprintf(format, args...)})
}

func (v *verdict) has(kind string) bool {
	return slices.ContainsFunc(v.wrong, func(f fault) bool { return f.kind == kind })
}

// say writes the first faults.
func (v *verdict) say() string {
	var b strings.Builder
	for i, f := range v.wrong {
		if i == 6 {
			fmt.Fprintf(&b, "\t… %d more\n", len(v.wrong)-i)
			break
		}
		fmt.Fprintf(&b, "\t%s: %s\n", f.kind, f.text)
	}
	return b.String()
}

// judge compares the tables of a run with the copies of maps in a directory.
func judge(dir, output string) (*verdict, error) {
	tables, sum, err := readOutput(output)
	if err != nil {
		return nil, err
	}
	v := &verdict{}
	if sum == nil {
		v.add("summary", "there is no summary")
		return v, nil
	}
	v.drift = sum.Drift
	if sum.Violations > 0 {
		v.add("violations", "%d violations", sum.Violations)
	}
	copies, err := filepath.Glob(filepath.Join(dir, "maps.*"))
	if err != nil {
		return nil, err
	}
	for _, file := range copies {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		want, err := rowsOf(text)
		if errors.Is(err, procmaps.ErrParse) || len(text) == 0 {
			continue // it was killed while it wrote
		}
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(file), "."))
		if err != nil {
			return nil, err
		}
		t := tables[pid]
		if t == nil {
			v.add("table", "there is no table of process %d", pid)
			continue
		}
		v.compared++
		if strings.HasPrefix(t.Picture, "approximate") {
			continue // it does not claim to be right
		}
		v.exact++
		got, err := t.rows()
		if err != nil {
			return nil, err
		}
		for _, d := range differences(want, got) {
			v.add(d.kind, "process %d, %s: %s", pid, t.Picture, d.text)
		}
	}
	return v, nil
}

func readOutput(name string) (map[int]*table, *summary, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	tables := make(map[int]*table)
	var sum *summary
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		t := &table{}
		if err := json.Unmarshal(lines.Bytes(), t); err != nil {
			return nil, nil, fmt.Errorf("output of maptrace: %w", err)
		}
		switch t.Event {
		case "table":
			tables[t.PID] = t
		case "summary":
			sum = &summary{}
			if err := json.Unmarshal(lines.Bytes(), sum); err != nil {
				return nil, nil, fmt.Errorf("output of maptrace: %w", err)
			}
		}
	}
	return tables, sum, lines.Err()
}
