package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/await"
)

// chooseForm sets how a process is printed.
func (r *pmapRun) chooseForm() {
	o := r.o
	nothing := func(*table.Process) error { return nil }
	printer := table.NewPrinter(r.out, r.opts)
	r.head = printer.PrintHead
	switch {
	case o.group != "" && o.json:
		r.head, r.show = nothing, r.groupsJSON
	case o.group != "" && o.csv:
		r.head, r.show = nothing, r.csvForm(r.groupsCSV)
	case o.group != "":
		r.show = r.groups
	case o.json:
		r.head, r.show = nothing, r.regionsJSON
	case o.csv:
		r.head, r.show = nothing, r.csvForm(r.regionsCSV)
	default:
		r.show = printer.PrintTable
	}
}

func (r *pmapRun) write(b []byte) error {
	if _, err := r.out.Write(b); err != nil {
		return fmt.Errorf("print mappings: %w", err)
	}
	return nil
}

// groups prints the table of --group.
func (r *pmapRun) groups(p *table.Process) error {
	groups := p.GroupRows(r.o.group)
	columns := table.GroupColumns(r.o.group, groups, r.opts)
	groups, err := table.Order(columns, groups, r.order.By, r.order.Top)
	if err != nil {
		return pmapMistake("%w", err)
	}
	width := r.width()
	b := cutTo(width, !utf8Locale(os.Getenv), appendTable(nil, seenGroups(columns, groups, width), groups, r.o.quiet))
	if !r.o.quiet && p.PageTablesKB > 0 {
		b = append(r.opts.AppendAmount(append(b, "\nand page tables of "...), p.PageTablesKB), '\n')
	}
	return r.write(b)
}

// appendTable appends the rows and, unless quiet, the lines around them.
func appendTable[R any](b []byte, a *table.Aligned[R], rows []R, quiet bool) []byte {
	if !quiet {
		b = a.AppendHeader(b)
	}
	for _, row := range rows {
		b = a.AppendRow(b, row)
	}
	if !quiet {
		b = a.AppendRule(b)
		b = a.AppendTotals(b, "total")
	}
	return b
}

// machineGroups are the groups for programs, with their columns.
func (r *pmapRun) machineGroups(p *table.Process) ([]table.Column[table.Group], []table.Group, error) {
	groups := p.GroupRows(r.o.group)
	columns := table.MachineGroupColumns(r.o.group, groups)
	groups, err := table.Order(columns, groups, r.order.By, r.order.Top)
	if err != nil {
		return nil, nil, pmapMistake("%w", err)
	}
	return columns, groups, nil
}

func (r *pmapRun) groupsJSON(p *table.Process) error {
	columns, groups, err := r.machineGroups(p)
	if err != nil {
		return err
	}
	return r.writeObject(appendObject(p, `,"groups":[`, columns, groups))
}

func (r *pmapRun) regionsJSON(p *table.Process) error {
	var rows []table.Row
	if p.Rows != nil {
		rows = slices.Collect(p.Rows)
	}
	return r.writeObject(appendObject(p, `,"regions":[`, p.Columns(), rows))
}

func (r *pmapRun) writeObject(b []byte) error { return r.write(append(b, '\n')) }

// appendObject appends the object of one process: who it is, its rows and the
// sums of them.
func appendObject[R any](p *table.Process, list string, columns []table.Column[R], rows []R) []byte {
	b := fmt.Appendf(nil, `{"time":"%s","pid":%d,"command":`, time.Now().Format(time.RFC3339Nano), p.PID)
	b = table.AppendJSONString(b, p.Command)
	b = append(b, list...)
	for i, row := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = table.AppendJSON(b, columns, row)
	}
	b = append(b, `],"totals":`...)
	sums := table.Sums(columns, slices.Values(rows))
	totals := make([]table.Column[int], len(columns))
	for i := range columns {
		totals[i] = table.Column[int]{Key: columns[i].Key, Value: func(int) table.Value { return sums[i] }}
	}
	b = table.AppendJSON(b, totals, 0)
	if p.PageTablesKB > 0 {
		b = fmt.Appendf(b, `,"page_tables_kb":%d`, p.PageTablesKB)
	}
	return append(b, '}')
}

