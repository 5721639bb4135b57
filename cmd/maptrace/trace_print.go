package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/budget"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/sample"
	"github.com/maptrace/maptrace/tracer/site"
)

// tracePrinter prints what trace does: a sink.
type tracePrinter struct {
	*attached
	o       *traceOptions
	text    render.Text
	filter  filter
	out     *bufio.Writer
	enc     *json.Encoder
	csv     render.EventsCSV
	line    []byte
	events  []render.Event
	printed int
	live    *liveView
	above   bool                // lines scroll above what is shown
	began   uint64              // by the session's clock
	tables  uint64              // when the next are due, by the session's clock
	tabled  bool                // a table was printed
	sites   *site.Sites         // nil unless stacks are asked for
	stacks  map[uint32][]string // of the sites printed so far
	grown   struct {            // the process whose resident memory has grown the most
		pid   int
		bytes uint64
	}
}

func openTrace(s streams, o *traceOptions) (_ *tracePrinter, err error) {
	p := &tracePrinter{o: o, filter: o.filter()}
	memory := budget.OfTrace(o.bytes())
	opts := tracer.Options{Memory: memory.Extents, Rows: memory.Rows}
	if o.verify {
		opts.Verify = 100 * time.Millisecond
	}
	var kernel tracer.LiveOptions
	if o.stack {
		p.sites, p.stacks = site.New(site.Options{MaxBytes: memory.Stacks, MaxFileBytes: int(o.bytes()), Calls: o.calls}), make(map[uint32][]string)
		kernel.Stacks = &tracer.StackOptions{}
	}
	if p.attached, err = attach(s, &o.attachOptions, kernel, opts, p.sites); err != nil {
		return nil, errors.Join(err, p.closeSites())
	}
	p.verify = o.verify
	return p, nil
}

// run prints from the first event to the last line.
func (p *tracePrinter) run(ctx context.Context, out io.Writer) error {
	if err := p.begin(out); err != nil {
		return err
	}
	o := tracer.RunOptions{Sinks: []tracer.Sink{p}}
	if p.o.output == textForm {
		o.Samplers = []tracer.Sampler{sample.NewRSS(procmaps.Default(), p.Now, p.Emit)}
	}
	return p.attached.run(ctx, o, p.end)
}

// begin prints what is above the first event.
func (p *tracePrinter) begin(out io.Writer) error {
	p.began, p.above = p.Now(), p.live != nil && out == io.Writer(p.live)
	p.text = render.Text{Clock: p.clock, Paths: p.o.paths}
	p.out = bufio.NewWriterSize(out, 64<<10)
	p.enc = json.NewEncoder(table.JSONWriter(p.out))
	if p.o.tableEvery > 0 {
		p.tables = p.Now() + uint64(p.o.tableEvery)
	}
	p.csv = render.NewEventsCSV(p.clock)
	if p.o.output != jsonForm && !p.o.summary {
		if p.line = p.text.AppendHeader(p.line[:0]); p.o.output == csvForm {
			p.line = p.csv.AppendHeader(p.line[:0])
		}
		if _, err := p.out.Write(p.line); err != nil {
			return err
		}
	}
	return nil
}

// close frees everything.
func (p *tracePrinter) close() error { return errors.Join(p.attached.close(), p.closeSites()) }

func (p *tracePrinter) closeSites() error {
	if p.sites == nil {
		return nil
	}
	return p.sites.Close()
}

// stackOf names the functions that led to a site.
func (p *tracePrinter) stackOf(id uint32) []string {
	if s, ok := p.stacks[id]; ok {
		return s
	}
	frames, end := p.sites.StackNames(id)
	s := make([]string, len(frames))
	for i, f := range frames {
		if s[i] = f.Short; p.o.output != textForm {
			s[i] = f.Full
		}
	}
	if end != "" {
		s = append(s, "(the stack ends here: "+end+")")
	}
	const many = 4096 // programs have fewer places that map memory
	if len(p.stacks) >= many {
		clear(p.stacks)
	}
	p.stacks[id] = s
	return s
}

