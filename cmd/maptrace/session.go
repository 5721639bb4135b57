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
	"github.com/maptrace/maptrace/tracer"
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
	tables  time.Time // when the next are due
}

func openSession(s streams, o *traceOptions) (_ *session, err error) {
	se := &session{o: o, filter: o.filter()}
	opts := tracer.Options{OnChange: se.change, OnIdle: se.idle}
	if o.verify {
		opts.Verify = 100 * time.Millisecond
	}
	if se.attached, err = attach(s, &o.attachOptions, tracer.LiveOptions{}, &opts); err != nil {
		return nil, err
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
	untracked, err := se.live.Untracked()
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