// processColumn tells whose a row is, where rows of several processes follow
// each other.
func processColumn[R any](p *table.Process) table.Column[R] {
	return table.Column[R]{Key: "pid", Value: func(R) table.Value { return table.Uint(uint64(p.PID)) }}
}

// csvForm prints the heading before the first process.
func (r *pmapRun) csvForm(show func(p *table.Process, heading bool) error) func(*table.Process) error {
	heading := !r.o.quiet
	return func(p *table.Process) error {
		first := heading
		heading = false
		return show(p, first)
	}
}

func (r *pmapRun) groupsCSV(p *table.Process, heading bool) error {
	columns, groups, err := r.machineGroups(p)
	if err != nil {
		return err
	}
	return r.write(appendCSV(p, columns, groups, heading))
}

func (r *pmapRun) regionsCSV(p *table.Process, heading bool) error {
	// A process without memory has no keys, and those of the kernel are the same
	// for all that have.
	if p.Rows == nil || len(p.Keys) == 0 {
		return nil
	}
	return r.write(appendCSV(p, p.Columns(), slices.Collect(p.Rows), heading))
}

func appendCSV[R any](p *table.Process, columns []table.Column[R], rows []R, heading bool) []byte {
	columns = append([]table.Column[R]{processColumn[R](p)}, columns...)
	var b []byte
	if heading {
		b = table.AppendCSVHeader(b, columns)
	}
	for _, row := range rows {
		b = table.AppendCSV(b, columns, row)
	}
	return b
}

// refresh is watch with the tables in the place of those before; the last stay.
func (r *pmapRun) refresh(ctx context.Context) error {
	out := r.out
	r.out = &r.tables
	r.chooseForm()
	err := r.watch(ctx)
	r.live.close()
	_, failed := io.WriteString(out, r.last)
	return errors.Join(err, failed)
}

// take takes the tables that were made, where they are refreshed in place.
func (r *pmapRun) take() *tui.Tables {
	r.last = r.tables.String()
	r.tables.Reset()
	about, keep := units.Count(uint64(len(r.o.pids)), "process"), 0
	if len(r.o.pids) == 1 {
		about = strconv.Itoa(r.o.pids[0])
		if !r.o.quiet {
			keep = 2 // the rule and the totals
		}
	}
	return &tui.Tables{
		Head: tui.Head{Command: "maptrace pmap", About: about, Time: "every " + r.o.watch.String(), Foot: "^C to end"},
		Rows: strings.Split(strings.TrimRight(r.last, "\n"), "\n"), Keep: keep,
	}
}