// Change implements tracer.Sink: it prints a change.
func (p *tracePrinter) Change(c *tracer.Change) {
	if p.o.summary && c.Kind != tracer.KindLost && c.Kind != tracer.KindUnkept && c.Kind != tracer.KindDrift {
		return
	}
	p.events = render.AppendEvents(p.events[:0], c)
	for i := range p.events {
		e := &p.events[i]
		if !p.filter.shows(e) || p.o.count > 0 && p.printed >= p.o.count {
			continue
		}
		p.printed++
		switch {
		case c.Site != 0:
			e.Stack = p.stackOf(c.Site)
		case c.Kind == tracer.KindCall && c.Flags&tracer.Unsampled != 0:
			e.Stack = []string{"(its stack is not here: there are too many a second, and a random sample is taken)"}
		}
		// Errors are kept by the writer and reported by idle.
		switch p.o.output {
		case jsonForm:
			p.line = e.AppendJSON(p.line[:0], p.clock)
		case csvForm:
			p.line = p.csv.Append(p.line[:0], e)
		default:
			p.line = p.text.Append(p.line[:0], e)
		}
		_, _ = p.out.Write(p.line)
		if p.printed == p.o.count {
			p.stop()
		}
	}
}

// Record implements tracer.Sink: it keeps whose resident memory has grown the most.
func (p *tracePrinter) Record(r *event.Record) {
	rss, ok := r.Body.(event.RSS)
	if !ok || rss.Last < rss.First {
		return
	}
	if grown := rss.Last - rss.First; grown > p.grown.bytes {
		p.grown.pid, p.grown.bytes = r.PID, grown
	}
}

// hint says that resident memory grew, which no change of mappings need tell of, and what
// to run.
func (p *tracePrinter) hint() error {
	const worth = 1 << 20
	if p.grown.bytes < worth {
		return nil
	}
	_, err := fmt.Fprintf(p.out, "\nThe resident memory of process %d grew by %s: maptrace grow %d\n",
		p.grown.pid, units.Bytes(float64(p.grown.bytes)), p.grown.pid)
	return err
}

// Idle implements tracer.Sink: it writes out what was printed, and tables when they are
// due. Where nothing is printed it shows that all goes on.
func (p *tracePrinter) Idle() error {
	if now := p.Now(); p.o.tableEvery > 0 && now >= p.tables {
		p.tables = now + uint64(p.o.tableEvery)
		r := p.Report()
		if err := p.writeTables(&r); err != nil {
			return err
		}
	}
	if p.live != nil {
		p.show()
	}
	return p.out.Flush()
}

// show shows how far it is, if nothing was printed for a while.
func (p *tracePrinter) show() {
	now := p.Now()
	if p.above && p.out.Buffered() > 0 {
		p.live.Hide()
		p.live.due = now + liveEvery
	}
	if !p.live.isDue(now) {
		return
	}
	text := p.about() + ", " + elapsed(time.Duration(now-p.began), p.o.duration)
	if !p.o.summary {
		text += ": " + units.Count(uint64(p.printed), "line")
	}
	p.live.Show(&tui.Status{Text: text, Foot: "^C for the tables"})
}

// end prints the tables and figures.
func (p *tracePrinter) end() error {
	p.live.close()
	r := p.Report()
	if err := p.writeTables(&r); err != nil {
		return err
	}
	untracked, err := p.Untracked()
	if err != nil {
		return err
	}
	switch p.o.output {
	case jsonForm:
		err = p.enc.Encode(render.Summary(&r, untracked, p.clock.Time(p.Now())))
	case csvForm: // it has no place for figures
		if accuracy := r.Picture.String(); accuracy != "exact" {
			fmt.Fprintf(p.err, "maptrace: accuracy: %s\n", table.Escape(accuracy))
		}
	default:
		if _, err = fmt.Fprintln(p.out); err == nil {
			err = errors.Join(render.WriteSummary(p.out, &r, untracked, p.clock), p.hint())
		}
	}
	return errors.Join(err, p.out.Flush())
}

func (p *tracePrinter) writeTables(r *tracer.Report) error {
	if p.o.output == csvForm {
		if !p.o.summary {
			return nil // one file has the columns of one table
		}
		return render.WriteTablesCSV(p.out, r.Spaces, p.Tree, p.clock.Time(p.Now()))
	}
	o := render.TableOptions{Paths: p.o.paths, All: p.o.all, Brief: len(r.Spaces) > 1}
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		tree := p.Tree(sp.Process.Space)
		if p.o.output == jsonForm {
			if err := p.enc.Encode(render.Table(sp, tree, p.clock.Time(p.Now()))); err != nil {
				return err
			}
			continue
		}
		if !p.o.summary || p.tabled {
			if _, err := fmt.Fprintln(p.out); err != nil {
				return err
			}
		}
		p.tabled = true
		if err := render.WriteTable(p.out, sp, tree, p.clock, o); err != nil {
			return err
		}
	}
	return nil
}
