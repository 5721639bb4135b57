package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/site"
)

// session is one run of trace.
type session struct {
	*attached
	o       *traceOptions
	text    render.Text
	filter  filter
	out     *bufio.Writer
	enc     *json.Encoder
	line    []byte
	events  []render.Event
	printed int
	tables  time.Time           // when the next are due
	sites   *site.Sites         // nil unless stacks are asked for
	stacks  map[uint32][]string // of the sites printed so far
}

func openSession(s streams, o *traceOptions) (_ *session, err error) {
	se := &session{o: o, filter: o.filter()}
	opts := tracer.Options{OnChange: se.change, OnIdle: se.idle}
	if o.verify {
		opts.Verify = 100 * time.Millisecond
	}
	var kernel tracer.LiveOptions
	if o.stack {
		se.sites, se.stacks = site.New(site.Options{}), make(map[uint32][]string)
		opts.Sites, kernel.Stacks = se.sites, &bpf.StackOptions{}
	}
	if se.attached, err = attach(s, &o.attachOptions, kernel, &opts); err != nil {
		return nil, errors.Join(err, se.closeSites())
	}
	se.text = render.Text{Clock: se.clock, Paths: o.paths}
	return se, nil
}

// run is the session from the first event to the last line.
func (se *session) run(ctx context.Context, out io.Writer) error {
	se.out = bufio.NewWriterSize(out, 64<<10)
	se.enc = json.NewEncoder(render.JSONWriter(se.out))
	if se.o.tableEvery > 0 {
		se.tables = time.Now().Add(se.o.tableEvery)
	}
	if se.o.output == "text" && !se.o.summary {
		se.line = se.text.AppendHeader(se.line[:0])
		if _, err := se.out.Write(se.line); err != nil {
			return err
		}
	}
	return se.attached.run(ctx, se.end)
}

// close frees everything.
func (se *session) close() error { return errors.Join(se.attached.close(), se.closeSites()) }

func (se *session) closeSites() error {
	if se.sites == nil {
		return nil
	}
	return se.sites.Close()
}

// stackOf names the functions that led to a site.
func (se *session) stackOf(id uint32) []string {
	if s, ok := se.stacks[id]; ok {
		return s
	}
	s, end := namedStack(se.sites, id)
	if end != "" {
		s = append(s, "(the stack ends here: "+end+")")
	}
	const many = 4096 // programs have fewer places that map memory
	if len(se.stacks) >= many {
		clear(se.stacks)
	}
	se.stacks[id] = s
	return s
}

// change prints a change. It is called from within the loop.
func (se *session) change(c *tracer.Change) {
	if c.Kind == tracer.KindExit {
		delete(se.unread, c.TGID)
	}
	if se.o.summary && c.Kind != tracer.KindLost && c.Kind != tracer.KindDrift {
		return
	}
	se.events = render.AppendEvents(se.events[:0], c)
	for i := range se.events {
		e := &se.events[i]
		if !se.filter.shows(e) || se.o.count > 0 && se.printed >= se.o.count {
			continue
		}
		se.printed++
		switch {
		case c.Site != 0:
			e.Stack = se.stackOf(c.Site)
		case c.Kind == tracer.KindCall && c.Flags&tracer.Unsampled != 0:
			e.Stack = []string{"(its stack is not here: there are too many a second, and a random sample is taken)"}
		}
		// Errors are kept by the writer and reported by idle.
		if se.o.output == "json" {
			se.line = e.AppendJSON(se.line[:0], se.clock)
		} else {
			se.line = se.text.Append(se.line[:0], e)
		}
		_, _ = se.out.Write(se.line)
		if se.printed == se.o.count {
			se.stop()
		}
	}
}

// idle writes out what was printed, and tables when they are due.
func (se *session) idle() error {
	if err := se.tellReady(); err != nil {
		return err
	}
	if se.o.tableEvery > 0 && time.Now().After(se.tables) {
		se.tables = time.Now().Add(se.o.tableEvery)
		r := se.tr.Report()
		if err := se.writeTables(&r); err != nil {
			return err
		}
	}
	return se.out.Flush()
}

// end prints the tables and figures.
func (se *session) end() error {
	r := se.tr.Report()
	if err := se.writeTables(&r); err != nil {
		return err
	}
	untracked, err := se.source.Untracked()
	if err != nil {
		return err
	}
	if se.o.output == "json" {
		err = se.enc.Encode(render.Summary(&r, untracked, time.Now()))
	} else {
		if _, err = fmt.Fprintln(se.out); err == nil {
			err = render.WriteSummary(se.out, &r, untracked, se.clock)
		}
	}
	return errors.Join(err, se.out.Flush())
}

func (se *session) writeTables(r *tracer.Report) error {
	for i := range r.Spaces {
		sp := &r.Spaces[i]
		if se.o.output == "json" {
			if err := se.enc.Encode(render.Table(sp, time.Now())); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(se.out); err != nil {
			return err
		}
		if err := render.WriteTable(se.out, sp, se.clock, se.o.paths); err != nil {
			return err
		}
	}
	return nil
}