// watch prints every process again and again, until none is left, the count is
// reached or a signal comes.
func (r *pmapRun) watch(ctx context.Context) error {
	ctx, cancel := signal.NotifyContext(ctx, endSignals()...)
	defer cancel()
	watches := map[int]*watched{}
	if !r.o.json {
		r.show = func(p *table.Process) error {
			w := watches[p.PID]
			if w == nil {
				w = &watched{began: time.Now()}
				watches[p.PID] = w
			}
			return r.showChanges(w, p)
		}
	}
	pids := r.o.pids
	tick := time.NewTicker(r.o.watch)
	defer tick.Stop()
	for n := 1; ; n++ {
		// Reading waits for mmap locks, for as long as their holders like.
		tables := make(chan round, 1)
		go func() { tables <- r.round(pids) }()
		var now round
		select {
		case now = <-tables:
		case <-ctx.Done():
			select {
			case now = <-tables:
			case <-time.After(await.Grace):
				return nil
			}
		}
		seen := r.take()
		if now.err != nil {
			return now.err
		}
		if n == 1 && now.code != exitOK {
			// Who was never there is an error; who ends while watched is not.
			return &codedError{code: now.code}
		}
		if r.live != nil {
			r.live.Show(seen)
		}
		if pids = now.alive; len(pids) == 0 || n == r.o.count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round is what came of printing every process once.
type round struct {
	alive []int
	code  exitCode
	err   error
}

func (r *pmapRun) round(pids []int) (now round) {
	for _, pid := range pids {
		code, err := r.all([]int{pid})
		if err != nil {
			return round{err: err}
		}
		if code == exitOK {
			now.alive = append(now.alive, pid)
		}
		now.code |= code
	}
	return now
}

// watched is one process of --watch.
type watched struct {
	table.Watch
	began time.Time
}

// showChanges prints one table of --watch.
func (r *pmapRun) showChanges(w *watched, p *table.Process) error {
	now := time.Now()
	var b []byte
	if !r.o.quiet {
		b = fmt.Appendf(b, "%s, %.1f s since the start\n", now.Format("15:04:05"), now.Sub(w.began).Seconds())
	}
	rows := w.Next(p)
	columns := table.WatchColumns(r.opts)
	order := columns // by one that is not seen, too
	width := r.width()
	if width > 0 {
		columns = seenColumns(columns, width)
	}
	whole := fitted(columns, rows)
	if r.o.changed {
		rows = slices.DeleteFunc(rows, func(row table.WatchRow) bool { return !row.Changed() })
	}
	rows, err := table.Order(order, rows, r.order.By, r.order.Top)
	if err != nil {
		return pmapMistake("%w", err)
	}
	b = append(b, cutTo(width, !utf8Locale(os.Getenv), appendTable(nil, whole, rows, r.o.quiet))...)
	return r.write(append(b, '\n'))
}

// seenGroups is a table of --group without as many of the columns that tell least as leaves
// room for the names on a terminal of that width, 0 for none.
func seenGroups(columns []table.Column[table.Group], groups []table.Group, width int) *table.Aligned[table.Group] {
	const names = 23 // as "malloc arena (inferred)"
	a := fitted(columns, groups)
	for _, least := range []string{"hugetlb_kb", "huge_kb", "noreserve_kb", "committed_kb", "swap_kb", "pss_kb", "dirty_kb", "size_percent", "rows", "reserved_kb", "rss_percent"} {
		head := a.AppendHeader(nil)
		if width == 0 || bytes.LastIndexByte(bytes.TrimRight(head, " \n"), ' ')+1+names <= width {
			break
		}
		columns = slices.DeleteFunc(slices.Clone(columns), func(c table.Column[table.Group]) bool { return c.Key == least })
		a = fitted(columns, groups)
	}
	return a
}

// width is that of the terminal that tables of --watch and --group are seen on, which may
// change; 0 if they go elsewhere, and are whole.
func (r *pmapRun) width() int {
	if r.live != nil {
		return r.live.width()
	}
	return columns(r.out)
}

// cutTo cuts lines to a width, unless that is 0, with a mark that may be ASCII.
func cutTo(width int, ascii bool, lines []byte) (out []byte) {
	if width == 0 {
		return lines
	}
	for line := range strings.Lines(string(lines)) {
		out = append(append(out, tui.Cut(strings.TrimSuffix(line, "\n"), width, ascii)...), '\n')
	}
	return out
}

// fitted are columns that are as wide as the rows need.
func fitted[R any](columns []table.Column[R], rows []R) *table.Aligned[R] {
	a := table.NewAligned(columns)
	a.Fit(slices.Values(rows))
	return a
}

// seenColumns are those of the columns of --watch that leave room for the names of mappings
// on a screen of that width.
func seenColumns(columns []table.Column[table.WatchRow], width int) []table.Column[table.WatchRow] {
	const all, most, some = 112, 80, 60
	var without []string
	switch {
	case width >= all:
	case width >= most:
		without = []string{"size_last", "rss_last"}
	case width >= some:
		without = []string{"size_last", "rss_last", "dirty_kb", "mode", "size_delta"}
	default:
		without = []string{"size_last", "rss_last", "dirty_kb", "mode", "size_delta", "size_kb", "rss_kb"}
	}
	return slices.DeleteFunc(slices.Clone(columns), func(c table.Column[table.WatchRow]) bool { return slices.Contains(without, c.Key) })
}
